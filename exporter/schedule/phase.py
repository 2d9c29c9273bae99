"""Where in its interval a probe runs: a stable place made from its names alone.

Pure. The same names give the same phase in every process, so a restart bunches nothing and a new neighbour moves
none. It must not use `hash()`, whose value for text changes from process to process.
"""

from __future__ import annotations

from hashlib import sha256

from exporter.core.probe import Probe

ProbeKey = tuple[str, str]
"""The names that identify a probe: its target's and its own."""

_DIGEST_BITS = 64


def probe_key(probe: Probe) -> ProbeKey:
    """The probe's target name and own name."""
    return probe.target.name, probe.name


def configured_key(key: ProbeKey) -> ProbeKey:
    """The names in the configuration under which the probe of these was discovered, or its own: configured names have
    no slash."""
    target, probe = key
    return target.partition("/")[0], probe.partition("/")[0]


def probe_path(probe: Probe) -> str:
    """The probe as "target/probe", for logs."""
    return f"{probe.target.name}/{probe.name}"


def phase_seed(probe: Probe) -> str:
    """What its slots are made from: its path, without its place. What is measured from several places is due from all
    of them at once, and so measured from one after the other, by the lock of its group: hours between them would be
    compared, too."""
    # Configured names have no slash: the first one begins the place.
    name = probe.name.replace(f"/{probe.place}", "", 1) if probe.place else probe.name
    return f"{probe.target.name}/{name}"


def spread(seed: str, width: int) -> int:
    """A whole number in 0..width-1, the same for the same seed and evenly spread over seeds; 0 if `width` is 0."""
    digest = sha256(seed.encode()).digest()
    return int.from_bytes(digest[: _DIGEST_BITS // 8]) * width >> _DIGEST_BITS
