"""From model folders to loaded, checked and warmed-up models."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from oneglance_core.folder import ModelFolder, model_folders, read_any_model_folder
from oneglance_core.manifests import (
    DetectorManifest,
    EncoderManifest,
    LandmarksManifest,
    ModelFolderError,
    ModelManifest,
    StyleReaderManifest,
    StylizerManifest,
    UprightnessManifest,
)
from oneglance_core.pictures import PictureLimits
from oneglance_core.sessions.memory import limited_memory
from oneglance_core.signatures import check_signature, read_public_keys
from oneglance_core.sounds import can_decode
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector, Landmarks, Uprightness
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.engines.painting import Painter
from oneglance_server.engines.style_reader import StyleReader
from oneglance_server.engines.stylizer import Stylizer, grid_of
from oneglance_server.errors import StartupError
from oneglance_server.settings import BUNDLED, Settings

log = structlog.get_logger()
M = TypeVar("M", bound=LoadedModel[Any])

# The registry: what runs the models of each kind.
ENGINES: dict[type[ModelManifest], type[LoadedModel[Any]]] = {
    EncoderManifest: Encoder,
    DetectorManifest: Detector,
    LandmarksManifest: Landmarks,
    UprightnessManifest: Uprightness,
    StylizerManifest: Stylizer,
    StyleReaderManifest: StyleReader,
}


@dataclass(frozen=True)
class Models:
    """Everything that was loaded, checked and warmed up."""

    loaded: tuple[LoadedModel[Any], ...]
    painters: tuple[Painter, ...]

    def of(self, engine: type[M]) -> list[M]:
        """Those that are run by ``engine``."""
        return [model for model in self.loaded if isinstance(model, engine)]

    @property
    def encoders(self) -> list[Encoder]:
        return self.of(Encoder)

    def trouble(self) -> str | None:
        """Why one can't be run until the next start, and which; None where all can."""
        return next((f"{model.manifest.name}: {model.trouble}" for model in self.loaded if model.trouble), None)

    @property
    def detector(self) -> Detector | None:
        return next(iter(self.of(Detector)), None)

    @property
    def landmarks(self) -> Landmarks | None:
        return next(iter(self.of(Landmarks)), None)

    @property
    def uprightness(self) -> Uprightness | None:
        return next(iter(self.of(Uprightness)), None)


def load_models(settings: Settings, stylize_pool: Executor) -> Models:
    """Every model of the settings, checked and warmed up. Raises StartupError.

    Stylizers are loaded on ``stylize_pool``: what threads they have of their own inherit the priority of its threads.
    """
    try:
        folders = [read_any_model_folder(folder) for path in settings.models for folder in model_folders(path)]
        _check_names(folders)
        _check_signatures(folders, settings)
        loaded = _load(folders, settings, stylize_pool)
    except ModelFolderError as error:
        raise StartupError(str(error)) from error
    for encoder in (model for model in loaded if isinstance(model, Encoder)):
        if encoder.manifest.input.sound is not None and not can_decode():
            raise StartupError(f"{encoder.manifest.name} takes sound files: pip install 'oneglance[sound]'")
    limits = picture_limits(settings)
    readers = [model for model in loaded if isinstance(model, StyleReader)]
    painters = [
        Painter(model, grid_of(model.manifest, settings), limits, _reader(model, readers))
        for model in loaded
        if isinstance(model, Stylizer)
    ]
    models = Models(tuple(loaded), tuple(painters))
    if any(encoder.takes_photos for encoder in models.encoders) and not (models.detector and models.landmarks):
        log.warning("an encoder of faces, but no detector with landmarks: photos can't be searched, only aligned faces")
    elif models.detector and not models.uprightness:
        log.warning("a face detector, but no uprightness check: whatever it finds is taken for an upright face")
    return models


def _reader(stylizer: Stylizer, readers: Sequence[StyleReader]) -> StyleReader | None:
    """What reads styles for it; None where it has styles of its own. Raises StartupError where it is not loaded."""
    space = stylizer.manifest.space
    if space is None:
        return None
    for reader in readers:
        if reader.manifest.space == space:
            return reader
    raise StartupError(f"{stylizer.manifest.name}: add the reader of styles for {space.name} to --models")


def _check_signatures(folders: Sequence[ModelFolder[Any]], settings: Settings) -> None:
    """Raises ModelFolderError."""
    if settings.signed_by:
        keys = read_public_keys(settings.signed_by)
        for folder in folders:
            if folder.path.resolve().parent != BUNDLED.resolve():
                check_signature(folder, keys)


def _check_names(folders: Sequence[ModelFolder[Any]]) -> None:
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.manifest.name
        if name in names:
            raise StartupError(f"two models are named {name!r}: {names[name]} and {folder.path}")
        names[name] = folder.path


def _load(folders: Sequence[ModelFolder[Any]], settings: Settings, stylize_pool: Executor) -> list[LoadedModel[Any]]:
    loaded: list[LoadedModel[Any]] = []
    for folder in folders:
        engine = ENGINES[type(folder.manifest)]
        same = [model.manifest.name for model in loaded if model.digest == folder.digest]
        if same and not engine.single:
            raise StartupError(f"{folder.path} is the same {engine.title} as {same[0]!r} under another name")
        # A card's driver reserves more than any limit.
        most = settings.max_model_memory if settings.device == "cpu" else 0
        try:
            with limited_memory(most):
                if engine.low_priority:
                    model = stylize_pool.submit(engine.load, folder, settings).result()
                else:
                    model = engine.load(folder, settings)
        except MemoryError as error:
            raise StartupError(f"{folder.path}: it takes more memory than --max-model-memory, {most} bytes") from error
        loaded.append(model)
        log.info("model loaded", name=folder.manifest.name, digest=model.digest[:12], provider=model.execution_provider)
    for engine in ENGINES.values():
        names = [model.manifest.name for model in loaded if isinstance(model, engine)]
        if engine.single and len(names) > 1:
            raise StartupError(f"more than one {engine.title} to load: {', '.join(names)}")
    return loaded


def picture_limits(settings: Settings) -> PictureLimits:
    return PictureLimits(settings.max_image_bytes, settings.max_image_pixels)
