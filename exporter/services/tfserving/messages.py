"""TensorFlow Serving's messages: tensors to and from them, by gRPC and as JSON, and what its metadata mean. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.core.datatypes import DATATYPES, HALF_FLOATS
from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions
from exporter.payload.values import dtype_of
from exporter.services.encoding import Tensor, raw, refuse_not_finite
from exporter.services.tfserving import tfserving_pb2 as pb
from exporter.services.without_extensions import model_inputs

MAX_BATCH_SIZE: Final = 65_536
"""The server has no limit on the batch size that is known: as large as may be configured."""

_TYPES: Final[Mapping[int, tuple[str, str]]] = {
    pb.DT_FLOAT: ("FP32", "float_val"),
    pb.DT_DOUBLE: ("FP64", "double_val"),
    pb.DT_INT32: ("INT32", "int_val"),
    pb.DT_UINT8: ("UINT8", "int_val"),
    pb.DT_INT16: ("INT16", "int_val"),
    pb.DT_INT8: ("INT8", "int_val"),
    pb.DT_STRING: ("BYTES", "string_val"),
    pb.DT_INT64: ("INT64", "int64_val"),
    pb.DT_BOOL: ("BOOL", "bool_val"),
    pb.DT_BFLOAT16: ("BF16", "half_val"),
    pb.DT_UINT16: ("UINT16", "int_val"),
    pb.DT_HALF: ("FP16", "half_val"),
    pb.DT_UINT32: ("UINT32", "uint32_val"),
    pb.DT_UINT64: ("UINT64", "uint64_val"),
}
"""The datatypes by our names, and where their elements are listed."""
_CODES: Final = {name: code for code, (name, _) in _TYPES.items()}


def model_spec(model: str, version: str, signature: str = "") -> pb.ModelSpec:
    """Which model is meant; a version that is no number is a label of one."""
    spec = pb.ModelSpec(name=model, signature_name=signature)
    if version.isdigit():
        spec.version.value = int(version)
    elif version:
        spec.version_label = version
    return spec


# --- tensors ---------------------------------------------------------------------------------------------------------


def write_tensor(message: pb.TensorProto, spec: TensorSpec, tensor: Tensor) -> None:
    """The tensor as a message: numbers raw, strings listed. Raises InputError."""
    message.dtype = _CODES[spec.datatype]
    for size in tensor.shape:
        message.tensor_shape.dim.add(size=size)
    if spec.datatype == "BYTES":
        message.string_val.extend(tensor.flat)
    else:
        message.tensor_content = raw(spec, tensor)


def read_tensor(message: pb.TensorProto) -> Tensor:
    """The tensor of a message. Fewer elements than its shape has end in copies of the last one, as TensorFlow has it.
    Raises ValueError."""
    if message.dtype not in _TYPES:
        raise ValueError(f"a tensor of TensorFlow's datatype {message.dtype}")
    datatype, field = _TYPES[message.dtype]
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    listed = list(getattr(message, field))
    count = math.prod(shape)
    if listed and len(listed) < count:
        listed += listed[-1:] * (count - len(listed))
    if datatype == "BYTES":
        strings = np.empty(len(listed), np.object_)
        strings[:] = listed
        return strings.reshape(shape)
    dtype = dtype_of(datatype)
    if message.tensor_content:
        content: Tensor = np.frombuffer(message.tensor_content, dtype)
        return content.reshape(shape)
    if field == "half_val":
        halves: Tensor = np.array(listed, np.uint16).view(dtype)
        return halves.reshape(shape)
    elements: Tensor = np.array(listed, dtype)
    return elements.reshape(shape)


def write_json(spec: TensorSpec, tensor: Tensor) -> Any:
    """The tensor as nested lists; strings in base64, since they may be any bytes. Raises InputError."""
    if spec.datatype == "BYTES":
        strings = np.empty(tensor.size, np.object_)
        strings[:] = [{"b64": base64.b64encode(element).decode()} for element in tensor.ravel().tolist()]
        return strings.reshape(tensor.shape).tolist()
    refuse_not_finite(spec, tensor, "use the server's gRPC endpoint")
    return tensor.astype(np.float64).tolist() if spec.datatype in HALF_FLOATS else tensor.tolist()


def read_json(outputs: Any, specs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    """The tensors of a response's "outputs": by name, or, where the model has one output, that alone. Raises ValueError
    or KeyError."""
    if not isinstance(outputs, dict) or (len(specs) == 1 and specs[0].name not in outputs):
        outputs = {specs[0].name if specs else "outputs": outputs}
    datatypes = {spec.name: spec.datatype for spec in specs}
    return {name: _from_json(value, datatypes.get(name, "")) for name, value in outputs.items()}


def _from_json(value: Any, datatype: str) -> Tensor:
    if datatype != "BYTES":
        return np.array(value, dtype_of(datatype) if datatype in DATATYPES else None)
    given: npt.NDArray[np.object_] = np.array(value, np.object_)
    strings = np.empty(given.size, np.object_)
    strings[:] = [base64.b64decode(e["b64"]) if isinstance(e, dict) else e.encode() for e in given.ravel().tolist()]
    return strings.reshape(given.shape)


# --- what the server reports
# -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reported:
    """What the server reported about a model: the versions that can be asked, and its signatures with the version that
    they are of; None and "" where it reports none. Servers that know the protocol in part report neither."""

    versions: tuple[int, ...] = ()
    signatures: pb.SignatureDefMap | None = None
    version: str = ""

    def served_version(self, asked: str) -> str:
        """The version that serves a request for `asked`: by its number, by a label that only the server can resolve,
        or, without either, the newest; "" where it is not reported."""
        if asked.isdigit():
            return asked
        return self.version or (str(max(self.versions)) if self.versions and not asked else "")


def available(statuses: pb.GetModelStatusResponse, model: str, url: str) -> tuple[int, ...]:
    """The versions that can be asked. Raises PreflightError where there is none."""
    entries = statuses.model_version_status
    versions = tuple(entry.version for entry in entries if entry.state == pb.ModelVersionStatus.AVAILABLE)
    if not versions:
        states = "; ".join(map(_state, entries)) or "it has no version"
        raise PreflightError(Reason.MODEL_NOT_READY, f"model {model!r} is known to {url} but not ready: {states}")
    return versions


def _state(entry: pb.ModelVersionStatus) -> str:
    reason = f" ({entry.status.error_message})" if entry.status.error_message else ""
    return f"version {entry.version} {pb.ModelVersionStatus.State.Name(entry.state).lower()}{reason}"


def model_facts(
    model: str, version: str, reported: Reported, options: InputOptions, has_statistics: bool
) -> ModelFacts:
    """The facts. Where the first dimension of all inputs varies it is the batch's, by TensorFlow's convention, and no
    part of the shapes. Raises PreflightError."""
    signature = _signature(model, reported, options.signature)
    infos = list(signature.inputs.values()) if signature else []
    batched = bool(infos) and all(_shape(info)[:1] == (-1,) for info in infos)
    if options.batch_size > 1 and not batched:
        text = f"the server reports no batch dimension of model {model!r} that comes first in all inputs and varies"
        fix = "give whole shapes in input.shapes, and batch_size 1"
        raise PreflightError(Reason.BAD_INPUT, f"input.batch_size {options.batch_size}: {text}: {fix}")
    return ModelFacts(
        name=model,
        version=reported.served_version(version),
        platform="tensorflow",
        backend="",
        max_batch_size=MAX_BATCH_SIZE if batched else 0,
        inputs=_inputs(model, signature.inputs, batched, options) if signature else model_inputs(model, (), options),
        outputs=_specs(signature.outputs, batched) if signature else (),
        has_statistics=has_statistics,
        asked_version=version if version.isdigit() else "",
    )


def _signature(model: str, reported: Reported, name: str) -> pb.SignatureDef | None:
    if reported.signatures is None:
        return None
    signatures = reported.signatures.signature_def
    if name not in signatures:
        names = ", ".join(repr(each) for each in sorted(signatures) if not each.startswith("__")) or "none"
        text = f"model {model!r} has no signature {name!r}; input.signature can be: {names}"
        raise PreflightError(Reason.BAD_INPUT, text)
    return signatures[name]


def _inputs(
    model: str, infos: Mapping[str, pb.TensorInfo], batched: bool, options: InputOptions
) -> tuple[TensorSpec, ...]:
    """An input of unknown rank has a datatype and no shape: that must be given. Raises PreflightError."""
    specs = _specs(infos, batched)
    reported = [spec for spec in specs if not infos[spec.name].tensor_shape.unknown_rank]
    if options.datatypes or len(reported) == len(specs):
        return model_inputs(model, reported, options)
    without_shape = tuple((spec.name, spec.datatype) for spec in specs if spec not in reported)
    given = model_inputs(model, (), replace(options, datatypes=without_shape))
    by_name = {spec.name: spec for spec in (*reported, *given)}
    return tuple(by_name[spec.name] for spec in specs)


def _specs(infos: Mapping[str, pb.TensorInfo], batched: bool) -> tuple[TensorSpec, ...]:
    return tuple(_spec(name, infos[name], batched) for name in sorted(infos))


def _spec(name: str, info: pb.TensorInfo, batched: bool) -> TensorSpec:
    datatype = _TYPES[info.dtype][0] if info.dtype in _TYPES else f"TensorFlow's {info.dtype}"
    return TensorSpec(name, datatype, _shape(info)[1 if batched else 0 :])


def _shape(info: pb.TensorInfo) -> tuple[int, ...]:
    return tuple(dim.size for dim in info.tensor_shape.dim)
