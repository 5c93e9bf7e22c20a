"""What the manifests of all kinds hold, and what each kind must declare."""

import hashlib
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from oneglance_core.manifests.parity import Vectors
from oneglance_core.manifests.part import Part, canonical
from oneglance_core.manifests.tensor import TensorSpec

FORMAT = "oneglance-model/1"
NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,62}$"  # of a model's name


class ModelManifest(Part):
    """``manifest.json`` of any model. A kind of model is a subclass that sets ``kind`` and declares its graph.

    other_outputs: the graph may return more than is declared; nobody asks for it.
    """

    other_outputs: ClassVar[bool] = False

    format: Literal["oneglance-model/1"] = "oneglance-model/1"
    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    license: str = ""
    created: str
    training: dict[str, Any] = Field(default_factory=dict)
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    model_bytes: int = Field(ge=1)
    kind: str

    @property
    @abstractmethod
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        """All that the graph takes."""

    @property
    @abstractmethod
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        """What the graph returns."""

    @abstractmethod
    def vectors(self) -> Vectors:
        """The parity vectors. Raises ModelFolderError when they can't be unpacked."""

    @abstractmethod
    def _contract(self) -> dict[str, Any]:
        """What of the manifest the digest covers, as JSON values."""

    @property
    def digest(self) -> str:
        """Identity of the model, 64 hex digits.

        Covers the graph and its contract (what it takes and returns), and nothing else: a model that is only
        recalibrated or redescribed keeps its digest, and so its galleries.
        """
        contract = {"format": self.format, "model_sha256": self.model_sha256, **self._contract()}
        return hashlib.sha256(canonical(contract)).hexdigest()
