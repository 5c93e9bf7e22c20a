"""f: the Siamese encoder, run by ONNX Runtime or OpenVINO."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import EncoderManifest
from oneglance_server.engines.openvino import OpenVinoSession
from oneglance_server.engines.session import Runtime, check_parity, open_session
from oneglance_server.errors import StartupError

Encodings = npt.NDArray[np.float32]


class Encoder:
    """A loaded and checked encoder. Thread-safe.

    Raises StartupError when the device can't run it, when the graph does not fit its manifest, or when it does not
    reproduce the manifest's parity vectors on this host.
    """

    def __init__(self, folder: ModelFolder[EncoderManifest], runtime: Runtime) -> None:
        self.manifest: EncoderManifest = folder.manifest
        self.digest: str = folder.digest
        self._folder = folder
        self._session = open_session(folder, runtime)
        self.execution_provider: str = self._session.get_providers()[0]
        self._check_contract()
        self._check_parity()

    @property
    def dimension(self) -> int:
        return self.manifest.output.dimension

    @property
    def takes_photos(self) -> bool:
        """Pictures are photos: a face is found and aligned first."""
        return self.manifest.alignment is not None

    def encode(self, inputs: npt.NDArray[Any]) -> Encodings:
        """``inputs``: dtype [N, *shape] as the manifest declares, N >= 1. Returns float32 [N, D]."""
        outputs: Encodings = self._session.run([self.manifest.output.name], {self.manifest.input.name: inputs})[0]
        return outputs

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run once per batch size, so that no caller pays for the first."""
        sample = self.manifest.parity.inputs.unpack()[:1]
        for size in batch_sizes:
            self.encode(np.repeat(sample, size, axis=0))

    def _check_contract(self) -> None:
        spec, where = self.manifest.input, self._folder.path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [node.name for node in inputs] != [spec.name]:
            raise StartupError(f"{where}: the graph takes {[n.name for n in inputs]}, the manifest says {spec.name!r}")
        if self.manifest.output.name not in [node.name for node in outputs]:
            raise StartupError(f"{where}: the graph has no output {self.manifest.output.name!r}")
        declared = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[spec.dtype]
        if inputs[0].type != declared:
            raise StartupError(f"{where}: the graph takes {inputs[0].type}, the manifest says {declared}")
        if list(inputs[0].shape[1:]) != list(spec.shape) or isinstance(inputs[0].shape[0], int):
            raise StartupError(
                f"{where}: the graph takes {inputs[0].shape}, the manifest says [N, {', '.join(map(str, spec.shape))}]"
            )

    def _check_parity(self) -> None:
        parity, where = self.manifest.parity, self._folder.path
        inputs, expected = parity.inputs.unpack(), parity.outputs.unpack()
        if inputs.ndim == 0 or inputs.shape[1:] != self.manifest.input.shape or not len(inputs):
            raise StartupError(f"{where}: parity inputs of shape {inputs.shape} don't fit the model")
        if expected.shape != (len(inputs), self.dimension):
            raise StartupError(
                f"{where}: parity outputs are {expected.shape}, expected {(len(inputs), self.dimension)}"
            )
        tolerance = parity.tolerance
        if isinstance(self._session, OpenVinoSession):
            tolerance = self._session.tolerance(tolerance, expected)
        check_parity(
            where,
            self.execution_provider,
            lambda: {self.manifest.output.name: self.encode(inputs)},
            {self.manifest.output.name: expected},
            tolerance,
        )
