"""``encode``, ``calibrate``, ``evaluate`` and ``measure-input``: an encoder on labelled examples. Parse, call one
function, print."""

import argparse
import io
import json
import shlex
from pathlib import Path
from typing import Any

from oneglance_core.flags import add_flags, given_values
from oneglance_core.folder import write_model_folder
from oneglance_core.progress import Progress
from oneglance_exporter.cli.pictures import add_pictures, described, read_as, reading, say
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings
from oneglance_exporter.errors import SettingsError


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``encode``, ``calibrate``, ``evaluate`` and ``measure-input``."""
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

    evaluate = commands.add_parser(
        "evaluate",
        help="one-shot error, rank-1, FNIR and EER on held-out subjects; --report: all that can be told, as a page",
        description="Measure an encoder on subjects that it was not trained on. With --report or --against: ROC, DET,\n"
        "TAR, FPIR and FNIR by the size of the gallery, examples and rule of fusion, groups, each with its\n"
        "interval, the hardest pairs, and the encodings on a plane (docs/evaluate.md).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(evaluate, "subjects never trained on", model="MODEL_DIR|FILE.npz", needed=False)
    add_flags(evaluate, EvaluateSettings)
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="write a page; replaced if it is there")
    evaluate.add_argument(
        "--against", metavar="MODEL_DIR|FILE.npz", help="compare with this encoder, on the same examples: a paired test"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run_command=_evaluate)

    measure = commands.add_parser(
        "measure-input",
        help="write into the manifest what the pictures that an encoder is made for look like",
        description="Measure the pictures that an encoder was trained on, or others of their kind, and write the\n"
        "range of each figure and the limits drawn about it into the manifest. The server refuses\n"
        "pictures outside. ``export encoder`` does it by itself, on the pictures of the training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(measure, "pictures of the kind that the encoder is made for, SUBJECT/picture")
    measure.add_argument("--described", metavar="TEXT", help="the data in words, for the manifest")
    measure.set_defaults(run_command=_measure_input)


def _encode(options: argparse.Namespace, arguments: list[str]) -> None:
    import numpy as np

    from oneglance_exporter.cli.outputs import check_outputs, write

    check_outputs({"--out": (options.out, (".npz",))}, [])
    folder, examples, encodings = reading(options, least=1).encoded(say)
    subjects = np.array(examples.subjects)[examples.subject_of]
    file = io.BytesIO()
    np.savez(file, encodings=encodings, subjects=subjects, files=np.array(examples.files), digest=folder.digest)
    write(options.out, file.getvalue())
    print(f"{options.out}: {len(encodings)} encodings of {encodings.shape[1]} by {folder.manifest.name}")


def _calibrate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.measures import det_point, tau_for_rate
    from oneglance_exporter.api import calibrate
    from oneglance_exporter.encoder.pair_fit import told as told_reliability

    found = calibrate(
        options.model,
        options.data,
        described=options.described,
        command=shlex.join(["oneglance-exporter", *arguments]),
        **read_as(options),
        **given_values(options, CalibrateSettings),
    )
    told, measured, scores = found.threshold, found.false_positives, found.fit.scores
    print(
        f"tau {told.tau:.4f} at {told.gallery_size} enrolled: "
        f"FPIR {told.fpir:.2%} ({told.fpir_low:.2%} to {told.fpir_high:.2%})"
    )
    if measured is not None:
        for one in measured.evidence:
            print(
                f"  {one.data}, {one.gallery_size} enrolled from {one.examples} each, by {one.fusion}: "
                f"FPIR {one.fpir:.2%}, FNIR {one.fnir:.2%} at tau {one.tau:.4f}"
            )
    if found.head is not None:
        told = found.head.threshold
        print(
            f"by probability: tau {told.tau:.6g}, that is a probability of at least {1 - told.tau:.6g}: "
            f"FPIR {told.fpir:.2%} ({told.fpir_low:.2%} to {told.fpir_high:.2%})"
            + (f", FNIR {told.fnir:.2%}" if told.fnir is not None else "")
        )
        if found.head.reliability is not None:
            print(f"  {told_reliability(found.head.reliability)}")
    if found.sets > 1:
        return
    for rate in (0.001, 0.01, 0.03, 0.1, 0.3):
        point = det_point(scores, tau_for_rate(scores.non_mated, rate))
        print(f"  FPIR {point.fpir:7.2%}  FNIR {point.fnir:7.2%}  tau {point.tau:.4f}")


def _measure_input(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.encoder.made_for import made_for

    folder, examples = reading(options, least=1).examples(say)
    if folder.manifest.input.kind != "image":
        raise SettingsError(f"{options.model}: takes a {folder.manifest.input.kind}; images are measured here")
    found = made_for(examples.inputs, described(options))
    write_model_folder(options.model, folder.manifest.model_copy(update={"made_for": found}), folder.model)
    print(f"{options.model}: {found.pictures} pictures")
    for one in found.figures:
        print(f"  {one.figure:8}  {one.low:.4f} to {one.high:.4f}; limits {one.least:.4f} to {one.most:.4f}")


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.api import evaluate, judge
    from oneglance_exporter.cli.outputs import check_outputs

    settings = {**read_as(options), **given_values(options, EvaluateSettings)}
    if options.report is not None:
        check_outputs({"--report": (options.report, (".html",))}, [])
    with Progress() as progress:
        settings["far"] = lambda done, words: progress.show(done, 1, words)
        result: Any
        if options.report is None and options.against is None:
            result = evaluate(options.model, options.data, **settings)
        else:
            command = shlex.join(["oneglance-exporter", *arguments])
            result = judge(
                options.model,
                options.data,
                against=options.against,
                report=options.report,
                command=command,
                **settings,
            )
    print(json.dumps(result.as_dict(), indent=2, allow_nan=False) if options.json else result)
    if options.report is not None:
        say(f"{options.report}: {options.report.stat().st_size / 1024:,.0f} KiB")
