"""One sweep: its levels in order, their windows, when they are stable, and the result. Knows no sockets."""
