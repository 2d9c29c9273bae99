"""One sweep: its levels in order, their windows, stability, and the result. Knows no sockets."""
