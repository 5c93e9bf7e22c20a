"""``quantize``: parse, call one function, print."""

import argparse
from pathlib import Path

from oneglance_core.folder import read_any_model_folder
from oneglance_exporter.cli.options import model_name
from oneglance_exporter.cli.pictures import add_pictures, reading, say
from oneglance_exporter.errors import SettingsError


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``quantize``."""
    quantizer = commands.add_parser(
        "quantize",
        help="write an encoder or a face detector in 8 bits",
        description="Write an encoder or a face detector with 8-bit weights and activations, for processors with int8\n"
        "instructions. An encoder becomes another one: galleries don't carry over, and tau must be calibrated again.\n"
        "A detector keeps its threshold, and is compared with the original on the photos; a few dozen of them do, in\n"
        "whatever folders.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(quantizer, "pictures such as it will see: they set the ranges of its activations")
    quantizer.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    quantizer.add_argument("--name", type=model_name, help="of the new model [the old one's and -int8]")
    quantizer.set_defaults(run_command=_quantize)


def _quantize(options: argparse.Namespace, arguments: list[str]) -> None:
    kind = read_any_model_folder(options.model).manifest.kind
    quantizers = {"encoder": _quantize_encoder, "detector": _quantize_detector}
    if kind not in quantizers:
        raise SettingsError(f"{options.model}: holds {kind}; encoders and face detectors can be quantised")
    print(quantizers[kind](options, ", ".join(Path(path).name for path in options.data)))


def _quantize_encoder(options: argparse.Namespace, described: str) -> str:
    import numpy as np

    from oneglance_exporter.quantize.encoder import quantize

    _, examples = reading(options).examples(say)
    if examples.inputs.dtype != np.uint8:
        raise SettingsError(f"{options.model}: takes arrays; only encoders of pictures are quantised here")
    manifest = quantize(Path(options.model), options.out, examples.inputs, described, options.name)
    done = manifest.training["quantized"]
    return (
        f"{options.out}: {manifest.name}, ranges from {done['ranges_from']}, which it moves by "
        f"{done['squared_l2_to_original_mean']:.2g} (squared L2; at most {done['squared_l2_to_original_max']:.2g}); "
        "no threshold yet"
    )


def _quantize_detector(options: argparse.Namespace, described: str) -> str:
    from oneglance_core.faces.finder import FaceSearch
    from oneglance_exporter.data.photos import read_photos
    from oneglance_exporter.quantize.detector import MOST_PHOTOS, quantize_detector

    photos = read_photos(options.data, MOST_PHOTOS, FaceSearch().search_pixels)
    manifest = quantize_detector(Path(options.model), options.out, photos, described, options.name)
    done = manifest.training["quantized"]
    return (
        f"{options.out}: {manifest.name}, ranges from {done['ranges_from']}; "
        f"of their {done['faces_found']} faces it finds {done['faces_found_in_8_bits_too']}, "
        f"{done['boxes_identical']} in the same box, scores at most {done['score_moved_max']:.2g} apart; "
        f"it finds {done['faces_found_in_8_bits_only']} others"
    )
