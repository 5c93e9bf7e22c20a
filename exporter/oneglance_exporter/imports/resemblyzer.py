"""Resemblyzer's pretrained speaker encoder, from its published weights to a model folder that takes sound files.

A sound is brought to 16,000 samples a second and to -30 dB at least, cut into windows of 1.6 s every 0.77 s, and the
mean of their encodings is its encoding, as in the original (``embed_utterance``, with its rate of 1.3 windows a second
and its least coverage of 0.75). What the original does before, and this doesn't: to cut out long silences (by WebRTC's
detector).
"""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.manifests import EncoderManifest, InputSpec, OutputSpec, Parity, SoundSpec, Windows
from oneglance_core.voices import voices
from oneglance_exporter.imports.mel import mel_weights
from oneglance_exporter.imports.voice_graph import (
    FRAMES,
    HOP,
    MELS,
    SAMPLE_RATE,
    SAMPLES,
    TRANSFORM,
    Weights,
    voice_graph,
)
from oneglance_exporter.imports.wheels import read_published
from oneglance_exporter.runtime import check_model

LICENSE = "Apache-2.0, Corentin Jemine and Resemble AI"
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
FILE = "resemblyzer/pretrained.pt"
PACKAGE = "resemblyzer==0.1.4"
SPEC = InputSpec(
    kind="signal",
    shape=(SAMPLES, 1),
    dtype="float32",
    fit="pad",
    sound=SoundSpec(sample_rate=SAMPLE_RATE, least_seconds=0.5, least_dbfs=-30),
    windows=Windows(step=77 * HOP, before=TRANSFORM // 2, least=FRAMES * HOP * 3 // 4),
)
TOLERANCE = 1e-4


def import_resemblyzer(out: Path, name: str, weights: Path | None = None) -> EncoderManifest:
    """Write the encoder as the model folder ``out``.

    weights: the file pretrained.pt, or the package's wheel; None: the installed package, which is not imported.
    Raises WeightsError, ModelFolderError, ExportError.
    """
    check_replaceable(out)
    state = _state(read_published(PACKAGE, FILE, SHA256, weights))
    inputs = parity_inputs()
    manifest = EncoderManifest(
        name=name,
        description="Speakers, from speech: GE2E, 256 numbers (Resemblyzer 0.1.4)",
        license=LICENSE,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=SPEC,
        output=OutputSpec(dimension=len(state["linear.bias"]), unit_norm=True),
        training={
            "imported_from": FILE,
            "imported_sha256": SHA256,
            "network": "LSTM, 3 layers of 256, over 40 mel energies",
            "loss": "generalised end to end (Wan et al. 2018)",
            "data": "LibriSpeech-other, VoxCeleb1 and VoxCeleb2, as told by the author",
        },
        parity=Parity.pack(inputs, reference(state, inputs), TOLERANCE),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    graph = voice_graph(state)
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def parity_inputs() -> npt.NDArray[np.float32]:
    """float32 [4, SAMPLES, 1]: two invented voices, one of them quiet, noise, and a ticking."""
    rng = np.random.default_rng(0)
    said = [np.resize(voice.utterances[0], SAMPLES) for voice in voices(1, 2, 1)]
    ticks = np.zeros(SAMPLES)
    ticks[:: SAMPLE_RATE // 100] = 0.5
    rows = [said[0], 0.05 * said[1], 0.1 * rng.standard_normal(SAMPLES), ticks]
    return np.stack(rows).astype(np.float32)[..., np.newaxis]


@torch.no_grad()
def reference(state: Weights, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What torch makes of mel energies that numpy computed in float64: float32 [N, SAMPLES, 1] -> [N, D]."""
    frames = np.lib.stride_tricks.sliding_window_view(windows[..., 0].astype(np.float64), TRANSFORM, axis=1)[:, ::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(TRANSFORM) / TRANSFORM)
    power = np.abs(np.fft.rfft(frames * hann, axis=2)) ** 2
    energies = power @ mel_weights(SAMPLE_RATE, TRANSFORM, MELS).T
    hidden = state["lstm.weight_hh_l0"].shape[1]
    layers = sum(name.startswith("lstm.weight_ih_l") for name in state)
    lstm = nn.LSTM(MELS, hidden, layers, batch_first=True)
    lstm.load_state_dict(
        {name[5:]: torch.from_numpy(np.array(w)) for name, w in state.items() if name.startswith("lstm.")}
    )
    _, (last, _) = lstm(torch.from_numpy(energies.astype(np.float32)))
    positive = torch.relu(
        last[-1] @ torch.from_numpy(state["linear.weight"]).T + torch.from_numpy(state["linear.bias"])
    )
    encoded: npt.NDArray[np.float32] = (positive / positive.norm(dim=1, keepdim=True).clamp(min=1e-12)).numpy()
    return encoded


def _state(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model_state"]
    return {name: weight.numpy() for name, weight in state.items() if name.startswith(("lstm.", "linear."))}
