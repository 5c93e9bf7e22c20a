"""The speaker encoder: mel energies as librosa's, the graph as torch, windows as the original's; served."""

import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import Client
from oneglance_core.folder import read_model_folder
from oneglance_core.voices import RATE, voices
from oneglance_core.windows import joined, windows_of
from oneglance_exporter.api import calibrate
from oneglance_exporter.cli import main
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.mel import mel_weights
from oneglance_exporter.imports.resemblyzer import SPEC, import_resemblyzer, parity_inputs, reference
from oneglance_exporter.imports.voice_graph import FRAMES, HOP, SAMPLES, voice_graph
from oneglance_exporter.runtime import encoder_of
from tests.running import server_thread
from tests.sounds import soundfile, wav
from tests.waiting import PATIENCE_SECONDS

WHEEL = "Resemblyzer-0.1.4-py3-none-any.whl"


def small_weights(hidden: int = 8, dimension: int = 6) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (dimension, hidden), "linear.bias": (dimension,)}
    for layer in range(2):
        shapes[f"lstm.weight_ih_l{layer}"] = (4 * hidden, hidden if layer else 40)
        shapes[f"lstm.weight_hh_l{layer}"] = (4 * hidden, hidden)
        shapes |= {f"lstm.bias_{kind}_l{layer}": (4 * hidden,) for kind in ("ih", "hh")}
    return {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_graph_answers_as_torch_does_at_every_batch_size() -> None:
    state, inputs = small_weights(), parity_inputs()
    run, expected = encoder_of(voice_graph(state), 1), reference(state, inputs)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    for batch in (1, 3, 4):
        np.testing.assert_allclose(run(inputs[:batch]), expected[:batch], atol=1e-5)


def test_mel_weights_are_those_of_the_slaney_scale() -> None:
    """Below 1,000 Hz centres lie evenly, above at one ratio; a triangle's area is 1 Hz."""
    weights = mel_weights(16_000, 16_000, 40)  # a frequency each Hz
    centres = weights.argmax(axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0.01)
    low, high = centres[centres < 950], centres[centres > 1100]
    assert np.ptp(np.diff(low)) <= 2
    ratios = high[1:] / high[:-1]
    assert np.ptp(ratios) < 0.004
    assert np.log(6.4) / 27 * (np.diff(low).mean() / (200 / 3)) == pytest.approx(np.log(ratios.mean()), rel=0.01)


def original_slices(samples: int, rate: float = 1.3, min_coverage: float = 0.75) -> list[int]:
    """The starts of the original's partial utterances (VoiceEncoder.compute_partial_slices of Resemblyzer 0.1.4)."""
    frames = int(np.ceil((samples + 1) / 160))
    step = int(np.round((16_000 / rate) / 160))
    starts = list(range(0, max(1, frames - FRAMES + step + 1), step))
    coverage = (samples - starts[-1] * 160) / (FRAMES * 160)
    if coverage < min_coverage and len(starts) > 1:
        starts.pop()
    return [start * 160 for start in starts]


def test_windows_are_the_original_s_partial_utterances() -> None:
    assert SPEC.windows is not None
    for samples in (1, 8000, 19_199, 25_600, 31_519, 31_520, 31_521, 37_919, 37_920, 60_000, 160_000, 959_999):
        sound = np.arange(1, samples + 1, dtype=np.float32)[:, np.newaxis]
        windows = windows_of(sound, SPEC)
        starts = original_slices(samples)
        assert len(windows) == len(starts) == SPEC.windows.count(samples)
        padded = np.concatenate([np.zeros(200), sound[:, 0], np.zeros(SAMPLES + FRAMES * HOP)])
        for window, start in zip(windows, starts, strict=True):
            np.testing.assert_array_equal(window[:, 0], padded[start : start + SAMPLES])


@pytest.fixture(scope="module")
def wheel(data_folder: Path) -> Path:
    places = [Path(os.environ.get("ONEGLANCE_RESEMBLYZER", "")), data_folder / WHEEL]
    for place in places:
        if place.is_file():
            return place
    pytest.skip(f"no {WHEEL}: pip download --no-deps resemblyzer==0.1.4, and set ONEGLANCE_RESEMBLYZER to the file")


def original_encoding(
    state: dict[str, npt.NDArray[np.float32]], sound: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """embed_utterance, step by step: the spectrogram of the whole sound, cut into windows, encoded, averaged."""
    import torch

    starts = original_slices(len(sound))
    padded = np.pad(sound.astype(np.float64), (0, max(0, starts[-1] + FRAMES * 160 - len(sound))))
    centred = np.pad(padded, 200)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([centred[at : at + 400] * hann for at in range(0, len(padded) + 1, 160)])
    mel = (np.abs(np.fft.rfft(frames)) ** 2 @ mel_weights(16_000, 400, 40).T).astype(np.float32)
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict({name[5:]: torch.from_numpy(w) for name, w in state.items() if name.startswith("lstm.")})
    parts = torch.from_numpy(np.stack([mel[start // 160 : start // 160 + FRAMES] for start in starts]))
    with torch.no_grad():
        _, (last, _) = lstm(parts)
        found = torch.relu(
            last[-1] @ torch.from_numpy(state["linear.weight"]).T + torch.from_numpy(state["linear.bias"])
        )
    found = found / found.norm(dim=1, keepdim=True)
    mean = found.numpy().astype(np.float64).mean(axis=0)
    whole: npt.NDArray[np.float64] = mean / np.linalg.norm(mean)
    return whole


def test_the_pretrained_encoder_is_imported_and_served(wheel: Path, tmp_path: Path) -> None:
    import io

    import torch

    soundfile()
    model = tmp_path / "speakers"
    assert main(["import", "resemblyzer", "--weights", str(wheel), "--out", str(model)]) == 0
    folder = read_model_folder(model)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("resemblyzer/pretrained.pt")
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model_state"]
    state = {name: weight.numpy() for name, weight in loaded.items() if name.startswith(("lstm.", "linear."))}
    rng = np.random.default_rng(0)
    long = (0.05 * rng.standard_normal(70_000) * (1 + np.sin(np.arange(70_000) / 3000))).astype(np.float32)
    windows = windows_of(long[:, np.newaxis], SPEC)
    (ours,) = joined(encoder_of(folder.model, 1)(windows), [len(windows)], unit_norm=True)
    np.testing.assert_allclose(ours, original_encoding(state, long), atol=1e-4)

    known, others = list(voices(11, 4, 2)), list(voices(12, 4, 2))
    for voice in others:
        (tmp_path / "data" / voice.name).mkdir(parents=True)
        for i, said in enumerate(voice.utterances):
            (tmp_path / "data" / voice.name / f"{i}.wav").write_bytes(wav(said[:, np.newaxis], RATE))
    calibrate(model, tmp_path / "data", fpir=0.3, splits=5)
    with (
        server_thread(data_dir=tmp_path / "served", models=(model,)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g")
        for voice in known:
            client.enroll("g", voice.name, wav(voice.utterances[0][:, np.newaxis], RATE))
        probes = [wav(voice.utterances[1][:, np.newaxis], RATE) for voice in known]
        found = client.identify("g", *probes, tau=4.0).results
    right = [result.candidates[0].subject_id == voice.name for result, voice in zip(found, known, strict=True)]
    assert sum(right) >= 3  # what is invented is not quite speech


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pretrained.pt").write_bytes(b"?")
    with pytest.raises(WeightsError, match="SHA-256 is another"):
        import_resemblyzer(tmp_path / "out", "speakers", tmp_path / "pretrained.pt")
    with pytest.raises(WeightsError, match="can't be read"):
        import_resemblyzer(tmp_path / "out", "speakers", tmp_path / "none.whl")
