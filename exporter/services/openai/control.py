"""The control plane of servers that speak OpenAI's HTTP API: their health and their models, where they list them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.untrusted_text import clean_name
from exporter.payload.prompts import PAYLOAD, PROMPT
from exporter.services.http_pages import Page, ask
from exporter.services.openai.requests import base_of
from exporter.services.without_extensions import PlainControl

HEALTH: Final = "/health"
_HAS_NO_SUCH: Final = (404, 405, 501)
"""A server need not have a page for its health, or a list of its models."""
_SHOWN: Final = 8

PROMPT_INPUTS: Final = tuple(
    TensorSpec(name, "BYTES", (1,), optional=True, alternative=True) for name in (PROMPT, PAYLOAD)
)


class OpenAiControl(PlainControl):
    """A `Control` (services.base)."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Whether the server is healthy and lists the model, as far as it has such pages. Raises PreflightError."""
        health = await ask(self._target, HEALTH, self._timeout_ns)
        if not health.is_ok and health.status not in _HAS_NO_SUCH:
            raise health.refusal()
        found = await ask(self._target, f"/{base_of(options.prompt.endpoint)}models", self._timeout_ns)
        entry: dict[str, Any] = {}
        if found.is_ok:
            entry = _entry(found, model, options.prompt.endpoint)
        elif found.status not in _HAS_NO_SUCH:
            raise found.refusal()
        return ModelFacts(
            name=model,
            version="",
            platform=clean_name(str(entry.get("owned_by", ""))),
            backend="",
            max_batch_size=0,
            inputs=PROMPT_INPUTS,
            outputs=(),
            has_statistics=self._page.there,
            server_name=clean_name(found.header("server") or ""),
            asked_version=version,
            takes_prompts=True,
        )


def _entry(page: Page, model: str, endpoint: str) -> dict[str, Any]:
    """The model's entry in the list. Raises PreflightError if it is not in it."""
    value = page.json()
    entries = value.get("data") if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(value.get("models"), list) and entries is None:
        text = f"{page.url} sent KServe's list of models, not OpenAI's: KServe serves that below /openai"
        raise PreflightError(Reason.PROTOCOL, f"{text}; set input.prompt.endpoint: openai/{endpoint.strip('/')}")
    if not isinstance(entries, list):
        raise PreflightError(Reason.PROTOCOL, f"{page.url} sent JSON that is not a list of models")
    named = {str(entry["id"]): entry for entry in entries if isinstance(entry, dict) and "id" in entry}
    if model not in named:
        shown = ", ".join(repr(clean_name(name)) for name in list(named)[:_SHOWN]) or "none"
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise PreflightError(Reason.MODEL_UNKNOWN, f"{page.url} lists no model {model!r}; it has {shown}{more}")
    entry: dict[str, Any] = named[model]
    return entry
