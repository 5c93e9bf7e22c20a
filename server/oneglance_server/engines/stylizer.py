"""g: the stylizer, one feed-forward network for all its styles."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import StylizerManifest
from oneglance_core.sessions.checks import Compare
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.tiles import Grid
from oneglance_server.settings import Settings

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# bf16 keeps 8 bits of every number: it can't meet a float32 tolerance, and pictures of 256 levels need not.
BF16_PSNR_DB = 40.0


def psnr(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Peak signal to noise ratio of two pictures of 0 to 255, dB; infinite when they are equal."""
    error = float(np.mean(np.square(got.astype(np.float64) - wanted.astype(np.float64))))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _look_alike(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> str | None:
    """Compares each picture of [N, H, W, 3] with its own."""
    reached = [psnr(*pair) for pair in zip(got, wanted, strict=True)]
    if all(decibels >= BF16_PSNR_DB for decibels in reached):  # not when one is NaN
        return None
    return f"PSNR {min(reached):.1f} dB, needed {BF16_PSNR_DB:g}"


def grid_of(manifest: StylizerManifest, settings: Settings) -> Grid:
    """How its pictures are cut. Raises StartupError for a tile too small for it."""
    return Grid(manifest, bucket=settings.stylize_bucket, tile=settings.stylize_tile)


class Stylizer(LoadedModel[StylizerManifest]):
    """A loaded and checked stylizer; see StylizerManifest for its graph. Thread-safe.

    Parity: every number within the manifest's tolerance, but in bf16 the pictures to 40 dB PSNR and the moments to 2 %
    of the largest one.

    It keeps what the largest run has needed: a fourth of the time went into asking for it anew. No run is larger than a
    tile, so that is bounded.
    """

    title = "stylizer"
    low_priority = True
    coarse: ClassVar[Mapping[str, Compare]] = {"stylized": _look_alike}

    @classmethod
    def load(cls, folder: ModelFolder[StylizerManifest], settings: Settings) -> Self:
        grid = grid_of(folder.manifest, settings)
        runtime = Runtime(
            settings.device,
            settings.stylize_threads,
            settings.gpu_memory_bytes,
            settings.stylizer_engine,
            settings.stylize_workers,
            "--stylizer-engine",
            settings.gpu_lost,
        )
        stylizer = cls(folder, runtime)
        sizes = {shape for size in settings.sizes_to_prepare for shape in grid.shapes(*size)}
        stylizer.warm_up(sorted({(grid.least, grid.least), (grid.tile, grid.tile), *sizes}))
        return stylizer

    def run(
        self, image: Pixels, weights: Floats, moments: Floats | None = None, own: float = 0.0
    ) -> tuple[Floats, Floats]:
        """One picture, uint8 [H, W, 3], sides as the manifest demands, in the blend ``weights`` [S].

        ``moments`` [M, 2], with ``own`` as in the manifest; None for the picture's own. Returns the stylized picture,
        float32 [H, W, 3] in [0, 255], and the moments that were used, [M, 2]. Raises ArithmeticError when they aren't
        finite, MemoryError when there isn't enough now.
        """
        pictures, all_used = self._run(*self._asked(image, weights, moments, own))
        stylized: Floats = pictures[0]
        used: Floats = all_used[0]
        if not (np.isfinite(used).all() and math.isfinite(float(stylized.max()) - float(stylized.min()))):
            raise ArithmeticError(f"{self.manifest.name}: the graph gave values that are not finite")
        return stylized, used

    def warm_up(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Run once per (height, width), where a first run costs more."""
        if not self._session.compiles_per_shape:
            return
        weights = np.zeros(self.manifest.numbers, np.float32)
        weights[0] = 1
        for height, width in shapes:
            # Not one colour: to normalise what has no variance says nothing about exactness.
            picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            self._prepare(*self._asked(picture, weights, None, 1.0))

    def _asked(
        self, image: Pixels, weights: Floats, moments: Floats | None, own: float
    ) -> tuple[list[str], dict[str, npt.NDArray[Any]]]:
        given = np.zeros((self.manifest.moments, 2), np.float32) if moments is None else moments
        return ["stylized", "used"], {
            "image": image[np.newaxis],
            "weights": weights[np.newaxis],
            "moments": given[np.newaxis],
            "own": np.array([1.0 if moments is None else own], np.float32),
        }
