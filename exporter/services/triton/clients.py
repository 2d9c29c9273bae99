"""What a Triton is asked beyond the Open Inference Protocol: the questions of its extensions, by HTTP and gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import model_config_pb2, service_pb2

from exporter.core.bounds import GRPC_MESSAGE
from exporter.core.facts import ModelFacts
from exporter.core.units import NS
from exporter.services.base import Tensors, TraceSettings
from exporter.services.oip.clients import OipClient, reading
from exporter.services.oip.responses import output_tensors


class TritonClient(OipClient):
    """One Triton through one of its endpoints. Each question raises PreflightError."""

    async def model_config(self, model: str, version: str) -> model_config_pb2.ModelConfig:
        response = await self._ask("get_model_config", model, version)
        if self.target.is_grpc:
            return response.config
        return self._message(response, model_config_pb2.ModelConfig())

    async def statistics(self, model: str, version: str) -> service_pb2.ModelStatisticsResponse:
        response = await self._ask("get_inference_statistics", model, version)
        return self._message(response, service_pb2.ModelStatisticsResponse())

    async def trace_settings(self, model: str) -> dict[str, str | list[str]]:
        """The model's settings, or with "" the server's; lists where Triton has several values."""
        response = await self._ask("get_trace_settings", model)
        if not self.target.is_grpc:
            with reading(self.target):
                return dict(response)
        values = {name: list(entry.value) for name, entry in response.settings.items()}
        return {name: value if name == "trace_level" else "".join(value) for name, value in values.items()}

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        await self._ask("update_trace_settings", model, dict(settings))

    async def infer(self, facts: ModelFacts, model: str, version: str, tensors: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to a model that takes the inputs of `facts`. Raises TimeoutError, too."""
        library: Any = tritonclient.grpc if self.target.is_grpc else tritonclient.http
        inputs = []
        for spec in facts.inputs:
            if spec.name in tensors:
                inputs.append(library.InferInput(spec.name, list(tensors[spec.name].shape), spec.datatype))
                inputs[-1].set_data_from_numpy(tensors[spec.name])
        with reading(self.target):
            async with asyncio.timeout(timeout_ns / NS):
                result = await self._ask("infer", model, inputs, version, limited=False, max_bytes=GRPC_MESSAGE)
            return output_tensors(result)

    # --- shared memory, `kind` system or cuda -------------------------------------------------------------------------

    async def register_system_shared_memory(self, name: str, key: str, size: int) -> None:
        await self._ask("register_system_shared_memory", name, key, size)

    async def register_cuda_shared_memory(self, name: str, raw_handle: str, device: int, size: int) -> None:
        await self._ask("register_cuda_shared_memory", name, raw_handle, device, size)

    async def unregister_shared_memory(self, kind: str, name: str) -> None:
        await self._ask(f"unregister_{kind}_shared_memory", name)

    async def shared_memory_regions(self, kind: str) -> list[str]:
        response = await self._ask(f"get_{kind}_shared_memory_status")
        with reading(self.target):
            return list(response.regions) if self.target.is_grpc else [region["name"] for region in response]
