"""Everything between a socket and a protocol core: connections, TLS, name resolution, and the channels that carry
calls. Knows nothing of models."""
