"""The model folder: where the exporter and the server meet.

A model folder holds two files::

    model.onnx      the network; dynamic batch; preprocessing inside the graph
    manifest.json   what it takes, what it returns, its tau, where it came from, parity vectors

There are four kinds: an encoder, a face detector, a landmark finder, a stylizer. The exporter writes them with
:func:`write_model_folder`, the server reads them with :func:`read_any_model_folder`. Neither torch nor grpc is needed
here. Needs pydantic, which every extra but the bare client brings.

Errors::

    ModelFolderError            a folder that can't be used; the message names file and field
"""

import base64
import hashlib
import itertools
import json
import math
import os
import shutil
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

FORMAT = "oneglance-model/1"
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
MAX_ARRAY_BYTES = 64 << 20  # unpacked
MAX_DIMENSION = 65536
MAX_STYLES = 256
LEAST_CHIP = 8  # pixels, height and width
_READ_ATTEMPTS = 5
_FAR = 4  # sides of the chip

Dtype = Literal["uint8", "float32", "int64"]
LANDMARKS = {"dlib-5": 5}


class ModelFolderError(ValueError):
    """Raised when a model folder is missing, damaged, or breaks the schema."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputSpec(_Part):
    """What the graph takes: one tensor ``dtype [N, *shape]``, N dynamic.

    ``image``: shape (H, W, C), C = 1 for ``gray`` and 3 for ``rgb``; ink and light as in the picture
    (0 black). Pictures of another size are brought to (H, W) with the ``resize`` filter of Pillow.
    ``signal``: shape (L, C). ``volume``: shape (D, H, W, C).
    """

    name: str = "input"
    kind: Literal["image", "signal", "volume"]
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    color: Literal["gray", "rgb"] | None = None
    resize: Literal["box", "bilinear"] = "box"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rank = {"image": 3, "signal": 2, "volume": 4}[self.kind]
        if len(self.shape) != rank or min(self.shape) < 1:
            raise ValueError(f"{self.kind} needs {rank} positive sizes, got {self.shape}")
        if self.kind == "image":
            channels = {"gray": 1, "rgb": 3}.get(self.color or "")
            if channels is None or self.shape[-1] != channels or self.dtype != "uint8":
                raise ValueError("image input is uint8 (H, W, 1) gray or (H, W, 3) rgb")
        return self


class OutputSpec(_Part):
    """What the graph returns: ``float32 [N, dimension]``."""

    name: str = "encoding"
    dimension: int = Field(ge=1, le=MAX_DIMENSION)
    unit_norm: bool


class Calibration(_Part):
    """A threshold tau with the evidence for it (ISO/IEC 19795-1 terms).

    tau: squared L2; a subject is a candidate under tau when d <= tau.
    target_fpir: the FPIR asked for, at ``gallery_size`` enrolled subjects.
    fpir, fpir_low, fpir_high: measured at tau, with its 95 % interval.
    fnir: share of mated probes whose mate was not the nearest subject under tau; None without mated probes.
    fmr_curve: (distance, share of non-mated pairs at or below it), both rising.
    """

    tau: float = Field(ge=0)
    target_fpir: float = Field(gt=0, lt=1)
    gallery_size: int = Field(ge=1)
    fpir: float = Field(ge=0, le=1)
    fpir_low: float = Field(ge=0, le=1)
    fpir_high: float = Field(ge=0, le=1)
    fnir: float | None = Field(None, ge=0, le=1)
    non_mated_probes: int = Field(ge=1)
    mated_probes: int = Field(ge=0)
    data: str
    method: str
    fmr_curve: tuple[tuple[float, float], ...] = ()

    @property
    def id(self) -> str:
        """12 hex digits that change whenever the calibration does."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()[:12]

    def fmr(self, tau: float) -> float | None:
        """Share of non-mated pairs at or below ``tau``; None without a curve.

        Below the nearest pair that was seen it is that pair's rate: that there was none is no proof of zero.
        """
        if not self.fmr_curve:
            return None
        distance, rate = np.array(self.fmr_curve, dtype=np.float64).T
        return float(np.interp(tau, distance, rate, left=rate[0], right=1.0))

    @field_validator("fmr_curve")
    @classmethod
    def _rising(cls, curve: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for (d0, r0), (d1, r1) in itertools.pairwise(curve):
            if d1 <= d0 or r1 < r0 or not 0 <= r0 <= r1 <= 1:
                raise ValueError("fmr_curve must rise in both columns, rates in [0, 1]")
        return curve


class Array(_Part):
    """A small array inside the manifest: C order, little endian, zlib, base64. At most MAX_ARRAY_BYTES unpacked."""

    dtype: Dtype
    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=8)
    zlib_base64: str

    @model_validator(mode="after")
    def _small(self) -> Self:
        # Empty arrays too: numpy multiplies the sizes beside a 0.
        if math.prod(max(size, 1) for size in self.shape) * np.dtype(self.dtype).itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"an array is at most {MAX_ARRAY_BYTES >> 20} MiB, not {self.dtype} {list(self.shape)}")
        return self

    @classmethod
    def pack(cls, values: npt.NDArray[Any]) -> Self:
        """``values``: uint8, int64 or float32, up to 8 axes; other floats become float32.

        Raises ValueError for more than MAX_ARRAY_BYTES.
        """
        names: dict[str, Dtype] = {"uint8": "uint8", "int64": "int64"}
        name = names.get(values.dtype.name, "float32")
        raw = np.ascontiguousarray(values, dtype=np.dtype(name).newbyteorder("<")).tobytes()
        text = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
        return cls(dtype=name, shape=values.shape, zlib_base64=text)

    def unpack(self) -> npt.NDArray[Any]:
        """The array, ``dtype [*shape]``. Raises ModelFolderError when the bytes don't match."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        size = math.prod(self.shape) * dtype.itemsize
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(base64.b64decode(self.zlib_base64, validate=True), size + 1)
        except (ValueError, zlib.error) as error:
            raise ModelFolderError(f"parity: array can't be unpacked: {error}") from error
        if len(raw) != size:
            raise ModelFolderError(f"parity: array of shape {self.shape} needs {size} bytes")
        return np.frombuffer(raw, dtype).reshape(self.shape).astype(self.dtype)


class Parity(_Part):
    """Inputs and the outputs the exporter's own framework computed for them.

    The server runs ``inputs`` on its host and refuses the model when any output differs by more
    than ``tolerance`` (absolute).
    """

    inputs: Array
    outputs: Array
    tolerance: float = Field(gt=0, le=0.1)


class NamedParity(_Part):
    """As Parity, for graphs of several inputs and outputs, by name. Integer outputs must be equal."""

    inputs: dict[str, Array] = Field(max_length=4)
    outputs: dict[str, Array] = Field(max_length=4)
    tolerance: float = Field(gt=0, le=0.1)


class Alignment(_Part):
    """How a face in a photo is brought to an encoder's input, the *chip*.

    The similarity that takes ``template`` nearest to the face's landmarks (least squares in the photo; Umeyama 1991)
    says where the chip, (H, W) of ``InputSpec.shape``, lies. Sampled bilinearly; a face larger than the chip is first
    halved until it is less than twice as large, with dlib's 5 x 5 binomial filter.

    landmarks: what the points are. ``dlib-5``: outer and inner corner of the eye on the right of the photo, outer and
        inner corner of the one on the left, bottom of the nose.
    template: their places in the chip, (x, y) in pixels, (0, 0) the centre of its top left pixel. They may lie beyond
        it, up to 4 times its side from (0, 0), and span at least 1 pixel, across or down.
    """

    landmarks: Literal["dlib-5"]
    template: tuple[tuple[float, float], ...]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.template) != LANDMARKS[self.landmarks]:
            raise ValueError(f"{self.landmarks} has {LANDMARKS[self.landmarks]} points, got {len(self.template)}")
        if max(max(places) - min(places) for places in zip(*self.template, strict=True)) < 1:
            raise ValueError("the template's points lie within a pixel of each other")
        return self


class AuthorThreshold(_Part):
    """A tau that the model's author recommends; no evidence of ours. Squared L2."""

    tau: float = Field(ge=0)
    source: str


class _Model(_Part):
    """What the manifests of all kinds hold."""

    format: Literal["oneglance-model/1"] = "oneglance-model/1"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
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
        return hashlib.sha256(_canonical(contract)).hexdigest()


class EncoderManifest(_Model):
    """``manifest.json`` of an encoder: f(x).

    With ``alignment``, x is a face chip, rgb and at least 8 x 8, and photos can be given.
    """

    kind: Literal["encoder"] = "encoder"
    input: InputSpec
    output: OutputSpec
    metric: Literal["squared_l2"] = "squared_l2"
    alignment: Alignment | None = None
    threshold: Calibration | None = None
    author_threshold: AuthorThreshold | None = None
    parity: Parity

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

    def _contract(self) -> dict[str, Any]:
        contract = {
            "kind": self.kind,
            "input": self.input.model_dump(mode="json"),
            "output": self.output.model_dump(mode="json"),
            "metric": self.metric,
        }
        if self.alignment is not None:
            contract["alignment"] = self.alignment.model_dump(mode="json")
        return contract


class DetectorManifest(_Model):
    """``manifest.json`` of a face detector: a sliding window over a pyramid of smaller and smaller copies of a photo.

    The graph takes ``image`` uint8 [N, H, W, 4], H and W at least ``smallest_side``: canvases on which all levels of a
    pyramid lie, as ``oneglance_core.faces.detection`` lays them (dlib's create_tiled_pyramid): rgb and 255, and four
    zeros where there is nothing. It returns ``scores`` float32 [N, h, w]: how much the window of ``window`` pixels (a
    square), centred on (x, y) = (offset + stride * column, offset + stride * row), looks like a face.

    ``shrink``: a level of H x W is followed by one of floor(H * shrink) x floor(W * shrink), in which (x, y) is what
    is (x / shrink + 0.3, y / shrink + 0.3) in the larger one. ``margin``: pixels of nothing around the canvas' levels;
    ``gap``: between them. ``threshold``: windows with a greater score are faces. ``nms_iou``, ``nms_covered``: of two
    windows whose intersection is a greater share than ``nms_iou`` of the smallest rectangle around both, or than
    ``nms_covered`` of either, the better one stays (dlib's test_box_overlap).
    """

    kind: Literal["detector"] = "detector"
    # Bounds keep the canvas of a small photo small, and the pyramid short.
    window: int = Field(ge=8, le=4096)
    stride: int = Field(ge=1, le=1024)
    offset: float = Field(ge=-4096, le=4096)
    shrink: float = Field(gt=0.1, le=0.98)
    margin: int = Field(ge=0, le=128)
    gap: int = Field(ge=0, le=1024)
    smallest_side: int = Field(ge=1, le=4096)
    threshold: float
    nms_iou: float = Field(gt=0, le=1)
    nms_covered: float = Field(gt=0, le=1)
    parity: NamedParity

    def _contract(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"kind", *_DETECTOR_CONTRACT})


class LandmarksManifest(_Model):
    """``manifest.json`` of a landmark finder.

    The graph takes F faces of several gray pictures laid end to end: ``pixels`` uint8 [P]; ``pictures`` int64 [F, 3],
    each face's picture as (where it begins in ``pixels``, height, width), C order; ``boxes`` float32 [F, 4], each face
    as (left, top, right, bottom), edges inclusive as in dlib. It returns ``points`` float32 [F, L, 2], (x, y).
    Gray is the integer (r + g + b) // 3 of an rgb picture.
    """

    kind: Literal["landmarks"] = "landmarks"
    landmarks: Literal["dlib-5"]
    parity: NamedParity

    def _contract(self) -> dict[str, Any]:
        return {"kind": self.kind, "landmarks": self.landmarks}


class Style(_Part):
    """One style of a stylizer, and what it was learned from.

    title: the picture, for people. source, license: where the picture that was trained on comes from, and its terms.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    title: str = ""
    source: str = ""
    license: str = ""


class StylizerManifest(_Model):
    """``manifest.json`` of a stylizer: one network for S styles (Dumoulin, Shlens and Kudlur 2017).

    The graph takes

    * ``image`` uint8 [N, H, W, 3] rgb; H and W are multiples of ``multiple`` and at least ``least_side``;
    * ``weights`` float32 [N, S]: how much of each style, >= 0, summing to 1;
    * ``moments`` float32 [N, M, 2] and ``own`` float32 [N] in [0, 1]: where ``own`` is 1 each picture is normalised
      by its own mean and standard deviation per channel, as instance normalisation does, and ``moments`` is not
      looked at (but must be finite); where it is 0, by the (mean, standard deviation) given; between, by the mean of
      both.

    It returns ``stylized`` float32 [N, H, W, 3] in [0, 255], and ``used`` float32 [N, M, 2], the moments that were
    used. So a large picture can be stylized tile by tile under the moments of a small copy of it, and a video under
    moments that change slowly.

    margin: with given moments a pixel depends on nothing more than ``margin`` pixels away in either direction.
    """

    kind: Literal["stylizer"] = "stylizer"
    styles: tuple[Style, ...] = Field(min_length=1, max_length=MAX_STYLES)
    multiple: int = Field(ge=1, le=64)
    least_side: int = Field(ge=1, le=1024)
    margin: int = Field(ge=0, le=1024)
    moments: int = Field(ge=1, le=MAX_DIMENSION)
    parity: NamedParity

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [style.name for style in self.styles]
        if len(set(names)) != len(names):
            raise ValueError("styles: two have the same name")
        return self

    def _contract(self) -> dict[str, Any]:
        contract = self.model_dump(mode="json", include={"kind", "multiple", "least_side", "margin", "moments"})
        return {**contract, "styles": [style.name for style in self.styles]}


AnyManifest = Annotated[
    EncoderManifest | DetectorManifest | LandmarksManifest | StylizerManifest, Field(discriminator="kind")
]
_ANY_MANIFEST: TypeAdapter[AnyManifest] = TypeAdapter(AnyManifest)
_DETECTOR_CONTRACT = {
    "window",
    "stride",
    "offset",
    "shrink",
    "margin",
    "gap",
    "smallest_side",
    "threshold",
    "nms_iou",
    "nms_covered",
}
M = TypeVar("M", bound=_Model)


@dataclass(frozen=True, slots=True)
class ModelFolder(Generic[M]):
    """A model folder that was read and checked."""

    path: Path
    manifest: M
    model: bytes

    @property
    def digest(self) -> str:
        return self.manifest.digest


def read_any_model_folder(path: str | os.PathLike[str]) -> ModelFolder[Any]:
    """Read and check a model folder of whatever kind: schema, size and SHA-256 of the graph.

    Raises ModelFolderError when anything is missing or does not match. Parity is the caller's to
    check, since it needs a runtime.
    """
    folder = Path(path)
    text, model = _read_files(folder)
    try:
        manifest = _ANY_MANIFEST.validate_json(text)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
        raise ModelFolderError(f"{folder / MANIFEST_FILE}: {lines}") from error
    if len(model) != manifest.model_bytes:
        raise ModelFolderError(f"{folder / MODEL_FILE}: {len(model)} bytes, the manifest says {manifest.model_bytes}")
    if hashlib.sha256(model).hexdigest() != manifest.model_sha256:
        raise ModelFolderError(f"{folder / MODEL_FILE}: SHA-256 differs from the manifest's")
    return ModelFolder(folder, manifest, model)


def read_model_folder(path: str | os.PathLike[str]) -> ModelFolder[EncoderManifest]:
    """Read and check an encoder's model folder. Raises ModelFolderError, also for a model of another kind."""
    folder = read_any_model_folder(path)
    if not isinstance(folder.manifest, EncoderManifest):
        raise ModelFolderError(f"{path}: holds a {folder.manifest.kind}, not an encoder")
    return folder


def model_folders(path: str | os.PathLike[str]) -> list[Path]:
    """The model folders at ``path``: itself, or those directly in it, by name. Raises ModelFolderError without any."""
    folder = Path(path)
    if (folder / MANIFEST_FILE).is_file():
        return [folder]
    inside = sorted(entry.parent for entry in folder.glob(f"[!.]*/{MANIFEST_FILE}"))
    if not inside:
        raise ModelFolderError(f"{folder}: not a model folder: there is no {MANIFEST_FILE} in it, nor one level deeper")
    return inside


def _read_files(folder: Path) -> tuple[bytes, bytes]:
    """Manifest and graph of one version of the folder, even while a writer replaces it."""
    attempts = 0
    while True:
        try:
            # Both files through one descriptor of the folder: a folder put in its place meanwhile is another one.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return _read(descriptor, folder, MANIFEST_FILE, MAX_MANIFEST_BYTES), _read(
                    descriptor, folder, MODEL_FILE
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            # A writer that replaces the folder leaves none for an instant, and clears the old one away.
            attempts += 1
            if attempts == _READ_ATTEMPTS:
                raise ModelFolderError(f"{folder}: not a model folder: {error}") from error
            time.sleep(0.01)


def _read(folder_descriptor: int, folder: Path, name: str, limit: int | None = None) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder_descriptor), "rb") as file:
        if limit is not None and os.fstat(file.fileno()).st_size > limit:
            raise ModelFolderError(f"{folder / name}: larger than {limit} bytes")
        return file.read()


def write_model_folder(path: str | os.PathLike[str], manifest: _Model, model: bytes) -> Path:
    """Write a model folder so that ``read_model_folder`` sees the old one or the new one, never a mixture.

    ``manifest.model_sha256`` and ``model_bytes`` are set from ``model``. Both files are fsynced in
    a sibling folder, which then takes the name. An existing model folder of that name is replaced; a kill at the very
    moment between can leave none of the name, and the old and the new one beside it under names that begin with a dot.
    Raises ModelFolderError when something else stands there.
    """
    target = Path(path)
    if target.exists() and not _replaceable(target):
        raise ModelFolderError(f"{target}: there is something else than a model folder; it stays as it is")
    target.parent.mkdir(parents=True, exist_ok=True)
    stamped = manifest.model_copy(update={"model_sha256": hashlib.sha256(model).hexdigest(), "model_bytes": len(model)})
    text = json.dumps(stamped.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fresh.chmod(0o755)
        for name, content in ((MODEL_FILE, model), (MANIFEST_FILE, text.encode())):
            with open(fresh / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            os.replace(target, retired)
            os.replace(fresh, target)
            shutil.rmtree(retired)
        else:
            os.replace(fresh, target)
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _replaceable(target: Path) -> bool:
    """An empty folder, or one that holds the two files of a model and nothing else."""
    return target.is_dir() and {entry.name for entry in target.iterdir()} in (set(), {MODEL_FILE, MANIFEST_FILE})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
