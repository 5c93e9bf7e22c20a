"""What the commands that train, calibrate and evaluate encoders are told. No torch."""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from oneglance_core.defaults import TARGET_FPIR
from oneglance_core.flags import Flag, flag_name
from oneglance_core.manifests import MAX_DIMENSION
from oneglance_core.manifests.sound import LEAST_RATE, MOST_OVERLAP, MOST_RATE, RATE_STEP
from oneglance_exporter.settings import HIGHEST_LEARNING_RATE, CommandSettings, OptionalPath, Paths, Spellings
from oneglance_exporter.training.settings import TrainingSettings

Augmentation = Literal["drawing", "photo", "array", "none"]
Mining = Literal["semi-hard", "random", "batch-hard"]
MARGINS = {"triplet": 0.2, "contrastive": 1.0, "arcface": 0.5}  # squared L2; L2; radians


class Shares(NamedTuple):
    """Of a batch's classes of drawings, in [0, 1]: invented characters; two drawings on one paper; bent to others, of
    whatever kind."""

    procedural: float
    composite: float
    bent: float


class DataSettings(CommandSettings):
    """Which examples are read, and as what."""

    data: Paths = Field(
        (), description="what to learn from: folders or zips of .../subject/*.png|jpg, .csv lists, .tar shards, .npz"
    )
    validation: Paths = Field((), description="the same, only measured now and then, never learned from")
    input: Literal["image", "signal", "plane", "volume"] = Field(
        "image", description="what an example is: a picture, or an array of 1, 2 or 3 axes and its channels"
    )
    size: Annotated[tuple[int, ...], Flag(default="105 105; arrays: their own")] = Field(
        (), description="of the encoder's input: height and width, length, or depth, height and width"
    )
    sample_rate: int | None = Field(
        None,
        ge=LEAST_RATE,
        le=MOST_RATE,
        multiple_of=RATE_STEP,
        description="with --input signal: examples are sound files, brought to so many samples a second; --size is "
        "their length in samples, shorter ones are followed by zeros",
    )
    window_step: int | None = Field(
        None,
        ge=1,
        description="with --input signal and --size: longer signals are learned from, and encoded, in windows of that "
        "length, one every so many samples; a signal's encoding is the mean of theirs",
    )
    color: Literal["gray", "rgb"] = Field("gray", description="of pictures, as the encoder takes them")
    fit: Annotated[Literal["pad", "crop"] | None, Flag(default="pictures are stretched, arrays refused")] = Field(
        None, description="what becomes of examples of another size: see docs/training.md"
    )
    on_broken: Literal["stop", "skip"] = Field(
        "stop", description="at a file that can't be used: stop, or name it and go on without"
    )
    spellings: Spellings = Field(
        "refuse", description='subjects whose names are one in two spellings ("Ann Lee", "ann_lee")'
    )
    memory_bytes: int = Field(4 << 30, ge=0, description="examples that take more are kept on the disk")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        sizes = {"image": 2, "signal": 1, "plane": 2, "volume": 3}[self.input]
        if self.size and len(self.size) != sizes:
            raise ValueError(f"--size: {sizes} for {self.input}s, got {' '.join(map(str, self.size))}")
        if min(self.size, default=1) < 1:
            raise ValueError(f"--size: at least 1, got {min(self.size)}")
        if self.fit == "crop" and self.input != "image":
            raise ValueError("--fit crop is for pictures; arrays take --fit pad")
        if self.sample_rate is not None and (self.input != "signal" or not self.size):
            raise ValueError("--sample-rate needs --input signal, and --size: how many samples the encoder takes")
        if self.window_step is not None:
            if self.input != "signal" or not self.size:
                raise ValueError("--window-step needs --input signal, and --size: the length of a window")
            if not self.size[0] <= MOST_OVERLAP * self.window_step <= MOST_OVERLAP * self.size[0]:
                raise ValueError(f"--window-step: at most --size, and at least 1/{MOST_OVERLAP} of it")
        return self


class TrainSettings(DataSettings, TrainingSettings):
    """Settings of ``train encoder``."""

    network: str = Field("conv", description="conv, timm:NAME, or FILE.py:FUNCTION, which returns a torch module")
    widths: tuple[int, ...] = Field(
        (32, 64, 96, 128), min_length=1, description="of conv: channels of its stages; the last holds for further ones"
    )
    shrink: Annotated[int | None, Flag(default="so that the shorter side of a picture is about 35")] = Field(
        None, ge=1, description="of conv: the mean of so many pixels along each axis is taken first"
    )
    dimension: int = Field(128, ge=1, le=MAX_DIMENSION, description="numbers per encoding")
    views: int = Field(
        1,
        ge=1,
        le=8,
        description="with --augment drawing: a picture is encoded so many times, turned by quarters and mirrored, and "
        "the encodings of dimension / views numbers each are joined",
    )
    loss: Literal["triplet", "contrastive", "arcface", "difference", "chi-square"] = Field(
        "triplet", description="what is made small; the last two: a logistic unit over the difference of two encodings"
    )
    mining: Mining = Field("semi-hard", description="which triplets of a batch the triplet loss is summed over")
    margin: Annotated[float | None, Flag(default="0.2, 1 and 0.5")] = Field(
        None, gt=0, description="of the losses triplet (squared L2), contrastive (L2), arcface (radians)"
    )
    classes_per_batch: int = Field(64, ge=2, description="P: classes in a batch")
    examples_per_class: int = Field(4, ge=2, description="K: examples of each class in a batch")
    augment: Annotated[
        Literal["drawing", "photo", "array", "none"] | None,
        Flag(default="drawing for gray, square pictures, photo for others, array for arrays"),
    ] = Field(None, description="how examples are varied")
    procedural: Annotated[float | None, Flag(default="0.2 with --augment drawing")] = Field(
        None, ge=0, le=1, description="share of a batch's classes that are invented characters"
    )
    composite: Annotated[float | None, Flag(default="0.25 with --augment drawing")] = Field(
        None, ge=0, le=1, description="share of a batch's classes that are two drawings on one paper"
    )
    bent: float = Field(
        0.0, ge=0, le=1, description="share of a batch's classes whose drawings are bent, all alike, to others"
    )
    base: OptionalPath = Field(
        None, description="learn a head on the encodings of this model folder, which stay as they are"
    )
    hidden: Annotated[int | None, Flag(default="none: one linear map")] = Field(
        None, ge=1, description="of the head on --base: numbers of its hidden layer"
    )
    finders: OptionalPath = Field(
        None, description="with a --base for faces: where the detector's and the landmarks' model folders are"
    )
    aligned: bool = Field(False, description="with a --base for faces: the pictures are aligned faces already")
    init: OptionalPath = Field(
        None,
        description="begin with the weights of this run folder, state dict (.pt), model folder or ONNX (.onnx) that "
        "export wrote, where their shapes agree",
    )
    freeze: bool = Field(False, description="learn the last layer only; the others stay as --init has them")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer learns by this factor slower than the one after it"
    )
    learning_rate: float = Field(
        3e-3, gt=0, le=HIGHEST_LEARNING_RATE, description="AdamW's highest; falls linearly to 0"
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decay of the weights")
    processes: int = Field(
        1, ge=1, le=64, description="share each batch among so many processes; with cuda, each has a card of its own"
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="encode a batch in so many pieces, one after the other: less memory; the loss sees the whole",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="fp32; bf16 (autocast; about twice as fast on a CPU with avx512_bf16 or AMX); or fp16 (cuda only)",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many measurements on --validation without a better one"
    )
    checkpoint_seconds: float = Field(60.0, ge=0, allow_inf_nan=True, description="time between checkpoints")
    validation_seconds: float = Field(
        120.0, ge=0, allow_inf_nan=True, description="time between measurements on --validation"
    )
    validation_steps: int | None = Field(
        None, ge=1, description="steps between measurements on --validation, instead of --validation-seconds"
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_margin(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The loss's own, so that a run records what it used."""
        if given.get("margin") is not None:
            return given
        return {**given, "margin": MARGINS.get(given.get("loss", "triplet"))}

    @property
    def augmentation(self) -> Augmentation:
        if self.augment is not None:
            return self.augment
        if self.input != "image" or self.base is not None:
            return "array"
        return "drawing" if self._drawings else "photo"

    @property
    def _drawings(self) -> bool:
        return self.input == "image" and self.color == "gray" and len(set(self.size)) < 2

    @property
    def learned_dimension(self) -> int:
        """Numbers of an encoding of one view: what the network returns, and the loss is given."""
        return self.dimension // self.views

    @property
    def shares(self) -> Shares:
        plain = self.augmentation != "drawing" or self.loss == "arcface"
        usual = (0.0, 0.0) if plain else (0.2, 0.25)
        return Shares(
            usual[0] if self.procedural is None else self.procedural,
            usual[1] if self.composite is None else self.composite,
            self.bent,
        )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.shares.procedural + self.shares.composite > 1:
            raise ValueError("--procedural and --composite are shares of a batch: together at most 1")
        if any(self.shares) and self.augmentation != "drawing":
            raise ValueError("--procedural, --composite and --bent make drawings: they need --augment drawing")
        if any(self.shares) and self.loss == "arcface":
            raise ValueError(
                "--loss arcface knows the classes of the data only: without --procedural, --composite and --bent"
            )
        return self

    @model_validator(mode="after")
    def _views(self) -> Self:
        if self.views > 1 and self.augmentation != "drawing":
            raise ValueError("--views is for --augment drawing, by which a turned drawing is another character")
        if self.views > 1 and self.loss in ("difference", "chi-square"):
            raise ValueError(f"--loss {self.loss} learns a pair head, which is for --views 1")
        if self.dimension % self.views:
            raise ValueError(f"--dimension must be a multiple of --views, got {self.dimension} and {self.views}")
        return self

    @model_validator(mode="after")
    def _augmentation(self) -> Self:
        if self.base is not None and self.augmentation in ("drawing", "photo"):
            raise ValueError("--base: encodings are varied, not pictures: --augment array, or none")
        if self.augmentation == "drawing" and not self._drawings:
            raise ValueError("--augment drawing is for gray, square pictures; take photo, or none")
        if (
            self.base is None
            and self.augmentation != "none"
            and (self.input == "image") == (self.augmentation == "array")
        ):
            raise ValueError(f"--augment {self.augmentation} isn't for a {self.input}")
        return self

    @model_validator(mode="after")
    def _pieces(self) -> Self:
        if self.processes * self.accumulate > self.classes_per_batch * self.examples_per_class:
            raise ValueError("--processes and --accumulate make more pieces than a batch has examples")
        if self.precision == "fp16" and self.device != "cuda":
            raise ValueError("--precision fp16 needs --device cuda; on a CPU take bf16")
        return self

    @model_validator(mode="after")
    def _wide(self) -> Self:
        if min(self.widths) < 1:
            raise ValueError(f"--widths: at least 1 each, got {min(self.widths)}")
        return self

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.patience is not None and not self.validation:
            raise ValueError("--patience needs --validation: what is measured on")
        told = ("input", "size", "sample_rate", "window_step", "color", "fit", "network", "shrink", "widths")
        other = [name for name in told if getattr(self, name) != type(self).model_fields[name].default]
        if self.base is not None and other:
            raise ValueError(f"--base says what the encoder takes and is; {flag_name(other[0])} can't change it")
        if self.base is None and (self.hidden is not None or self.finders is not None or self.aligned):
            raise ValueError("--hidden, --finders and --aligned go with --base")
        if self.freeze and self.init is None:
            raise ValueError("--freeze needs --init: the weights that stay")
        return self


class CalibrateSettings(CommandSettings):
    """Settings of ``calibrate``."""

    fpir: float = Field(TARGET_FPIR, gt=0, lt=1, description="share of strangers let in")
    gallery_size: Annotated[int | None, Flag(metavar="K", default="half of all")] = Field(
        None, ge=1, description="enrolled subjects"
    )
    splits: int = Field(200, ge=1, description="random galleries")
    seed: int = Field(0, ge=0, description="decides who is enrolled and probed")


class EvaluateSettings(CommandSettings):
    """Settings of ``evaluate``."""

    trials: int = Field(20_000, ge=1, description="one-shot trials")
    ways: int = Field(20, ge=1, description="subjects per one-shot trial")
    splits: int = Field(20, ge=1, description="random galleries")
    seed: int = Field(0, ge=0, description="decides who is enrolled and probed")
