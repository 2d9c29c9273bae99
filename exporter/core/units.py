"""How long the units of time are. Inside, durations are integer nanoseconds (`_ns`); outside, seconds (`_seconds`)."""

NS = 1_000_000_000
"""Nanoseconds in a second."""

MS = 1_000_000
"""The same in a millisecond."""

US = 1_000
"""The same in a microsecond."""
