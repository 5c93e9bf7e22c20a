"""A face detector's model folder in 8 bits; ``int8`` says how."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oneglance.faces.detection import Detection, find_windows, suppress
from oneglance.model_folder import (
    Array,
    DetectorManifest,
    ModelFolderError,
    NamedParity,
    read_any_model_folder,
    write_model_folder,
)
from oneglance_exporter.errors import DataError
from oneglance_exporter.int8 import described_origin, in_float, int8_graph, rounding_tolerance
from oneglance_exporter.runtime import session_of

Pixels = npt.NDArray[np.uint8]

LEAST_PHOTOS = 16
MOST_PHOTOS = 64  # of a megapixel they make canvases of 1 GB
_SAME_FACE = 0.5  # intersection over union


def quantize_detector(
    model: Path, out: Path, photos: Sequence[Pixels], described: str, name: str | None = None
) -> DetectorManifest:
    """Write the face detector ``model`` in 8 bits as the model folder ``out``.

    photos: uint8 [H, W, 3] rgb of any sizes, N >= 16, with faces that the detector finds: what it sees of them sets
    the ranges of the activations; of more than MOST_PHOTOS an even choice is taken. They are searched as they are,
    so larger ones than a server searches should be shrunk before. described: what they are. name: that of the new
    detector (the old one's and ``-int8``).

    The threshold stays. ``training`` tells how the faces found in these photos differ. Parity as in ``quantize``: its
    vectors are scores, so it asks nothing of windows whose score is near the threshold.
    Raises DataError, ExportError, SettingsError, ModelFolderError.
    """
    folder = read_any_model_folder(model)
    old = folder.manifest
    if not isinstance(old, DetectorManifest):
        raise ModelFolderError(f"{model}: holds a model of kind {old.kind!r}, not a detector")
    if len(photos) < LEAST_PHOTOS:
        raise DataError(f"{len(photos)} photo(s) are too few to set ranges by: at least {LEAST_PHOTOS}")
    photos = photos[:: -(-len(photos) // MOST_PHOTOS)]
    before = _search(folder.model, old, photos)
    if not any(before.faces):
        raise DataError(f"{old.name} finds no face in the photos: ranges from them would be wrong")
    feeds = [{"image": canvas} for canvas in before.canvases]
    graph = int8_graph(folder, feeds)

    after = _search(graph, old, photos)
    comparison = Comparison.of(before.faces, after.faces)
    inputs = {"image": old.parity.inputs["image"].unpack()}
    (scores,) = in_float(graph, "scores", [inputs])
    manifest = old.model_copy(
        update={
            "name": name or f"{old.name}-int8",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "training": {
                **old.training,
                "quantized": {
                    **described_origin(folder, f"{len(photos)} photos of {described}"),
                    "faces_found": comparison.before,
                    "faces_found_in_8_bits": comparison.after,
                    "faces_found_by_both": comparison.both,
                    "boxes_identical": comparison.identical,
                    "score_moved_max": round(comparison.score_moved, 6),
                },
            },
            "parity": NamedParity(
                inputs=old.parity.inputs,
                outputs={"scores": Array.pack(scores)},
                tolerance=rounding_tolerance(in_float(graph, "scores", feeds), after.scores),
            ),
        }
    )
    # model_copy checks nothing
    manifest = DetectorManifest.model_validate(manifest.model_dump())
    write_model_folder(out, manifest, graph)
    return manifest


@dataclass(frozen=True, slots=True)
class Comparison:
    """The faces that two detectors find in the same photos.

    before, after: how many each finds. both: of the first one's, those that the second finds too, by a box whose
    intersection over union is above 0.5. identical: of these, with the same box. score_moved: the largest
    difference of their scores.
    """

    before: int
    after: int
    both: int
    identical: int
    score_moved: float

    @classmethod
    def of(cls, before: Sequence[Sequence[Detection]], after: Sequence[Sequence[Detection]]) -> "Comparison":
        """From the faces of each photo, in the same order."""
        pairs = []
        for ones, others in zip(before, after, strict=True):
            for one in ones:
                nearest = max(others, key=partial(_overlap, one), default=None)
                if nearest is not None and _overlap(one, nearest) > _SAME_FACE:
                    pairs.append((one, nearest))
        return cls(
            before=sum(map(len, before)),
            after=sum(map(len, after)),
            both=len(pairs),
            identical=sum(one.box == other.box for one, other in pairs),
            score_moved=max((abs(one.score - other.score) for one, other in pairs), default=0.0),
        )


@dataclass(frozen=True, slots=True)
class _Searched:
    """The faces of each photo; what the graph was shown, and what it said."""

    faces: list[list[Detection]]
    canvases: list[Pixels]
    scores: list[npt.NDArray[np.float32]]


def _search(graph: bytes, spec: DetectorManifest, photos: Sequence[Pixels]) -> _Searched:
    session = session_of(graph, threads=1)
    searched = _Searched([], [], [])

    def score(canvases: Pixels) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = session.run(["scores"], {"image": canvases})[0]
        searched.canvases.append(canvases)
        searched.scores.append(scores)
        return scores

    for photo in photos:
        (windows,) = find_windows([photo], score, spec)
        searched.faces.append(suppress(windows, spec))
    return searched


def _overlap(one: Detection, other: Detection) -> float:
    """Intersection over union of the boxes, edges included."""
    a, b = np.array(one.box), np.array(other.box)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1
    inner = float(np.prod(np.maximum(sides, 0)))
    return inner / (float(np.prod(a[2:] - a[:2] + 1) + np.prod(b[2:] - b[:2] + 1)) - inner)
