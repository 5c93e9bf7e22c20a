"""Find the landmarks of the faces of several photos in one run of the network (see LandmarksManifest)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
Run = Callable[[Mapping[str, npt.NDArray[Any]]], Points]


def gray(photo: Pixels) -> Pixels:
    """(r + g + b) // 3, as in dlib: uint8 [H, W, 3] -> uint8 [H, W]."""
    total = np.add(photo[..., 0], photo[..., 1], dtype=np.uint16)
    total += photo[..., 2]
    total //= 3
    return total.astype(np.uint8)


def find_landmarks(run: Run, photos: Sequence[Pixels], boxes: Sequence[npt.ArrayLike]) -> list[Points]:
    """The landmarks of the faces of each photo: float32 [F, L, 2], (x, y) in that photo.

    run: runs the network, from its inputs by name to ``points``. photos: uint8 [H, W, 3], of any sizes.
    boxes: for each photo, float [F, 4] with F >= 0: (left, top, right, bottom), all included.

    The network gets whole photos, because it may read pixels far outside a box. It is not run if there is no face.
    Raises ValueError if the numbers of photos and of entries in ``boxes`` differ.
    """
    given = [np.asarray(of_photo, np.float32).reshape(-1, 4) for of_photo in boxes]
    counts = [len(of_photo) for of_photo in given]
    pixels = [gray(photo).reshape(-1) for photo, count in zip(photos, counts, strict=True) if count]
    if not pixels:
        return [np.empty((0, 5, 2), np.float32) for _ in photos]
    sizes = [photo.shape[0] * photo.shape[1] if count else 0 for photo, count in zip(photos, counts, strict=True)]
    begins = np.cumsum([0, *sizes[:-1]])
    pictures = [(begin, *photo.shape[:2]) for begin, photo in zip(begins, photos, strict=True)]
    points = run(
        {
            "pixels": np.concatenate(pixels),
            "pictures": np.repeat(np.array(pictures, np.int64), counts, axis=0),
            "boxes": np.concatenate(given),
        }
    )
    return np.split(points, np.cumsum(counts)[:-1])
