"""What a daemon with a lease in Kubernetes needs before it starts, and what one without does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config import Settings
from exporter.core.errors import ConfigError
from exporter.daemon.standby import Standby
from exporter.schedule.sharding import Shard


def settings(**values: str) -> Settings:
    return Settings.model_validate({"standby": values})


def test_the_client_of_kubernetes_is_loaded_where_the_lease_is_there() -> None:
    heavy = "any(name.startswith(('lightkube', 'httpx2')) for name in sys.modules)"
    code = f"import sys, exporter.daemon.daemon; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_client_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightkube", None)
    monkeypatch.delitem(sys.modules, "exporter.standby.kubernetes_lease", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'triton-canary\[kubernetes\]'"):
        Standby(settings(lease="kubernetes"), Shard(0, 1))


def test_outside_of_a_pod_it_is_one_clear_error() -> None:
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        pytest.skip("this machine is a pod")
    with pytest.raises(ConfigError, match=r"kubernetes works only in a pod with a service account: .*/token"):
        Standby(settings(lease="kubernetes"), Shard(0, 1))
