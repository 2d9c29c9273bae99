"""Every bound of `core.bounds` exceeded at its real value, with what becomes of it: what the tests look at, and what
`python -m tests.hostile.cost` measures. The values are written out here, so that a bound that moves is seen.
"""

from __future__ import annotations

from tests.hostile.exceed import control, daemon, load, pages
from tests.hostile.exceed.registry import EACH

__all__ = ["EACH", "control", "daemon", "load", "pages"]
