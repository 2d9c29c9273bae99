from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.schedule.sharding import Shard, shard_of

GROUPS = [f"triton-{number}.example" for number in range(300)]


def test_the_groups_of_three_shards_are_each_in_exactly_one() -> None:
    shards = [Shard(index, 3) for index in range(3)]
    assert all(sum(shard.has(group) for shard in shards) == 1 for group in GROUPS)
    sizes = Counter(shard_of(group, 3) for group in GROUPS)
    assert sizes == {0: 109, 1: 90, 2: 101}


def test_a_fourth_shard_moves_its_own_part_alone() -> None:
    moved = [group for group in GROUPS if shard_of(group, 3) != shard_of(group, 4)]
    assert len(moved) == 69  # of 300: 23 %, where 30 % are allowed
    assert {shard_of(group, 4) for group in moved} == {3}
    assert len(moved) == sum(shard_of(group, 4) == 3 for group in GROUPS)


@given(st.text(), st.integers(1, 20))
def test_who_is_added_takes_and_moves_nothing_else(group: str, count: int) -> None:
    before, after = shard_of(group, count), shard_of(group, count + 1)
    assert after in (before, count)


@pytest.mark.parametrize(("old", "new"), [(3, 4), (4, 3), (12, 16), (1, 2), (2, 1)])
def test_no_two_daemons_have_a_group_while_the_number_of_shards_changes(old: int, new: int) -> None:
    """Daemons are replaced in any order, never two of one index at a time; step 2 begins when step 1 is over."""
    dice = random.Random(old * 100 + new)
    steps = [
        {index: Shard(index, old) for index in range(old)},
        {index: Shard(index, new, before=old) for index in range(new)},
        {index: Shard(index, new) for index in range(new)},
    ]
    daemons = dict(steps[0])
    for step in steps[1:]:
        for index in dice.sample(range(max(old, new)), max(old, new)):
            daemons.pop(index, None)
            if index in step:
                daemons[index] = step[index]
            owners = Counter(group for shard in daemons.values() for group in GROUPS if shard.has(group))
            assert set(owners.values()) <= {1}
    assert sum(owners.values()) == len(GROUPS), "none is lost"


def test_in_the_first_step_what_does_not_move_is_measured() -> None:
    stay = [group for group in GROUPS if shard_of(group, 3) == shard_of(group, 4)]
    assert [group for group in GROUPS if any(Shard(index, 4, before=3).has(group) for index in range(4))] == stay


def test_shards_are_evenly_filled_and_the_same_in_every_process() -> None:
    groups = [f"10.0.{number // 250}.{number % 250}" for number in range(5000)]
    sizes = Counter(shard_of(group, 5) for group in groups)
    assert set(sizes) == set(range(5))
    assert all(900 <= size <= 1100 for size in sizes.values())
    # sha256sum of "a.example@0" begins with a39e, of "a.example@1" with 3711, of "a.example@2" with 4992.
    assert shard_of("a.example", 3) == 0


@pytest.mark.parametrize(("text", "index", "count"), [("0/1", 0, 1), ("2/3", 2, 3), ("999/1000", 999, 1000)])
def test_a_shard_is_written_as_it_is_read(text: str, index: int, count: int) -> None:
    shard = Shard.parse(text)
    assert (shard.index, shard.count, str(shard)) == (index, count, text)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("3/3", "of 3 shards the last one is 2/3"),
        ("0/0", "1 to 1000 shards"),
        ("0/1001", "1 to 1000 shards"),
        ("-1/3", "is not a shard: I/N"),
        ("1", "is not a shard: I/N"),
        ("/3", "is not a shard: I/N"),
        ("1/", "is not a shard: I/N"),
        ("", "is not a shard: I/N"),
        ("1/3/4", "is not a shard: I/N"),
        ("١/3", "is not a shard: I/N"),
        (" 1/3", "is not a shard: I/N"),
    ],
)
def test_what_is_no_shard(text: str, reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        Shard.parse(text)


def test_a_number_of_shards_before_that_cannot_be() -> None:
    assert Shard.parse("0/2", 1000) == Shard(0, 2, 1000)
    for before in (-1, 1001):
        with pytest.raises(ValueError, match=f"{before} shards before: there can be 1 to 1000"):
            Shard.parse("0/2", before)
