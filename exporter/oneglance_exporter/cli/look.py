"""``look``: what the layers of an encoder learned. Parse, call one function, print."""

import argparse
from pathlib import Path

from oneglance_core.flags import add_flags, given_values
from oneglance_exporter.cli.pictures import add_pictures, read_as, say
from oneglance_exporter.look.settings import LookSettings

_EPILOG = """\
  oneglance-exporter look --model models/mine --data drawings.zip --out layers.png
  oneglance-exporter look --model models/mine --data drawings.zip --list
  oneglance-exporter look --model models/mine --data drawings.zip --out layers.html --layers 1 5 --units 0 3 17

The number beside a unit's is its output in the first patch. What lies outside of the input is tinted.
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``look``."""
    parser = commands.add_parser(
        "look",
        help="show the patches that excite the units of an encoder's layers most",
        description="Write a sheet: for chosen layers and units the nine patches of the data that excite each unit\n"
        "most (Zeiler & Fergus 2013), cut by the unit's receptive field. Signals are shown as curves,\n"
        "volumes as their three middle slices.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(parser, "what to look through: .../subject/example, any number of each subject")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the sheet, .png or .html; replaced if it is there")
    parser.add_argument("--list", action="store_true", help="list the layers, and look at nothing")
    add_flags(parser, LookSettings)
    parser.set_defaults(run_command=_look)


def _look(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.folder import read_model_folder
    from oneglance_exporter.api import look
    from oneglance_exporter.cli.outputs import check_outputs
    from oneglance_exporter.errors import SettingsError
    from oneglance_exporter.look.look import layers_in

    if options.list:
        for number, layer in enumerate(layers_in(read_model_folder(options.model)), 1):
            places, size, stride = (" x ".join(map(str, n)) for n in (layer.places, layer.size, layer.stride))
            print(
                f"{number:3}  {layer.name}: {layer.kind}, {layer.channels} units at {places}; see {size} every {stride}"
            )
        return
    if options.out is None:
        raise SettingsError("say where the sheet goes: --out, or --list the layers")
    check_outputs({"--out": (options.out, (".png", ".html"))}, [])
    for title in look(
        options.model, options.data, options.out, **read_as(options), **given_values(options, LookSettings)
    ):
        say(title)
    print(options.out)
