"""What the server says of itself. Knows nothing of what the client saw."""

MAX_GPUS = 16
"""Told of by one source: a cap on series. MIG instances count."""
