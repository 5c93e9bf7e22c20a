"""A face detector's model folder in 8 bits; ``int8`` says how."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.detection import Detection, find_windows, suppress
from oneglance_core.folder import check_replaceable, read_any_model_folder, write_model_folder
from oneglance_core.manifests import DetectorManifest, NamedParity
from oneglance_exporter.errors import DataError
from oneglance_exporter.quantize.int8 import described_origin, in_float, int8_graph, rounding_tolerance
from oneglance_exporter.runtime import check_model, session_of

Pixels = npt.NDArray[np.uint8]

LEAST_PHOTOS = 16
MOST_PHOTOS = 64  # of a megapixel they make canvases of 1 GB


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
    check_replaceable(out)
    folder = read_any_model_folder(model).of(DetectorManifest)
    old = folder.manifest
    if len(photos) < LEAST_PHOTOS:
        raise DataError(f"{len(photos)} photo(s) are too few to set ranges by: at least {LEAST_PHOTOS}")
    photos = photos[:: -(-len(photos) // MOST_PHOTOS)]
    before = _search(folder.model, old, photos)
    if not any(before.faces):
        raise DataError(f"{old.name} finds no face in the photos: ranges from them would be wrong")
    feeds = [{"image": canvas} for canvas in before.canvases]
    graph = int8_graph(folder, feeds)

    after = _search(graph, old, photos)
    comparison = Comparison.of(before.faces, after.faces, old)
    inputs = old.vectors().inputs
    (scores,) = in_float(graph, "scores", [inputs])
    rounded = session_of(graph, threads=1).run(["scores"], inputs)
    manifest = old.model_copy(
        update={
            "name": name or f"{old.name}-int8",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "training": {
                **old.training,
                "quantized": {
                    **described_origin(folder, f"{len(photos)} photos of {described}"),
                    "faces_found": comparison.found,
                    "faces_found_in_8_bits_too": comparison.both,
                    "faces_found_in_8_bits_only": comparison.new,
                    "boxes_identical": comparison.identical,
                    "score_moved_max": round(comparison.score_moved, 6),
                },
            },
            "parity": NamedParity.pack(
                inputs,
                {"scores": scores},
                rounding_tolerance([scores, *in_float(graph, "scores", feeds)], [*rounded, *after.scores], capped=True),
            ),
        }
    )
    # model_copy checks nothing
    manifest = DetectorManifest.model_validate(manifest.model_dump())
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


@dataclass(frozen=True, slots=True)
class Comparison:
    """The faces that two detectors find in the same photos. Two boxes are of one face if ``suppress`` keeps but one.

    found: how many the first one finds. both: of these, those that the second finds too; identical: in the same box;
    score_moved: the largest difference of their scores. new: faces that only the second finds.
    """

    found: int
    both: int
    identical: int
    score_moved: float
    new: int

    @classmethod
    def of(
        cls, before: Sequence[Sequence[Detection]], after: Sequence[Sequence[Detection]], spec: DetectorManifest
    ) -> "Comparison":
        """From the faces of each photo, in the same order."""
        pairs, new = [], 0
        for ones, others in zip(before, after, strict=True):
            for one in ones:
                same = [other for other in others if len(suppress([one, other], spec)) == 1]
                if same:
                    pairs.append((one, max(same, key=lambda other: (other.box == one.box, other.score))))
            new += sum(all(len(suppress([one, other], spec)) == 2 for one in ones) for other in others)
        return cls(
            found=sum(map(len, before)),
            both=len(pairs),
            identical=sum(one.box == other.box for one, other in pairs),
            score_moved=max((abs(one.score - other.score) for one, other in pairs), default=0.0),
            new=new,
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
