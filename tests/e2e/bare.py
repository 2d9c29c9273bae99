"""A plain Debian in a folder, with its Python, make and git and nothing else, and an ordinary user's terminal in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from exporter.demo.cache import cache_folder, locked

ROOT = Path(__file__).parents[2]
PACKAGES = "python3,python3-venv,make,git,ca-certificates"
"""What the README asks of a system."""
USER_ID = 1000
HOME = "/home/user"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
PASSED_ON = re.compile(r"(?i)(https?|no|ftp|all)_proxy|SSL_CERT_FILE")
"""Of our environment's variables, what states how this machine reaches others."""
ENTER = """
set -eu
cd "$1"
mount -t proc proc proc
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir -p dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for folder in $2; do
  mkdir -p ".$folder"
  mount --bind "$folder" ".$folder"
done
user=$3 command=$4
shift 4
set +e
# Ctrl-C is for the command: what it leaves is looked for after it, however it ends.
trap : INT
chroot --userspec="$user:$user" . env -i "$@" bash -c "$command"
echo "status $?"
for process in proc/[0-9]*; do
  [ "$process" = proc/$$ ] || echo "left: $(tr '\\0' ' ' <"$process/cmdline")"
done
for region in dev/shm/*; do
  [ ! -e "$region" ] || echo "left: $region"
done
echo "all is reported"
"""
"""Run by bash as the first process of name spaces of its own: what it mounts and starts ends with it."""


class Bare:
    """The root file system at `folder`; a copy, to be filled and thrown away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = _pip_settings()
        self._shared = _folders_of(self._settings)
        _copy(_trusted(), folder / CERTIFICATES)
        for path in ("etc/resolv.conf", "etc/hosts"):
            _copy(Path("/", path), folder / path)
        (folder / "etc/apt/apt.conf.d/99-as-this-machine").write_text(_apt_proxies())
        home = folder / HOME.lstrip("/")
        with (folder / "etc" / "passwd").open("a") as users:
            users.write(f"user:x:{USER_ID}:{USER_ID}::{HOME}:/bin/bash\n")
        with (folder / "etc" / "group").open("a") as groups:
            groups.write(f"user:x:{USER_ID}:\n")
        _run("git", "clone", "-q", "--no-hardlinks", str(ROOT), str(home / "canary"))
        _run("chown", "-R", f"{USER_ID}:{USER_ID}", str(home))

    @contextlib.contextmanager
    def terminal(self, command: str) -> Iterator[Terminal]:
        """The command in the clone, by the user, at a terminal; at the end of the context it is killed."""
        variables = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        variables |= self._settings | {"HOME": HOME, "USER": "user", "LANG": "C.UTF-8", "TERM": "xterm"}
        variables["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        arguments = [
            str(self.folder),
            " ".join(self._shared),
            str(USER_ID),
            f"cd {HOME}/canary && {command}",
            *(f"{name}={value}" for name, value in variables.items()),
        ]
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        terminal = Terminal([*spaces, "bash", "-c", ENTER, "-", *arguments])
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A program at a terminal of its own, which is read by waiting for a text."""

    def __init__(self, command: list[str]) -> None:
        self._begin = time.monotonic()
        self._master, slave = os.openpty()
        self.output = ""
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def wait_for(self, pattern: str, seconds: float) -> float:
        """When a line with it was read: seconds since the start. The end of the program is the end of waiting."""
        deadline = time.monotonic() + seconds
        while re.search(pattern, self.output, re.MULTILINE) is None:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} within {seconds} s:\n{self.output}"
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # no process has the terminal open any more
                data = b""
            assert data, f"no {pattern!r} before its end:\n{self.output}"
            self.output += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", data.decode(errors="replace"))
        return time.monotonic() - self._begin

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._master)


def make_bare(suite: str, folder: Path) -> Bare:
    """A new copy of that release of Debian, made by debootstrap once and kept in the cache, as it came."""
    base = cache_folder() / f"bare-{suite}"
    with locked(base.with_suffix(".lock"), base.name, print):
        if not base.exists():
            unfinished = base.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(unfinished), _mirror()]
            # A release that this machine's debootstrap has no script for is made as the unstable one is.
            known = (SCRIPTS / suite).exists()
            _run(*command, *([] if known else [str(SCRIPTS / "sid")]))
            unfinished.rename(base)
    _run("cp", "-a", str(base), str(folder))
    return Bare(folder)


def _mirror() -> str:
    """Where this machine has its own Debian from."""
    places = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    return next(place for place in places if place.rstrip("/").endswith("/debian"))


def _apt_proxies() -> str:
    return "".join(re.findall(r"(?i)^Acquire::https?::Proxy.*\n", _run("apt-config", "dump", "Acquire"), re.MULTILINE))


def _pip_settings() -> dict[str, str]:
    """What pip is set to on this machine, by files and by variables, all as variables."""
    lines = re.findall(
        r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", _run(sys.executable, "-m", "pip", "config", "list"), re.M
    )
    # The last of a name is the strongest but for variables, which come first.
    return {f"PIP_{name.upper().replace('-', '_')}": " ".join(value.split("\\n")) for name, value in reversed(lines)}


def _folders_of(settings: dict[str, str]) -> list[str]:
    """The folders of this machine that pip's settings name; of an index in files the one above, which has the files."""
    folders = set()
    for word in " ".join(settings.values()).split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            folders.add(path.parent if path.is_file() or word.startswith("file://") else path)
    return sorted(str(folder) for folder in folders if folder != _trusted().parent)


def _trusted() -> Path:
    return Path("/", CERTIFICATES)


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copy(source, target)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
