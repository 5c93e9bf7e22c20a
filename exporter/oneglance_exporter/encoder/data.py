"""The data of a training: read, looked at, and told of before the first step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.manifests import EncoderManifest, InputSpec, SoundSpec, Windows
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import labelled_files
from oneglance_exporter.data.identity import Identity
from oneglance_exporter.data.reading import Bring, bring_all, bringing, in_windows, suffixes_of
from oneglance_exporter.data.spelling import checked, plain_name
from oneglance_exporter.data.storage import storage
from oneglance_exporter.data.survey import Statistics, Survey, array_spec
from oneglance_exporter.encoder.network import INPUT_SIZE
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.faces import bringing_faces
from oneglance_exporter.runtime import encoder_of

Tell = Callable[[str], None]
"""Hears lines for the user: what the data are like, what is lost, what is left out."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is learned from, and what is only measured on (None: nothing). spec: what is trained takes."""

    spec: InputSpec
    examples: Examples
    validation: Examples | None
    identity: Identity


def read_training_data(settings: TrainSettings, run: Path, tell: Tell, spec: InputSpec | None = None) -> TrainingData:
    """Read the data of ``settings``; with a base, its encodings of them, as signals of one channel.

    ``spec``: what is trained takes, where a run has one already.
    Raises SettingsError, DataError for unusable data, RunError when a large set has no room in ``run``,
    ModelFolderError.
    """
    if not settings.data:
        raise SettingsError("say what to learn from: --data")
    parts, spec = (
        _with_base(settings.base, settings, run, tell) if settings.base else _without(settings, run, tell, spec)
    )
    if "validation" in parts:
        learned = {plain_name(subject) for subject in parts["data"].subjects}
        both = [subject for subject in parts["validation"].subjects if plain_name(subject) in learned]
        if both:
            tell(f"note: {len(both)} subject(s) are in --data and in --validation, as {both[0]!r}")
    return TrainingData(spec, parts["data"], parts.get("validation"), Identity(parts))


def _without(
    settings: TrainSettings, run: Path, tell: Tell, spec: InputSpec | None
) -> tuple[dict[str, Examples], InputSpec]:
    spec = spec or input_spec(settings)
    tell(f"the encoder takes {told_spec(spec)}")
    return _parts(settings, spec, bringing(spec), run, tell), spec


def _with_base(folder: str, settings: TrainSettings, run: Path, tell: Tell) -> tuple[dict[str, Examples], InputSpec]:
    if Path(folder).suffix == ".onnx":
        raise SettingsError(
            f"--base {folder}: a graph alone doesn't say what it takes; make a model folder of it first: "
            "oneglance-exporter import onnx"
        )
    base = read_model_folder(folder)
    spec = base.manifest.input
    tell(f"the base {base.manifest.name} takes {told_spec(spec)}")
    faces = base.manifest.alignment is not None and not settings.aligned
    bring = bringing_faces(base, settings.finders, threads=1) if faces else bringing(spec)
    parts = _parts(settings, spec, bring, run, tell, surveyed=not faces)
    taken = InputSpec(kind="signal", shape=(base.manifest.output.dimension, 1), dtype="float32")
    return {name: _encoded(base, part) for name, part in parts.items()}, taken


def _encoded(base: ModelFolder[EncoderManifest], examples: Examples) -> Examples:
    """On one thread: with others, sums may end in other bits, and the data be other data."""
    return replace(examples, inputs=encoder_of(base.model, threads=1)(examples.inputs)[..., None])


def input_spec(settings: TrainSettings) -> InputSpec:
    """What an encoder of these settings takes. Arrays are looked at for it."""
    if settings.input == "image":
        height, width = settings.size or (INPUT_SIZE, INPUT_SIZE)
        channels = {"gray": 1, "rgb": 3}[settings.color]
        return InputSpec(
            kind="image", shape=(height, width, channels), dtype="uint8", color=settings.color, fit=settings.fit
        )
    windows = None
    if settings.window_step is not None:
        windows = Windows(step=settings.window_step, least=max(1, settings.size[0] * 3 // 4))
    if settings.sample_rate is not None:
        sound = SoundSpec(sample_rate=settings.sample_rate)
        shape = (settings.size[0], 1)
        return InputSpec(kind="signal", shape=shape, dtype="float32", fit="pad", sound=sound, windows=windows)
    fit: Literal["pad"] | None = "pad" if settings.fit == "pad" or windows else None
    found = array_spec(settings.data, settings.input, settings.size, fit)
    return found.model_copy(update={"windows": windows})


def told_spec(spec: InputSpec) -> str:
    """In words."""
    if spec.windows is not None:
        longer = f"longer ones are learned from and encoded in windows, one every {spec.windows.step}"
        rate = f" at {spec.sound.sample_rate} a second" if spec.sound else ""
        return f"signals of {spec.shape[0]} samples x {spec.shape[-1]}{rate}, {spec.dtype}; {longer}"
    others = {"pad": "others get white sides", "crop": "others lose two sides", None: "others are stretched"}[spec.fit]
    if spec.kind != "image":
        others = "others are cut or followed by zeros" if spec.fit else "no others"
    sizes = " x ".join(map(str, spec.shape[:-1]))
    if spec.sound is not None:
        return f"sounds of {sizes} samples at {spec.sound.sample_rate} a second; others are cut or followed by zeros"
    return f"{spec.kind}s of {sizes} x {spec.shape[-1]}, {spec.dtype}; {others}"


def _parts(
    settings: TrainSettings, spec: InputSpec, bring: Bring, run: Path, tell: Tell, *, surveyed: bool = True
) -> dict[str, Examples]:
    """By name, what --data and --validation hold. surveyed: whether pictures come in whole."""

    def read(paths: Sequence[str], option: str) -> Examples:
        files = checked(labelled_files(paths, suffixes_of(spec)), settings.spellings)
        if spec.windows is not None:
            files = in_windows(files, spec)
        survey = Survey(spec)
        watched = survey.watching(bring) if surveyed else bring
        skip = (lambda broken: tell(f"left out: {broken}")) if settings.on_broken == "skip" else None
        examples, left_out = bring_all(files, watched, 2, skip, storage(run, settings.memory_bytes))
        if len(examples.subjects) < 2:
            raise DataError(f"{option}: one subject only ({examples.subjects[0]!r}): two are needed to tell them apart")
        sizes = f"; sizes {survey.told()}" if surveyed else ""
        tell(f"{option}: {Statistics.of(examples)}{sizes}")
        if left_out.files:
            gone = left_out.subjects
            whole = f", and so are all of {len(gone)} subject(s), as {gone[0]!r}" if gone else ""
            tell(f"{option}: {left_out.files} file(s) are left out{whole}")
        for line in survey.lost() if surveyed else ():
            tell(f"{option}: lost: {line}")
        return examples

    parts = {"data": read(settings.data, "--data")}
    if settings.validation:
        parts["validation"] = read(settings.validation, "--validation")
    return parts
