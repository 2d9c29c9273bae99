"""The table of programs that tests need, and what is reported where they are missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs import PACKAGES, ROOT, need, need_right, summary

CI = Path(__file__).parents[1] / ".ci" / "run"


def test_ci_installs_all_of_them() -> None:
    (listed,) = re.findall(r"^packages=\(\n(.*?)^\)", CI.read_text(), re.MULTILINE | re.DOTALL)
    installed = {line.split()[0] for line in listed.splitlines()}
    assert {package for packages in PACKAGES.values() for package in packages.split()} <= installed


def test_a_missing_program_skips_the_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "promtool" else f"/bin/{name}")
    monkeypatch.setattr("tests.programs.MISSED", missed := set[str]())
    monkeypatch.setenv("CI", "")
    need("gcc")
    with pytest.raises(pytest.skip.Exception, match="needs promtool"):
        need("gcc", "promtool")
    assert missed == {"promtool"}
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI has promtool"):
        need("promtool")


def test_a_missing_right_skips_the_test_in_ci_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.programs.MISSED", missed := set[str]())
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match=ROOT):
        need(ROOT, "sh")
    need_right("sh", "-c", "exit 0")
    with pytest.raises(pytest.skip.Exception, match="permission denied"):
        need_right("sh", "-c", "echo permission denied >&2; exit 1")
    assert missed == {ROOT}
    with pytest.raises(pytest.fail.Exception, match="CI has no-such-program"):
        need_right("no-such-program")


def test_one_line_names_programs_and_packages() -> None:
    assert summary(set()) == ""
    line = "Tests were skipped for want of gcc, promtool, the rights of root: apt-get install gcc libc6-dev prometheus"
    assert summary({"promtool", ROOT, "gcc"}) == line
    assert summary({ROOT}) == "Tests were skipped for want of the rights of root"
