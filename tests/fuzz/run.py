"""A longer run, guided by coverage: `python -m tests.fuzz.run [SECONDS]`, which `make soak` calls. Each parser gets its
part of the time, in a process of its own; an input that breaks one is written to build/fuzz/ and ends the run with 1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "build" / "fuzz"
MEMORY_MIB = 2048
ONE_INPUT_SECONDS = 10


def fuzz(name: str, seconds: int) -> None:
    """Runs one parser in this process, and does not return."""
    import atheris

    with atheris.instrument_imports(include=["exporter"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={ONE_INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={FOUND / name}-",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()


def main(seconds: int) -> int:
    """Runs them all; returns how many broke."""
    from tests.fuzz.targets import TARGETS

    FOUND.mkdir(parents=True, exist_ok=True)
    each = max(1, seconds // len(TARGETS))
    broken = []
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz.run", name, str(each)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {runs[0] if runs else '?'} inputs in {each} s, {'ok' if done.returncode == 0 else 'BROKEN'}")
        if done.returncode:
            broken.append(name)
            print(done.stdout[-3000:] + done.stderr[-3000:], file=sys.stderr)
    return len(broken)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fuzz(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) == 2 else 600)))
