"""Which of several daemons measures a server: the groups of one configuration, dealt out to shards.

Pure. By rendezvous hashing: for each group every shard has a weight made from both names, and the heaviest has it. So
all daemons agree without asking each other, and one more shard takes its part evenly from the others: nothing moves
between those. By group, never by probe: its lock, its order and its budget hold within one daemon only.

While the number of shards changes, old and new daemons run side by side. So it changes in two steps. In the first each
daemon is replaced by one that measures only the groups that are its own by both numbers, in the second by one that
knows the new number alone. A group that moves pauses in between, and no two daemons have it at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from exporter.schedule.phase import spread

MAX_SHARDS = 1000
_WEIGHTS = 1 << 64


@dataclass(frozen=True, slots=True)
class Shard:
    """The shard `index`, from 0 on, of `count`. `before` is the number that daemons may still run with; 0 for none."""

    index: int = 0
    count: int = 1
    before: int = 0

    @classmethod
    def parse(cls, text: str, before: int = 0) -> Shard:
        """From "i/n". Raises ValueError, with words for who wrote it."""
        index, slash, count = text.partition("/")
        # Of numbers isdecimal alone takes other scripts' digits, too.
        if not (slash and text.isascii() and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"{text!r} is not a shard: I/N, as 0/3, 1/3 and 2/3 for three")
        shard = cls(int(index), int(count), before)
        if not 1 <= shard.count <= MAX_SHARDS:
            raise ValueError(f"{text!r}: there can be 1 to {MAX_SHARDS} shards")
        if shard.index >= shard.count:
            raise ValueError(f"{text!r}: of {shard.count} shards the last one is {shard.count - 1}/{shard.count}")
        if not 0 <= before <= MAX_SHARDS:
            raise ValueError(f"{before} shards before: there can be 1 to {MAX_SHARDS}")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, group: str) -> bool:
        """Whether this group is measured here."""
        counts = {self.count, self.before or self.count}
        return all(shard_of(group, count) == self.index for count in counts)


@lru_cache(maxsize=16_384)
def shard_of(group: str, count: int) -> int:
    """The index of the one of `count` shards that has the group; the same in every process."""
    return max(range(count), key=lambda index: spread(f"{group}@{index}", _WEIGHTS))
