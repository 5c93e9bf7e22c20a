"""What it costs to look whether the encoder's input is of its kind (`unfit_inputs`): a picture, with and without.

    python -m benchmarks.input_cost MODEL...

Pictures of the size of the encoder's input, from PNG to encoding as the server takes them, in batches, with and without
in turn, on one thread. Milliseconds of processor time a picture, medians.
"""

import functools
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report import options, table
from oneglance_core.folder import read_model_folder
from oneglance_core.input_figures import input_figures
from oneglance_core.pictures import PictureLimits, encoder_input
from oneglance_core.sounds import SoundLimits
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.service.batch_encoding import runner
from oneglance_server.service.content import Picture
from oneglance_server.service.work import ContentLimits

BATCH, ROUNDS = 8, 15
LIMITS = PictureLimits(1 << 24, 50_000_000)
ALL_LIMITS = ContentLimits(LIMITS, SoundLimits(), 1 << 30, 1.0)


def milliseconds(run: Callable[[], object]) -> float:
    begun = time.thread_time()
    run()
    return 1e3 * (time.thread_time() - begun)


def picture(shape: tuple[int, ...], seed: int) -> bytes:
    """Strokes on paper, as far as compression and decoding go."""
    height, width, channels = shape
    pixels = np.full((height, width, 3), 255, np.uint8)
    for x, y in np.random.default_rng(seed).integers(0, min(height, width), (60, 2)):
        pixels[y : y + 3, x : x + 9] = 20
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("L" if channels == 1 else "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("models", metavar="MODEL", nargs="+", type=Path)
    rows = []
    for folder in parser.parse_args().models:
        encoder = Encoder(read_model_folder(folder), Runtime("cpu", 1, 1 << 30))
        spec = encoder.manifest.input
        pictures = [picture(tuple(spec.shape), seed) for seed in range(BATCH)]
        contents = [Picture("probe.image", data) for data in pictures]
        runs = {looked: runner(encoder, ALL_LIMITS, BATCH, looked, None) for looked in (False, True)}
        took: dict[bool, list[float]] = {False: [], True: []}
        for i in range(ROUNDS):
            for looked in (bool(i % 2), not i % 2):
                took[looked].append(milliseconds(functools.partial(runs[looked], contents)) / BATCH)
        prepared = encoder_input(pictures[0], spec, LIMITS)
        figures = statistics.median(milliseconds(functools.partial(input_figures, prepared)) for _ in range(50))
        without, with_it = (statistics.median(took[looked]) for looked in (False, True))
        size = " x ".join(map(str, spec.shape))
        rows.append([encoder.manifest.name, size, f"{without:.2f}", f"{with_it:.2f}", f"{figures:.2f}"])
    table("Milliseconds a picture", ["encoder", "input", "without", "with", "the figures alone"], rows)


if __name__ == "__main__":
    main()
