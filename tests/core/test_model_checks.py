"""Every kind of model goes through one check of its graph and one of its parity vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_core.folder import MODEL_FILE, read_any_model_folder
from oneglance_core.manifests import KINDS, ModelManifest, TensorSpec, Vectors
from oneglance_core.sessions.checks import apart, check_graph, check_parity
from oneglance_core.sessions.onnx_runtime import OnnxSession, session_options
from oneglance_core.sessions.session import GraphError
from tests.face_models import face_models
from tests.fifth_kind import CounterManifest, counter_model
from tests.models import pixels_model, signal_model
from tests.style_models import any_style_models, style_model

Arrays = dict[str, npt.NDArray[Any]]
MODELS = ("pixels", "signal", "faces", "detector", "landmarks", "uprightness", "tints", "reader", "counter")


@dataclass(frozen=True)
class Model:
    manifest: ModelManifest
    session: OnnxSession

    @property
    def stated(self) -> "Stated":
        """A session that states what this one states, and answers the parity vectors as expected."""
        return Stated(list(self.session.inputs), list(self.session.outputs), dict(self.manifest.vectors().outputs))


@dataclass
class Stated:
    """A Session that states and answers what it is told to."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    answers: Arrays
    rounding: float = 0.0
    provider: str = "told"
    compiles_per_shape: bool = False
    batch_sizes: tuple[int, ...] = ()
    trouble: str | None = None

    def prepare(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        pass

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        return [self.answers[name] for name in outputs]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    root = tmp_path_factory.mktemp("models")
    faces = face_models(root, check=True)
    folders = {
        "pixels": pixels_model(root / "pixels"),
        "signal": signal_model(root / "signal"),
        "faces": faces / "encoder",
        "detector": faces / "detector",
        "landmarks": faces / "landmarks",
        "uprightness": faces / "uprightness",
        "tints": style_model(root / "tints"),
        "reader": any_style_models(root / "any-style") / "reader",
        "counter": counter_model(root / "counter"),
    }
    return {name: Model(_manifest(path), _session(path)) for name, path in folders.items()}


def _manifest(path: Path) -> ModelManifest:
    if path.name == "counter":
        return CounterManifest.model_validate_json((path / "manifest.json").read_bytes())
    manifest: ModelManifest = read_any_model_folder(path).manifest
    return manifest


def _session(path: Path) -> OnnxSession:
    return OnnxSession((path / MODEL_FILE).read_bytes(), session_options(threads=1))


@pytest.fixture(params=MODELS)
def model(models: dict[str, Model], request: pytest.FixtureRequest) -> Model:
    found: Model = models[request.param]
    return found


def test_every_kind_is_among_them(models: dict[str, Model]) -> None:
    assert {type(model.manifest) for model in models.values()} == {*KINDS, CounterManifest}


def test_a_sound_model_passes(model: Model) -> None:
    check_graph(model.session, model.manifest)
    check_parity(model.session, model.manifest)
    check_graph(model.stated, model.manifest)
    check_parity(model.stated, model.manifest)


Change = Callable[[TensorSpec], TensorSpec | None]


def _of_another_dtype(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype="float64")


def _of_another_rank(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(*spec.shape, None))


def _renamed(spec: TensorSpec) -> TensorSpec:
    return replace(spec, name="other")


def _missing(spec: TensorSpec) -> None:
    return None


def _sizes(spec: TensorSpec, change: Callable[[int | None], int | None]) -> list[TensorSpec]:
    """Once per axis: ``spec`` with that size changed; without those that stay the same."""
    sizes = [(*spec.shape[:i], change(size), *spec.shape[i + 1 :]) for i, size in enumerate(spec.shape)]
    return [replace(spec, shape=shape) for shape in sizes if shape != spec.shape]


@pytest.mark.parametrize("change", [_missing, _renamed, _of_another_dtype, _of_another_rank])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_graph_that_is_not_as_declared_is_refused(model: Model, side: str, change: Change) -> None:
    declared: tuple[TensorSpec, ...] = getattr(model.manifest, f"graph_{side}")
    for spec in declared:
        session = model.stated
        specs = [change(found) if found.name == spec.name else found for found in getattr(session, side)]
        setattr(session, side, [found for found in specs if found is not None])
        with pytest.raises(GraphError, match=r"the graph (takes|returns) .*, the manifest says"):
            check_graph(session, model.manifest)


def test_an_input_is_free_where_it_is_declared_free_and_nowhere_else(model: Model) -> None:
    for spec in model.manifest.graph_inputs:
        for wrong in (
            *_sizes(spec, lambda size: 64 if size is None else size),
            *_sizes(spec, lambda size: None),
            *_sizes(spec, lambda size: size and size + 1),
            replace(spec, shape=()),
        ):
            session = model.stated
            session.inputs = [wrong if found.name == spec.name else found for found in session.inputs]
            with pytest.raises(GraphError, match=f"the graph takes {spec.name} as .*, the manifest says"):
                check_graph(session, model.manifest)


def test_an_output_may_leave_open_what_is_declared_but_not_state_something_else(model: Model) -> None:
    for spec in model.manifest.graph_outputs:
        session = model.stated
        before = session.outputs
        for wrong in (*_sizes(spec, lambda size: 64 if size is None else size + 1), *_sizes(spec, lambda _: 1)):
            session.outputs = [wrong if found.name == spec.name else found for found in before]
            with pytest.raises(GraphError, match=f"the graph returns {spec.name} as .*, the manifest says"):
                check_graph(session, model.manifest)
        for open_ in (*_sizes(spec, lambda size: None), replace(spec, shape=())):
            session.outputs = [open_ if found.name == spec.name else found for found in before]
            check_graph(session, model.manifest)


def test_an_input_too_many_is_refused(model: Model) -> None:
    session = model.stated
    session.inputs.append(TensorSpec("more", "float32", (None,)))
    with pytest.raises(GraphError, match=r"the graph takes \[.*'more'.*\], the manifest says"):
        check_graph(session, model.manifest)


def test_an_output_too_many_is_refused_unless_the_kind_allows_it(model: Model) -> None:
    session = model.stated
    session.outputs.append(TensorSpec("more", "float32", (None,)))
    if model.manifest.kind in ("encoder", "stylizer"):
        check_graph(session, model.manifest)
        return
    with pytest.raises(GraphError, match=r"the graph returns \[.*'more'.*\], the manifest says"):
        check_graph(session, model.manifest)


def test_an_answer_that_is_off_is_refused(model: Model) -> None:
    """By a little more than the tolerance; an integer by one. In any one number of any output."""
    tolerance = model.manifest.vectors().tolerance
    for name, wanted in model.manifest.vectors().outputs.items():
        exact = wanted.dtype.kind != "f"
        for place in (0, wanted.size // 2, wanted.size - 1):
            off = wanted.copy()
            off.flat[place] += 1 if exact else 1.5 * tolerance
            session = model.stated
            session.answers[name] = off
            with pytest.raises(GraphError, match=f"does not reproduce its parity vectors .* with told: {name}: max"):
                check_parity(session, model.manifest)
            if not exact:
                off.flat[place] = wanted.flat[place] + 0.5 * tolerance
                check_parity(session, model.manifest)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_refused(model: Model, number: float) -> None:
    for name, wanted in model.manifest.vectors().outputs.items():
        if wanted.dtype.kind == "f":
            session = model.stated
            session.answers[name] = wanted.copy()
            session.answers[name].flat[-1] = number
            with pytest.raises(GraphError, match=f"{name}: max .difference. (nan|inf)"):
                check_parity(session, model.manifest)


def test_an_answer_of_another_shape_or_dtype_is_refused(model: Model) -> None:
    for name, wanted in model.manifest.vectors().outputs.items():
        for wrong in (wanted[:-1], wanted[np.newaxis], wanted.ravel()[:1], wanted.astype(np.float64)):
            session = model.stated
            session.answers[name] = wrong
            with pytest.raises(GraphError, match=f"{name}: .*expected {wanted.dtype}"):
                check_parity(session, model.manifest)


def test_a_run_that_fails_is_refused(model: Model) -> None:
    session = model.stated
    session.answers.clear()
    with pytest.raises(GraphError, match="does not run on this host"):
        check_parity(session, model.manifest)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_parity_vectors_must_be_there_for_everything_and_fit(
    model: Model, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = model.manifest.vectors()
    arrays: Mapping[str, npt.NDArray[Any]] = getattr(vectors, side)

    def refused(wrong: Arrays, words: str) -> None:
        sides = {"inputs": vectors.inputs, "outputs": vectors.outputs, side: wrong}
        held = Vectors(sides["inputs"], sides["outputs"], vectors.tolerance)
        monkeypatch.setattr(type(model.manifest), "vectors", lambda _: held)
        with pytest.raises(GraphError, match=words):
            check_parity(model.stated, model.manifest)
        monkeypatch.undo()

    refused({**arrays, "more": np.zeros(1)}, f"the parity vectors' {side} are .*'more'")
    for name, array in arrays.items():
        refused({key: value for key, value in arrays.items() if key != name}, f"the parity vectors' {side} are")
        for wrong in (array[:0], array[np.newaxis], array.astype(np.int32)):
            refused({**arrays, name: wrong}, f"the parity vectors hold {name} as .*, which doesn't fit")


def test_an_engine_that_rounds_may_be_off_by_its_share_of_the_largest_number(model: Model) -> None:
    for name, wanted in model.manifest.vectors().outputs.items():
        if wanted.dtype.kind != "f":
            continue
        largest = np.abs(wanted).max()
        for share, fine in ((0.015, True), (0.025, False)):
            session = model.stated
            session.rounding = 0.02
            session.answers[name] = (wanted + share * largest).astype(np.float32)
            if fine:
                check_parity(session, model.manifest)
                continue
            with pytest.raises(GraphError, match=f"{name}: max .difference."):
                check_parity(session, model.manifest)


def test_a_coarse_comparison_takes_the_place_of_the_tolerance_when_the_engine_rounds(model: Model) -> None:
    session = model.stated
    name, wanted = next(iter(session.answers.items()))
    coarse = {name: lambda got, wanted: "unlike"}
    check_parity(session, model.manifest, coarse)
    session.rounding = 0.02
    with pytest.raises(GraphError, match=f"{name}: unlike"):
        check_parity(session, model.manifest, coarse)
    session.answers[name] = wanted[:-1]
    with pytest.raises(GraphError, match=f"{name}: .*expected"):
        check_parity(session, model.manifest, {name: lambda got, wanted: None})


def test_integers_are_never_approximate() -> None:
    one = np.array([1], np.int64)
    assert apart(one, one, 10) is None
    assert apart(one + 1, one, 10) == "max |difference| 1, allowed 0"


def test_onnx_runtime_says_what_it_cannot_load() -> None:
    with pytest.raises(GraphError, match="ONNX Runtime can't load the graph"):
        OnnxSession(b"nothing", session_options(threads=1))
