"""``quantize``: parse, call one function, print."""

import argparse
import shlex
from pathlib import Path

from oneglance_core.flags import add_flags, given_values
from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.cli.options import model_name
from oneglance_exporter.cli.pictures import add_pictures, described, read_as
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.quantize.settings import QuantizeSettings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``quantize``."""
    quantizer = commands.add_parser(
        "quantize",
        help="write an encoder in 8 or 16 bits, or a face detector in 8, and what it costs",
        description="Write an encoder with 8-bit weights and activations, for processors with int8 instructions, or\n"
        "in 16 bits, for cards. It becomes another one: galleries don't carry over. tau is calibrated anew on --data,\n"
        "and what the bits cost in accuracy there is written into the manifest, with intervals. Where the EER rises\n"
        "by more than --most-lost, nothing is written.\n"
        "A face detector in 8 bits keeps its threshold, and is compared with the original on the photos; a few dozen\n"
        "of them do, in whatever folders.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(quantizer, "subjects never trained on; for a detector, photos such as it will see")
    add_flags(quantizer, QuantizeSettings)
    quantizer.add_argument("--described", metavar="TEXT", help="the data in words, for the manifest")
    quantizer.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    quantizer.add_argument("--name", type=model_name, help="of the new model [the old one's and the precision]")
    quantizer.set_defaults(run_command=_quantize)


def _quantize(options: argparse.Namespace, arguments: list[str]) -> None:
    kind = read_any_model_folder(options.model).manifest.kind
    if kind == "encoder":
        print(_quantize_encoder(options, arguments))
    elif kind == "detector":
        if given_values(options, QuantizeSettings).get("precision", "int8") != "int8":
            raise SettingsError(f"{options.model}: a face detector is quantised to int8 only")
        print(_quantize_detector(options, described(options)))
    else:
        raise SettingsError(f"{options.model}: holds {kind}; encoders and face detectors can be quantised")


def _quantize_encoder(options: argparse.Namespace, arguments: list[str]) -> str:
    from oneglance_exporter.api import quantize

    manifest = quantize(
        options.model,
        options.data,
        options.out,
        name=options.name,
        described=options.described,
        command=shlex.join(["oneglance-exporter", *arguments]),
        **read_as(options),
        **given_values(options, QuantizeSettings),
    )
    return told_of(manifest, options.out)


def told_of(manifest: EncoderManifest, out: str | Path) -> str:
    """What ``out`` holds, and what its fewer bits cost."""
    done, tau = manifest.training["quantized"], manifest.threshold
    assert tau is not None
    ranges = f"ranges from {done['ranges_from']}, which it moves" if "ranges_from" in done else "examples move"
    lines = [
        f"{out}: {manifest.name}, {done['bytes']:,} bytes of {done['bytes_before']:,}; {ranges} by "
        f"{done['squared_l2_to_original_mean']:.2g} (squared L2; at most {done['squared_l2_to_original_max']:.2g})",
        f"tau {tau.tau:.4f} at {tau.gallery_size} enrolled: FPIR {tau.fpir:.2%} "
        f"({tau.fpir_low:.2%} to {tau.fpir_high:.2%})",
    ]
    for one in done["cost"]["differences"]:
        if one["name"].startswith(("EER", "rank-1", "FNIR")) and "margin" not in one["name"]:
            first, second, less = one["first"], one["second"], one["difference"]
            lines.append(
                f"  {one['name']}: {first['value']:.2%} before, {second['value']:.2%} after; "
                f"{100 * less['value']:+.2f} points ({100 * less['low']:+.2f} to {100 * less['high']:+.2f})"
            )
    return "\n".join(lines)


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
