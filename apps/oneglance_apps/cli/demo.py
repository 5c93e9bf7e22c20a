"""``oneglance demo``: all features, on a server of its own."""

import argparse
import sys

DESCRIPTION = """\
Start a real server on a free loopback port and use it: enroll every subject from
one picture, identify new pictures of them and pictures of strangers, verify pairs,
delete a subject, kill the server with SIGKILL and restart it, and repaint a
picture in every style. It prints the results, and writes one HTML page with the
pictures and every figure.

Without --images the subjects are characters of invented alphabets, drawn by
simulated writers. With --images they are yours: DIR/SUBJECT/*.png (or jpg, webp,
bmp, gif, tiff, pnm), or one level deeper, DIR/GROUP/SUBJECT/*. The first picture
of each is enrolled, the others are probes; a third of the subjects are strangers. Of the
encoders in --models the one that such pictures are made for is used; when none is, the
demo says so and ends. The bundled one is made for drawings, dark on light.

The gallery's threshold is fitted on half of the strangers, to let in the share of
them given by --fpir; its error rates are measured on the other half. With fewer than
100 pictures to fit it on, it stays the model's, and the demo says so.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, with_settings: bool) -> None:
    """``with_settings``: add a flag per setting, which needs more than the bare install."""
    command = commands.add_parser(
        "demo",
        help="all features, on a server of its own",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    if not with_settings:
        return
    from oneglance_apps.demo.settings import DemoSettings
    from oneglance_core.flags import add_flags

    add_flags(command, DemoSettings)


def run(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from oneglance.client.errors import OneglanceError
    from oneglance_apps.demo.errors import DemoError
    from oneglance_apps.demo.run import run_demo
    from oneglance_apps.demo.settings import DemoSettings
    from oneglance_apps.demo.step_printer import StepPrinter
    from oneglance_apps.server_process import ServerProcessError
    from oneglance_core.flags import complaints, given_values

    try:
        settings = DemoSettings(**given_values(options, DemoSettings))
        results = run_demo(settings, StepPrinter())
    except ValidationError as error:
        print("\n".join(f"oneglance demo: {line}" for line in complaints(error)), file=sys.stderr)
        return 1
    except (DemoError, ServerProcessError, OneglanceError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"oneglance demo: {error}", file=sys.stderr)
        return 1
    return 0 if results.held else 1
