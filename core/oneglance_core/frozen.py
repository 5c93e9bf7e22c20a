"""What settings and manifests have in common: a frozen pydantic model that refuses unknown fields, NaN and infinity."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def as_in(model: type[BaseModel], name: str) -> Any:
    """The field ``name`` of ``model``, for another model: ``max_faces: int = as_in(FaceSearch, "max_faces")``.

    So default, range and description are stated once.
    """
    return model.model_fields[name]
