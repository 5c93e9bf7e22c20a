"""``oneglance enroll-encodings``: enroll the encodings of a file, many subjects a message."""

import argparse
import json
from collections import Counter
from pathlib import Path

from oneglance.client.errors import from_error
from oneglance.client.requests import OnExisting, encoded_subject
from oneglance.client.sync_client import Client
from oneglance_apps.bulk.labels import read_labels
from oneglance_apps.cli.arguments import GALLERY
from oneglance_apps.cli.commands import Options, call_options, run_with_client
from oneglance_apps.signals import exit_on_signals
from oneglance_core.printable import printable
from oneglance_core.progress import Progress

EXIT_SOME_MISSING = 3
DESCRIPTION = """\
Enroll encodings that there are already: FILE.npz with the arrays subjects and
encodings, as `oneglance-exporter encode` writes it; FILE.npy, float [N, D], with
--subjects; or FILE.parquet with the columns subject and encoding. All encodings of a
subject are enrolled together, 64 at most. Those who are refused get a line each.

The same command can be given again: subjects that are enrolled are skipped, so one
that was ended, however, goes on. Nobody is compared with anybody: where the gallery
doubts enrollments, it takes --on-doubt off, and the right to calibrate.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "enroll-encodings",
        help="enroll the encodings of a file, thousands a second",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[call_options(no_timeout="it has none")],
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(GALLERY.flag, **GALLERY.options)
    add("file", type=Path, metavar="FILE", help="FILE.npz, FILE.npy or FILE.parquet")
    add("--subjects", type=Path, metavar="FILE.txt", help="with FILE.npy: a line for each encoding, whose it is")
    add("--encoder-digest", metavar="DIGEST", default="", help="of the encoder that made them [what FILE.npz says]")
    add(
        "--on-existing",
        choices=["skip", "add", "replace"],
        default="skip",
        help="skip: subjects that are enrolled; add: to what they have; replace: what they have [skip]",
    )
    add("--labels", type=Path, metavar="FILE.csv", help="labels of the subjects, as of bulk-enroll")
    add("--on-doubt", choices=["off"], default="", help="off: though the gallery looks for doubts [the gallery's]")


def run(o: Options) -> int:
    with exit_on_signals():
        return run_with_client(o, lambda client: _enroll(client, o))


def _enroll(client: Client, o: Options) -> None:
    from oneglance_apps.bulk.encodings import read_encodings

    file = read_encodings(o.file, o.subjects)
    digest = o.encoder_digest or file.digest
    if not digest:
        raise ValueError(f"{o.file} doesn't say which encoder made them: give --encoder-digest")
    labels = read_labels(o.labels) if o.labels else {}
    total = file.subject_count
    on_existing: OnExisting = "fail" if o.on_existing == "skip" else o.on_existing
    names = (subject for subject, _ in file.by_subject())
    new = (encoded_subject(subject, rows, labels.get(subject)) for subject, rows in file.by_subject())
    counts: Counter[str] = Counter()
    with Progress() as progress:
        outcomes = client.bulk_enroll_encodings(
            o.gallery, new, encoder_digest=digest, on_existing=on_existing, doubt_policy=o.on_doubt
        )
        try:
            for subject, outcome in zip(names, outcomes, strict=False):
                error = from_error(outcome.error) if outcome.HasField("error") else None
                if error is None:
                    counts["enrolled"] += 1
                elif error.reason == "SUBJECT_EXISTS":
                    counts["there before"] += 1
                else:
                    counts["refused"] += 1
                    told = {"subject": subject, "reason": error.reason, "why": error.message}
                    progress.say(json.dumps(told) if o.json else printable(f"{subject}: refused: {error.message}"))
                progress.show(counts.total(), total, f"{counts.total():,} of {total:,} subjects")
        finally:
            summary = ", ".join(f"{counts[word]:,} {word}" for word in ("enrolled", "there before", "refused"))
            progress.say(printable(f"oneglance: {o.gallery}: of {total:,} subjects {summary}"), error=True)
    o.status = EXIT_SOME_MISSING if counts["refused"] else 0
