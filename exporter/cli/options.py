"""Options that several commands have, and types of values that argparse lacks."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config(parser: argparse.ArgumentParser) -> None:
    """The configuration of the daemon."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration file")


def percent(text: str) -> float:
    """A ratio from "5%" or "5"."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to below 100")
    return value


def percentile(text: str) -> float:
    """A percentile, as 99.9; 0.99 is refused."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentile between 0 and 100")
    if value < 1:
        from exporter.config.quantities import checked_percentile

        try:
            checked_percentile(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    return value
