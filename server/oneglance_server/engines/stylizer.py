"""g: the stylizer, one feed-forward network for all its styles, run by ONNX Runtime or OpenVINO."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import StylizerManifest
from oneglance_server.engines.openvino import OpenVinoSession
from oneglance_server.engines.session import Runtime, check_parity, is_want_of_memory, open_session
from oneglance_server.errors import StartupError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# bf16 keeps 8 bits of every number: it can't meet a float32 tolerance, and pictures of 256 levels need not.
BF16_PSNR_DB = 40.0
_FLOAT = "tensor(float)"
_INPUTS = {"image": "tensor(uint8)", "weights": _FLOAT, "moments": _FLOAT, "own": _FLOAT}
_OUTPUTS = {"stylized": _FLOAT, "used": _FLOAT}


class Stylizer:
    """A loaded and checked stylizer; see StylizerManifest for its graph. Thread-safe.

    Raises StartupError when the device can't run it, when the graph does not fit its manifest, or when it does not
    reproduce the manifest's parity vectors on this host: every number within the manifest's tolerance, but in bf16 the
    pictures to 40 dB PSNR and the moments to 2 % of the largest one.
    """

    def __init__(self, folder: ModelFolder[StylizerManifest], runtime: Runtime) -> None:
        self.manifest: StylizerManifest = folder.manifest
        self.digest: str = folder.digest
        self._where = folder.path
        # It keeps what the largest run has needed: a fourth of the time went into asking for it anew. No run is larger
        # than a tile, so that is bounded.
        self._session = open_session(folder, runtime)
        self.execution_provider: str = self._session.get_providers()[0]
        self._check_contract()
        self._check_parity()

    def run(
        self, image: Pixels, weights: Floats, moments: Floats | None = None, own: float = 0.0
    ) -> tuple[Floats, Floats]:
        """One picture, uint8 [H, W, 3], sides as the manifest demands, in the blend ``weights`` [S].

        ``moments`` [M, 2], with ``own`` as in the manifest; None for the picture's own. Returns the stylized picture,
        float32 [H, W, 3] in [0, 255], and the moments that were used, [M, 2]. Raises ArithmeticError when they aren't
        finite, MemoryError when there isn't enough now.
        """
        given = np.zeros((self.manifest.moments, 2), np.float32) if moments is None else moments
        outputs = self._run(
            {
                "image": image[np.newaxis],
                "weights": weights[np.newaxis],
                "moments": given[np.newaxis],
                "own": np.array([1.0 if moments is None else own], np.float32),
            }
        )
        stylized: Floats = outputs["stylized"][0]
        used: Floats = outputs["used"][0]
        if not (np.isfinite(used).all() and math.isfinite(float(stylized.max()) - float(stylized.min()))):
            raise ArithmeticError(f"{self.manifest.name}: the graph gave values that are not finite")
        return stylized, used

    def warm_up(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Run once per (height, width), where a first run costs more: OpenVINO compiles for every new one."""
        if not isinstance(self._session, OpenVinoSession):
            return
        weights = np.zeros(len(self.manifest.styles), np.float32)
        weights[0] = 1
        for height, width in shapes:
            self.run(np.full((height, width, 3), 128, np.uint8), weights)

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        try:
            return dict(zip(_OUTPUTS, self._session.run(list(_OUTPUTS), dict(inputs)), strict=True))
        except Exception as error:
            if is_want_of_memory(error):
                raise MemoryError(str(error)) from error
            raise

    def _check_contract(self) -> None:
        m, where = self.manifest, self._where
        # None: free. Exporters may leave an output's size open that they could have known.
        sizes: dict[str, list[int | None]] = {
            "image": [None, None, None, 3],
            "weights": [None, len(m.styles)],
            "moments": [None, m.moments, 2],
            "own": [None],
            "stylized": [None, None, None, 3],
            "used": [None, m.moments, 2],
        }
        for what, declared, nodes in (
            ("takes", _INPUTS, self._session.get_inputs()),
            ("returns", _OUTPUTS, self._session.get_outputs()),
        ):
            found = {node.name: node for node in nodes}
            # There may be more: OpenVINO tells several names of one output. An input too many fails with parity.
            if set(declared) - set(found):
                raise StartupError(f"{where}: the graph {what} {sorted(found)}, a stylizer {list(declared)}")
            for name, kind in declared.items():
                node, wanted = found[name], sizes[name]
                if node.type != kind or not _fits(node.shape, wanted, exactly=what == "takes"):
                    raise StartupError(
                        f"{where}: the graph {what} {name} as {node.type} {list(node.shape)}, "
                        f"the manifest says {kind} {['free' if size is None else size for size in wanted]}"
                    )

    def _check_parity(self) -> None:
        parity, where = self.manifest.parity, self._where
        inputs = {name: array.unpack() for name, array in parity.inputs.items()}
        expected = {name: array.unpack() for name, array in parity.outputs.items()}
        if set(inputs) != set(_INPUTS) or set(expected) != set(_OUTPUTS) or not inputs["image"].size:
            raise StartupError(f"{where}: the parity vectors don't fit a stylizer")
        session = self._session
        if not (isinstance(session, OpenVinoSession) and session.bf16):
            check_parity(where, self.execution_provider, lambda: self._run(inputs), expected, parity.tolerance)
            return
        check_parity(
            where,
            self.execution_provider,
            lambda: self._run(inputs),
            {"used": expected["used"]},
            session.tolerance(parity.tolerance, expected["used"]),
        )
        stylized, pictures = self._run(inputs)["stylized"], expected["stylized"]
        if stylized.shape != pictures.shape:
            raise StartupError(f"{where}: parity output stylized is {stylized.shape}, expected {pictures.shape}")
        for got, wanted in zip(stylized, pictures, strict=True):
            reached = psnr(got, wanted)
            if not reached >= BF16_PSNR_DB:
                raise StartupError(
                    f"{where}: the model does not reproduce its parity vectors on this host with "
                    f"{self.execution_provider}: PSNR {reached:.1f} dB, needed {BF16_PSNR_DB:g}"
                )


def _fits(got: Sequence[int | str | None], wanted: Sequence[int | None], *, exactly: bool) -> bool:
    """``got``: sizes as a graph states them, anything but a number is free; unless ``exactly``, free fits all."""
    stated = [size if isinstance(size, int) else None for size in got]
    return len(stated) == len(wanted) and all(
        g == w or (g is None and not exactly) for g, w in zip(stated, wanted, strict=True)
    )


def psnr(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Peak signal to noise ratio of two pictures of 0 to 255, dB; infinite when they are equal."""
    error = float(np.mean(np.square(got.astype(np.float64) - wanted.astype(np.float64))))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
