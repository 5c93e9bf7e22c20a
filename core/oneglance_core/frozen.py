"""What settings and manifests have in common: a frozen pydantic model that refuses unknown fields, NaN and infinity."""

import math
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from oneglance_core.ranges import MOST, MOST_SECONDS


class Frozen(BaseModel):
    """No number is beyond -2^53 to 2^53, and no time (``seconds``, ``..._seconds``) longer than a year."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    endless: ClassVar[frozenset[str]] = frozenset()  # names of fields that take every finite number

    @field_validator("*")
    @classmethod
    def _not_absurd(cls, value: Any, field: ValidationInfo) -> Any:
        if field.field_name in cls.endless:
            return value
        most = MOST_SECONDS if f"_{field.field_name}".endswith("_seconds") else MOST
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not math.isinf(number) and not -most <= number <= most:
                raise ValueError(f"must be between {-most:.12g} and {most:.12g}")
        return value


def as_in(model: type[BaseModel], name: str) -> Any:
    """The field ``name`` of ``model``, for another model: ``max_faces: int = as_in(FaceSearch, "max_faces")``.

    So default, range and description are stated once.
    """
    return model.model_fields[name]
