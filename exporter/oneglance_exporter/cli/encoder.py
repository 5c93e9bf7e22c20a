"""``encode``, ``calibrate`` and ``evaluate``: an encoder on labelled pictures. Parse, call one function, print."""

import argparse
import io
import json
import shlex
from pathlib import Path

from oneglance_core.flags import add_flags, given_values
from oneglance_core.folder import write_model_folder
from oneglance_exporter.cli.pictures import add_pictures, encoded
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``encode``, ``calibrate`` and ``evaluate``."""
    encode = commands.add_parser(
        "encode",
        help="write the encodings of pictures, as calibrate, evaluate and the server see them",
        description="Write what an encoder makes of pictures: an .npz with encodings float32 [N, D], subjects [N],\n"
        "files [N], and the encoder's digest. The server's Encode gives the same for the same file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(encode, "folders or zips of SUBJECT/picture")
    encode.add_argument("--out", required=True, type=Path, metavar="FILE.npz", help="replaced if it is there")
    encode.set_defaults(run_command=_encode)

    calibrate = commands.add_parser("calibrate", help="fit the threshold tau on held-out subjects")
    add_pictures(calibrate, "subjects never trained on")
    add_flags(calibrate, CalibrateSettings)
    calibrate.add_argument("--described", metavar="TEXT", help="the data in words, for the manifest")
    calibrate.set_defaults(run_command=_calibrate)

    evaluate = commands.add_parser("evaluate", help="one-shot error, rank-1, FNIR and EER on held-out subjects")
    add_pictures(evaluate, "subjects never trained on")
    add_flags(evaluate, EvaluateSettings)
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run_command=_evaluate)


def _encode(options: argparse.Namespace, arguments: list[str]) -> None:
    import numpy as np

    from oneglance_exporter.cli.outputs import check_outputs, write

    check_outputs({"--out": (options.out, (".npz",))}, [])
    folder, pictures, encodings = encoded(options, least=1)
    subjects = np.array(pictures.subjects)[pictures.subject_of]
    file = io.BytesIO()
    np.savez(file, encodings=encodings, subjects=subjects, files=np.array(pictures.files), digest=folder.digest)
    write(options.out, file.getvalue())
    print(f"{options.out}: {len(encodings)} encodings of {encodings.shape[1]} by {folder.manifest.name}")


def _calibrate(options: argparse.Namespace, arguments: list[str]) -> None:
    import numpy as np

    from oneglance_core.measures import det_point, tau_for_rate
    from oneglance_exporter.encoder.calibrate import calibrate
    from oneglance_exporter.encoder.false_positives import false_positives

    settings = CalibrateSettings(**given_values(options, CalibrateSettings))
    folder, pictures, encodings = encoded(options)
    described = options.described or ", ".join(Path(path).name for path in options.data)
    calibration, fit = calibrate(encodings, pictures, described, settings)
    training = {
        **folder.manifest.training,
        "calibration_command": shlex.join(["oneglance-exporter", *arguments]),
    }
    sources = np.array(
        [next(path for path in options.data if file.startswith(f"{Path(path)}: ")) for file in pictures.files]
    )
    sets = {Path(path).name: np.flatnonzero(sources == path) for path in options.data}
    measured = false_positives(encodings, pictures.subject_of, described, sets, settings.fpir, settings.seed)
    manifest = folder.manifest.model_copy(
        update={"threshold": calibration, "false_positives": measured, "training": training}
    )
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
    _, pictures, encodings = encoded(options)
    result = evaluate(encodings, pictures, settings)
    print(json.dumps(result.as_dict(), indent=2) if options.json else result)
