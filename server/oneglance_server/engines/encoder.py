"""f: the Siamese encoder."""

import functools
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import EncoderManifest
from oneglance_core.pair_head import PairHead
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.engines.session import Runtime
from oneglance_server.settings import Settings

Encodings = npt.NDArray[np.float32]


class Encoder(LoadedModel[EncoderManifest]):
    """A loaded and checked encoder. Thread-safe."""

    title = "encoder"

    @classmethod
    def load(cls, folder: ModelFolder[EncoderManifest], settings: Settings) -> Self:
        runtime = Runtime(
            settings.device,
            settings.encoder_threads,
            settings.gpu_memory_bytes,
            settings.encoder_engine,
            settings.encoder_workers,
            "--encoder-engine",
            settings.gpu_lost,
        )
        encoder = cls(folder, runtime)
        encoder.warm_up(settings.max_batch)
        return encoder

    @property
    def dimension(self) -> int:
        return self.manifest.output.dimension

    @functools.cached_property
    def pair_head(self) -> PairHead | None:
        """None where it has none."""
        return None if self.manifest.pair_head is None else self.manifest.pair_head.head()

    @property
    def takes_photos(self) -> bool:
        """Pictures are photos: a face is found and aligned first."""
        return self.manifest.alignment is not None

    def encode(self, inputs: npt.NDArray[Any]) -> Encodings:
        """``inputs``: dtype [N, *shape] as the manifest declares, N >= 1. Returns float32 [N, D]."""
        outputs: Encodings = self._run(*self._asked(inputs))[0]
        return outputs

    def warm_up(self, max_batch: int) -> None:
        """Run once per size of a batch that matters, so that no caller pays for the first."""
        sizes = {size for size in self._session.batch_sizes if size < max_batch}
        self._prepare_batches(sorted({1, *sizes, max_batch}))

    def _asked(self, inputs: npt.NDArray[Any]) -> tuple[list[str], dict[str, npt.NDArray[Any]]]:
        return [self.manifest.output.name], {self.manifest.input.name: inputs}
