"""After how many pairs a gate is judged, how its error is divided, and how many pairs a bound takes."""

from __future__ import annotations

import math

ERROR = 0.05
"""The chance that any interval of a gate misses the truth."""
LOOK_GROWTH = 1.5


def looks(min_pairs: int, max_pairs: int) -> tuple[int, ...]:
    """After how many pairs the gate is judged: at least after `min_pairs` and after `max_pairs`."""
    found = [min_pairs]
    while found[-1] < max_pairs:
        found.append(min(max_pairs, math.ceil(found[-1] * LOOK_GROWTH)))
    return tuple(found)


def one_sided_error(look_count: int, figure_count: int) -> float:
    """How often one bound of one figure may miss the truth at one look."""
    return ERROR / (2 * look_count * figure_count)


def least_pairs(chance: float) -> int:
    """How many pairs a bound takes that misses the truth with at most this chance. With n pairs, the rarest event is
    that all their coins fall the same way: 2^-n."""
    pairs = 1
    while 2.0**-pairs > chance:
        pairs += 1
    return pairs


def least_max_pairs(min_pairs: int, figure_count: int) -> int:
    """The least `max_pairs` after which each figure has an interval. One more pair halves the rarest chance, and adds
    at most one look, so that all higher numbers do as well."""
    max_pairs = min_pairs
    while max_pairs < least_pairs(one_sided_error(len(looks(min_pairs, max_pairs)), figure_count)):
        max_pairs += 1
    return max_pairs
