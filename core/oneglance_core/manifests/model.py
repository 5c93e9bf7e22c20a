"""What the manifests of all kinds hold."""

import hashlib
from typing import Any, Literal

from pydantic import Field

from oneglance_core.manifests.part import Part, canonical

FORMAT = "oneglance-model/1"
NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,62}$"  # of a model's name


class ModelManifest(Part):
    """What the manifests of all kinds hold."""

    format: Literal["oneglance-model/1"] = "oneglance-model/1"
    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    license: str = ""
    created: str
    training: dict[str, Any] = Field(default_factory=dict)
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    model_bytes: int = Field(ge=1)

    def _contract(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Identity of the model, 64 hex digits.

        Covers the graph and its contract (what it takes and returns), and nothing else: a model that is only
        recalibrated or redescribed keeps its digest, and so its galleries.
        """
        contract = {"format": self.format, "model_sha256": self.model_sha256, **self._contract()}
        return hashlib.sha256(canonical(contract)).hexdigest()
