"""Which of several daemons measures a server: the groups of one configuration, dealt out to shards.

Pure. By rendezvous hashing: for each group every shard has a weight made from both names, and the heaviest has it. So
all daemons agree without asking each other, and one more shard takes its part evenly from the others: nothing moves
between those. By group, never by probe: its lock, its order and its budget hold within one daemon only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from exporter.schedule.phase import spread

MAX_SHARDS = 1000
_WEIGHTS = 1 << 64


@dataclass(frozen=True, slots=True)
class Shard:
    """The shard `index`, from 0 on, of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n". Raises ValueError, with words for who wrote it."""
        index, slash, count = text.partition("/")
        # Of numbers isdecimal alone takes other scripts' digits, too.
        if not (slash and text.isascii() and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"{text!r} is not a shard: I/N, as 0/3, 1/3 and 2/3 for three")
        shard = cls(int(index), int(count))
        if not 1 <= shard.count <= MAX_SHARDS:
            raise ValueError(f"{text!r}: there can be 1 to {MAX_SHARDS} shards")
        if shard.index >= shard.count:
            raise ValueError(f"{text!r}: of {shard.count} shards the last one is {shard.count - 1}/{shard.count}")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, group: str) -> bool:
        """Whether this group is measured here."""
        return shard_of(group, self.count) == self.index


@lru_cache(maxsize=4096)
def shard_of(group: str, count: int) -> int:
    """The index of the one of `count` shards that has the group; the same in every process."""
    return max(range(count), key=lambda index: spread(f"{group}@{index}", _WEIGHTS))
