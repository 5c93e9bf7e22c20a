"""Trial lists are what they say, an evaluation is made of the core's measures, tau meets known error rates."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_core.calibration import INTERVAL
from oneglance_core.measures import equal_error_rate, largest_tau_for_rate
from oneglance_core.trials import one_shot_error, pair_distances, search
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.calibrate import calibrate, fit_splits
from oneglance_exporter.encoder.evaluate import evaluate
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings
from oneglance_exporter.encoder.trials import one_shot_trials, open_set
from oneglance_exporter.errors import DataError, SettingsError


def world(groups: Sequence[int], drawings: int) -> Examples:
    """Blank pictures of ``groups[g]`` subjects in group g, ``drawings`` of each."""
    subjects = [f"g{g}/s{s}" for g, count in enumerate(groups) for s in range(count)]
    return Examples(
        inputs=np.zeros((len(subjects) * drawings, 1, 1, 1), np.uint8),
        subject_of=np.repeat(np.arange(len(subjects)), drawings),
        subjects=tuple(subjects),
        group_of=np.repeat(np.arange(len(groups)), groups),
        groups=tuple(f"g{g}" for g in range(len(groups))),
    )


def noisy_encodings(pictures: Examples, noise: float, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(pictures.subjects), 8))
    f = centers[pictures.subject_of] + noise * rng.normal(size=(len(pictures.inputs), 8))
    unit: npt.NDArray[np.float32] = (f / np.linalg.norm(f, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_one_shot_trials_keep_the_rules() -> None:
    pictures = world([5, 2, 6], 4)
    trials = one_shot_trials(pictures, 500, ways=5, seed=3)
    drawer = np.arange(len(pictures.inputs)) % 4
    for probe, support, answer in zip(trials.probe, trials.support, trials.answer, strict=True):
        subjects = pictures.subject_of[support]
        assert len(set(subjects.tolist())) == 5
        assert len(set(pictures.group_of[subjects].tolist())) == 1
        assert subjects[answer] == pictures.subject_of[probe]
        assert len(set(drawer[support].tolist())) == 1
        assert drawer[probe] != drawer[support[0]]
    groups = pictures.group_of[pictures.subject_of[trials.probe]]
    assert set(groups.tolist()) == {0, 2}  # group 1 has too few subjects
    again = one_shot_trials(pictures, 500, ways=5, seed=3)
    np.testing.assert_array_equal(trials.support, again.support)
    np.testing.assert_array_equal(trials.probe, again.probe)


def test_trials_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(DataError, match="the largest has 3"):
        one_shot_trials(world([3, 2], 2), 10, ways=4)
    with pytest.raises(DataError, match="two pictures"):
        one_shot_trials(world([3], 1), 10, ways=2)
    with pytest.raises(SettingsError):
        one_shot_trials(world([3], 2), 0, ways=2)
    for size in (0, 4):
        with pytest.raises(SettingsError, match="1 to 3"):
            open_set(world([3], 2), size)


def test_open_set_enrolls_once_and_keeps_strangers_apart() -> None:
    pictures = world([7, 4], 5)
    split = open_set(pictures, 6, seed=2)
    enrolled = pictures.subject_of[split.enrolled]
    assert len(set(enrolled.tolist())) == 6
    np.testing.assert_array_equal(enrolled[split.mate], pictures.subject_of[split.mated])
    assert not set(split.enrolled.tolist()) & set(split.mated.tolist())
    assert not set(enrolled.tolist()) & set(pictures.subject_of[split.strangers].tolist())
    assert (len(split.mated), len(split.strangers)) == (6 * 4, 5 * 5)
    one_each = open_set(pictures, 6, seed=2, probes_per_subject=1)
    np.testing.assert_array_equal(one_each.enrolled, split.enrolled)
    assert (len(one_each.mated), len(one_each.strangers)) == (6, 5)
    assert len(open_set(pictures, 11).strangers) == 0


def test_evaluate_puts_the_same_measures_together() -> None:
    pictures = world([6, 6], 4)
    f = noisy_encodings(pictures, 0.4)
    result = evaluate(f, pictures, EvaluateSettings(trials=300, ways=5, splits=3, seed=4))
    assert result.one_shot_error == one_shot_error(f, one_shot_trials(pictures, 300, 5, 4))
    rank1 = [search(f, open_set(pictures, 12, seed)).rank1 for seed in (4, 5, 6)]
    assert result.rank1.mean == np.mean(rank1)
    assert (result.rank1.low, result.rank1.high) == (min(rank1), max(rank1))
    halves = [search(f, open_set(pictures, 6, seed)) for seed in (4, 5, 6)]
    taus = [largest_tau_for_rate(half.non_mated, 0.10) for half in halves]
    assert result.fnir[0.10].mean == np.mean([half.fnir(tau) for half, tau in zip(halves, taus, strict=True)])
    assert all(half.fpir(tau) <= 0.10 for half, tau in zip(halves, taus, strict=True))
    assert (result.eer, result.eer_tau) == equal_error_rate(*pair_distances(f, pictures.subject_of))
    assert result.as_dict()["eer"] == result.eer
    assert f"{result.one_shot_error:.2%}" in str(result)
    with pytest.raises(SettingsError, match="splits"):
        EvaluateSettings(splits=0)


def test_a_fresh_world_meets_the_fitted_fpir() -> None:
    """Tau fitted on one world holds on another drawn from the same law."""
    pictures = world([400], 3)
    fitted, _ = calibrate(
        noisy_encodings(pictures, 0.1, seed=1), pictures, "synthetic", CalibrateSettings(fpir=0.1, splits=20)
    )
    rates = [
        search(noisy_encodings(pictures, 0.1, seed=s), open_set(pictures, 200, seed=s)).fpir(fitted.tau)
        for s in range(2, 12)
    ]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.03)
    assert fitted.gallery_size == 200
    assert fitted.fpir_low < 0.1 < fitted.fpir_high


def test_the_calibration_says_what_was_measured() -> None:
    pictures = world([30, 30], 4)
    f = noisy_encodings(pictures, 0.2)
    settings = CalibrateSettings(fpir=0.05, gallery_size=20, splits=50, seed=3)
    made, fit = calibrate(f, pictures, "synthetic", settings)
    assert made.fpir == fit.scores.fpir(made.tau) <= 0.05
    assert made.fnir == fit.scores.fnir(made.tau)
    assert made.fpir_low <= made.fpir <= made.fpir_high
    assert (made.mated_probes, made.non_mated_probes) == (50 * 20, 50 * 40)
    assert "50 random splits" in made.method
    assert made.method.endswith(INTERVAL)
    again, _ = calibrate(f, pictures, "synthetic", settings)
    assert again.id == made.id


def test_settings_and_data_that_cannot_work_are_refused() -> None:
    pictures = world([6], 2)
    f = noisy_encodings(pictures, 0.2)
    for size in (0, 6):
        with pytest.raises(SettingsError, match="gallery-size"):
            fit_splits(f, pictures, CalibrateSettings(gallery_size=size, splits=1))
    with pytest.raises(SettingsError, match="splits"):
        CalibrateSettings(splits=0)
    with pytest.raises(SettingsError, match="fpir"):
        CalibrateSettings(fpir=1.0)
    small = world([3], 2)
    alone = world([6], 1)
    with pytest.raises(DataError, match="two pictures"):
        calibrate(noisy_encodings(alone, 0.2), alone, "x", CalibrateSettings(fpir=0.1))
    with pytest.raises(DataError, match="two pictures"):
        evaluate(noisy_encodings(alone, 0.2), alone, EvaluateSettings(trials=10, ways=2))
    with pytest.raises(DataError, match="too few"):
        calibrate(noisy_encodings(small, 0.2), small, "x", CalibrateSettings(fpir=0.1))


def test_one_subject_alone_is_too_few_to_evaluate() -> None:
    pictures = world([1], 4)
    with pytest.raises(DataError, match="at least 2"):
        evaluate(noisy_encodings(pictures, 0.1), pictures, EvaluateSettings(trials=5, ways=1, splits=1))
