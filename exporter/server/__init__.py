"""What the server says of itself. Knows nothing of what the client saw."""

from exporter.core.bounds import PAGE_GPUS

MAX_GPUS = PAGE_GPUS
"""Told of by one source: a cap on series. MIG instances count."""
