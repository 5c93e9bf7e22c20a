"""What a cheaper precision costs: the face encoder in float32, in 8 bits, and by OpenVINO if it is installed.

    python -m benchmarks.precision MODELS DATA DATA

MODELS is what ``oneglance-exporter import dlib-faces`` wrote; DATA are two zips or folders of PERSON/photo.jpg. All
precisions get the same chips, cut from the largest face of each photo. The 8-bit encoder that is measured on one set
has its ranges from the other. Accuracy as in ``benchmarks.faces``; one core; timings of all precisions take turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.faces import FPIRS, Photos, figures, read_photos
from benchmarks.report import table
from oneglance_core.distance import squared_l2
from oneglance_core.faces.finder import ChipSpec, FaceFinder, cut
from oneglance_core.folder import ModelFolder, model_folders, read_any_model_folder, read_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.quantize.encoder import quantize
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector, Landmarks
from oneglance_server.engines.openvino import OpenVinoSession
from oneglance_server.engines.session import Runtime
from oneglance_server.errors import StartupError

Chips = npt.NDArray[np.uint8]
Encode = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

BATCHES = (1, 8, 32)
ROUNDS = 15
ONE_THREAD = Runtime(device="cpu", threads=1, gpu_memory_bytes=1)


def chips_of(models: Path, photos: Photos, encoder: EncoderManifest) -> tuple[Chips, npt.NDArray[np.bool_]]:
    """The chip of each photo's largest face, uint8 [F, H, W, 3], and which photos have one, bool [N]."""
    found = {folder.manifest.kind: folder for folder in map(read_any_model_folder, model_folders(models))}
    detector, landmarks = Detector(found["detector"], ONE_THREAD), Landmarks(found["landmarks"], ONE_THREAD)
    finder = FaceFinder(detector.score, detector.manifest, landmarks.points)
    assert encoder.alignment is not None
    spec = ChipSpec(encoder.alignment, *encoder.input.shape[:2])
    chips, has_face = [], []
    for pixels in photos.pixels():
        (seen,) = finder.find([pixels], ["when-none"])
        has_face.append(bool(seen.faces))
        if seen.faces:
            (located,) = finder.locate([pixels], [replace(seen, faces=seen.faces[:1])])
            chips.append(cut(pixels, located, spec)[1][0])
    return np.stack(chips), np.array(has_face)


def encoders(original: ModelFolder[EncoderManifest], int8: ModelFolder[EncoderManifest]) -> dict[str, Encode]:
    """Each way to run the encoder on one thread."""
    ways: dict[str, Encode] = {
        "ONNX Runtime fp32": Encoder(original, ONE_THREAD).encode,
        "ONNX Runtime int8": Encoder(int8, ONE_THREAD).encode,
    }
    for name, folder, bf16 in (
        ("OpenVINO fp32", original, False),
        ("OpenVINO bf16", original, True),
        ("OpenVINO int8", int8, False),
    ):
        with suppress(StartupError):  # not installed, or no bf16 in this processor
            ways[name] = _by_openvino(OpenVinoSession(folder, bf16=bf16, threads=1, runs_at_once=1), folder.manifest)
    return ways


def _by_openvino(session: OpenVinoSession, manifest: EncoderManifest) -> Encode:
    def encode(chips: Chips) -> npt.NDArray[np.float32]:
        encodings: npt.NDArray[np.float32] = session.run([manifest.output.name], {manifest.input.name: chips})[0]
        return encodings

    return encode


def milliseconds(ways: dict[str, Encode], chips: npt.NDArray[Any], batch: int) -> dict[str, float]:
    """Of each way, the median over ROUNDS of the time a chip takes in batches of ``batch``."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for encode in ways.values():
        encode(chips[:batch])
    for _ in range(ROUNDS):
        for name, encode in ways.items():
            runs = max(1, 8 // batch)
            started = time.perf_counter()
            for _ in range(runs):
                encode(chips[:batch])
            taken[name].append(1000 * (time.perf_counter() - started) / runs / batch)
    return {name: statistics.median(times) for name, times in taken.items()}


def encoded(encode: Encode, chips: Chips, found: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """float64 [N, D], NaN where no face was found."""
    rows = np.concatenate([encode(chips[i : i + 32]) for i in range(0, len(chips), 32)])
    encodings = np.full((len(found), rows.shape[1]), np.nan)
    encodings[found] = rows
    return encodings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.precision")
    parser.add_argument("models", type=Path)
    parser.add_argument("data", type=Path, nargs=2)
    options = parser.parse_args(arguments)
    path = next(p for p in model_folders(options.models) if read_any_model_folder(p).manifest.kind == "encoder")
    original = read_model_folder(path)
    sets = [read_photos(data) for data in options.data]
    aligned = [chips_of(options.models, photos, original.manifest) for photos in sets]
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for photos, (chips, found), (others, _), other in zip(sets, aligned, aligned[::-1], sets[::-1], strict=True):
            int8 = Path(scratch) / f"int8-{other.name}"
            quantize(path, int8, others, other.name)
            ways = encoders(original, read_model_folder(int8))
            exact = encoded(ways["ONNX Runtime fp32"], chips, found)
            for name, encode in ways.items():
                encodings = encoded(encode, chips, found)
                moved = np.nanmean(squared_l2(encodings.astype(np.float32), exact.astype(np.float32)))
                got = figures(encodings, photos.person)
                rows.append(
                    (photos.name, name, f"{moved:.1e}", f"{got.rank1:.4f}", f"{got.eer:.4f}",
                     *(f"{rate:.4f}" for rate in got.fnir))
                )  # fmt: skip
        took = {batch: milliseconds(ways, chips, batch) for batch in BATCHES}
    table(
        "Precisions of the face encoder: accuracy, one enrolled photo per person",
        ("data", "by", "moved by (mean squared L2)", "rank-1", "EER", *(f"FNIR at FPIR {f:.1%}" for f in FPIRS)),
        rows,
    )
    table(
        "Precisions of the face encoder: milliseconds per chip, one thread",
        ("by", *(f"batch {batch}" for batch in BATCHES), "times fp32 at batch 32"),
        [
            (name, *(took[batch][name] for batch in BATCHES), took[32]["ONNX Runtime fp32"] / took[32][name])
            for name in took[32]
        ],
    )


if __name__ == "__main__":
    main()
