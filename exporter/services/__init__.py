"""Service kinds: one module each, found here by name. Importing this package loads none of them."""

from __future__ import annotations

from collections.abc import Callable

from exporter.services.base import Service


def _triton() -> Service:
    from exporter.services.triton.service import TritonService

    return TritonService()


def _triton_in_process() -> Service:
    from exporter.services.triton_in_process.service import InProcessService

    return InProcessService()


def _oip() -> Service:
    from exporter.services.oip.service import OipService

    return OipService()


def _tfserving() -> Service:
    from exporter.services.tfserving.service import TfServingService

    return TfServingService()


def _torchserve() -> Service:
    from exporter.services.torchserve import TorchServeService

    return TorchServeService()


def _openai() -> Service:
    from exporter.services.openai.service import OpenAiService

    return OpenAiService()


def _triton_generate() -> Service:
    from exporter.services.triton_generate import GenerateService

    return GenerateService()


SERVICES: dict[str, Callable[[], Service]] = {
    "triton": _triton,
    "triton_in_process": _triton_in_process,
    "oip": _oip,
    "tfserving": _tfserving,
    "torchserve": _torchserve,
    "openai": _openai,
    "triton_generate": _triton_generate,
}
"""What makes the service of each kind that a target may have."""
