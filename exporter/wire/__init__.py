"""Protocol cores without IO: HTTP/1.1, HTTP/2 and gRPC on it. Bytes in, events out; no socket, no loop, no clock."""
