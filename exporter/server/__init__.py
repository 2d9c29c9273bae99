"""What the server reports about itself. Knows nothing of what the client saw."""

from exporter.core.bounds import PAGE_GPUS

MAX_GPUS = PAGE_GPUS
"""GPUs per source: a cap on series. MIG instances count."""
