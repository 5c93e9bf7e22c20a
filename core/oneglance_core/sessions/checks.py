"""The two checks of a model before it is trusted: its graph is as declared, and it reproduces its parity vectors.

The exporter makes them before it writes a model folder, the server when it loads one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import Arrays, ModelManifest, TensorSpec
from oneglance_core.sessions.session import GraphError, Session

# (got, wanted), of one shape and dtype -> what is wrong, or None.
Compare = Callable[[npt.NDArray[Any], npt.NDArray[Any]], str | None]


def check_graph(session: Session, manifest: ModelManifest) -> None:
    """Raise GraphError unless the graph takes and returns what the manifest declares.

    Inputs: the same names, dtypes and shapes; a size is free on both sides or on neither. Outputs: the same, but the
    graph may leave a size or the rank open (exporters don't always know them; parity then tells), and return more if
    ``manifest.other_outputs``.
    """
    inputs = {spec.name: spec for spec in session.inputs}
    outputs = {spec.name: spec for spec in session.outputs}
    _check_names("takes", inputs, manifest.graph_inputs)
    _check_names("returns", outputs, manifest.graph_outputs, more_allowed=manifest.other_outputs)
    for declared in manifest.graph_inputs:
        found = inputs[declared.name]
        if found != declared:
            raise GraphError(f"the graph takes {declared.name} as {found}, the manifest says {declared}")
    for declared in manifest.graph_outputs:
        found = outputs[declared.name]
        if found.dtype != declared.dtype or (found.shape and not _may_be(found, declared)):
            raise GraphError(f"the graph returns {declared.name} as {found}, the manifest says {declared}")


def check_parity(session: Session, manifest: ModelManifest, coarse: Mapping[str, Compare] | None = None) -> None:
    """Raise GraphError unless the session reproduces the manifest's parity vectors, ModelFolderError for damaged ones.

    The vectors must be there for every declared input and output, fit it, and not be empty. Outputs are compared by
    ``apart``. coarse: those that are compared in another way when ``session.rounding`` isn't 0.
    """
    vectors = manifest.vectors()
    _check_fit("inputs", vectors.inputs, manifest.graph_inputs)
    _check_fit("outputs", vectors.outputs, manifest.graph_outputs)
    names = list(vectors.outputs)
    try:
        answers = session.run(names, vectors.inputs)
    except Exception as error:  # the engines' own classes have no common base but this
        raise GraphError(f"the model does not run on this host: {error}") from error
    for name, got in zip(names, answers, strict=True):
        wanted = vectors.outputs[name]
        tolerance = allowed(vectors.tolerance, session.rounding, wanted)
        compare = coarse.get(name) if coarse and session.rounding else None
        wrong = _unlike(got, wanted) or (compare(got, wanted) if compare else _off(got, wanted, tolerance))
        if wrong:
            raise GraphError(
                f"the model does not reproduce its parity vectors on this host with {session.provider}: {name}: {wrong}"
            )


def apart(got: npt.NDArray[Any], wanted: npt.NDArray[Any], tolerance: float) -> str | None:
    """How two outputs differ, in words; None when they don't.

    They must have one dtype and shape; integers must be equal, floats at most ``tolerance`` (absolute) apart, none NaN.
    """
    return _unlike(got, wanted) or _off(got, wanted, tolerance)


def _unlike(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> str | None:
    if got.dtype == wanted.dtype and got.shape == wanted.shape:
        return None
    return f"{got.dtype} {list(got.shape)}, expected {wanted.dtype} {list(wanted.shape)}"


def _off(got: npt.NDArray[Any], wanted: npt.NDArray[Any], tolerance: float) -> str | None:
    most = tolerance if wanted.dtype.kind == "f" else 0.0
    difference = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0))
    if difference <= most:  # not when it is NaN
        return None
    return f"max |difference| {difference:.3g}, allowed {most:.3g}"


def allowed(tolerance: float, rounding: float, wanted: npt.NDArray[Any]) -> float:
    """The tolerance for the output ``wanted`` of an engine with this ``rounding`` (see Session)."""
    return max(tolerance, rounding * float(np.abs(wanted).max(initial=0.0)))


def _check_fit(what: str, vectors: Arrays, declared: Sequence[TensorSpec]) -> None:
    specs = {spec.name: spec for spec in declared}
    if set(vectors) != set(specs):
        raise GraphError(f"the parity vectors' {what} are {sorted(vectors)}, the manifest says {sorted(specs)}")
    for name, array in vectors.items():
        if not array.size or not specs[name].fits(array):
            held = f"{array.dtype} {list(array.shape)}"
            raise GraphError(f"the parity vectors hold {name} as {held}, which doesn't fit {specs[name]}")


def _check_names(
    does: str, found: Mapping[str, TensorSpec], declared: Sequence[TensorSpec], *, more_allowed: bool = False
) -> None:
    names = {spec.name for spec in declared}
    if not names <= set(found) or (not more_allowed and names != set(found)):
        raise GraphError(f"the graph {does} {sorted(found)}, the manifest says {sorted(names)}")


def _may_be(found: TensorSpec, declared: TensorSpec) -> bool:
    """Whether ``found`` states no other shape than ``declared``."""
    return len(found.shape) == len(declared.shape) and all(
        stated in (None, size) for stated, size in zip(found.shape, declared.shape, strict=True)
    )
