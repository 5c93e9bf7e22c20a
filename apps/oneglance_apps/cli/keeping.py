"""What needs no server: ``oneglance check``, ``audit``, ``backup`` and others for a data directory, ``doctor``."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from oneglance_core.data_directory import SHOWN, chosen_data_directory
from oneglance_core.printable import printable
from oneglance_core.ranges import within

Options = argparse.Namespace

CHECK = """\
Read everything in a data directory, or in a backup, and say what is lost: rows that
were changed, dropped, doubled, or put back to what they were. Nothing is written, and
a server may go on with it meanwhile. Ids that differ only in how they are spelled, which
an earlier version took for two names, are listed, too: rename or merge those subjects.
The master key is asked for by --master-key; else it is master.key beside the data. Exit
status: 0 all is there, 1 something is lost.
"""
BACKUP = """\
Write the galleries of a data directory to one file, as they are at one moment, and
check it. A server may go on writing meanwhile. The file is in place once it is whole,
and on the disk; until then a former one of that name stays. What it holds is encrypted,
its keys are encrypted with the master key, and that is not in it: keep master.key of
the data directory, or where else yours is, apart from it, and don't lose it.
"""
RESTORE = """\
Put a backup into a data directory, after a check with the master key that it was made
with: master.key there, or --master-key. No server may have the directory open. What is
there is moved to a folder of it, former-1 or the next, once the check was passed: remove
that as soon as you can, since what is deleted from then on can be read there.
"""
REPAIR = """\
Copy what is sound in a damaged data directory to a new database, take what is lost
from a backup if there is one, and say what could not be saved. Nobody who was deleted
comes back. No server may have the directory open. The damaged files are moved to a
folder of it, former-1 or the next. Exit status: 0 all was saved, 1 something was not.
"""
RECEIPT = """\
Check the receipt that a deletion was answered with, and print what it says: what was
deleted, when, and until when backups may still have it. Exit status: 0 it was signed
by the store of this key, 1 it was not.
"""

UPGRADE = """\
Say whether this version opens a data directory, from which schema to which it would be
converted, and about how long and how much room that takes. It is a rehearsal: nothing
is written, and a server may have the directory open. Exit status: 0 it can be opened,
1 it can't: a later version wrote it, there is no room, or there is no store.
"""
DOCTOR = """\
Look at this host and say whether a server can run here and what to expect of it:
versions, processor, memory, disk and how long it takes to sync, open files, clock,
the card where one is asked for, model folders, and the data directory. One small file
is written where the data is, and removed. Exit status: 0 a server can run, 1 it can't.
"""
FIRST_KEY = """\
Make an API key for the identity key:NAME in a data directory, without asking a server;
one that serves it takes the key within a second. So the first administrator gets in,
to whom the policy file grants the rest. Later keys: oneglance create-api-key. The
secret is printed this once; only its hash is kept.
"""

AUDIT = """\
Read the audit trail of a data directory, whether or not a server has it open: who did
what to which gallery and subject, what was decided, from where, with which tau and
model. docs/security.md explains it.
"""
AUDIT_TAIL = "Print the newest entries, one JSON object a line, the oldest of them first."
AUDIT_EXPORT = """\
Print all entries, one JSON object a line, and at the end the signed head. Keep that
line elsewhere: verify --head tells later whether the trail still is what it was.
"""
AUDIT_VERIFY = """\
Check that no entry was edited, dropped or moved, and that the head was signed by the
store. Without --public-key, receipts.pub of the directory says by whom: keep a copy of
that elsewhere, too. Prints the first entry that is wrong. Exit status: 0 all is as it
was written, 1 it isn't.
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    directory = ("data_dir", "DIR", f"the data directory [{SHOWN}]")
    check = _add(
        commands,
        "check",
        "say what is lost in a data directory",
        CHECK,
        _check,
        ("data", "DIR", f"or a backup [{SHOWN}]"),
    )
    repairing = _add(commands, "repair", "put a damaged data directory right", REPAIR, _repair, directory)
    repairing.add_argument("--backup", type=Path, metavar="FILE", help="of oneglance backup")
    restoring = _add(commands, "restore", "put a backup into a data directory", RESTORE, _restore,
                     ("file", "FILE", "of oneglance backup"), directory)  # fmt: skip
    backing_up = _add(commands, "backup", "copy the galleries to a file, while a server runs", BACKUP, _backup,
                      directory, ("file", "FILE", "where to"))  # fmt: skip
    for command in (check, repairing, restoring, backing_up):
        command.add_argument(
            "--master-key", default="", metavar="WHERE", help="file:PATH, env:NAME or command:WORDS, as for serve"
        )
    _add(commands, "check-upgrade", "say what an upgrade of a data directory takes", UPGRADE, _check_upgrade, directory)
    doctor = _add(commands, "doctor", "say whether this host can run a server", DOCTOR, _doctor)
    doctor.add_argument("--data-dir", dest="data_dir", metavar="DIR", help=f"as for serve [{SHOWN}]")
    doctor.add_argument("--models", default="", metavar="DIR[:DIR]", help="as for serve [the bundled ones]")
    doctor.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda or cuda:N [cpu]")
    doctor.add_argument("--json", action="store_true", help="one line of JSON for each finding")
    _add(commands, "first-key", "make an API key in a data directory", FIRST_KEY, _first_key,
         directory, ("name", "NAME", "whose key it is"))  # fmt: skip
    _add(commands, "verify-receipt", "check the receipt of a deletion", RECEIPT, _verify_receipt,
         ("receipt", "FILE", "the receipt, or - for standard input"),
         ("public_key", "KEY", "receipts.pub of the data directory"))  # fmt: skip
    _add_audit(commands)


def _add_audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    audit = commands.add_parser(
        "audit",
        help="read and check the audit trail",
        description=AUDIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = audit.add_subparsers(title="commands", metavar="COMMAND", required=True, help="what to do with it")
    directory = ("data_dir", "DIR", f"the data directory [{SHOWN}]")
    tail = _add(parsers, "tail", "print the newest entries", AUDIT_TAIL, _audit_tail, directory)
    tail.add_argument("-n", type=within(int, least=1), default=20, metavar="N", help="how many entries [20]")
    _add(parsers, "export", "print all entries and the signed head", AUDIT_EXPORT, _audit_export, directory)
    verify = _add(parsers, "verify", "check that nothing was changed", AUDIT_VERIFY, _audit_verify,
                  ("data", "DIR", f"the data directory, or a file of audit export [{SHOWN}]"))  # fmt: skip
    verify.add_argument("--public-key", type=Path, metavar="FILE", help="receipts.pub of the data directory")
    verify.add_argument("--head", type=Path, metavar="FILE", help="an earlier export, or its last line")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    description: str,
    work: Callable[[Options], int],
    *arguments: tuple[str, str, str],
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for destination, metavar, text in arguments:
        if metavar == "DIR":
            command.add_argument(destination, metavar=metavar, nargs="?", help=text)
        else:
            command.add_argument(destination, metavar=metavar, type=Path, help=text)
    command.set_defaults(run=lambda options: _run(command.prog, work, options))
    return command


def _run(prog: str, work: Callable[[Options], int], options: Options) -> int:
    """The exit status: 1 where it can't be done, which is said."""
    from oneglance_server.errors import ServiceError, StartupError

    try:
        for name in ("data", "data_dir"):
            if hasattr(options, name):
                setattr(options, name, chosen_data_directory(getattr(options, name)))
        return work(options)
    except BrokenPipeError:
        raise
    except (StartupError, ServiceError, OSError, ValueError) as error:
        print(f"{prog}: {printable(str(error), lines=True)}", file=sys.stderr)
        return 1


def _check(options: Options) -> int:
    from oneglance_server.keeping import check, same_names

    lost = 0
    for line in check(options.data, options.master_key):
        print(printable(line), flush=True)
        lost += 1
    for line in same_names(options.data):
        print(f"no fault, but look at it: {printable(line)}")
    print(f"{options.data}: {f'{lost} faults' if lost else 'all is there'}")
    return 1 if lost else 0


def _backup(options: Options) -> int:
    from oneglance_server.keeping import backup

    backup(options.data_dir, options.file, options.master_key)
    print(f"{options.file}: {options.file.stat().st_size:,} bytes, checked")
    return 0


def _restore(options: Options) -> int:
    from oneglance_server.keeping import restore_backup

    former = restore_backup(options.file, options.data_dir, options.master_key)
    print(f"{options.data_dir}: restored" + (f"; what was there is in {former}" if former else ""))
    return 0


def _repair(options: Options) -> int:
    from oneglance_server.keeping import repair_directory

    former, lost = repair_directory(options.data_dir, options.master_key, options.backup)
    for line in lost:
        print(f"not saved: {printable(line)}")
    print(f"{options.data_dir}: repaired; what was there is in {former}")
    return 1 if lost else 0


def _check_upgrade(options: Options) -> int:
    from oneglance_server.keeping import check_upgrade

    upgrade = check_upgrade(options.data_dir)
    print(f"{options.data_dir}: {upgrade}")
    return 1 if upgrade.too_new or not upgrade.has_room else 0


def _doctor(options: Options) -> int:
    from dataclasses import asdict

    from oneglance_server.keeping import examine_host

    models = [Path(part) for part in options.models.split(":") if part]
    worst = 0
    for finding in examine_host(options.data_dir, models, options.device):
        told = f"{finding.verdict:5}{finding.about}: {finding.text}"
        print(json.dumps(asdict(finding)) if options.json else told, flush=True)
        worst = max(worst, finding.verdict == "bad")
    return int(worst)


def _verify_receipt(options: Options) -> int:
    from oneglance_server.keeping import read_receipt

    receipt = sys.stdin.read() if str(options.receipt) == "-" else options.receipt.read_text(encoding="utf-8")
    for name, value in read_receipt(receipt, options.public_key).items():
        print(printable(f"{name}: {'not said' if value is None else value}"))
    return 0


def _first_key(options: Options) -> int:
    from oneglance_server.access.api_keys import ApiKeys
    from oneglance_server.errors import ApiKeysBusy, StartupError
    from oneglance_server.shared_files import LocalFiles

    options.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _, secret = ApiKeys(LocalFiles(options.data_dir)).create(str(options.name))
    except ApiKeysBusy as error:
        raise StartupError(str(error.cause)) from error
    print(secret)
    return 0


def _audit_tail(options: Options) -> int:
    from oneglance_server.keeping import audit_trail

    for line in audit_trail(options.data_dir, options.n):
        print(line)
    return 0


def _audit_export(options: Options) -> int:
    from oneglance_server.keeping import exported_trail

    for line in exported_trail(options.data_dir):
        print(line)
    return 0


def _audit_verify(options: Options) -> int:
    from oneglance_server.keeping import trail_faults

    faults = trail_faults(options.data, options.public_key, options.head)
    for line in faults:
        print(line)
    if not faults:
        print(f"{options.data}: the audit trail is as it was written")
    return 1 if faults else 0
