"""The two checks of a model before it is trusted: its graph is as declared, and it reproduces its parity vectors.

The exporter makes them before it writes a model folder, the server when it loads one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import ModelManifest, TensorSpec, Vectors
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

    The vectors must be there for every declared input and output, fit it, and not be empty.
    coarse: as in ``check_answers``.
    """
    vectors = manifest.vectors()
    for what, arrays, specs in (
        ("inputs", vectors.inputs, manifest.graph_inputs),
        ("outputs", vectors.outputs, manifest.graph_outputs),
    ):
        declared = {spec.name: spec for spec in specs}
        if set(arrays) != set(declared):
            raise GraphError(f"the parity vectors' {what} are {sorted(arrays)}, the manifest says {sorted(declared)}")
        for name, array in arrays.items():
            if not array.size or not declared[name].fits(array):
                raise GraphError(
                    f"the parity vectors hold {name} as {array.dtype} {list(array.shape)}, which doesn't fit "
                    f"{declared[name]}"
                )
    check_answers(session, vectors, coarse)


def check_answers(session: Session, vectors: Vectors, coarse: Mapping[str, Compare] | None = None) -> None:
    """Raise GraphError unless the session returns ``vectors.outputs`` for ``vectors.inputs``.

    Integers must be equal, floats lie within ``allowed``. coarse: the outputs that are compared in another way when
    ``session.rounding`` isn't 0.
    """
    names = list(vectors.outputs)
    try:
        answers = session.run(names, vectors.inputs)
    except Exception as error:  # the engines' own classes have no common base but this
        raise GraphError(f"the model does not run on this host: {error}") from error
    for name, got in zip(names, answers, strict=True):
        wanted = vectors.outputs[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise GraphError(
                f"parity output {name} is {got.dtype} {list(got.shape)}, expected {wanted.dtype} {list(wanted.shape)}"
            )
        compare = coarse.get(name) if coarse and session.rounding else None
        wrong = compare(got, wanted) if compare else _apart(got, wanted, vectors.tolerance, session.rounding)
        if wrong:
            raise GraphError(
                f"the model does not reproduce its parity vectors on this host with {session.provider}: {name}: {wrong}"
            )


def allowed(tolerance: float, rounding: float, wanted: npt.NDArray[Any]) -> float:
    """The greatest absolute difference from the float output ``wanted``; ``rounding`` as in Session."""
    return max(tolerance, rounding * float(np.abs(wanted).max(initial=0.0)))


def _apart(got: npt.NDArray[Any], wanted: npt.NDArray[Any], tolerance: float, rounding: float) -> str | None:
    difference = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0))
    most = allowed(tolerance, rounding, wanted) if wanted.dtype.kind == "f" else 0.0
    if difference <= most:  # not when it is NaN
        return None
    return f"max |difference| {difference:.3g}, allowed {most:.3g}"


def _check_names(
    does: str, found: Mapping[str, TensorSpec], declared: tuple[TensorSpec, ...], *, more_allowed: bool = False
) -> None:
    names = {spec.name for spec in declared}
    if not names <= set(found) or (not more_allowed and names != set(found)):
        raise GraphError(f"the graph {does} {sorted(found)}, the manifest says {sorted(names)}")


def _may_be(found: TensorSpec, declared: TensorSpec) -> bool:
    """Whether ``found`` states no other shape than ``declared``."""
    return len(found.shape) == len(declared.shape) and all(
        stated in (None, size) for stated, size in zip(found.shape, declared.shape, strict=True)
    )
