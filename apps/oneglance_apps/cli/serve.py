"""``oneglance serve``: run a server. Each of its settings is a flag, an environment variable and a TOML key."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oneglance_apps.console.process import ConsoleError, ConsoleProcess, listening_socket, start_console
from oneglance_apps.limits import NO_LIVENESS

if TYPE_CHECKING:
    from oneglance_server.settings import Settings

DESCRIPTION = """\
Serve oneglance.v1 over gRPC, with health checks and reflection, until SIGTERM,
SIGINT (Ctrl-C) or SIGHUP; a second one ends it at once.

Every flag is also an environment variable (--max-batch is ONEGLANCE_MAX_BATCH)
and a key of the TOML file given with --config (max_batch). Flags win over the
environment, the environment over the file.

Once everything is loaded, one line on stdout says the address.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, with_settings: bool) -> None:
    """``with_settings``: add a flag per setting, which needs more than the bare install."""
    command = commands.add_parser(
        "serve",
        help="run a server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    if not with_settings:
        return
    from oneglance_core.flags import add_flags
    from oneglance_server.settings import Settings

    add_flags(command.add_argument_group("settings"), Settings)


def run(options: argparse.Namespace) -> int:
    import structlog

    from oneglance_core.flags import given_values
    from oneglance_server.environment import unknown_variables
    from oneglance_server.errors import StartupError
    from oneglance_server.logs import LOG_SECONDS, configure_logs, log_everything
    from oneglance_server.process import run_until_signalled
    from oneglance_server.settings import Settings, load_settings

    console: ConsoleProcess | None = None
    settings: Settings | None = None

    def announce(address: str) -> None:
        nonlocal console
        assert settings is not None
        if settings.console:
            console = start_console(
                settings.console, address, insecure=settings.insecure, watch_events=settings.console_watch_events
            )
            structlog.get_logger().info("console", url=console.url)
            structlog.get_logger().warning("no liveness check", meaning=NO_LIVENESS)  # the console may use a camera
        _say(f"oneglance is serving on {address}")

    try:
        settings = load_settings(given_values(options, Settings), options.config)
        sink = configure_logs(settings.log_format, settings.log_level)
        log_everything(sink, settings.log_format)
        for words in unknown_variables(os.environ, Settings.model_fields):
            structlog.get_logger().warning("unknown variable", variable=words)
        if settings.console:
            listening_socket(settings.console).close()  # said before models are loaded
        run_until_signalled(settings, sink, announce)
    except (StartupError, ConsoleError) as error:
        if _log_format(options, settings) == "json":
            sink = configure_logs("json", "error")
            structlog.get_logger().error("not started", error=str(error))
            sink.wait_until_written(LOG_SECONDS)
        else:
            print(f"oneglance serve: {error}", file=sys.stderr)
        return 1
    finally:
        if console is not None:
            console.stop()
    return 0


def _log_format(options: argparse.Namespace, settings: "Settings | None") -> str:
    """As far as it is known where settings are wrong."""
    if settings is not None:
        return settings.log_format
    return str(getattr(options, "log_format", os.environ.get("ONEGLANCE_LOG_FORMAT", "text")))


def _say(line: str) -> None:
    """Print it, if somebody can read it."""
    try:
        print(line, flush=True)
    except OSError:
        # What is left in the buffer would fail again when Python ends, and spoil the exit status.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
