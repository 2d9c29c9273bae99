"""What is shown of a configuration: all that is in it, and nothing secret."""

from __future__ import annotations

from pathlib import Path

import yaml

from exporter.config.redact import shown_configuration
from exporter.core.redaction import HIDDEN

SECRET = "s3cr3t-planted"

FILE = f"""
targets:
  - name: t
    url: http://triton.example:8000
    headers:
      X-Tenant: {SECRET}
      Authorization: {{env: TOKEN_VARIABLE, prefix: "{SECRET} "}}
      X-Api-Key: {{file: /run/secrets/key}}
defaults:
  input:
    string_data: {SECRET}
    parameters: {{user_key: {SECRET}, top_k: 5}}
probes:
  - {{name: p, target: t, model: m, load: {{concurrency: 1}}, labels: {{team: speech}}}}
web: {{api_token_file: /run/secrets/token}}
"""


def test_the_places_of_secrets_are_hidden_and_all_else_is_shown() -> None:
    text = shown_configuration(Path("canary.yaml"), FILE.encode(), {"TRITON_CANARY_LIMITS__CONCURRENT_SWEEPS": "3"})
    assert SECRET not in text
    assert yaml.safe_load(text) == {
        "targets": [
            {
                "name": "t",
                "url": "http://triton.example:8000",
                "headers": {
                    "X-Tenant": HIDDEN,
                    "Authorization": {"env": "TOKEN_VARIABLE", "prefix": HIDDEN},
                    "X-Api-Key": {"file": "/run/secrets/key"},
                },
            }
        ],
        "defaults": {"input": {"string_data": HIDDEN, "parameters": {"user_key": HIDDEN, "top_k": HIDDEN}}},
        "probes": [
            {"name": "p", "target": "t", "model": "m", "load": {"concurrency": 1}, "labels": {"team": "speech"}}
        ],
        "web": {"api_token_file": "/run/secrets/token"},
        "limits": {"concurrent_sweeps": 3},
    }


def test_credentials_in_urls_and_keys_that_sound_secret_are_hidden_everywhere() -> None:
    """Whatever sections there will be."""
    file = f"later: {{url: 'http://me:{SECRET}@h/p?key={SECRET}', password: {SECRET}, basic: {{token: {SECRET}}}}}"
    text = shown_configuration(Path("canary.yaml"), file.encode(), {})
    assert yaml.safe_load(text)["later"] == {
        "url": "http://***@h/p?***",
        "password": HIDDEN,
        "basic": {"token": HIDDEN},
    }


def test_headers_for_other_endpoints_are_hidden_too() -> None:
    headers = f"{{X-Tenant: {SECRET}, X-Key: {{env: NAME, prefix: {SECRET}}}}}"
    file = f"targets: [{{management_headers: {headers}, discover: {{http_sd: {{headers: {headers}}}}}}}]"
    text = shown_configuration(Path("canary.yaml"), file.encode(), {})
    hidden = {"X-Tenant": HIDDEN, "X-Key": {"env": "NAME", "prefix": HIDDEN}}
    (target,) = yaml.safe_load(text)["targets"]
    assert target == {"management_headers": hidden, "discover": {"http_sd": {"headers": hidden}}}
