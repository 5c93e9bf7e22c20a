"""``export encoder`` and ``export stylizer``: parse, call one function, print."""

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import get_args

from oneglance_core.folder import check_replaceable
from oneglance_core.ranges import within
from oneglance_exporter.cli.options import model_name
from oneglance_exporter.cli.pictures import add_reading, read_as, say
from oneglance_exporter.cli.quantize import told_of
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.quantize.settings import Precision


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``export``."""
    exporter = commands.add_parser("export", help="write a run's encoder or stylizer as a model folder")
    exporter.add_argument(
        "kind", nargs="?", choices=["encoder", "stylizer"], default="encoder", help="what was trained [%(default)s]"
    )
    exporter.add_argument("--run", required=True, metavar="RUN_DIR")
    exporter.add_argument("--out", required=True, metavar="MODEL_DIR", help="replaced if it is there")
    exporter.add_argument("--name", required=True, type=model_name, help="as clients will know it: a-z 0-9 . _ -")
    exporter.add_argument("--description", default="", help="one sentence for people")
    exporter.add_argument("--license", default="", help="of the weights and of the data behind them")
    exporter.add_argument(
        "--checkpoint",
        choices=["best", "last"],
        help="of an encoder's run [the best on --validation, if the run had one, else the last]",
    )
    encoder = exporter.add_argument_group("of an encoder")
    encoder.add_argument(
        "--opset",
        type=within(int, least=1, most=99),
        metavar="N",
        help="version of ONNX's operators [the tracer's choice]",
    )
    encoder.add_argument(
        "--whiten",
        type=within(float, above=0, most=1),
        metavar="SHRINKAGE",
        help="add a last map, under which examples of one subject vary alike in every direction; learned from what "
        "was trained on. The nearer to 1, the less it does. Try 0.2 where subjects are few [none]",
    )
    encoder.add_argument(
        "--precision",
        choices=["fp32", *get_args(Precision)],
        default="fp32",
        help="int8 and fp16: as quantize does it, calibrated on --data, with the cost in accuracy [%(default)s]",
    )
    encoder.add_argument(
        "--data",
        nargs="+",
        default=(),
        metavar="PATH",
        help="real examples to try the graph on [those of the training]; for int8, fp16 subjects never trained on",
    )
    add_reading(encoder)
    exporter.set_defaults(run_command=_export)


def _export(options: argparse.Namespace, arguments: list[str]) -> None:
    if options.kind == "stylizer":
        print(_stylizer(options))
    elif options.precision == "fp32":
        print(_encoder(options, options.out))
    else:
        print(_encoder_in_fewer_bits(options, arguments))


def _encoder_in_fewer_bits(options: argparse.Namespace, arguments: list[str]) -> str:
    from oneglance_exporter.api import quantize

    if not options.data:
        raise SettingsError(f"--precision {options.precision} needs --data: subjects never trained on")
    check_replaceable(options.out)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "fp32"
        say(_encoder(options, str(whole)))
        manifest = quantize(
            whole,
            options.data,
            options.out,
            name=options.name,
            command=shlex.join(["oneglance-exporter", *arguments]),
            precision=options.precision,
            **read_as(options),
        )
    return told_of(manifest, options.out)


def _encoder(options: argparse.Namespace, out: str) -> str:
    from oneglance_exporter.api import export

    manifest = export(
        options.run,
        out,
        options.name,
        description=options.description,
        license=options.license,
        which=options.checkpoint,
        opset=options.opset,
        whiten=options.whiten,
        data=options.data,
        finders=options.finders,
        aligned=options.aligned,
    )
    told, checked = manifest.training, manifest.training["checked"]
    error = f", one-shot error {told['validation_error']:.1%}" if "validation_error" in told else ""
    checkpoint = f"the {told['checkpoint']} checkpoint (step {told['steps']}{error})"
    head = ""
    if manifest.pair_head is not None:
        fitted = (
            "made probabilities on --validation" if "pair_head_fit" in told else "not fitted: there was no --validation"
        )
        head = f", with its pair head ({manifest.pair_head.form}; {fitted})"
    real = f"{checked['real_inputs']} real" if checked["real_inputs"] else "no real inputs, for want of --data,"
    return (
        f"{options.out}: {manifest.name}, {manifest.output.dimension} numbers{head}, {checkpoint}, opset "
        f"{checked['opset']}, parity checked on {real} and {checked['invented_inputs']} invented inputs; "
        "no threshold yet"
    )


def _stylizer(options: argparse.Namespace) -> str:
    from oneglance_exporter.stylizer.export import export

    if options.checkpoint:
        raise SettingsError("--checkpoint is for encoders: a stylizer's run has only one")
    if options.opset or options.data or options.whiten is not None or options.precision != "fp32":
        raise SettingsError("--opset, --whiten, --data and --precision are for encoders")
    manifest = export(Path(options.run), Path(options.out), options.name, options.description, options.license)
    names = ", ".join(style.name for style in manifest.styles)
    return f"{options.out}: {manifest.name}, {len(manifest.styles)} styles ({names}), parity checked"
