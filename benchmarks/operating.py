"""A gallery of 10,000 people, worked in a headless Chromium as an operator does, before a real server.

    oneglance-exporter import dlib-faces --out models/faces
    python -m benchmarks.operating --models models/faces --photos faces/orl

It searches, scrolls, changes, merges, enrolls 40 photos (two each of 20 people), calibrates on the others as strangers,
and deletes, and prints how long each took from the click to the page.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import expect, sync_playwright

from oneglance import AsyncClient
from oneglance.client.requests import enroll_request
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_apps.console.process import start_console
from tests.running import ServerProcess

PEOPLE = 10_000
ENROLLED = 20


async def enroll_people(address: str) -> None:
    async with AsyncClient(address) as client:
        (encoder,) = (model for model in await client.list_models() if model.takes_photos)
        await client.create_gallery("people", encoder=encoder.name)
        numbers = np.random.default_rng(0)

        async def items() -> AsyncIterator[EnrollRequest]:
            for i in range(PEOPLE):
                drawn = numbers.normal(size=encoder.dimension)
                encoding = Encoding(values=drawn / np.linalg.norm(drawn), encoder_digest=encoder.digest)
                labels = {"site": f"site {i % 20}"}
                yield enroll_request("people", f"person {i:05}", encoding, labels=labels, doubt_policy="off")

        async for answer in client.bulk_enroll(items()):
            assert answer.HasField("enrolled"), answer


@contextmanager
def timed(what: str, rows: list[tuple[str, float]]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    rows.append((what, time.perf_counter() - begun))
    print(f"| {what} | {rows[-1][1]:.2f} s |", flush=True)


def pick(page: Any, button: str, files: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).click()
    chooser.value.set_files(files)


def longest_frame(page: Any) -> float:
    """Scroll through the whole list in 200 steps, one a frame; the longest time between two frames, in seconds."""
    return float(
        page.evaluate(
            """() => new Promise((done) => {
                const box = document.querySelector(".subjects");
                let [step, before, longest] = [0, performance.now(), 0];
                const next = (now) => {
                    longest = Math.max(longest, now - before);
                    before = now;
                    box.scrollTop = (++step / 200) * box.scrollHeight;
                    step < 200 ? requestAnimationFrame(next) : done(longest / 1000);
                };
                requestAnimationFrame(next);
            })"""
        )
    )


def work(page: Any, strangers: Path, photos: list[Path]) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    tab: Callable[[str], Any] = lambda name: page.get_by_role("tab", name=name).click()  # noqa: E731
    count, row = page.locator(".people .count"), page.locator("tbody tr")
    with timed("open People: the first of 10,000", rows):
        tab("People")
        expect(row.filter(has_text="person 00000")).to_have_count(1)
    with timed("jump to the last", rows):
        page.locator(".subjects").evaluate("box => { box.scrollTop = box.scrollHeight; }")
        expect(row.filter(has_text="person 09999")).to_have_count(1)
    longest = longest_frame(page)
    print(f"| longest frame while scrolling from the first to the last | {longest:.3f} s |", flush=True)
    with timed("search by the beginning of the id", rows):
        page.get_by_label("id starts with").fill("person 0999")
        expect(count).to_have_text("10 subjects")
        expect(row.filter(has_text="person 09990")).to_have_count(1)
    page.get_by_label("id starts with").fill("")
    expect(count).to_have_text("10,000 subjects")
    with timed("search by a label", rows):
        page.get_by_label("with labels").fill("site=site 7")
        expect(count).to_have_text("500 subjects")
    page.get_by_label("with labels").fill("")
    page.get_by_label("id starts with").fill("person 0500")
    expect(count).to_have_text("10 subjects")
    row.filter(has_text="person 05000").get_by_role("button", name="Change").click()
    page.get_by_label("new id").fill("person 0500 renamed")
    with timed("rename", rows):
        page.get_by_role("button", name="Rename").click()
        expect(row.filter(has_text="person 0500 renamed")).to_have_count(1)
    row.filter(has_text="person 05001").get_by_role("button", name="Change").click()
    page.get_by_label("merge into").fill("person 05002")
    with timed("merge", rows):
        page.get_by_role("button", name="Merge").click()
        expect(count).to_have_text("9 subjects")
    tab("Enroll")
    files = [{"name": f"{p.parent.name}{p.suffix}", "mimeType": "image/png", "buffer": p.read_bytes()} for p in photos]
    pick(page, "Choose photos", files)
    with timed(f"enroll {len(photos)} photos", rows):
        page.get_by_role("button", name="Enroll them").click()
        expect(page.locator(".many-count")).to_contain_text(f" of {len(photos)}")
        expect(page.locator("li[data-state=waiting], li[data-state=sending]")).to_have_count(0)
        expect(page.locator(".many-start")).to_be_visible()
    print("outcome:", page.locator(".many-count").inner_text(), flush=True)
    tab("Threshold")
    with timed("measure the strangers' photos", rows):
        pick(page, "Strangers", strangers)
        expect(page.locator(".measured")).to_contain_text("of enrolled people")
    with timed("calibrate", rows):
        page.get_by_label("target FPIR").fill("10")
        page.get_by_role("button", name="Calibrate").click()
        expect(page.locator(".calibrated")).to_contain_text("is in force")
    tab("People")
    page.get_by_label("id starts with").fill("person 07000")
    expect(count).to_have_text("1 subject")
    row.filter(has_text="person 07000").get_by_role("button", name="Delete").click()
    with timed("delete one", rows):
        page.get_by_role("button", name="Delete for good").click()
        expect(page.locator(".nobody")).to_be_visible()
    page.get_by_role("button", name="Delete this gallery").click()
    page.get_by_label("type people to confirm").fill("people")
    with timed("delete the gallery", rows):
        page.get_by_role("button", name="Delete the gallery for good").click()
        expect(page.locator(".look .summary")).to_contain_text("No gallery is there yet", timeout=60_000)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder of the face models")
    parser.add_argument("--photos", type=Path, required=True, help="folder of PERSON/photo")
    options = parser.parse_args()
    people = sorted(folder for folder in options.photos.iterdir() if folder.is_dir())
    enrolled = [photo for folder in people[:ENROLLED] for photo in sorted(folder.iterdir())[:2]]
    expect.set_options(timeout=120_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", models=options.models, log_level="error") as server,
    ):
        asyncio.run(enroll_people(server.address))
        strangers = Path(folder) / "strangers"
        for person in people[ENROLLED:]:
            (strangers / person.name).mkdir(parents=True)
            for photo in sorted(person.iterdir())[1:2]:
                (strangers / person.name / photo.name).write_bytes(photo.read_bytes())
        console = start_console("127.0.0.1:0", server.address)
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(console.url)
            expect(page.locator(".picker")).to_contain_text("people")
            work(page, strangers, enrolled)
            browser.close()
        console.stop()


if __name__ == "__main__":
    main()
