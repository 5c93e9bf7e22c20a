"""The manifest of an encoder, f."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.manifests.calibration import AuthorThreshold, Calibration
from oneglance_core.manifests.false_positives import FalsePositives
from oneglance_core.manifests.landmarks import Alignment
from oneglance_core.manifests.made_for import MadeFor
from oneglance_core.manifests.mates import MateScores
from oneglance_core.manifests.model import ModelManifest
from oneglance_core.manifests.pair_head import PairHeadPart
from oneglance_core.manifests.parity import Parity, Vectors
from oneglance_core.manifests.part import Part
from oneglance_core.manifests.sound import MOST_OVERLAP, SoundSpec, Windows
from oneglance_core.manifests.tensor import TensorSpec

MAX_DIMENSION = 65536
LEAST_CHIP = 8  # pixels, height and width
_FAR = 4  # sides of the chip


class InputSpec(Part):
    """What the graph takes: one tensor ``dtype [N, *shape]``, N dynamic.

    ``image``: shape (H, W, C), C = 1 for ``gray`` and 3 for ``rgb``; ink and light as in the picture
    (0 black). Pictures of another size are brought to (H, W) with the ``resize`` filter of Pillow.
    The others are arrays, given as they are. ``signal``: shape (L, C). ``plane``: (H, W, C), as a spectrogram.
    ``volume``: (D, H, W, C).

    ``fit``: what becomes of inputs of another size. None: pictures are stretched, and arrays are refused. "pad": a
    picture keeps its aspect, with white beside it; an array is cut at the end of each axis, or followed by zeros.
    "crop" (pictures only): the aspect is kept, and what juts out on two sides is cut off.

    ``sound`` (signals only): sound files are taken, too. ``windows`` (signals only): longer ones are encoded whole.
    """

    name: str = "input"
    kind: Literal["image", "signal", "plane", "volume"]
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    color: Literal["gray", "rgb"] | None = None
    resize: Literal["box", "bilinear"] = "box"
    fit: Literal["pad", "crop"] | None = None
    sound: SoundSpec | None = None
    windows: Windows | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rank = {"image": 3, "signal": 2, "plane": 3, "volume": 4}[self.kind]
        if len(self.shape) != rank or min(self.shape) < 1:
            raise ValueError(f"{self.kind} needs {rank} positive sizes, got {self.shape}")
        if self.kind == "image":
            channels = {"gray": 1, "rgb": 3}.get(self.color or "")
            if channels is None or self.shape[-1] != channels or self.dtype != "uint8":
                raise ValueError("image input is uint8 (H, W, 1) gray or (H, W, 3) rgb")
        elif self.fit == "crop":
            raise ValueError(f"crop is for images, not for a {self.kind}")
        return self

    @model_validator(mode="after")
    def _signals(self) -> Self:
        if self.sound is not None and (self.kind != "signal" or self.dtype != "float32" or self.shape[-1] > 2):
            raise ValueError("sound: needs a float32 signal of 1 or 2 channels")
        if self.sound is not None and self.fit != "pad":
            raise ValueError('sound: needs fit "pad": sounds have any length')
        if self.windows is not None:
            if self.kind != "signal" or self.fit != "pad":
                raise ValueError('windows: needs a signal with fit "pad"')
            if self.windows.step * MOST_OVERLAP < self.shape[0] or self.windows.before >= self.shape[0]:
                raise ValueError(f"windows: a step of at least 1/{MOST_OVERLAP} of the input, and before below it")
        return self

    @property
    def axes(self) -> int:
        """1, 2 or 3: those that an encoder convolves over. The last one of ``shape`` has the channels."""
        return len(self.shape) - 1

    def contract(self) -> dict[str, Any]:
        """What of it a model's digest covers. Newer fields only where they are set: digests made before them stay."""
        unset = {name for name in ("fit", "sound", "windows") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=unset)


class OutputSpec(Part):
    """What the graph returns: ``float32 [N, dimension]``."""

    name: str = "encoding"
    dimension: int = Field(ge=1, le=MAX_DIMENSION)
    unit_norm: bool


class EncoderManifest(ModelManifest):
    """``manifest.json`` of an encoder: f(x).

    With ``alignment``, x is a face chip, rgb and at least 8 x 8, and photos can be given. ``threshold`` is a tau for
    one size of a gallery; ``false_positives`` tell those for others; ``mates`` tell how far subjects' own probes are.
    ``made_for``: what its images look like; None: nobody measured it. ``pair_head``: tells how likely two encodings are
    of one subject; None: it has none.
    """

    other_outputs: ClassVar[bool] = True  # ``output`` names one of them

    kind: Literal["encoder"] = "encoder"
    input: InputSpec
    output: OutputSpec
    metric: Literal["squared_l2"] = "squared_l2"
    alignment: Alignment | None = None
    threshold: Calibration | None = None
    author_threshold: AuthorThreshold | None = None
    false_positives: FalsePositives | None = None
    mates: MateScores | None = None
    made_for: MadeFor | None = None
    pair_head: PairHeadPart | None = None
    parity: Parity

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.pair_head is not None and self.pair_head.weights.shape != (self.output.dimension,):
            raise ValueError(
                f"pair_head.weights: must be [{self.output.dimension}], one for each number of an encoding, not "
                f"{list(self.pair_head.weights.shape)}"
            )
        return self

    @model_validator(mode="after")
    def _images(self) -> Self:
        if self.made_for is not None and self.input.kind != "image":
            raise ValueError(f"made_for: tells of images; this encoder takes a {self.input.kind}")
        return self

    @model_validator(mode="after")
    def _chips(self) -> Self:
        if self.alignment is None:
            return self
        if self.input.kind != "image" or self.input.color != "rgb" or min(self.input.shape[:2]) < LEAST_CHIP:
            raise ValueError(f"alignment: needs rgb images of at least {LEAST_CHIP} x {LEAST_CHIP}")
        height, width = self.input.shape[:2]
        if any(abs(x) > _FAR * width or abs(y) > _FAR * height for x, y in self.alignment.template):
            raise ValueError(f"alignment: a template's point is more than {_FAR} times the chip's side away")
        return self

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(self.input.name, self.input.dtype, (None, *self.input.shape)),)

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(self.output.name, "float32", (None, self.output.dimension)),)

    def vectors(self) -> Vectors:
        """Raises ModelFolderError, too, when the pair head doesn't fit their encodings."""
        vectors = self.parity.vectors(self.input.name, self.output.name)
        if self.pair_head is not None:
            self.pair_head.check(vectors.outputs[self.output.name])
        return vectors

    def _contract(self) -> dict[str, Any]:
        contract = {
            "kind": self.kind,
            "input": self.input.contract(),
            "output": self.output.model_dump(mode="json"),
            "metric": self.metric,
        }
        if self.alignment is not None:
            contract["alignment"] = self.alignment.model_dump(mode="json")
        if self.pair_head is not None:
            contract["pair_head"] = self.pair_head.contract()
        return contract
