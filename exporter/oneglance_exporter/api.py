"""Train, export, calibrate, quantise, evaluate and judge encoders from Python: what the command line does, no more.

    from oneglance_exporter.api import calibrate, evaluate, export, judge, train

    train("drawings.zip", out="runs/mine", steps=2000)
    export("runs/mine", out="models/mine", name="mine")
    calibrate("models/mine", "heldout.zip", fpir=0.01)
    print(evaluate("models/mine", "heldout.zip", ways=5))
    judge("models/mine", "heldout.zip", against="models/other", report="mine.html")

Settings are those of the command line, with _ for -: ``TrainSettings``, ``CalibrateSettings``, ``EvaluateSettings``
tell each. All raise ``oneglance_exporter.errors.ExporterError`` and ``oneglance_core.manifests.ModelFolderError``.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.judging.judge import Far
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.encoder import evaluate as measuring
from oneglance_exporter.encoder.calibrated import Calibrated, calibrated
from oneglance_exporter.encoder.encoded import Reading, StrPath
from oneglance_exporter.encoder.evaluate import Evaluation
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings, TrainSettings
from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.settings import Spellings

if TYPE_CHECKING:  # torch: only what trains and exports needs it; jinja2: what judges
    from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
    from oneglance_exporter.encoder.export import Which
    from oneglance_exporter.encoder.judged import Judged, Source
    from oneglance_exporter.training.driver import Reporter

Data = StrPath | Sequence[StrPath]


def _silent(told: object) -> None:
    """Hears what is going on, and says nothing."""


def _not_far(done: float, words: str) -> None:
    """Hears how far it is, and says nothing."""


def train(
    data: Data,
    out: StrPath,
    *,
    validation: Data = (),
    command: str = "oneglance_exporter.api.train",
    report: "Reporter[Any]" = _silent,
    tell: Callable[[str], None] = _silent,
    **settings: Any,
) -> "EncoderCheckpoint":
    """Train a new encoder in the run folder ``out``, for ``steps`` or ``seconds``. Returns the last checkpoint.

    command: what the manifest says the run was begun with. report: called after every step. tell: hears what the data
    are like, what is lost on the way in, and what is left out.
    """
    from oneglance_exporter.encoder import train as training

    made = TrainSettings(data=_paths(data), validation=_paths(validation), **settings)
    return training.train(made, Path(out), command, report, tell)


def resume(
    run: StrPath,
    *,
    report: "Reporter[Any]" = _silent,
    tell: Callable[[str], None] = _silent,
    **changed: Any,
) -> "EncoderCheckpoint":
    """Go on with the training in ``run``. ``changed``: settings that may differ, as ``threads``."""
    from oneglance_exporter.encoder import train as training

    paths: dict[str, Any] = {name: _paths(changed[name]) for name in ("data", "validation") if name in changed}
    return training.resume(Path(run), {**changed, **paths}, report, tell)


def export(
    run: StrPath,
    out: StrPath,
    name: str,
    *,
    description: str = "",
    license: str = "",
    which: "Which | None" = None,
    opset: int | None = None,
    whiten: float | None = None,
    data: Data = (),
    finders: StrPath | None = None,
    aligned: bool = False,
) -> EncoderManifest:
    """Write the encoder of ``run`` as the model folder ``out``. ``which``: its checkpoint, "best" or "last".

    opset: the version of ONNX's operators. whiten: shrinkage of within-class whitening, in (0, 1]. data: real examples
    to try the graph on; none: those of the training.
    """
    from oneglance_exporter.encoder import export as exporting

    return exporting.export(
        Path(run),
        Path(out),
        name,
        description,
        license,
        which,
        opset=opset,
        whiten=whiten,
        data=_paths(data),
        finders=finders,
        aligned=aligned,
    )


def calibrate(
    model: StrPath,
    data: Data,
    *,
    described: str | None = None,
    command: str = "oneglance_exporter.api.calibrate",
    finders: StrPath | None = None,
    aligned: bool = False,
    threads: int = 1,
    spellings: Spellings = "refuse",
    tell: Callable[[str], None] = _silent,
    **settings: Any,
) -> Calibrated:
    """Fit tau on ``data``, subjects never trained on, and write it into the manifest of ``model``.

    described: the data in words, for the manifest; their names without. The rest: as in ``Reading``.
    """
    made, paths = CalibrateSettings(**settings), _paths(data)
    words = described or ", ".join(Path(path).name for path in paths)
    folder, examples, encodings = Reading(model, paths, finders, aligned, threads, spellings=spellings).encoded(tell)
    manifest, found = calibrated(folder.manifest, examples, encodings, paths, words, made)
    training = {**manifest.training, "calibration_command": command}
    write_model_folder(model, manifest.model_copy(update={"training": training}), folder.model)
    return found


def quantize(
    model: StrPath,
    data: Data,
    out: StrPath,
    *,
    name: str | None = None,
    described: str | None = None,
    command: str = "oneglance_exporter.api.quantize",
    finders: StrPath | None = None,
    aligned: bool = False,
    threads: int = 1,
    spellings: Spellings = "refuse",
    tell: Callable[[str], None] = _silent,
    **settings: Any,
) -> EncoderManifest:
    """Write the encoder in ``model`` as ``out``, in 8 or 16 bits: another encoder, calibrated on ``data``, subjects
    never trained on, with its cost in accuracy on them. Raises PrecisionError where that is more than ``most_lost``.

    name: of the new one (the old one's, and the precision). described: ``data`` in words, for the manifest; their names
    without. The rest: as in ``Reading``.
    """
    from oneglance_exporter.quantize.encoder import quantized
    from oneglance_exporter.quantize.settings import QuantizeSettings

    made, paths = QuantizeSettings(**settings), _paths(data)
    words = described or ", ".join(Path(path).name for path in paths)
    check_replaceable(out)
    reading = Reading(model, paths, finders, aligned, threads, spellings=spellings)
    folder, manifest = quantized(reading, made, words, name, command, tell)
    write_model_folder(out, manifest, folder.model)
    return manifest


def evaluate(
    model: StrPath,
    data: Data = (),
    *,
    finders: StrPath | None = None,
    aligned: bool = False,
    threads: int = 1,
    spellings: Spellings = "refuse",
    tell: Callable[[str], None] = _silent,
    far: Far = _not_far,
    **settings: Any,
) -> Evaluation:
    """Measure the encoder in ``model`` on ``data``, subjects never trained on; or the encodings in a .npz ``model``.

    far: hears how far it is. The rest: as in ``Reading``.
    """
    from oneglance_exporter.encoder.judged import read_source

    made = EvaluateSettings(**settings)
    reading = Reading(model, _paths(data), finders, aligned, threads, spellings=spellings)
    source = read_source(reading, tell, far)
    return measuring.evaluate(source.encodings, source.examples, made)


def judge(
    model: StrPath,
    data: Data = (),
    *,
    against: StrPath | None = None,
    report: StrPath | None = None,
    command: str = "oneglance_exporter.api.judge",
    finders: StrPath | None = None,
    aligned: bool = False,
    threads: int = 1,
    spellings: Spellings = "refuse",
    tell: Callable[[str], None] = _silent,
    far: Far = _not_far,
    **settings: Any,
) -> "Judged":
    """All that can be told of the encoder in ``model`` by ``data``, with intervals; compared with that in ``against``.

    model, against: a model folder, or a .npz of encodings, which needs no ``data``: see ``read_encodings``. report: an
    HTML page to write. far: hears how far it is. The rest: as in ``Reading``.
    """
    from oneglance_exporter.encoder import judged as judging

    made = EvaluateSettings(**settings)
    arrays = [os.fspath(path).endswith(judging.ARRAYS) for path in (model, against) if path is not None]
    if all(arrays) and _paths(data):
        raise SettingsError("encodings of a file are judged as they are; --data is for a model folder")
    parts = (1.0 / 2, 1.0) if against is None else (1.0 / 3, 2.0 / 3, 1.0)

    def source(path: StrPath, start: float, end: float) -> "Source":
        needed = () if os.fspath(path).endswith(judging.ARRAYS) else _paths(data)
        reading = Reading(path, needed, finders, aligned, threads, spellings=spellings)
        return judging.read_source(reading, tell, lambda done, words: far(start + (end - start) * done, words))

    first = source(model, 0, parts[0])
    second = None if against is None else source(against, parts[0], parts[1])
    found = judging.judge_sources(first, second, made, lambda done, words: far(parts[-2] + done / len(parts), words))
    if report is not None:
        sources = [first] if second is None else [first, second]
        judging.report(found, Path(report), judging.facts_of(sources, _paths(data), command))
    return found


def look(
    model: StrPath,
    data: Data,
    out: StrPath,
    *,
    finders: StrPath | None = None,
    aligned: bool = False,
    threads: int = 1,
    spellings: Spellings = "refuse",
    tell: Callable[[str], None] = _silent,
    **settings: Any,
) -> list[str]:
    """Write the sheet ``out`` (.png or .html): the patches of ``data`` that excite most the units of the encoder in
    ``model``. Returns a line for each layer. The rest: as in ``Reading``."""
    from oneglance_exporter.look import look as looking
    from oneglance_exporter.look.settings import LookSettings
    from oneglance_exporter.look.sheet import write

    made = LookSettings(**settings)
    reading = Reading(model, _paths(data), finders, aligned, threads, 1, spellings)
    folder, examples = reading.examples(tell)
    sheets = looking.look(folder, examples, made, threads)
    looked_at = min(made.most, len(examples.inputs))
    title = f"{folder.manifest.name}: the patches of {looked_at} examples that excite each unit most"
    try:
        write(sheets, title, Path(out))
    except OSError as error:
        raise DataError(f"{out}: can't be written: {error}") from error
    return [sheet.title for sheet in sheets]


def _paths(data: Data) -> tuple[str, ...]:
    return (os.fspath(data),) if isinstance(data, str | os.PathLike) else tuple(os.fspath(path) for path in data)
