"""Units that names are given in: `_ns` is integer nanoseconds, inside; `_seconds` is for people and for metrics."""

NS = 1_000_000_000
"""Nanoseconds in a second."""
