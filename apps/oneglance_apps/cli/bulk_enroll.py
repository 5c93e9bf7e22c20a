"""``oneglance bulk-enroll``: enroll a folder of photos, and say of each what became of it."""

import argparse
import json
from pathlib import Path

from oneglance.client.sync_client import Client
from oneglance_apps.bulk.account import Account, left_out_fields, result_fields
from oneglance_apps.bulk.enroll import EnrollOptions, FolderEnrollment, Result
from oneglance_apps.bulk.labels import read_labels
from oneglance_apps.bulk.listing import list_folder
from oneglance_apps.cli.arguments import (
    ACCEPT_BREACHES,
    FACE,
    GALLERY,
    ON_DOUBT,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
    file_example,
    is_example,
)
from oneglance_apps.cli.commands import Options, call_options, run_with_client
from oneglance_apps.signals import exit_on_signals
from oneglance_core.printable import printable
from oneglance_core.progress import Progress
from oneglance_core.ranges import within

EXIT_SOME_MISSING = 3
DESCRIPTION = """\
Enroll a folder of photos, or of sounds: SUBJECT/photo.jpg, any number of each, and
SUBJECT.jpg. Each photo is enrolled by itself, so a broken one takes no other with it,
and each gets a line: enrolled, skipped, refused, failed, or left out, and why.

The same command can be given again: photos whose content is enrolled as that subject
are skipped, so a second run changes nothing, and one that was ended, however, goes on.
The server keeps the SHA-256 of a photo as the key of its encoding, and the file's name
as its source, both encrypted: so that holds on any machine, and after a rename.
"""
EPILOG = f"""\
examples:
  oneglance bulk-enroll people photos/ --dry-run
  oneglance bulk-enroll people photos/ --labels people.csv --report outcome.json
  oneglance bulk-enroll people photos/ --nested last      photos/CLASS/SUBJECT/1.jpg

--labels: a CSV file whose first line is subject,LABEL,LABEL,...

exit status: 0 every photo is enrolled (also: before); {EXIT_SOME_MISSING} some are not, they are
named, and the others are; 1 the run was ended: no server, no such gallery, no right,
a full disk; 2 wrong arguments, or no photos; 130 Ctrl-C, 143 SIGTERM.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "bulk-enroll",
        help="enroll a folder of pictures or sounds",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[call_options(no_timeout="as long it waits for a server that is started again, too")],
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(GALLERY.flag, **GALLERY.options)
    add("folder", type=Path, metavar="DIR", help="SUBJECT/photo.jpg and SUBJECT.jpg")
    add(
        "--on-existing",
        choices=["skip", "add", "replace", "fail"],
        default="skip",
        help="skip: photos that are enrolled already, by content; add: enroll every photo, again as well; replace: the "
        "subject by the photos that are here; fail: refuse subjects that are enrolled [skip]",
    )
    add(
        "--nested",
        choices=["refuse", "top", "last"],
        default="refuse",
        help="photos in folders below SUBJECT/: refuse: leave them out; top: they are SUBJECT's; last: they are of the "
        "subject that their own folder is named for [refuse]",
    )
    add("--labels", type=Path, metavar="FILE.csv", help="labels of the subjects")
    add("--dry-run", action="store_true", help="say what would be sent; enroll nothing")
    add("--report", type=Path, metavar="FILE.json", help="write there what became of every file, however the run ends")
    add("--in-flight", type=within(int, least=1, most=64), default=8, metavar="N", help="calls at once [%(default)s]")
    for item in (ACCEPT_BREACHES, ON_DOUBT, FACE, SMALL_FACES_OPTION, UPRIGHT_ONLY):
        add(item.flag, **item.options)


def run(o: Options) -> int:
    with exit_on_signals():
        return run_with_client(o, lambda client: _bulk_enroll(client, o))


def result_line(result: Result) -> str:
    name, subject = result.photo.name, result.photo.subject
    if result.outcome == "enrolled":
        line = f"{name}: enrolled as {subject}, encoding id {result.encoding_id}"
    elif result.outcome == "planned":
        line = f"{name}: would be enrolled as {subject}"
    else:
        line = f"{name}: {result.outcome} for {subject}: {result.why}"
    return "\n".join([printable(line), *(printable(f"  doubtful: {note}") for note in result.notes)])


def _bulk_enroll(client: Client, o: Options) -> None:
    labels = read_labels(o.labels) if o.labels else {}
    listing = list_folder(o.folder, is_example, o.nested)
    if not listing.photos and not any(one.photo for one in listing.left_out):
        raise ValueError(f"{o.folder}: no photos in it")
    account = Account(o.gallery, str(o.folder), listing)
    if o.report:
        account.write(o.report)  # of a run that is killed there is one, too; and what can't be written is told now
    with Progress() as progress:
        for subject in sorted(labels.keys() - listing.by_subject().keys()):
            progress.say(
                f"oneglance: {o.labels} has labels of {printable(subject)}, of whom there is no photo", error=True
            )
        for one in listing.left_out:
            progress.say(json.dumps(left_out_fields(one)) if o.json else printable(f"{one.name}: left out: {one.why}"))
        options = EnrollOptions(
            gallery_id=o.gallery,
            on_existing=o.on_existing,
            labels=labels,
            accept_breaches=o.accept_breaches,
            doubt_policy=o.on_doubt,
            dry_run=o.dry_run,
            patience_seconds=o.timeout,
        )
        try:
            enrollment = FolderEnrollment(client, options, lambda photo, content: file_example(photo.path, content, o))
            for result in enrollment.results(listing, o.in_flight):
                account.results.append(result)
                progress.say(json.dumps(result_fields(result)) if o.json else result_line(result))
                progress.show(len(account.results), len(listing.photos), account.progress())
        finally:
            progress.say(f"oneglance: {account.summary()}", error=True)
            if o.report:
                account.write(o.report)
    o.status = 0 if account.complete else EXIT_SOME_MISSING
