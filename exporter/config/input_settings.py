"""What a user may configure of what is sent, and what is expected back."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictBool,
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
    PathText,
    Section,
    Shapes,
)
from exporter.config.inputs import Parameter, parse_parameter, parse_paths
from exporter.core.datatypes import DATATYPES
from exporter.core.probe import DEFAULT_PROMPT, PROMPT_PLACE, prompt_api
from exporter.payload.input_files import InputFiles


def _endpoint(given: str) -> str:
    prompt_api(given)
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]+", given):
        raise ValueError("must be a path, as v1/chat/completions, without blanks, ? and #")
    return given.strip("/")


def _template(given: str) -> str:
    if given and PROMPT_PLACE not in given:
        raise ValueError(f"must have {PROMPT_PLACE} in it, where the prompt goes")
    return given


class PromptSettings(Section):
    """The prompts for a language model."""

    endpoint: Annotated[StrictStr, AfterValidator(_endpoint)] = Field(
        default=DEFAULT_PROMPT.endpoint,
        description="The path below the target's URL. It ends with `chat/completions`, `completions` or `embeddings`.",
    )
    tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=DEFAULT_PROMPT.tokens,
        description="Tokens in a generated prompt, on average; the words are one token each in most models.",
    )
    tokens_stddev: Annotated[Number, Field(ge=0, le=1_000_000)] = Field(
        default=0.0, description="The standard deviation of that number, normally distributed."
    )
    count: Annotated[StrictInt, Field(ge=1, le=100_000)] = Field(
        default=DEFAULT_PROMPT.count, description="How many different prompts are generated and sent in turn."
    )
    output_tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=DEFAULT_PROMPT.output_tokens, description="Requested output tokens (`max_tokens`)."
    )
    fixed_output: StrictBool = Field(
        default=True,
        description="Whether the server must not end earlier (`ignore_eos`); false for servers that reject this "
        "parameter.",
    )
    system: Annotated[StrictStr, Field(max_length=16 * 2**20)] = Field(default="", description="The system prompt.")
    template: Annotated[StrictStr, Field(max_length=2**20), AfterValidator(_template)] = Field(
        default="", description=f"The text to send, with `{PROMPT_PLACE}` in place of the prompt."
    )
    cache: Literal["avoid", "allow"] = Field(
        default="avoid",
        description="`avoid` puts a unique text before each prompt, so that the server's prefix cache has no "
        "effect; `allow` sends prompts unchanged, repeatedly.",
    )
    tokenizer: PathText = Field(
        default="",
        description="A local `tokenizer.json`: counts tokens where the server does not, and makes generated prompts "
        "exact. Needs the extra `tokenizer`.",
    )


class InputSettings(Section):
    """What is sent."""

    source: Literal["random", "zero", "files"] = Field(default="random", description="What fills the input tensors.")
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="The seed of the random input."
    )
    batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=1, description="Inferences in one request."
    )
    shapes: Shapes = Field(
        default={},
        description="Complete shapes by input, without the batch dimension, for inputs of variable size.",
    )
    string_length: Annotated[StrictInt, Field(ge=0, le=16 * 2**20)] = Field(
        default=128, description="Characters in a string element."
    )
    optional_inputs: Literal["send", "omit"] = Field(
        default="send",
        description="Whether generated input includes the model's optional inputs. One of variable size is sent "
        "only if `shapes` gives its shape; with `omit` this applies to all of them.",
    )
    compression: Literal["none", "gzip", "deflate"] = Field(
        default="none",
        description="How requests are compressed: once, before the load; the server unpacks each of them.",
    )
    paths: Annotated[InputFiles | None, PlainValidator(parse_paths)] = Field(
        default=None,
        description="With `source: files`: one directory with a file per tensor, or JSON files. See "
        "[inputs](inputs.md).",
    )
    string_data: Annotated[StrictStr, Field(max_length=16 * 2**20)] = Field(
        default="", description="The content of each generated string element, in place of random characters."
    )
    parameters: Annotated[dict[str, Annotated[Parameter, PlainValidator(parse_parameter)]], Field(max_length=64)] = (
        Field(default={}, description="Request parameters by name, which the model's code can read.")
    )
    format: Literal["binary", "json"] = Field(default="binary", description="How input tensors are sent over HTTP.")
    output_format: Literal["binary", "json"] = Field(
        default="binary", description="The requested form of output tensors over HTTP."
    )
    shared_memory: Literal["none", "system", "cuda"] = Field(
        default="none",
        description="Passes tensors in shared memory: `system`, if the server runs on this machine with the same "
        "`/dev/shm`, or `cuda`, with a GPU that both can use.",
    )
    output_shared_memory_bytes: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] = Field(
        default=102_400,
        alias="output_shared_memory_size",
        description="Bytes of shared memory for one inference's output if the model does not report its size.",
    )
    priority: Literal["default", "low"] = Field(
        default="default",
        description="`low` uses the last of the model's priority levels, if it has any: users' requests go first, "
        "and the result describes a class that they are not in.",
    )
    datatypes: Annotated[dict[str, Annotated[str, OneOf(tuple(DATATYPES))]], Field(max_length=64)] = Field(
        default={},
        description="Kinds `oip` and `tfserving`: the datatype of each input, as FP32, of a model whose server does "
        "not report its inputs; `shapes` go with it.",
    )
    signature: FilledLabelValue = Field(
        default="serving_default", description="Kind `tfserving`: the signature to call."
    )
    content_type: Annotated[StrictStr, AfterValidator(text.header_value)] = Field(
        default="",
        description="Kind `torchserve`: the content type. By default files are sent as `multipart/form-data`, and "
        "bodies as `application/json` if they are JSON, else as `application/octet-stream`.",
    )
    prompt: PromptSettings = Field(
        default_factory=PromptSettings, description="The prompts, for targets that take prompts: kind `openai`."
    )


class ValidationSettings(Section):
    """What responses are compared with, in addition to or in place of the outputs in the data."""

    reference_model: LabelValue = Field(
        default="",
        description="Another model of the same server, which gets one request for each input: its outputs are the "
        "expected ones.",
    )
    reference_version: NumberAsLabelValue = Field(
        default="", description="Its version; the server's choice by default."
    )
    absolute: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="How far a number may be from the expected one, in addition to `relative`."
    )
    relative: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="The same, as a part of the expected number. With neither, outputs must match the data exactly; "
        "those of a reference model are only compared.",
    )
