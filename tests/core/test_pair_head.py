"""The pair head: its formula in numpy, and what a manifest may hold of one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oneglance_core.manifests import Array, Calibration, EncoderManifest, ModelFolderError, PairHeadPart, Parity
from oneglance_core.manifests.pair_head import TOLERANCE
from oneglance_core.pair_head import FORMS, Form, PairHead, probabilities_of, scores_of
from tests.models import calibration, manifest_of

WEIGHTS = np.array([-2.0, -1.0, 0.5])
number = st.floats(0, 4, width=32)
vector = st.lists(number, min_size=3, max_size=3)


def by_hand(form: Form, first: list[float], second: list[float], bias: float) -> float:
    total = bias
    for weight, a, b in zip(WEIGHTS.tolist(), first, second, strict=True):
        if form == "difference":
            total += weight * abs(a - b)
        elif a + b > 0:
            total += weight * (a - b) ** 2 / (a + b)
    return total


@given(vector, vector, st.floats(-3, 3))
@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_formula(form: Form, first: list[float], second: list[float], bias: float) -> None:
    expected = by_hand(form, first, second, bias)
    found = PairHead(form, WEIGHTS, bias).logits(np.array(first, np.float32), np.array(second, np.float32))
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    y = 1 / (1 + math.exp(-expected))
    assert float(probabilities_of(found)) == pytest.approx(y, abs=1e-6)
    assert float(scores_of(found)) == pytest.approx(1 - y, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_against_nothing_is_nothing_and_no_answer_is_nan(form: Form) -> None:
    head = PairHead(form, WEIGHTS, 0.25)
    assert head.logits(np.zeros(3, np.float32), np.zeros(3, np.float32)) == np.float32(0.25)
    huge = np.full((2, 3), 3e17, np.float32)
    hostile = np.concatenate([huge, -huge, np.full((1, 3), 1e-38, np.float32), np.zeros((1, 3), np.float32)])
    logits = PairHead(form, WEIGHTS * 1e30, -1e30).logits(hostile[:, None], hostile[None])
    assert np.isfinite(logits).all()
    for found in (probabilities_of(logits), scores_of(logits)):
        assert ((found >= 0) & (found <= 1)).all()


def test_by_chi_square_values_below_0_count_as_0() -> None:
    head = PairHead("chi-square", WEIGHTS, 0.0)
    probe = np.array([0.5, 0.25, 0.0], np.float32)
    below = np.array([-0.3, 0.25, -1e-9], np.float32)
    assert head.logits(below, probe) == head.logits(np.maximum(below, 0), probe)


def test_scores_keep_their_digits_where_y_is_nearly_1() -> None:
    assert scores_of(40.0) == pytest.approx(math.exp(-40), rel=1e-12)
    assert probabilities_of(-700.0) == pytest.approx(math.exp(-700), rel=1e-12)
    assert probabilities_of(1e30) == 1.0
    assert scores_of(1e30) == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_all_pairs_at_once_are_those_one_by_one(form: Form) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((300, 3)).astype(np.float32), rng.random((70, 3)).astype(np.float32)
    head = PairHead(form, WEIGHTS, 0.1)
    found = head.pairwise_scores(a, b)
    for i, j in ((0, 0), (299, 69), (150, 3)):
        assert found[i, j] == float(scores_of(head.logits(a[i], b[j])))


def part(form: Form = "difference", **changes: Any) -> PairHeadPart:
    given: dict[str, Any] = {
        "form": form,
        "weights": Array.pack(WEIGHTS),
        "bias": 0.1,
        "probabilities": tuple(probabilities_of(PairHead(form, WEIGHTS, 0.1).logits(OUTPUTS[:1], OUTPUTS)).tolist()),
    }
    return PairHeadPart(**{**given, **changes})


OUTPUTS = np.array([[1, 0, 0], [0, 0.6, 0.8]], np.float32)
INPUTS = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8, 1)


def manifest(head: PairHeadPart | None, outputs: Any = OUTPUTS) -> EncoderManifest:
    return manifest_of(INPUTS, outputs, pair_head=head)


@pytest.mark.parametrize("form", FORMS)
def test_a_manifest_tells_its_head(form: Form) -> None:
    read = EncoderManifest.model_validate_json(manifest(part(form)).model_dump_json())
    assert read.vectors().tolerance
    assert read.pair_head is not None
    head = read.pair_head.head()
    assert (head.form, head.bias, head.weights.tolist()) == (form, 0.1, WEIGHTS.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": Array.pack(WEIGHTS[:2])}, "pair_head.weights: must be"),
        ({"weights": Array.pack(WEIGHTS[None])}, "one axis"),
        ({"weights": Array.pack(np.array([1, 2, 3]))}, "float32"),
        ({"weights": Array.pack(np.array([1, np.nan, 3]))}, "must be finite"),
        ({"weights": Array.pack(WEIGHTS).model_copy(update={"zlib_base64": "AAAA"})}, "can't be unpacked"),
        ({"bias": float("inf")}, "finite"),
        ({"form": "cosine"}, "difference"),
        ({"probabilities": ()}, "at least 1"),
        ({"threshold": calibration(0.5)}, "must be for probabilities"),
    ],
)
def test_a_head_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        manifest(part(**changes))


def test_a_head_is_checked_with_the_parity_vectors() -> None:
    off = tuple(y + 3 * TOLERANCE for y in part().probabilities)
    for probabilities in (off, part().probabilities[:1], (*part().probabilities, 0.5), (math.nan, math.nan)):
        told = part().model_copy(update={"probabilities": probabilities})
        with pytest.raises(ModelFolderError, match="other probabilities"):
            manifest(told).vectors()
    with pytest.raises(ModelFolderError, match=r"never negative; .* down to -0\.6"):
        manifest(part("chi-square"), OUTPUTS * np.array([1, -1, 1], np.float32)).vectors()


def test_the_digest_covers_the_head_and_not_what_was_measured_of_it() -> None:
    digests = {
        manifest(one).digest
        for one in (None, part(), part("chi-square"), part(bias=0.2), part(weights=Array.pack(2 * WEIGHTS)))
    }
    assert len(digests) == 5
    threshold = calibration(0.5).model_copy(update={"decided_by": "probability"})
    assert manifest(part(threshold=threshold)).digest == manifest(part()).digest


def test_a_threshold_for_probabilities_lies_in_0_to_1_and_has_an_id_of_its_own() -> None:
    of_distance = calibration(0.5)
    given = {**of_distance.model_dump(), "decided_by": "probability"}
    assert Calibration(**given).id != of_distance.id
    assert of_distance.id == "1873d15cff30"  # as before there was a choice
    for tau in (-0.1, 1.1):
        with pytest.raises(ValidationError, match="threshold on"):
            Calibration(**{**given, "tau": tau})


def test_parity_alone_has_no_head() -> None:
    assert isinstance(manifest(None).parity, Parity)
    assert manifest(None).pair_head is None
