"""Units that names are given in: `_ns` is integer nanoseconds, inside; `_seconds` is for people and for metrics."""

NS = 1_000_000_000
"""Nanoseconds in a second."""

MS = 1_000_000
"""The same in a millisecond."""

US = 1_000
"""The same in a microsecond."""
