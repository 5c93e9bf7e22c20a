"""A model of any kind that the server has loaded, and what all kinds have in common."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import ModelManifest
from oneglance_core.sessions.checks import Compare, check_graph, check_parity
from oneglance_core.sessions.session import GraphError, Session
from oneglance_index import DeviceLost
from oneglance_server.engines.session import Runtime, open_session, run_session
from oneglance_server.errors import StartupError
from oneglance_server.settings import Settings

M = TypeVar("M", bound=ModelManifest)


class LoadedModel(Generic[M]):
    """A loaded and checked model; a kind is a subclass that says what can be asked of it. Thread-safe.

    title: for people. single: a server holds one at most. low_priority: it runs on threads of low priority only.
    keep_memory: as in ``open_session``. coarse: outputs that are compared in another way when the engine computes in
    less than float32, as in ``check_answers``.

    Raises StartupError when the device or the engine can't run it, when the graph isn't what its manifest declares, or
    when it does not reproduce the manifest's parity vectors on this host. ModelFolderError for damaged vectors.
    """

    title: ClassVar[str]
    single: ClassVar[bool] = False
    low_priority: ClassVar[bool] = False
    keep_memory: ClassVar[bool] = True
    coarse: ClassVar[Mapping[str, Compare]] = {}

    def __init__(self, folder: ModelFolder[M], runtime: Runtime) -> None:
        self.manifest: M = folder.manifest
        self.digest: str = folder.digest
        self._session = open_session(folder, runtime, keep_memory=self.keep_memory)
        # Goes on when the device fails for good.
        self._spare: Session | None = None
        if runtime.device != "cpu" and runtime.gpu_lost == "cpu":
            self._spare = open_session(folder, replace(runtime, device="cpu"), keep_memory=self.keep_memory)
        try:
            check_graph(self._session, self.manifest)
            check_parity(self._session, self.manifest, self.coarse)
        except GraphError as error:
            raise StartupError(f"{folder.path}: {error}") from error

    @property
    def execution_provider(self) -> str:
        """What really runs the model now."""
        return self._session.provider

    @property
    def trouble(self) -> str | None:
        """Why the model can't be run until the next start; None where it can."""
        return self._session.trouble

    @classmethod
    def load(cls, folder: ModelFolder[M], settings: Settings) -> Self:
        """As the settings say, checked and warmed up. Raises as the constructor does."""
        runtime = Runtime(
            settings.device, settings.encoder_threads, settings.gpu_memory_bytes, gpu_lost=settings.gpu_lost
        )
        return cls(folder, runtime)

    def _run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """As Session.run. Raises MemoryError when there isn't enough now, DeviceLost."""
        try:
            return run_session(self._session, outputs, inputs)
        except DeviceLost:
            if self._spare is None:
                raise
            self._session = self._spare
            return run_session(self._session, outputs, inputs)

    def _prepare_batches(self, sizes: Iterable[int]) -> None:
        """As ``_prepare``, of the parity vectors, as batches of these sizes."""
        vectors = self.manifest.vectors()
        for size in sizes:
            inputs = {name: array[np.arange(size) % len(array)] for name, array in vectors.inputs.items()}
            self._prepare(list(vectors.outputs), inputs)

    def _prepare(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """As Session.prepare, but raises StartupError."""
        try:
            self._session.prepare(outputs, inputs)
        except (GraphError, DeviceLost) as error:
            raise StartupError(f"{self.manifest.name}: {error}") from error
