"""What both sides must have in common: the product's version, and the types that go from one to the other. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

from exporter import __version__
from exporter.core import facts, probe, target, window
from exporter.engine import plan, tally

_MODULES = (facts, probe, target, window, plan, tally)


def schema() -> str:
    """The version, and twelve hex digits over all types that are sent, with the names and types of their fields."""
    lines = [
        f"{cls.__module__}.{cls.__qualname__} {field.name} {field.type}"
        for module in _MODULES
        for cls in vars(module).values()
        if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
        for field in fields(cls)
    ]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]
    return f"{__version__}/{digest}"
