"""An encoder's model folder in 8 bits; ``int8`` says how."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import squared_l2
from oneglance_core.folder import check_replaceable, read_model_folder, write_model_folder
from oneglance_core.manifests import AuthorThreshold, EncoderManifest, PairHeadPart, Parity
from oneglance_core.pair_head import probabilities_of
from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.quantize.int8 import described_origin, in_float, int8_graph, rounding_tolerance
from oneglance_exporter.runtime import check_model, encoder_of

Images = npt.NDArray[np.uint8]  # [N, H, W, C]

LEAST_PICTURES = 16
MOST_PICTURES = 200  # more hardly change the ranges, and cost time
_BLOCK = 8


def quantize(model: Path, out: Path, pictures: Images, described: str, name: str | None = None) -> EncoderManifest:
    """Write the encoder ``model`` in 8 bits as the model folder ``out``.

    pictures: uint8 [N, H, W, C] as the encoder takes them, N >= 16: they set the ranges of the activations; of more
    than MOST_PICTURES an even choice is taken. described: what they are. name: that of the new encoder (the old one's
    and ``-int8``).

    It is another encoder, with a digest of its own: galleries don't carry over, and it has no threshold before
    ``calibrate``. Its parity vectors are those of the quantised graph computed in float; the integer kernels of one
    processor and another round a few values differently, so the tolerance is twice what that moves here.
    Raises DataError, SettingsError, ExportError, ModelFolderError.
    """
    check_replaceable(out)
    folder = read_model_folder(model)
    old = folder.manifest
    if pictures.shape[1:] != old.input.shape or pictures.dtype != np.uint8:
        raise SettingsError(f"{model}: takes pictures of {old.input.shape}, got {pictures.dtype} {pictures.shape[1:]}")
    if len(pictures) < LEAST_PICTURES:
        raise DataError(f"{len(pictures)} picture(s) are too few to set ranges by: at least {LEAST_PICTURES}")
    pictures = pictures[:: -(-len(pictures) // MOST_PICTURES)]
    graph = int8_graph(folder, _feeds(old, pictures))

    encode = encoder_of(graph, threads=1)
    before, after = encoder_of(folder.model, threads=1)(pictures), encode(pictures)
    moved = squared_l2(before, after)
    exact = np.concatenate(in_float(graph, old.output.name, _feeds(old, pictures)))
    inputs = old.parity.inputs.unpack()
    outputs = np.concatenate(in_float(graph, old.output.name, _feeds(old, inputs)))
    author = old.author_threshold
    manifest = old.model_copy(
        update={
            "name": name or f"{old.name}-int8",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "threshold": None,
            "pair_head": None if old.pair_head is None else _head_of(old.pair_head, outputs),
            "author_threshold": author
            and AuthorThreshold(tau=author.tau, source=f"{author.source}; for the encoder before quantisation"),
            "training": {
                **old.training,
                "quantized": {
                    **described_origin(folder, f"{len(pictures)} pictures of {described}"),
                    "squared_l2_to_original_mean": round(float(moved.mean()), 6),
                    "squared_l2_to_original_max": round(float(moved.max()), 6),
                },
            },
            "parity": Parity.pack(inputs, outputs, rounding_tolerance([exact, outputs], [after, encode(inputs)])),
        }
    )
    # model_copy checks nothing
    manifest = EncoderManifest.model_validate(manifest.model_dump())
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def _head_of(head: PairHeadPart, encodings: npt.NDArray[np.float32]) -> PairHeadPart:
    """The same head, for other encodings of the parity vectors; nothing is measured of it yet."""
    probabilities = probabilities_of(head.head().logits(encodings[:1], encodings))
    measured = dict.fromkeys(("reliability", "threshold", "false_positives", "mates"))
    return head.model_copy(update={**measured, "probabilities": tuple(probabilities.tolist())})


def _feeds(manifest: EncoderManifest, pictures: Images) -> list[dict[str, Images]]:
    return [{manifest.input.name: pictures[i : i + _BLOCK]} for i in range(0, len(pictures), _BLOCK)]
