"""The commands that move a gallery to another encoder while it answers, one RPC each."""

import itertools
from collections.abc import Iterable

from google.protobuf.message import Message

from oneglance.client.sync_client import Client
from oneglance_apps.cli.arguments import GALLERY
from oneglance_apps.cli.commands import Options, argument, command
from oneglance_apps.text import counted
from oneglance_core.defaults import COMPARE_SHARE
from oneglance_core.progress import Progress
from oneglance_core.ranges import within

LEAVE = argument(
    "--leave",
    "though subjects are left: they are in no answer until roll-back, or until they are enrolled",
    action="store_true",
)


@command(
    "begin to move a gallery to another encoder: make the gallery that is to take its place. Fill that with"
    " bulk-enroll, enroll-encodings or fill-from-crops (get-move and list-left tell what is left), calibrate it, then"
    " cut-over; roll-back undoes that, end-move ends it. What is enrolled or deleted meanwhile is enrolled or deleted"
    " in both",
    GALLERY,
    argument("successor", "id of the gallery that is made", metavar="SUCCESSOR"),
    argument("--encoder", "its model, by name or digest", required=True, metavar="MODEL"),
    argument(
        "--compare-share",
        f"share of live probes that both are asked, 0 to 1 [{COMPARE_SHARE}]",
        type=within(float, least=0, most=1),
        metavar="SHARE",
    ),
)
def start_move(client: Client, o: Options) -> Iterable[Message]:
    yield client.start_move(o.gallery, o.successor, o.encoder, compare_share=o.compare_share)


@command("tell how far the move of a gallery to another encoder has come, by either of its two galleries", GALLERY)
def get_move(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_move(o.gallery)


@command("list the subjects that are left to be moved, and those that are only mapped", GALLERY)
def list_left(client: Client, o: Options) -> Iterable[Message]:
    return client.list_left(o.gallery)


@command(
    "fill the gallery that waits from the crops that the other one keeps (set-keep-crops): make encodings of those of"
    " all subjects that are left, and tell what can't be made again. Ended, it goes on",
    GALLERY,
    argument(
        "--fewer",
        "move subjects also with fewer encodings: where the model refuses a crop, or none was kept of one",
        action="store_true",
    ),
)
def fill_from_crops(client: Client, o: Options) -> Iterable[Message]:
    changed = True
    while changed:  # those that changed while they were to be moved are looked at again
        changed = False
        for page in client.fill_from_crops(o.gallery, fewer=o.fewer):
            changed = changed or page.changed_count > 0
            yield page
    yield client.get_move(o.gallery)


@command(
    "a stop-gap for subjects of whom no picture is left: enroll all who are left into the gallery that a move made,"
    " with encodings that a map makes of the former encoder's. It is fitted on what was enrolled in both, and measured"
    " before anything is written. Each answer tells what it costs, until such a subject is enrolled again. Ended, it"
    " goes on when it is given again",
    GALLERY,
    argument("--dry-run", "fit and measure it, and write nothing", action="store_true"),
)
def fill_by_map(client: Client, o: Options) -> Iterable[Message]:
    answers = client.fill_by_map(o.gallery, dry_run=o.dry_run)
    yield from itertools.islice(answers, 1)
    last = None
    with Progress() as progress:
        for last in answers:
            words = f"{last.mapped_count:,} of about {counted(last.subject_count, 'subject')} mapped"
            progress.show(last.mapped_count, last.subject_count, words)
    if last is not None:
        yield last


@command("let the gallery that a move made answer under the gallery's id, and that one wait", GALLERY, LEAVE)
def cut_over(client: Client, o: Options) -> Iterable[Message]:
    yield client.cut_over(o.gallery, leave=o.leave)


@command("let the gallery that answered before cut-over answer again", GALLERY, LEAVE)
def roll_back(client: Client, o: Options) -> Iterable[Message]:
    yield client.roll_back(o.gallery, leave=o.leave)


@command(
    "end a move and delete the gallery that waits, for good: give it up before cut-over, finish it after",
    GALLERY,
    argument("--keep-waiting", "the gallery that waits stays, as any other", action="store_true"),
)
def end_move(client: Client, o: Options) -> Iterable[Message]:
    yield client.end_move(o.gallery, keep_waiting=o.keep_waiting)
