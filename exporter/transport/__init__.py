"""Bytes between a socket and a protocol core: connections, TLS, names, and the channels that carry calls. Never knows
what a model is."""
