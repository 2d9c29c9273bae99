"""The page that daemon and worker share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.core.outcome import Reason
from exporter.core.probe import StopRules
from exporter.engine.guard import CHARGED_AHEAD, Guard
from exporter.storage.account import ACCOUNT_SUFFIX, PAGE_BYTES, Account, SignOfLife


def test_both_sides_see_one_page() -> None:
    ours = Account.create()
    theirs = Account(os.dup(ours.fileno()))
    theirs.sent_cell[0] = 7
    theirs.serial = 3
    theirs.silence()
    theirs.tick()
    ours.renew()
    assert (ours.sent, ours.silent_serial, ours.ticks, theirs.renewals) == (7, 3, 1, 1)
    theirs.close()
    ours.close()


def test_a_file_outlives_its_writer_and_states_what_was_sent_for_what(tmp_path: Path) -> None:
    account = Account.create(tmp_path / "accounts")
    account.sent_cell[0] = 5
    account.note("a sweep")
    account.sent_cell[0] = 12
    (path,) = (tmp_path / "accounts").glob(f"*{ACCOUNT_SUFFIX}")
    left = Account(os.open(path, os.O_RDWR))
    assert (left.text, left.sent_since_note) == ("a sweep", 7)
    left.close()
    account.close()
    assert not path.exists()


def test_a_note_never_leaves_its_page() -> None:
    account = Account()
    account.note("\u00e4" * PAGE_BYTES)
    assert 0 < len(account.text) < PAGE_BYTES / 2
    account.note("short")
    assert account.text == "short"


def test_a_request_is_counted_before_it_goes_from_level_to_level() -> None:
    account = Account()
    for level in range(2):
        guard = Guard(StopRules(), 2, 1, account=account)
        assert guard.send() is None
        assert account.sent == 2 * level + 2
        assert guard.send() is None
        stop = guard.send()
        assert stop is not None
        assert stop.reason is Reason.REQUEST_BUDGET
        assert (guard.sent, account.sent) == (2, 2 * level + 2)


def test_one_that_did_not_go_after_all_is_not_counted() -> None:
    account = Account()
    guard = Guard(StopRules(), 2, 1, account=account)
    guard.send()
    guard.take_back()
    guard.end_sending()
    assert (guard.sent, account.sent) == (0, 0)


def test_never_less_than_what_went_and_little_more() -> None:
    account = Account()
    guard = Guard(StopRules(), 1000, 1, account=account)
    for sent in range(1, 101):
        guard.send()
        assert sent <= account.sent < sent + CHARGED_AHEAD
    guard.end_sending()
    assert account.sent == 100


def test_what_ends_the_sequences_is_charged_ahead_and_settled() -> None:
    account = Account()
    account.serial = 4
    guard = Guard(StopRules(), 10, 1, account=account, closing_requests=3)
    guard.send()
    guard.end_sending()
    assert (account.sent, account.silent_serial) == (4, 4)
    guard.send_closing()
    assert (account.sent, guard.sent) == (4, 2)
    guard.settle()
    assert account.sent == 2


@pytest.mark.parametrize(
    ("counts", "lost"),
    [
        pytest.param([0, 1, 2, 3, 4, 5], False, id="moves"),
        pytest.param([5, 5, 5, 6, 6, 6], False, id="moves in time"),
        pytest.param([5, 5, 5, 5], True, id="is stuck"),
        pytest.param([0, 0, 0], False, id="not yet"),
    ],
)
def test_sign_of_life(counts: list[int], lost: bool) -> None:
    sign = SignOfLife(3)
    assert [sign.is_lost(count) for count in counts][-1] is lost
