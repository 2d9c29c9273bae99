"""Figures as a person reads them on the status page. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

_NONE = "–"


def seconds(value: float | None) -> str:
    """A latency with three significant digits: "850 µs", "1.23 ms", "12.0 s"."""
    if value is None:
        return _NONE
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if round(value * factor, 9) >= 1:
            return f"{_three_digits(value * factor)} {unit}"
    return f"{_three_digits(value * 1e6)} µs"


def per_second(value: float) -> str:
    """A rate: "1,234", "45.6"."""
    return _three_digits(value)


def ratio(value: float | None) -> str:
    """A part of one as percent; what is not zero never reads as zero."""
    if value is None:
        return _NONE
    if 0 < value < 0.0001:
        return "< 0.01 %"
    return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"


def span(value: float | None) -> str:
    """A length of time in its largest unit: "12 s", "3 min", "5 h", "2 d"."""
    if value is None:
        return "never"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= 2 * length:
            return f"{value / length:.0f} {unit}"
    return f"{value:.0f} s"


def relative(unix_s: float, now_unix_s: float) -> str:
    """A moment as seen from now: "40 s ago", "in 3 min", "now"."""
    left_s = unix_s - now_unix_s
    if left_s >= 1:
        return f"in {span(left_s)}"
    return f"{span(-left_s)} ago" if left_s <= -1 else "now"


def clock(unix_s: float, now_unix_s: float) -> str:
    """A moment in UTC: "21:04:10", with its date if it is not within 24 hours."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.strftime("%H:%M:%S" if abs(unix_s - now_unix_s) < 86_400 else "%b %-d, %H:%M")


def until(due_unix_s: float | None, now_unix_s: float) -> str:
    """When the next run is: "in 40 s", "now", "not planned"."""
    if not due_unix_s:
        return "not planned"
    left_s = due_unix_s - now_unix_s
    return f"in {span(left_s)}" if left_s >= 1 else "now"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"
