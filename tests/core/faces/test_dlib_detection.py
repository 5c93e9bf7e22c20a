"""The faces that are found are dlib's, box for box: real photos, in their own size and in awkward ones."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_core.faces.detection import Score, search, suppress
from oneglance_core.manifests import DetectorManifest

Pixels = npt.NDArray[np.uint8]
Detector = tuple[Score, DetectorManifest]


@pytest.fixture(scope="module")
def detector(weights: Path) -> Detector:
    pytest.importorskip("onnx")
    from oneglance_exporter.imports.dat_networks import read_mmod_net
    from oneglance_exporter.imports.dlib_detector import detector_model
    from oneglance_exporter.runtime import session_of

    graph, manifest = detector_model(read_mmod_net((weights / "mmod_human_face_detector.dat").read_bytes()))
    session = session_of(graph, threads=1)

    def score(canvases: Pixels) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = session.run(["scores"], {"image": canvases})[0]
        return found

    return score, manifest


def test_faces_are_dlibs(dlib: Any, weights: Path, detector: Detector, face_photos: dict[str, Pixels]) -> None:
    score, manifest = detector
    dlibs = dlib.cnn_face_detection_model_v1(str(weights / "mmod_human_face_detector.dat"))
    orl = [photo for name, photo in face_photos.items() if name.endswith(".pgm")]
    lfw = [photo for name, photo in face_photos.items() if name.endswith(".jpg")]
    photos = [*orl[:12], *lfw[:4]]
    # Wide, high, and with a face cut by every edge in turn.
    photos += [lfw[4][60:190], lfw[5][:, 70:180], lfw[6][95:, 40:], lfw[7][:170, :160], orl[13][20:, 15:]]
    faces = 0
    for photo in photos:
        photo = np.ascontiguousarray(photo)
        found = suppress(search([photo], score, manifest)[0], manifest)
        expected = list(dlibs(photo, 0))
        edges = [(d.rect.left(), d.rect.top(), d.rect.right(), d.rect.bottom()) for d in expected]
        assert [face.box for face in found] == edges
        np.testing.assert_allclose([face.score for face in found], [d.confidence for d in expected], atol=0.01)
        faces += len(found)
    assert faces >= 16


def test_a_small_face_is_found_once_the_photo_is_enlarged(detector: Detector, face_photos: dict[str, Pixels]) -> None:
    score, manifest = detector
    photo = next(photo for name, photo in face_photos.items() if name.endswith(".jpg"))
    small = np.ascontiguousarray(photo[1::3, 1::3])
    (large,) = suppress(search([photo], score, manifest)[0], manifest)
    assert search([small], score, manifest) == [[]]
    (face,) = suppress(search([small], score, manifest, scale=3, levels=6)[0], manifest)
    np.testing.assert_allclose(np.array(face.box) * 3, large.box, atol=15)
