"""The GE2E speaker encoder (Wan et al. 2018), as Resemblyzer has it, as an ONNX graph: from samples to an encoding.

samples [N, L, 1] -> power of each Fourier frequency (a convolution) -> mel energies [N, T, 40] -> three LSTM layers ->
the last one's last state -> linear, relu, unit norm.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from oneglance_exporter.imports.graph import Graph, value
from oneglance_exporter.imports.mel import fourier, mel_weights

SAMPLE_RATE, TRANSFORM, HOP, MELS = 16_000, 400, 160, 40  # 25 ms every 10 ms
FRAMES = 160  # of a window: 1.6 s
SAMPLES = (FRAMES - 1) * HOP + TRANSFORM  # that its frames see
_LEAST_NORM = 1e-12

Weights = Mapping[str, npt.NDArray[np.float32]]
"""By torch's names: lstm.weight_ih_l0, ..., linear.weight, linear.bias."""


def voice_graph(weights: Weights) -> bytes:
    """The graph: input float32 [N, SAMPLES, 1], encoding float32 [N, D], unit norm (or zero). Raises ExportError."""
    graph = Graph()
    samples = graph.add("Transpose", "input", perm=[0, 2, 1])
    parts = graph.add("Conv", samples, fourier(TRANSFORM)[:, np.newaxis].astype(np.float32), strides=[HOP])
    power = graph.add("Mul", parts, parts)  # [N, 2 F, T]: of the real parts, then of the imaginary ones
    mels = mel_weights(SAMPLE_RATE, TRANSFORM, MELS)
    energies = graph.add("MatMul", np.concatenate([mels, mels], axis=1).astype(np.float32), power)  # [N, 40, T]
    x = graph.add("Transpose", energies, perm=[2, 0, 1])  # [T, N, 40]
    hidden = weights["lstm.weight_hh_l0"].shape[1]
    layers = sum(name.startswith("lstm.weight_ih_l") for name in weights)
    last = ""
    for layer in range(layers):
        taken, kept = (_gates(weights[f"lstm.weight_{kind}_l{layer}"])[np.newaxis] for kind in ("ih", "hh"))
        biases = [_gates(weights[f"lstm.bias_{kind}_l{layer}"]) for kind in ("ih", "hh")]
        all_steps, last, _ = graph.add_several(
            3, "LSTM", x, taken, kept, np.concatenate(biases)[np.newaxis], hidden_size=hidden
        )
        x = graph.add("Squeeze", all_steps, np.array([1], np.int64))  # [T, N, H], without the direction
    state = graph.add("Squeeze", last, np.array([0], np.int64))  # [N, H]
    linear = graph.add("Gemm", state, weights["linear.weight"], weights["linear.bias"], transB=1)
    positive = graph.add("Relu", linear)
    norm = graph.add("ReduceL2", positive, np.array([1], np.int64), keepdims=1)
    graph.name(graph.add("Div", positive, graph.add("Max", norm, np.array(_LEAST_NORM, np.float32))), "encoding")
    dimension = len(weights["linear.bias"])
    return graph.model(
        "voice-encoder",
        [value("input", np.float32, ["N", SAMPLES, 1])],
        [value("encoding", np.float32, ["N", dimension])],
    )


def _gates(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """From torch's order of an LSTM's gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    i, f, c, o = np.split(weight, 4)
    return np.concatenate([i, o, f, c])
