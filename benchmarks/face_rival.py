"""What face_recognition does with photos, in a process of its own: any Python that has dlib and its weights.

    python face_rival.py encode WEIGHTS OUT.npz PHOTOS.npz      every photo: encoding of its largest face, or NaN
    python face_rival.py speed WEIGHTS SECONDS PHOTOS.npz       photos and chips per second, one process, one thread

Needs numpy and dlib alone, so that it also runs under a Python whose dlib was built with a BLAS. The calls are those of
face_recognition 1.3.0's face_encodings(photo): HOG detector with one upsampling, 5 landmarks, no jitter.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np


class Rival:
    """dlib's models, called as face_recognition calls them."""

    def __init__(self, weights: Path) -> None:
        import dlib

        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(weights / "shape_predictor_5_face_landmarks.dat"))
        self.network = dlib.face_recognition_model_v1(str(weights / "dlib_face_recognition_resnet_model_v1.dat"))
        self.seconds = {"detect": 0.0, "landmarks": 0.0, "encode": 0.0}

    def encode(self, photo: Any) -> Any:
        """float64 [128] of the largest face of uint8 [H, W, 3], or None without one."""
        t0 = time.perf_counter()
        faces = self.detector(photo, 1)
        t1 = time.perf_counter()
        self.seconds["detect"] += t1 - t0
        if not faces:
            return None
        points = self.predictor(photo, max(faces, key=lambda box: box.area()))
        t2 = time.perf_counter()
        encoding = np.array(self.network.compute_face_descriptor(photo, points, 1))
        self.seconds["landmarks"] += t2 - t1
        self.seconds["encode"] += time.perf_counter() - t2
        return encoding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["encode", "speed"])
    parser.add_argument("weights", type=Path)
    parser.add_argument("argument", metavar="OUT.npz or SECONDS")
    parser.add_argument("photos", metavar="PHOTOS.npz")
    given = parser.parse_args()
    argument = given.argument
    rival = Rival(given.weights)
    photos = list(np.load(given.photos).values())
    if given.task == "encode":
        rows = [rival.encode(photo) for photo in photos]
        np.savez(argument, encodings=np.array([np.full(128, np.nan) if row is None else row for row in rows]))
        return
    rival.encode(photos[0])
    rival.seconds = dict.fromkeys(rival.seconds, 0.0)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < float(argument):
        rival.encode(photos[done % len(photos)])
        done += 1
    took = time.perf_counter() - begun
    stages = {stage: 1000 * seconds / done for stage, seconds in rival.seconds.items()}
    print(json.dumps({"per_second": done / took, "stage_ms": stages}))


if __name__ == "__main__":
    main()
