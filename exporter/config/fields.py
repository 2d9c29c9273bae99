"""What the sections of the configuration are made of: their base, and the types of single values.

A key is its field's name without its unit; a field's description is its documentation (see `reference`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    StrictInt,
    StrictStr,
)
from pydantic_core import CoreSchema, core_schema

from exporter.config import text
from exporter.config.quantities import checked_percentile


def _key(name: str) -> str:
    return re.sub(r"_(ns|bytes)$", "", name)


def _number_as_text(given: object) -> object:
    """Versions and levels are labels that look like numbers: a user may leave their quotes out."""
    return text.as_number(given) if isinstance(given, int | float) and not isinstance(given, bool) else given


Name = Annotated[StrictStr, AfterValidator(text.name)]
LabelValue = Annotated[StrictStr, AfterValidator(text.label_value)]
FilledLabelValue = Annotated[StrictStr, AfterValidator(text.filled_label_value)]
PathText = Annotated[StrictStr, AfterValidator(text.path_text)]
NumberAsLabelValue = Annotated[LabelValue, BeforeValidator(_number_as_text)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Percentile = Annotated[Number, Field(gt=0, lt=100), AfterValidator(checked_percentile)]


Shapes = dict[str, Annotated[tuple[Annotated[StrictInt, Field(ge=1)], ...], Field(max_length=16)]]
"""Whole shapes by input."""


@dataclass(frozen=True)
class OneOf:
    """Marks a field as one of the texts of a table."""

    choices: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.choices))


class Section(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=_key, hide_input_in_errors=True)


def is_section(shape: object) -> bool:
    """Whether a field of this type is a mapping of known keys."""
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def exactly_one(choices: Mapping[str, object]) -> None:
    """Raises ValueError unless one of the keys, and only one, has a value."""
    given = [key for key, value in choices.items() if value not in (None, "")]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
    if not given:
        raise ValueError(f"{ONE_IS_REQUIRED} {' or '.join(choices)}")


ONE_IS_REQUIRED = "needs"
"""How the error of a choice not made begins: in the defaults, which may be partial, it is none."""
