"""From model folders to loaded, checked and warmed-up models."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from oneglance_core.folder import ModelFolder, model_folders, read_any_model_folder
from oneglance_core.manifests import DetectorManifest, EncoderManifest, ModelFolderError, StylizerManifest
from oneglance_core.pictures import PictureLimits
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector, Landmarks
from oneglance_server.engines.painting import Painter
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.engines.tiles import Grid
from oneglance_server.errors import StartupError
from oneglance_server.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True)
class Models:
    """Everything that was loaded, checked and warmed up."""

    encoders: list[Encoder]
    detector: Detector | None
    landmarks: Landmarks | None
    painters: list[Painter]

    @property
    def face_models(self) -> tuple[Detector | Landmarks, ...]:
        return tuple(model for model in (self.detector, self.landmarks) if model is not None)

    @property
    def names(self) -> list[str]:
        stylizers = (painter.stylizer for painter in self.painters)
        return [model.manifest.name for model in (*self.encoders, *self.face_models, *stylizers)]


def load_models(settings: Settings, stylize_pool: Executor) -> Models:
    """Every model of the settings, checked and warmed up. Raises StartupError.

    Stylizers are loaded on ``stylize_pool``: what threads they have of their own inherit the priority of its threads.
    """
    try:
        folders = [read_any_model_folder(folder) for path in settings.models for folder in model_folders(path)]
        return _load(folders, settings, stylize_pool)
    except ModelFolderError as error:
        raise StartupError(str(error)) from error


def _load(folders: Sequence[ModelFolder[Any]], settings: Settings, stylize_pool: Executor) -> Models:
    runtime = Runtime(settings.device, settings.encoder_threads, settings.gpu_memory_bytes)
    encoders: list[Encoder] = []
    detectors: list[Detector] = []
    landmarks: list[Landmarks] = []
    painters: list[Painter] = []
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.manifest.name
        if name in names:
            raise StartupError(f"two models are named {name!r}: {names[name]} and {folder.path}")
        names[name] = folder.path
        model: Encoder | Detector | Landmarks | Stylizer
        if isinstance(folder.manifest, EncoderManifest):
            same = [encoder.manifest.name for encoder in encoders if encoder.digest == folder.digest]
            if same:
                raise StartupError(f"{folder.path} is the same encoder as {same[0]!r}, with a tau of its own")
            engine = replace(runtime, engine=settings.encoder_engine, runs_at_once=settings.encoder_workers)
            model = Encoder(folder, engine)
            model.warm_up((1, settings.max_batch))
            encoders.append(model)
        elif isinstance(folder.manifest, DetectorManifest):
            model = Detector(folder, runtime)
            detectors.append(model)
        elif isinstance(folder.manifest, StylizerManifest):
            same = [p.stylizer.manifest.name for p in painters if p.stylizer.digest == folder.digest]
            if same:
                raise StartupError(f"{folder.path} is the same stylizer as {same[0]!r}")
            painter = stylize_pool.submit(_painter, folder, settings).result()
            model = painter.stylizer
            painters.append(painter)
        else:
            model = Landmarks(folder, runtime)
            landmarks.append(model)
        log.info("model loaded", name=name, digest=model.digest[:12], provider=model.execution_provider)
    for kind, found in (("face detector", detectors), ("landmark finder", landmarks)):
        if len(found) > 1:
            raise StartupError(f"more than one {kind} to load: {', '.join(m.manifest.name for m in found)}")
    if any(encoder.takes_photos for encoder in encoders) and not (detectors and landmarks):
        log.warning("an encoder of faces, but no detector with landmarks: photos can't be searched, only aligned faces")
    return Models(encoders, detectors[0] if detectors else None, landmarks[0] if landmarks else None, painters)


def _painter(folder: ModelFolder[StylizerManifest], settings: Settings) -> Painter:
    runtime = Runtime(
        settings.device,
        settings.stylize_threads,
        settings.gpu_memory_bytes,
        settings.stylizer_engine,
        settings.stylize_workers,
        "--stylizer-engine",
    )
    grid = Grid(folder.manifest, bucket=settings.stylize_bucket, tile=settings.stylize_tile)
    stylizer = Stylizer(folder, runtime)
    stylizer.warm_up([(grid.least, grid.least), (grid.tile, grid.tile)])
    return Painter(stylizer, grid, picture_limits(settings))


def picture_limits(settings: Settings) -> PictureLimits:
    return PictureLimits(settings.max_image_bytes, settings.max_image_pixels)
