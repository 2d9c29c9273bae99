"""Units of time. Internally durations are integer nanoseconds (`_ns`), externally seconds (`_seconds`)."""

NS = 1_000_000_000
"""Nanoseconds per second."""

MS = 1_000_000
"""Nanoseconds per millisecond."""

US = 1_000
"""Nanoseconds per microsecond."""
