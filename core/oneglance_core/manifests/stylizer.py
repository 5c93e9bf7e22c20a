"""The manifests of a stylizer, one network for several styles or for any, and of what reads a style from a picture."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.manifests.model import NAME_PATTERN, ModelManifest
from oneglance_core.manifests.parity import NamedParity, Vectors
from oneglance_core.manifests.part import Part
from oneglance_core.manifests.tensor import TensorSpec

MAX_STYLES = 256
MAX_MOMENTS = 65536


class Style(Part):
    """One style of a stylizer, and what it was learned from.

    title: the picture, for people. source, license: where the picture that was trained on comes from, and its terms.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    title: str = ""
    source: str = ""
    license: str = ""


class StyleSpace(Part):
    """What vectors of styles mean: ``numbers`` of them, as the reader of the same space tells them."""

    name: str = Field(pattern=NAME_PATTERN)
    numbers: int = Field(ge=1, le=4096)


class StyleReaderManifest(ModelManifest):
    """``manifest.json`` of what reads a style from a picture, for stylizers of the same ``space``.

    The graph takes ``picture`` uint8 [N, side, side, 3] rgb, the middle of the picture, and returns ``style`` float32
    [N, numbers].
    """

    kind: Literal["style-reader"] = "style-reader"
    side: int = Field(ge=8, le=1024)
    space: StyleSpace
    parity: NamedParity

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("picture", "uint8", (None, self.side, self.side, 3)),)

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("style", "float32", (None, self.space.numbers)),)

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"kind", "side", "space"})


class StylizerManifest(ModelManifest):
    """``manifest.json`` of a stylizer: one network for S styles (Dumoulin, Shlens and Kudlur 2017).

    The graph takes

    * ``image`` uint8 [N, H, W, 3] rgb; H and W are multiples of ``multiple`` and at least ``least_side``;
    * ``weights`` float32 [N, S]: how much of each style, >= 0, summing to 1; of a stylizer for any style, which has a
      ``space`` and no styles of its own, the vector of the style instead, of S numbers;
    * ``moments`` float32 [N, M, 2] and ``own`` float32 [N] in [0, 1]: where ``own`` is 1 each picture is normalised
      by its own mean and standard deviation per channel, as instance normalisation does, and ``moments`` is not
      looked at (but must be finite); where it is 0, by the (mean, standard deviation) given; between, by the mean of
      both.

    It returns ``stylized`` float32 [N, H, W, 3] in [0, 255], and ``used`` float32 [N, M, 2], the moments that were
    used. So a large picture can be stylized tile by tile under the moments of a small copy of it, and a video under
    moments that change slowly.

    margin: with given moments a pixel depends on nothing more than ``margin`` pixels away in either direction.
    """

    other_outputs: ClassVar[bool] = True

    kind: Literal["stylizer"] = "stylizer"
    styles: tuple[Style, ...] = Field(max_length=MAX_STYLES)
    space: StyleSpace | None = None
    multiple: int = Field(ge=1, le=64)
    least_side: int = Field(ge=1, le=1024)
    margin: int = Field(ge=0, le=1024)
    moments: int = Field(ge=1, le=MAX_MOMENTS)
    parity: NamedParity

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [style.name for style in self.styles]
        if len(set(names)) != len(names):
            raise ValueError("styles: two have the same name")
        if bool(names) == (self.space is not None):
            raise ValueError("either styles or a space of styles")
        return self

    @property
    def numbers(self) -> int:
        """S."""
        return len(self.styles) if self.space is None else self.space.numbers

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("image", "uint8", (None, None, None, 3)),
            TensorSpec("weights", "float32", (None, self.numbers)),
            TensorSpec("moments", "float32", (None, self.moments, 2)),
            TensorSpec("own", "float32", (None,)),
        )

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("stylized", "float32", (None, None, None, 3)),
            TensorSpec("used", "float32", (None, self.moments, 2)),
        )

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        contract = self.model_dump(mode="json", include={"kind", "multiple", "least_side", "margin", "moments"})
        space = {} if self.space is None else {"space": self.space.model_dump(mode="json")}
        return {**contract, **space, "styles": [style.name for style in self.styles]}
