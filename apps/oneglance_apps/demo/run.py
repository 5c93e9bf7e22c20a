"""The story: draw, serve, enroll once, identify, verify, delete, kill, restart, stylize, and put it on a page."""

import json
import os
import platform
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from oneglance import Client
from oneglance_apps.demo import calls, tell
from oneglance_apps.demo.account import Account
from oneglance_apps.demo.calls import GALLERY, Enrollment, Identification, Probe
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.drawings import draw_collection
from oneglance_apps.demo.durability import kill_while_enrolling
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.folder import read_folder
from oneglance_apps.demo.page import write_page
from oneglance_apps.demo.process import ServerProcess
from oneglance_apps.demo.report import Deletion, Report
from oneglance_apps.demo.styles import picture_candidates, stylize_all
from oneglance_apps.demo.words import counted
from oneglance_apps.signals import signals_unwind

TIMED_CALLS = 100
VERIFIED_PAIRS = 200  # of each kind
ACKNOWLEDGED = 150  # enrollments before the kill, at least


@dataclass(frozen=True)
class DemoSettings:
    """images: a folder of pictures; without, characters are drawn. keep_data: keep the server's data there.

    fpir: the share of strangers that the threshold, set by other strangers, is meant to let in.
    models: folders of models for the server; the bundled ones when there are none.
    """

    images: Path | None = None
    out: Path = Path("oneglance-demo.html")
    subjects: int = 200
    strangers: int = 100
    seed: int = 0
    fpir: float = 0.05
    keep_data: Path | None = None
    models: tuple[Path, ...] = ()

    @property
    def command(self) -> str:
        """The command line of the same run again."""
        words: list[object] = ["oneglance", "demo"]
        words += ["--images", self.images] if self.images else []
        words += ["--subjects", self.subjects, "--strangers", self.strangers, "--seed", self.seed]
        words += ["--fpir", self.fpir]
        return shlex.join(map(str, words))


def run_demo(settings: DemoSettings, account: Account) -> Report:
    """The whole demo; returns what it found once the page is written.

    Nothing stays behind but the page and ``keep_data``, however it ends. Raises DemoError, OneglanceError, OSError.
    """
    _check(settings)
    with ExitStack() as stack:
        stack.enter_context(signals_unwind())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneglance-demo-")))
        account.title(f"oneglance {version('oneglance')}: seen once, known after.")
        collection = _collect(settings, account)
        data_dir = settings.keep_data or scratch / "data"
        server = stack.enter_context(ServerProcess(data_dir, scratch / "server.log", settings.models))
        report = _serve_and_measure(settings, collection, server, account)
        account.step("Stop the server and write the page")
        server.stop()
        write_page(report, settings.out)
        account.say("stopped in order" + (f"; its data is in {settings.keep_data}" if settings.keep_data else ""))
        account.say(f"every figure with its pictures: {settings.out.resolve()}")
    return report


def _check(settings: DemoSettings) -> None:
    """What would only fail at the end, or spoil somebody's data."""
    folder = settings.out.resolve().parent
    if settings.out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DemoError(f"can't write {settings.out}")
    if not 0 < settings.fpir < 1:
        raise DemoError(f"an FPIR lies between 0 and 1, not at {settings.fpir}")
    keep = settings.keep_data
    if keep and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise DemoError(f"{keep}: the demo keeps its data in a new or an empty folder")


def _collect(settings: DemoSettings, account: Account) -> Collection:
    if settings.images:
        account.step("Read the pictures")
        collection = read_folder(settings.images, settings.subjects, settings.strangers, settings.seed)
    else:
        account.step("Draw characters that nobody has seen")
        progress = partial(account.progress, "drawn")
        collection = draw_collection(settings.subjects, settings.strangers, settings.seed, progress)
    account.say(tell.collection(collection, settings.seed))
    return collection


def _serve_and_measure(
    settings: DemoSettings, collection: Collection, server: ServerProcess, account: Account
) -> Report:
    account.step("Start a server")
    start_seconds = server.start()
    account.say(f"serving on {server.address} after {start_seconds:.1f} s, process {server.pid}")
    with server.client() as client:
        model = next(model for model in client.list_models() if model.kind in ("", "encoder"))
        account.say(f"encoder {model.name} {model.digest[:12]} on {model.execution_provider}, D = {model.dimension}")
        manifest = json.loads(client.describe_model(model.name).manifest_json)
        client.create_gallery(GALLERY, description="oneglance demo")

        account.step(f"Enroll every {collection.noun} once")
        enrollment = calls.enroll_all(client, collection.subjects, partial(account.progress, "enrolled"))
        account.say(tell.enrollment(enrollment, collection.picture_noun))

        rehearsal = None
        if collection.rehearsal:
            account.step("Set the threshold by strangers who won't come again")
            progress = partial(account.progress, "rehearsed")
            rehearsal = calls.rehearse(client, collection.rehearsal, settings.fpir, progress)
            account.say(tell.rehearsal(rehearsal, manifest))

        account.step("Identify: who is it, or nobody we know?")
        identification = _identify(client, collection, enrollment, account)
        enrolled = len(enrollment.subjects)
        probes = [outcome.probe for outcome in identification.outcomes]
        times = calls.latencies(client, probes[:TIMED_CALLS], TIMED_CALLS, partial(account.progress, "timed"))
        account.say(tell.latency(times, enrolled))

        account.step("Verify: is it the one it claims to be?")
        ids = [subject.id for subject in enrollment.subjects]
        progress = partial(account.progress, "verified")
        verification = calls.verify_pairs(client, identification.outcomes, ids, VERIFIED_PAIRS, settings.seed, progress)
        account.say(tell.verification(verification))

        account.step("Delete one")
        deletion = _delete(client, identification, enrolled)
        account.say(tell.deletion(deletion))

    account.step("Kill the server (kill -9) while others enroll, and start it again")
    progress = partial(account.progress, "acknowledged")
    durability = kill_while_enrolling(server, probes, [deletion.subject_id], ACKNOWLEDGED, progress)
    account.say(tell.durability(durability))

    account.step("Stylize a picture")
    with server.client() as client:
        candidates = picture_candidates(collection)
        stylization = stylize_all(client, candidates, partial(account.progress, "stylized"))
    account.say(tell.stylization(stylization))
    return Report(
        date=datetime.now(UTC),
        seed=settings.seed,
        command=settings.command,
        version=version("oneglance"),
        machine=f"{platform.system()} {platform.machine()}, {counted(len(os.sched_getaffinity(0)), 'core')}, "
        f"Python {platform.python_version()}",
        collection=collection,
        model=model,
        manifest=manifest,
        start_seconds=start_seconds,
        enrollment=enrollment,
        rehearsal=rehearsal,
        identification=identification,
        latencies_ms=tuple(times),
        verification=verification,
        deletion=deletion,
        durability=durability,
        stylization=stylization,
    )


def _identify(client: Client, collection: Collection, enrollment: Enrollment, account: Account) -> Identification:
    enrolled = set(enrollment.subjects)
    probes: list[Probe] = [
        (probe, subject.id, subject.id) for subject, probe in collection.mated() if subject in enrolled
    ]
    if not probes:
        raise DemoError("no enrolled subject has another picture to identify it by")
    probes += [(probe, stranger.id, None) for stranger, probe in collection.non_mated()]
    identification = calls.identify_all(client, probes, len(enrolled), partial(account.progress, "identified"))
    figures = identification.figures
    if not figures.mated or not figures.non_mated:
        raise DemoError("the server refused all probes of a kind:\n" + "\n".join(identification.refused[:5]))
    account.say(tell.identification(identification, len(enrolled)))
    return identification


def _delete(client: Client, identification: Identification, enrolled: int) -> Deletion:
    """Delete the subject of a probe that was identified; of one that was nearest to its mate when none was."""
    chosen = min(identification.figures.mated, key=lambda o: (not o.correct, o.mate_rank or enrolled, o.nearest))
    probe: Probe = (chosen.probe, chosen.owner, chosen.mate)
    before = calls.identify_one(client, probe, enrolled)
    client.delete_subject(GALLERY, chosen.owner)
    after = calls.identify_one(client, (chosen.probe, chosen.owner, None), enrolled)
    return Deletion(chosen.owner, before, after)
