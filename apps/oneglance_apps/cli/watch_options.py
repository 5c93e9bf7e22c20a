"""The options of ``oneglance watch``."""

import argparse

from oneglance_apps.connection import add_connection_options
from oneglance_apps.frames.region import WHOLE, region
from oneglance_apps.watch.settings import AppearanceRules, DeliveryRules, WatchSettings
from oneglance_core.ranges import seconds, within


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("gallery", metavar="GALLERY", help="gallery id")
    command.add_argument("sources", metavar="SOURCE", nargs="+", help="file, folder, number of a camera, URL")
    add_connection_options(command)
    command.add_argument(
        "--timeout",
        type=seconds(above=0),
        default=30.0,
        metavar="SECONDS",
        help="deadline of the first calls [%(default)g]",
    )
    command.add_argument(
        "--tau", type=within(float), help="threshold, squared L2 or a score by margin [the gallery's, else the model's]"
    )
    command.add_argument(
        "--fps",
        type=within(float, least=0.001, most=1000),
        default=WatchSettings.fps,
        metavar="N",
        help="frames looked at per second, at most [%(default)g]",
    )
    command.add_argument(
        "--max-side",
        type=within(int, least=1, most=65_535),
        default=WatchSettings.max_side,
        metavar="PIXELS",
        help="larger frames are shrunk to that. 3840 finds in 4K the small faces that 1280 finds in 720p, at nine "
        "times the cost: the server searches frames at this size, too. A --region costs less [%(default)s]",
    )
    command.add_argument(
        "--region",
        type=region,
        default=WHOLE,
        metavar="X,Y,WIDTH,HEIGHT",
        help="look at this part of the frame only, in shares of it: 0.25,0,0.5,1 is the middle half [all of it]",
    )
    command.add_argument(
        "--latency",
        type=seconds(above=0),
        default=WatchSettings.latency,
        metavar="SECONDS",
        help="from when a camera takes a frame to when its faces are known: fewer frames are under way while it is "
        "longer, and `behind` is told [%(default)g]",
    )
    command.add_argument(
        "--small-faces",
        choices=["never", "when-none", "when-wide", "always"],
        default=WatchSettings.small_faces,
        help="search for faces below the detector's window, too; slow on every empty frame [%(default)s]",
    )
    command.add_argument(
        "--turned",
        action="store_true",
        help="search frames without an upright face in their other three turns, too; slow on every empty frame",
    )
    command.add_argument(
        "--confirm",
        type=within(int, least=1, most=1000),
        default=AppearanceRules.confirm,
        metavar="N",
        help="frames that must agree on a name [%(default)s]",
    )
    command.add_argument(
        "--unknown-after",
        type=seconds(least=0),
        default=AppearanceRules.unknown_after,
        metavar="SECONDS",
        help="how long a face must stay unknown to be announced [%(default)g]",
    )
    command.add_argument(
        "--gone",
        type=seconds(above=0),
        default=AppearanceRules.gone,
        metavar="SECONDS",
        help="unseen for so long, an appearance is over [%(default)g]",
    )
    command.add_argument("--leave", action="store_true", help="an event when an appearance is over, too")
    command.add_argument(
        "--alone",
        nargs="?",
        choices=["strangers", "anybody"],
        const="anybody",
        default="",
        help="`identified` only while nobody else, or no stranger, is in view; until then `accompanied` [anybody]",
    )
    command.add_argument(
        "--follower-faces",
        type=within(int, least=1, most=1000),
        default=AppearanceRules.follower_faces,
        metavar="N",
        help="so many clear unknown faces in a row, in the place of somebody known who was there just before, are "
        "`unknown` at once [%(default)s]",
    )
    command.add_argument(
        "--repeat",
        type=seconds(above=0),
        metavar="SECONDS",
        help="`present`, so often, while somebody who was announced is still identified [never]",
    )
    _add_camera_options(command)
    _add_output_options(command)


def _add_camera_options(command: argparse.ArgumentParser) -> None:
    cameras = command.add_argument_group("cameras and streams")
    cameras.add_argument(
        "--lost-after",
        type=seconds(above=0),
        default=WatchSettings.lost_after,
        metavar="SECONDS",
        help="without a frame, until `camera_lost` is told [%(default)g]",
    )
    cameras.add_argument(
        "--connect-timeout", type=seconds(above=0), default=10.0, metavar="SECONDS", help="to open a URL [%(default)g]"
    )
    cameras.add_argument(
        "--read-timeout",
        type=seconds(above=0),
        default=10.0,
        metavar="SECONDS",
        help="a URL that gives nothing for so long is opened again [%(default)g]",
    )
    cameras.add_argument(
        "--rtsp-transport", choices=["tcp", "udp", "http"], default="tcp", help="UDP may lose packets [%(default)s]"
    )


def _add_output_options(command: argparse.ArgumentParser) -> None:
    outputs = command.add_argument_group("outputs", "Each takes every event, as JSON (docs/watch.md). May be repeated.")
    outputs.add_argument("--json", action="store_true", help="print events as JSON, one per line")
    outputs.add_argument("--post", metavar="URL", action="append", default=[], help="post each event there")
    outputs.add_argument(
        "--exec",
        metavar="COMMAND",
        action="append",
        default=[],
        help="run this for each event, without a shell; the event is its standard input",
    )
    outputs.add_argument(
        "--mqtt",
        metavar="URL",
        action="append",
        default=[],
        help="publish each event: mqtt://USER:PASSWORD@HOST/TOPIC",
    )
    outputs.add_argument(
        "--delivery",
        choices=["at-most-once", "at-least-once"],
        default=DeliveryRules.delivery,
        help="at-most-once: what may have arrived is not sent again; at-least-once: an event is sent until it is "
        "taken, or too old [%(default)s]",
    )
    outputs.add_argument(
        "--max-age",
        type=seconds(above=0),
        default=DeliveryRules.identified_seconds,
        metavar="SECONDS",
        help="`identified`, `present` and `accompanied` that are older are not sent; `expired` is told [%(default)g]",
    )
    outputs.add_argument(
        "--max-age-other",
        type=seconds(above=0),
        default=DeliveryRules.other_seconds,
        metavar="SECONDS",
        help="the same of other events [%(default)g]",
    )
    outputs.add_argument(
        "--answer-timeout",
        type=seconds(above=0),
        default=DeliveryRules.answer_seconds,
        metavar="SECONDS",
        help="how long an output may take to answer [%(default)g]",
    )
    outputs.add_argument(
        "--heartbeat",
        type=seconds(least=0),
        default=30.0,
        metavar="SECONDS",
        help="a live source tells so often that it is watched; 0: never [%(default)g]",
    )
    outputs.add_argument(
        "--metrics",
        type=_address,
        metavar="[HOST:]PORT",
        help="serve Prometheus metrics there; without HOST to this machine only",
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", within(int, least=0, most=65535)(port)
