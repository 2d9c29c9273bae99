"""Triton's gRPC client as far as it is needed: the methods of `tritonclient.grpc.aio`, by `services.grpc_calls`.

Messages are those of its library. gRPC's own channel, under that client, sends the name that TLS asks for as the
authority, cannot leave out verification, and separates a refused connection from a refused certificate only by the
error's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tritonclient.grpc
from tritonclient.grpc import service_pb2 as pb

from exporter.core.bounds import CONTROL_BYTES
from exporter.core.target import Target
from exporter.services.grpc_calls import GrpcCalls

_SERVICE = "/inference.GRPCInferenceService/"


class GrpcClient:
    """One server. Each method raises PreflightError."""

    def __init__(self, target: Target, max_bytes: int = CONTROL_BYTES) -> None:
        self._calls = GrpcCalls(target, max_bytes)

    async def close(self) -> None:
        await self._calls.close()

    async def is_server_live(self) -> bool:
        return bool((await self._call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)).live)

    async def is_server_ready(self) -> bool:
        return bool((await self._call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)).ready)

    async def is_model_ready(self, model: str, version: str) -> bool:
        request = pb.ModelReadyRequest(name=model, version=version)
        return bool((await self._call("ModelReady", request, pb.ModelReadyResponse)).ready)

    async def get_server_metadata(self) -> Any:
        return await self._call("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)

    async def get_model_metadata(self, model: str, version: str) -> Any:
        request = pb.ModelMetadataRequest(name=model, version=version)
        return await self._call("ModelMetadata", request, pb.ModelMetadataResponse)

    async def get_model_config(self, model: str, version: str) -> Any:
        request = pb.ModelConfigRequest(name=model, version=version)
        return await self._call("ModelConfig", request, pb.ModelConfigResponse)

    async def get_inference_statistics(self, model: str, version: str) -> Any:
        request = pb.ModelStatisticsRequest(name=model, version=version)
        return await self._call("ModelStatistics", request, pb.ModelStatisticsResponse)

    async def get_model_repository_index(self) -> Any:
        return await self._call("RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse)

    async def get_trace_settings(self, model: str) -> Any:
        return await self._call("TraceSetting", pb.TraceSettingRequest(model_name=model), pb.TraceSettingResponse)

    async def update_trace_settings(self, model: str, settings: Mapping[str, Any]) -> None:
        """A setting of None is cleared."""
        request = pb.TraceSettingRequest(model_name=model)
        for name, value in settings.items():
            entry = request.settings[name].value
            if value is not None:
                entry.extend(map(str, value) if isinstance(value, list) else [str(value)])
        await self._call("TraceSetting", request, pb.TraceSettingResponse)

    async def get_system_shared_memory_status(self) -> Any:
        request, response = pb.SystemSharedMemoryStatusRequest(), pb.SystemSharedMemoryStatusResponse
        return await self._call("SystemSharedMemoryStatus", request, response)

    async def get_cuda_shared_memory_status(self) -> Any:
        request, response = pb.CudaSharedMemoryStatusRequest(), pb.CudaSharedMemoryStatusResponse
        return await self._call("CudaSharedMemoryStatus", request, response)

    async def register_system_shared_memory(self, name: str, key: str, size: int) -> None:
        request = pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=0, byte_size=size)
        await self._call("SystemSharedMemoryRegister", request, pb.SystemSharedMemoryRegisterResponse)

    async def register_cuda_shared_memory(self, name: str, raw_handle: str, device: int, size: int) -> None:
        import base64

        handle = base64.b64decode(raw_handle)
        request = pb.CudaSharedMemoryRegisterRequest(name=name, raw_handle=handle, device_id=device, byte_size=size)
        await self._call("CudaSharedMemoryRegister", request, pb.CudaSharedMemoryRegisterResponse)

    async def unregister_system_shared_memory(self, name: str) -> None:
        request = pb.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call("SystemSharedMemoryUnregister", request, pb.SystemSharedMemoryUnregisterResponse)

    async def unregister_cuda_shared_memory(self, name: str) -> None:
        request = pb.CudaSharedMemoryUnregisterRequest(name=name)
        await self._call("CudaSharedMemoryUnregister", request, pb.CudaSharedMemoryUnregisterResponse)

    async def infer(self, model: str, inputs: Sequence[Any], version: str) -> Any:
        """One request's result."""
        request = pb.ModelInferRequest(model_name=model, model_version=version)
        for tensor in inputs:
            request.inputs.append(tensor._get_tensor())
            if (content := tensor._get_content()) is not None:
                request.raw_input_contents.append(content)
        return tritonclient.grpc.InferResult(await self._call("ModelInfer", request, pb.ModelInferResponse))

    async def _call(self, method: str, request: Any, response: Any) -> Any:
        return await self._calls.call(_SERVICE + method, request, response)
