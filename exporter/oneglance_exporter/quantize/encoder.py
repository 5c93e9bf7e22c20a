"""An encoder's model folder in 8 or 16 bits; ``int8`` and ``fp16`` say how."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import squared_l2
from oneglance_core.folder import ModelFolder, check_replaceable, read_model_folder, write_model_folder
from oneglance_core.judging.compare import Comparison, compare, points
from oneglance_core.judging.errors import JudgingError
from oneglance_core.judging.judge import judge, told
from oneglance_core.judging.labelled import label
from oneglance_core.manifests import AuthorThreshold, EncoderManifest, PairHeadPart, Parity
from oneglance_core.pair_head import probabilities_of
from oneglance_core.trials import Encodings
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.calibrated import calibrated
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.encoder.settings import CalibrateSettings
from oneglance_exporter.errors import DataError, ExportError, PrecisionError, SettingsError
from oneglance_exporter.quantize.fp16 import fp16_graph, rounded_graph
from oneglance_exporter.quantize.int8 import described_origin, in_float, int8_graph, rounding_tolerance
from oneglance_exporter.quantize.settings import Precision, QuantizeSettings
from oneglance_exporter.runtime import BATCHES, check_batches, check_model, encoder_of

Inputs = npt.NDArray[Any]  # [N, *shape], as the encoder takes them

LEAST_EXAMPLES = 16
MOST_EXAMPLES = 200  # more hardly change the ranges, and cost time
_BLOCK = 8


def quantize(model: Path, out: Path, inputs: Inputs, described: str, name: str | None = None) -> EncoderManifest:
    """Write the encoder ``model`` in 8 bits as the model folder ``out``; nothing is measured, so it has no threshold
    before ``calibrate``. The rest, and what is raised: as in ``lowered``; ModelFolderError, too."""
    check_replaceable(out)
    made = lowered(read_model_folder(model), "int8", inputs, described, name)
    write_model_folder(out, made.manifest, made.model)
    return made.manifest


def quantized(
    reading: Reading,
    settings: QuantizeSettings,
    described: str,
    name: str | None,
    command: str,
    tell: Callable[[str], None],
) -> tuple[ModelFolder[EncoderManifest], EncoderManifest]:
    """The encoder of ``reading`` in fewer bits, and its manifest: calibrated on the examples, for the FPIR that the
    original's tau was for, with what it costs in accuracy on them. described: what they are.

    Raises PrecisionError where that is more than allowed; DataError, SettingsError, ExportError, ModelFolderError.
    """
    folder, examples, before = reading.encoded(tell)
    inputs, words = examples.inputs, described
    if settings.ranges or folder.manifest.input.windows is not None:
        by = settings.ranges or reading.data
        others = Reading(reading.model, by, reading.finders, reading.aligned, reading.threads, least=1)
        inputs, words = others.examples(tell)[1].inputs, ", ".join(Path(path).name for path in by)
    made = lowered(folder, settings.precision, inputs, words, name)
    after = reading.encoded_by(_as_cards_answer(folder, made, settings.precision), examples)
    cost = cost_of(examples, before, after, settings.seed)
    check_cost(cost, settings)
    old = folder.manifest.threshold
    target = CalibrateSettings() if old is None else CalibrateSettings(fpir=old.target_fpir)
    manifest, _ = calibrated(made.manifest, examples, after, [str(path) for path in reading.data], described, target)
    done = {
        **manifest.training["quantized"],
        "bytes": len(made.model),
        "bytes_before": len(folder.model),
        "measured_on": described,
        "cost": cost.as_dict(),
        "command": command,
    }
    return made, manifest.model_copy(update={"training": {**manifest.training, "quantized": done}})


def cost_of(examples: Examples, before: Encodings, after: Encodings, seed: int) -> Comparison:
    """The encodings ``before`` and ``after``, float32 [N, D], of ``examples`` compared. Raises DataError."""
    subjects = [examples.subjects[subject] for subject in examples.subject_of]
    groups = [examples.groups[examples.group_of[subject]] for subject in examples.subject_of]
    try:
        judged = [judge(label(encodings, subjects, examples.files, groups), seed=seed) for encodings in (before, after)]
        return compare(*judged)
    except JudgingError as error:
        raise DataError(str(error)) from error


def _as_cards_answer(
    folder: ModelFolder[EncoderManifest], made: ModelFolder[EncoderManifest], precision: Precision
) -> ModelFolder[EncoderManifest]:
    """What is measured: ``made``; of 16 bits the graph that rounds as cards do, whatever this processor does."""
    return made if precision == "int8" else ModelFolder(made.path, made.manifest, rounded_graph(folder))


def check_cost(cost: Comparison, settings: QuantizeSettings) -> None:
    """Raise PrecisionError where the EER rises by more than ``settings.most_lost``, and not by the chance of a few
    subjects: the interval of the difference leaves 0 out."""
    eer = next(one for one in cost.differences if one.name == "EER")
    if eer.difference.value > settings.most_lost and eer.certain:
        raise PrecisionError(
            f"{settings.precision} costs too much: EER {told(eer.first)} becomes {told(eer.second)}, "
            f"{points(eer.difference)}; allowed are {100 * settings.most_lost:g} points (--most-lost). "
            "Nothing is written"
        )


def lowered(
    folder: ModelFolder[EncoderManifest], precision: Precision, inputs: Inputs, described: str, name: str | None = None
) -> ModelFolder[EncoderManifest]:
    """The encoder in ``folder`` in fewer bits; not written yet, and nothing is measured of it.

    inputs: [N, *shape] as the encoder takes them, N >= 16: for int8 they set the ranges of the activations; of more
    than MOST_EXAMPLES an even choice is taken. described: what they are. name: that of the new encoder (the old one's
    and the precision).

    It is another encoder, with a digest of its own: galleries don't carry over, and it has no threshold before
    ``calibrate``. int8: its parity vectors are those of the quantised graph computed in float; the integer kernels of
    one processor and another round a few values differently, so the tolerance is twice what that moves here. fp16: its
    parity vectors are the original's; cards round in between, other processors don't, so the tolerance is twice what
    rounding moves.
    Raises DataError, SettingsError, ExportError.
    """
    old = folder.manifest
    noun = "picture" if old.input.kind == "image" else "example"
    if inputs.shape[1:] != old.input.shape or inputs.dtype != old.input.dtype:
        raise SettingsError(
            f"{folder.path}: takes {noun}s of {old.input.shape}, {old.input.dtype}, got {inputs.dtype} "
            f"{inputs.shape[1:]}"
        )
    if len(inputs) < LEAST_EXAMPLES:
        raise DataError(f"{len(inputs)} {noun}(s) are too few to set ranges by: at least {LEAST_EXAMPLES}")
    inputs = inputs[:: -(-len(inputs) // MOST_EXAMPLES)]
    vectors = old.parity.inputs.unpack()
    feeds = _feeds(old, inputs)
    graph = int8_graph(folder, feeds) if precision == "int8" else fp16_graph(folder)
    answered = graph if precision == "int8" else rounded_graph(folder)
    encode = encoder_of(answered, threads=1)
    before, after = encoder_of(folder.model, threads=1)(inputs), encode(inputs)
    if not np.isfinite(after).all():
        raise ExportError(f"{folder.path}: in {precision} the encodings aren't finite: numbers leave its range")
    if precision == "int8":
        exact, outputs = (
            np.concatenate(in_float(graph, old.output.name, _feeds(old, some))) for some in (inputs, vectors)
        )
    else:
        exact, outputs = before, old.parity.outputs.unpack()
    tolerance = rounding_tolerance([exact, outputs], [after, encode(vectors)])
    check_batches(encoder_of(graph, threads=1), inputs, tolerance)
    manifest = _manifest(folder, name or f"{old.name}-{precision}", vectors, outputs, tolerance)
    moved = squared_l2(before, after)
    origin = (
        described_origin(folder, f"{len(inputs)} {noun}s of {described}") if precision == "int8" else _halved(folder)
    )
    told_of = {
        **origin,
        "precision": precision,
        "batches": list(BATCHES),
        "squared_l2_to_original_mean": round(float(moved.mean()), 9),
        "squared_l2_to_original_max": round(float(moved.max()), 9),
    }
    manifest = manifest.model_copy(update={"training": {**manifest.training, "quantized": told_of}})
    check_model(graph, manifest)
    return ModelFolder(folder.path, manifest, graph)


def _manifest(
    folder: ModelFolder[EncoderManifest], name: str, vectors: Inputs, outputs: Encodings, tolerance: float
) -> EncoderManifest:
    """The old one's, without what was measured of the old graph."""
    old, author = folder.manifest, folder.manifest.author_threshold
    manifest = old.model_copy(
        update={
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "training": {key: value for key, value in old.training.items() if key != "calibration_command"},
            **dict.fromkeys(("threshold", "false_positives", "mates")),
            "pair_head": None if old.pair_head is None else _head_of(old.pair_head, outputs),
            "author_threshold": author
            and AuthorThreshold(tau=author.tau, source=f"{author.source}; for the encoder before quantisation"),
            "parity": Parity.pack(vectors, outputs, tolerance),
        }
    )
    # model_copy checks nothing
    return EncoderManifest.model_validate(manifest.model_dump())


def _head_of(head: PairHeadPart, encodings: Encodings) -> PairHeadPart:
    """The same head, for other encodings of the parity vectors; nothing is measured of it yet."""
    probabilities = probabilities_of(head.head().logits(encodings[:1], encodings))
    measured = dict.fromkeys(("reliability", "threshold", "false_positives", "mates"))
    return head.model_copy(update={**measured, "probabilities": tuple(probabilities.tolist())})


def _halved(folder: ModelFolder[EncoderManifest]) -> dict[str, object]:
    return {
        "from": folder.manifest.name,
        "from_digest": folder.digest,
        "weights": "float16",
        "activations": "float16 from the first product to the last",
    }


def _feeds(manifest: EncoderManifest, inputs: Inputs) -> list[dict[str, Inputs]]:
    return [{manifest.input.name: inputs[i : i + _BLOCK]} for i in range(0, len(inputs), _BLOCK)]
