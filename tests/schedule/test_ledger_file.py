"""The ledger on the disk: budgets hold over restarts and crashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.core.limits import DEFAULT_TOKENS_PER_HOUR, GroupBudget, Load
from exporter.core.units import NS
from exporter.schedule.ledger import HOUR_NS, Ledger
from exporter.schedule.ledger_file import LedgerFile, sweep_note
from exporter.storage.account import Account
from tests.schedule.test_ledger import MINUTE_NS, Clock, a_probe, result


class Disk:
    """A data directory, and the time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.accounts = folder / "accounts"
        self.clock = Clock()
        self.file: LedgerFile | None = None

    def wall_s(self) -> float:
        return self.clock.now_ns / NS

    def restart(self) -> Ledger:
        """The daemon ends, in order, and another one begins."""
        if self.file is not None:
            self.file.close()
        self.file = LedgerFile(self.path, self.accounts, now_unix_s=self.wall_s)
        ledger = Ledger(GroupBudget(1000, 0.5), self.clock, self.file, self.wall_s)
        ledger.load()
        return ledger

    def crash(self, sweep: str, requests: int, group: str = "g", tokens: int = 0) -> None:
        """What a worker leaves behind that was killed with its daemon."""
        account = Account.create(self.accounts)
        account.sent_cell[0] = 500  # of sweeps before
        account.tokens_cell[0] = 9000
        account.note(sweep_note(sweep, a_probe(group=group), self.wall_s() - 10))
        account.sent_cell[0] = 500 + requests
        account.tokens_cell[0] = 9000 + tokens


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_budget_outlives_the_daemon(disk: Disk) -> None:
    ledger, probe = disk.restart(), a_probe()
    ledger.sweep_ended(result(probe, 100, 10))
    disk.clock.now_ns += 30 * MINUTE_NS
    ledger.sweep_ended(result(probe, 200, 20))
    ledger = disk.restart()
    assert ledger.allowed(probe) == Load(700, HOUR_NS // 2 - 30 * NS, DEFAULT_TOKENS_PER_HOUR)
    assert ledger.caused(probe) == Load(300, 30 * NS)
    disk.clock.now_ns += 31 * MINUTE_NS
    assert disk.restart().used("g") == Load(200, 20 * NS)
    assert ledger.used("g") == Load(200, 20 * NS)
    disk.clock.now_ns += 30 * MINUTE_NS
    assert disk.restart().used("g") == Load()
    assert disk.path.read_text() == ""


def test_so_does_what_a_crash_cut_off_once(disk: Disk) -> None:
    disk.crash("one", 40)
    disk.crash("one", 2)  # another worker of the same sweep
    disk.crash("two", 7, group="other")
    ledger = disk.restart()
    assert ledger.used("g") == Load(42, 10 * NS)
    assert ledger.used("other") == Load(7, 10 * NS)
    assert list(disk.accounts.iterdir()) == []
    assert disk.restart().used("g") == Load(42, 10 * NS)


def test_tokens_outlive_the_daemon_and_a_crash(disk: Disk) -> None:
    ledger = disk.restart()
    ledger.sweep_ended(replace(result(a_probe(), 10, 1), tokens=500))
    disk.crash("one", 4, tokens=70)
    disk.crash("one", 2, tokens=30)  # another worker of the same sweep
    assert disk.restart().used("g") == Load(16, 11 * NS, 600)
    assert disk.restart().used("g") == Load(16, 11 * NS, 600)


def test_a_line_of_the_last_version_has_no_tokens(disk: Disk) -> None:
    line = '{"sweep":"s","group":"g","target":"t","probe":"p","requests":7,"duration_ns":5,"ended_unix_s":%f}\n'
    disk.path.write_text(line % disk.wall_s())
    assert disk.restart().used("g") == Load(7, 5, 0)


def test_a_sweep_that_the_ledger_has_is_not_charged_again(disk: Disk) -> None:
    ledger = disk.restart()
    ledger.sweep_ended(result(a_probe(), 40, 10))  # of the id "id"
    disk.crash("id", 40)
    assert disk.restart().used("g") == Load(40, 10 * NS)


def test_a_wall_clock_that_was_set_back_makes_nothing_of_the_future(disk: Disk) -> None:
    ledger = disk.restart()
    ledger.sweep_ended(result(a_probe(), 40, 10))
    assert disk.file is not None
    disk.file.close()
    later = disk.clock
    disk.clock = Clock()
    disk.clock.now_ns = later.now_ns - 50 * HOUR_NS
    disk.file = None
    ledger = disk.restart()
    assert ledger.used("g").requests == 40
    disk.clock.now_ns += HOUR_NS
    assert ledger.used("g") == Load()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]\n",
        "null\n",
        '{"sweep": "x"}\n',
        "\x00\xff\n",
        '{"sweep":"","group":"","requests":-1}\n',
        "[" * 9999,
    ],
)
def test_damage_is_left_out(disk: Disk, text: str) -> None:
    ledger = disk.restart()
    ledger.sweep_ended(result(a_probe(), 40, 10))
    assert disk.file is not None
    disk.file.close()
    disk.file = None
    with disk.path.open("a") as file:
        file.write(text)
    disk.accounts.mkdir(exist_ok=True)
    (disk.accounts / "empty.account").touch()
    (disk.accounts / "zero.account").write_bytes(bytes(4096))
    (disk.accounts / "noise.account").write_bytes(b"\xff" * 4096)
    assert disk.restart().used("g") == Load(40, 10 * NS)


def test_what_cannot_be_written_is_logged_once(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    ledger = disk.restart()
    disk.path.unlink()
    disk.path.mkdir()
    for _ in range(3):
        ledger.sweep_ended(result(a_probe(), 40, 10))
    assert disk.file is not None
    disk.file.close()
    assert caplog.text.count("the ledger cannot be written") == 1
    assert ledger.used("g").requests == 120
