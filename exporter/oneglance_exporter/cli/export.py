"""``export encoder`` and ``export stylizer``: parse, call one function, print."""

import argparse
from pathlib import Path

from oneglance_exporter.cli.options import model_name


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
    exporter.set_defaults(run_command=_export)


def _export(options: argparse.Namespace, arguments: list[str]) -> None:
    print({"encoder": _encoder, "stylizer": _stylizer}[options.kind](options))


def _encoder(options: argparse.Namespace) -> str:
    from oneglance_exporter.encoder.export import export

    run, out = Path(options.run), Path(options.out)
    manifest = export(run, out, options.name, options.description, options.license, options.checkpoint)
    told = manifest.training
    error = f", one-shot error {told['validation_error']:.1%}" if "validation_error" in told else ""
    checkpoint = f"the {told['checkpoint']} checkpoint (step {told['steps']}{error})"
    head = ""
    if manifest.pair_head is not None:
        fitted = (
            "made probabilities on --validation" if "pair_head_fit" in told else "not fitted: there was no --validation"
        )
        head = f", with its pair head ({manifest.pair_head.form}; {fitted})"
    return (
        f"{options.out}: {manifest.name}, {manifest.output.dimension} numbers{head}, {checkpoint}, parity checked; "
        "no threshold yet"
    )


def _stylizer(options: argparse.Namespace) -> str:
    from oneglance_exporter.errors import SettingsError
    from oneglance_exporter.stylizer.export import export

    if options.checkpoint:
        raise SettingsError("--checkpoint is for encoders: a stylizer's run has only one")
    manifest = export(Path(options.run), Path(options.out), options.name, options.description, options.license)
    names = ", ".join(style.name for style in manifest.styles)
    return f"{options.out}: {manifest.name}, {len(manifest.styles)} styles ({names}), parity checked"
