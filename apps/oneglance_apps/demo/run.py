"""The demo from start to end: draw, serve, enroll once, identify, verify, delete, kill, restart, stylize, report."""

import json
import os
import platform
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from oneglance import Client
from oneglance_apps.demo import terminal_text, timed_calls
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.drawings import draw_collection
from oneglance_apps.demo.durability import kill_while_enrolling
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.folder import read_folder
from oneglance_apps.demo.model_choice import choose_encoder
from oneglance_apps.demo.page import write_page
from oneglance_apps.demo.results import Deletion, DemoResults
from oneglance_apps.demo.settings import DemoSettings
from oneglance_apps.demo.step_printer import StepPrinter
from oneglance_apps.demo.styles import picture_candidates, stylize_all
from oneglance_apps.demo.timed_calls import GALLERY, Enrollment, Identification, Probe
from oneglance_apps.server_process import ServerProcess
from oneglance_apps.signals import exit_on_signals
from oneglance_apps.text import counted, model_name

TIMED_CALLS = 100
VERIFIED_PAIRS = 200  # of each kind
ACKNOWLEDGED = 150  # enrollments before the kill, at least


def run_demo(settings: DemoSettings, printer: StepPrinter) -> DemoResults:
    """Run the demo, write the page, and return the results.

    However it ends, it leaves only the page and ``keep_data``. Raises DemoError, ServerProcessError, OneglanceError,
    OSError.
    """
    _check(settings)
    with ExitStack() as stack:
        stack.enter_context(exit_on_signals())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oneglance-demo-")))
        printer.title(f"oneglance {version('oneglance')}: seen once, known after.")
        collection = _collect(settings, printer)
        data_dir = settings.keep_data or scratch / "data"
        server = stack.enter_context(ServerProcess(data_dir, scratch / "server.log", settings.served))
        results = _serve_and_measure(settings, collection, server, printer)
        printer.step("Stop the server and write the page")
        server.stop()
        write_page(results, settings.out)
        printer.say("stopped in order" + (f"; its data is in {settings.keep_data}" if settings.keep_data else ""))
        printer.say(f"every figure with its pictures: {settings.out.resolve()}")
    return results


def _check(settings: DemoSettings) -> None:
    """Refuse settings that would fail only at the end, or damage existing data."""
    folder = settings.out.resolve().parent
    if settings.out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DemoError(f"can't write {settings.out}")
    keep = settings.keep_data
    if keep and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise DemoError(f"{keep}: the demo keeps its data in a new or an empty folder")


def _collect(settings: DemoSettings, printer: StepPrinter) -> Collection:
    if settings.images:
        printer.step("Read the pictures")
        collection = read_folder(settings.images, settings.subjects, settings.strangers, settings.seed)
    else:
        printer.step("Draw characters that the encoder has not seen")
        progress = partial(printer.progress, "drawn")
        collection = draw_collection(settings.subjects, settings.strangers, settings.seed, progress)
    printer.say(terminal_text.collection(collection, settings.seed))
    return collection


def _serve_and_measure(
    settings: DemoSettings, collection: Collection, server: ServerProcess, printer: StepPrinter
) -> DemoResults:
    printer.step("Start a server")
    start_seconds = server.start()
    printer.say(f"serving on {server.address} after {start_seconds:.1f} s, process {server.pid}")
    with server.client() as client:
        model, why = choose_encoder(client, [subject.enrolled_from for subject in collection.subjects])
        printer.say(f"encoder {model_name(model)} on {model.execution_provider}, D = {model.dimension}\n{why}")
        manifest = json.loads(client.describe_model(model.digest).manifest_json)
        client.create_gallery(GALLERY, encoder=model.digest, description="oneglance demo")

        printer.step(f"Enroll every {collection.noun} once")
        enrollment = timed_calls.enroll_all(client, collection.subjects, partial(printer.progress, "enrolled"))
        printer.say(terminal_text.enrollment(enrollment, collection.picture_noun))

        threshold_fit = None
        printer.step("Fit the threshold on strangers who are not used again")
        if collection.calibration_strangers:
            progress = partial(printer.progress, "measured")
            threshold_fit = timed_calls.fit_threshold(client, collection.calibration_strangers, settings.fpir, progress)
            printer.say(terminal_text.threshold_fit(threshold_fit, manifest))
        else:
            printer.say(terminal_text.threshold_not_fitted(client.get_threshold(GALLERY)))

        printer.step("Identify: which enrolled subject is it, or a stranger?")
        identification = _identify(client, collection, enrollment, settings.fpir, printer)
        enrolled = len(enrollment.subjects)
        probes = [outcome.probe for outcome in identification.outcomes]
        times = timed_calls.latencies(client, probes[:TIMED_CALLS], TIMED_CALLS, partial(printer.progress, "timed"))
        printer.say(terminal_text.latency(times, enrolled))

        printer.step("Verify: is it the claimed subject?")
        ids = [subject.id for subject in enrollment.subjects]
        progress = partial(printer.progress, "verified")
        verification = timed_calls.verify_pairs(
            client, identification.outcomes, ids, VERIFIED_PAIRS, settings.seed, progress
        )
        printer.say(terminal_text.verification(verification))

        printer.step("Delete one")
        deletion = _delete(client, identification, enrolled)
        printer.say(terminal_text.deletion(deletion))

    printer.step("Kill the server (kill -9) while others enroll, and start it again")
    progress = partial(printer.progress, "acknowledged")
    durability = kill_while_enrolling(server, probes, [deletion.subject_id], ACKNOWLEDGED, progress)
    printer.say(terminal_text.durability(durability))

    printer.step("Stylize a picture")
    with server.client() as client:
        candidates = picture_candidates(collection)
        stylization = stylize_all(client, candidates, partial(printer.progress, "stylized"))
    printer.say(terminal_text.stylization(stylization))
    return DemoResults(
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
        threshold_fit=threshold_fit,
        identification=identification,
        latencies_ms=tuple(times),
        verification=verification,
        deletion=deletion,
        durability=durability,
        stylization=stylization,
    )


def _identify(
    client: Client, collection: Collection, enrollment: Enrollment, fpir: float, printer: StepPrinter
) -> Identification:
    enrolled = {subject.id for subject in enrollment.subjects}
    probes: list[Probe] = [
        (probe, subject.id, subject.id) for subject, probe in collection.mated() if subject.id in enrolled
    ]
    if not probes:
        raise DemoError("no enrolled subject has another picture to identify it by")
    probes += [(probe, stranger.id, None) for stranger, probe in collection.non_mated()]
    identification = timed_calls.identify_all(client, probes, len(enrolled), partial(printer.progress, "identified"))
    figures = identification.figures
    if not figures.mated or not figures.non_mated:
        raise DemoError("the server refused all probes of a kind:\n" + "\n".join(identification.refused[:5]))
    printer.say(terminal_text.identification(identification, len(enrolled), fpir))
    return identification


def _delete(client: Client, identification: Identification, enrolled: int) -> Deletion:
    """Delete the subject of an identified probe; if none was identified, of a probe whose mate is nearest."""
    chosen = min(identification.figures.mated, key=lambda o: (not o.correct, o.mate_rank or enrolled, o.nearest))
    probe: Probe = (chosen.probe, chosen.owner, chosen.mate)
    before = timed_calls.identify_one(client, probe, enrolled)
    client.delete_subject(GALLERY, chosen.owner)
    after = timed_calls.identify_one(client, (chosen.probe, chosen.owner, None), enrolled)
    return Deletion(chosen.owner, before, after)
