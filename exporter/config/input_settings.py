"""What a user may say of what is sent, and of what is expected back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
)

from exporter.config import text
from exporter.config.fields import (
    FilledLabelValue,
    LabelValue,
    Number,
    NumberAsLabelValue,
    OneOf,
    Section,
)
from exporter.config.inputs import Parameter, parse_parameter, parse_paths
from exporter.core.datatypes import DATATYPES
from exporter.payload.input_files import InputFiles


class InputSettings(Section):
    """What is sent."""

    source: Literal["random", "zero", "files"] = Field(default="random", description="What fills the input tensors.")
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="The seed of the random input."
    )
    batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=1, description="Inferences in one request."
    )
    shapes: dict[str, Annotated[tuple[Annotated[StrictInt, Field(ge=1)], ...], Field(max_length=16)]] = Field(
        default={},
        description="Full shapes by input, without the batch dimension, for inputs that vary in size.",
    )
    string_length: Annotated[StrictInt, Field(ge=0, le=16 * 2**20)] = Field(
        default=128, description="Characters in a string element."
    )
    optional_inputs: Literal["send", "omit"] = Field(
        default="send",
        description="Whether generated input has the model's optional inputs. One that varies in size is sent where "
        "`shapes` gives its shape; with `omit`, so are the others.",
    )
    compression: Literal["none", "gzip", "deflate"] = Field(
        default="none", description="How requests are compressed: once, before the load; the server unpacks each."
    )
    paths: Annotated[InputFiles | None, PlainValidator(parse_paths)] = Field(
        default=None,
        description="With `source: files`: one directory with a file for each tensor, or JSON files. See "
        "[inputs](inputs.md).",
    )
    string_data: Annotated[StrictStr, Field(max_length=16 * 2**20)] = Field(
        default="", description="What each generated string element is, in place of random characters."
    )
    parameters: Annotated[dict[str, Annotated[Parameter, PlainValidator(parse_parameter)]], Field(max_length=64)] = (
        Field(default={}, description="Request parameters by name, which the model's code can read.")
    )
    format: Literal["binary", "json"] = Field(default="binary", description="How input tensors are sent over HTTP.")
    output_format: Literal["binary", "json"] = Field(
        default="binary", description="How output tensors are asked for over HTTP."
    )
    shared_memory: Literal["none", "system", "cuda"] = Field(
        default="none",
        description="Where tensors go by shared memory: `system`, where the server runs on this machine with the same "
        "`/dev/shm`, or `cuda`, with a GPU that both have.",
    )
    output_shared_memory_bytes: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] = Field(
        default=102_400,
        alias="output_shared_memory_size",
        description="Bytes of shared memory for one inference's output whose size the model does not tell.",
    )
    priority: Literal["default", "low"] = Field(
        default="default",
        description="`low` asks for the last of the model's priority levels, where it has any: users' requests go "
        "first, and what is measured is a class that they are not in.",
    )
    datatypes: Annotated[dict[str, Annotated[str, OneOf(tuple(DATATYPES))]], Field(max_length=64)] = Field(
        default={},
        description="Kinds `oip` and `tfserving`: the datatype of each input, as FP32, of a model whose server does "
        "not tell its inputs; `shapes` go with it.",
    )
    signature: FilledLabelValue = Field(
        default="serving_default", description="Kind `tfserving`: the signature that is asked."
    )
    content_type: Annotated[StrictStr, AfterValidator(text.header_value)] = Field(
        default="",
        description="Kind `torchserve`: of what is sent. By default files go as `multipart/form-data`, and bodies as "
        "`application/json` if that is what they are, else as `application/octet-stream`.",
    )


class ValidationSettings(Section):
    """What answers are held against, beside or in place of the outputs that the data expects."""

    reference_model: LabelValue = Field(
        default="",
        description="Another model of the same server, which is asked once for each input: its outputs are the "
        "expected ones.",
    )
    reference_version: NumberAsLabelValue = Field(
        default="", description="Its version; the server's choice by default."
    )
    absolute: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="How far a number may be from the expected one, on top of `relative`."
    )
    relative: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="The same, as a part of the expected number. With neither, outputs must be exactly as the data "
        "expects; those of a reference model are only compared.",
    )
