"""What a kept crop costs, and how near to the former encoding the same encoder comes from it.

    python -m benchmarks.kept_crops FACES_MODEL [--scale 1 4]

Photos of LFW (ONEGLANCE_DATA/faces/lfw100.zip), enlarged by each scale: of every face the encoding from the photo, and
from the crop that would be kept of it. Prints bytes and milliseconds of processor of a crop, squared L2 between the two
encodings, and how many decisions about pairs differ, by tau 0.36, and about who is nearest.
"""

import argparse
import io
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneglance_core import kept_crops
from oneglance_core.faces.crops import CropRequest, FaceChoice, FaceCrops
from oneglance_core.pictures import PictureLimits, decode_photo
from oneglance_index import MAX_CROP_BYTES
from oneglance_server.engines.faces import FaceCropper, face_search
from oneglance_server.loading import load_models
from oneglance_server.service.plan import chip_of
from oneglance_server.settings import Settings

TAU = 0.36


def photos(most: int) -> dict[str, bytes]:
    with zipfile.ZipFile(Path(os.environ["ONEGLANCE_DATA"]) / "faces" / "lfw100.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        return {name: archive.read(name) for name in names[:most]}


def enlarged(data: bytes, scale: int) -> bytes:
    if scale == 1:
        return data
    picture = Image.open(io.BytesIO(data))
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=95
    )
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scale", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--photos", type=int, default=100)
    o = parser.parse_args()
    settings = Settings(models=(o.model,))
    models = load_models(settings, ThreadPoolExecutor(1))
    limits = PictureLimits(max_image_bytes=32 << 20, max_image_pixels=100_000_000)
    assert models.detector
    assert models.landmarks
    cropper = FaceCropper(
        models.detector, models.landmarks, models.uprightness, limits, face_search(settings), lambda *_: None
    )
    (encoder,) = models.encoders
    chip = chip_of(encoder)

    def encode(data: bytes, choice: FaceChoice) -> tuple[NDArray[np.float32] | None, Any]:
        (outcome,) = cropper.crop([CropRequest(data, choice, chip)])
        if not isinstance(outcome, FaceCrops) or not len(outcome.chips):
            return None, outcome
        return encoder.encode(outcome.chips[:1])[0], outcome

    for scale in o.scale:
        former, later, people, sizes, times, lost = [], [], [], [], [], 0
        for name, data in photos(o.photos).items():
            photo = enlarged(data, scale)
            own, seen = encode(photo, FaceChoice("largest"))
            if own is None:
                continue
            pixels = decode_photo(photo, limits)
            began = time.process_time()
            kept = kept_crops.face_crop_of(pixels, seen.photo.faces[0].box, seen.photo.turn_degrees, MAX_CROP_BYTES)
            times.append(time.process_time() - began)
            crop = kept_crops.read_crop(kept)
            again, outcome = encode(crop.picture, FaceChoice("box", box=crop.box, small_faces="when-none"))
            sizes.append(len(kept))
            if again is None:
                lost += 1
                print(outcome)
                continue
            people.append(name.split("/")[0])
            former.append(own)
            later.append(again)
        a, b = np.array(former), np.array(later)
        moved = ((a - b) ** 2).sum(axis=1)
        between = ((a[:, None] - a[None]) ** 2).sum(axis=2)
        both = ((b[:, None] - b[None]) ** 2).sum(axis=2)
        pairs = np.triu_indices(len(a), 1)
        other = ((between <= TAU) != (both <= TAU))[pairs].sum()
        for one in (between, both):
            np.fill_diagonal(one, np.inf)
        whose = np.array(people)
        nearest = (whose[between.argmin(1)] != whose[both.argmin(1)]).sum()
        print(
            f"scale {scale}: {len(a)} faces, {lost} not found again; bytes {np.mean(sizes):,.0f}, at most"
            f" {max(sizes):,}; {1e3 * np.mean(times):.1f} ms of processor; squared L2: median {np.median(moved):.4f},"
            f" 95 % {np.quantile(moved, 0.95):.4f}, max {moved.max():.4f}; of {len(pairs[0]):,} pairs {other} decided"
            f" otherwise, another person nearest for {nearest}"
        )


if __name__ == "__main__":
    main()
