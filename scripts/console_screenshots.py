"""Make the pictures of docs/console.md: every tab of the console at 1440 and at 390 pixels, before a real server.

    oneglance-exporter import dlib-faces --out models/faces
    PYTHONPATH=. python scripts/console_screenshots.py models/faces astronaut.png grace_hopper.jpg docs/console

docs/console.md says where the two pictures are; both are in the public domain.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from oneglance import Client
from oneglance_apps.console.process import start_console
from oneglance_apps.landscape import landscape, png
from tests.running import ServerProcess

SIDE = 560
WIDTHS = {1440: 900, 390: 844}
TABS = ("look", "enroll", "people", "threshold", "watch", "stylize")
NAMES = (
    *("Ada Lovelace", "Émilie du Châtelet", "Grace Hopper", "Hedy Lamarr", "Katherine Johnson", "Lise Meitner"),
    *("Sofja Kowalewskaja", "Wu Jianxiong 吳健雄", "مريم ميرزاخاني", "Вера Рубин", "Emmy Noether", "Rosalind Franklin"),
)


def square(path: Path) -> Image.Image:
    """The top of a portrait."""
    with Image.open(path) as portrait:
        side = min(portrait.size)
        return portrait.convert("RGB").crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def jpeg(*portraits: Image.Image) -> bytes:
    group = Image.new("RGB", (SIDE * len(portraits), SIDE))
    for i, portrait in enumerate(portraits):
        group.paste(portrait, (i * SIDE, 0))
    buffer = io.BytesIO()
    group.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def events(file: Path) -> None:
    """What ``oneglance watch`` would have written of a gate."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    common = {"version": 1, "gallery": "crew", "source": "rtsp://10.0.0.7/gate", "time": now, "seconds": 61.0}
    frames = {"read": 305, "answered": 301, "skipped": 0, "dropped": 4, "under_way": 0}
    latency = {"bound": 0.5, "p50": 0.12, "p99": 0.31}
    told: list[dict[str, Any]] = [
        {"kind": "camera_lost", "message": "no frame for 3 s", "reason": "silent"},
        {"kind": "camera_back", "message": "frames come again"},
        {"kind": "unknown", "subject_id": None, "distance": 0.4711, "nearest": {"subject_id": "Ada Lovelace"}},
        {"kind": "identified", "subject_id": "Eileen Collins", "distance": 0.0904},
        {"kind": "unknown", "subject_id": None, "distance": 0.3902, "follows": "Eileen Collins"},
        {"kind": "heartbeat", "camera": True, "server": True, "frames": frames, "latency": latency},
    ]
    file.write_text("".join(json.dumps({**common, **event}) + "\n" for event in told))


@contextmanager
def filled(models: Path, known: Path, folder: Path) -> Iterator[str]:
    """A server with a gallery of people; gives the console's URL."""
    with (
        ServerProcess(folder / "data", models=f"{models}:bundled-stylizer") as server,
        Client(server.address) as client,
    ):
        (encoder,) = (model for model in client.list_models() if model.takes_photos)
        client.create_gallery("crew", encoder=encoder.name)
        client.enroll("crew", "Eileen Collins", known, labels={"site": "houston"})
        numbers = np.random.default_rng(1)
        (enrolled,) = client.encode(known, encoder=encoder.digest).encodings
        for name in NAMES:
            drawn = numbers.normal(size=encoder.dimension)
            del enrolled.values[:]
            enrolled.values.extend(drawn / np.linalg.norm(drawn))
            client.enroll("crew", name, enrolled, labels={"site": "houston" if len(name) % 2 else "kourou"})
        events(folder / "events.jsonl")
        console = start_console("127.0.0.1:0", server.address, watch_events=str(folder / "events.jsonl"))
        try:
            yield console.url
        finally:
            console.stop()


def choose(page: Any, button: str, *files: tuple[str, bytes]) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).click()
    chooser.value.set_files([{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files])


def fill(page: Any, tab: str, known: Image.Image, unknown: Image.Image) -> None:
    """Bring a tab to where it is worth a picture."""
    page.locator(f".q-tab:nth-of-type({TABS.index(tab) + 1})").click()
    if tab == "look":
        choose(page, "Choose a photo", ("crew.jpg", jpeg(known, unknown)))
        expect(page.locator(".box")).to_have_count(2, timeout=30_000)
    elif tab == "enroll":
        photos = [(f"{name}.jpg", jpeg(picture)) for name, picture in (("Eileen Collins", known), ("Admiral", unknown))]
        empty = ("IMG_2041.jpg", jpeg(Image.new("RGB", (SIDE, SIDE), "#9bb7c4")))
        choose(page, "Choose photos", *photos, ("team.jpg", jpeg(known, unknown)), empty)
        page.get_by_role("button", name="Enroll them").click()
        expect(page.locator(".many-start")).to_be_visible(timeout=60_000)
    elif tab == "people":
        expect(page.locator(".subjects td.id").first).not_to_be_empty()
    elif tab == "threshold":
        expect(page.locator(".rate")).to_contain_text("FPIR")
    elif tab == "watch":
        expect(page.locator(".events li")).to_have_count(5)
    else:
        choose(page, "Choose a picture", ("landscape.png", png(landscape(480))))
        expect(page.locator(".download")).to_be_visible(timeout=60_000)
        expect(page.locator(".style img[src^=data]")).to_have_count(page.locator(".style").count(), timeout=60_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder of the face models")
    parser.add_argument("known", type=Path, help="a portrait, to be enrolled as Eileen Collins")
    parser.add_argument("unknown", type=Path, help="a portrait of somebody else")
    parser.add_argument("out", type=Path, help="folder to put TAB-WIDTH.webp in")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    known, unknown = square(options.known), square(options.unknown)
    with (
        tempfile.TemporaryDirectory() as folder,
        filled(options.models, options.known, Path(folder)) as url,
        sync_playwright() as running,
    ):
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for width, height in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
            page.goto(url)
            for tab in TABS:
                fill(page, tab, known, unknown)
                page.wait_for_timeout(600)  # transitions
                page.mouse.move(0, 0)
                shot = Image.open(io.BytesIO(page.screenshot(full_page=width < 800 or tab == "look")))
                shot.convert("RGB").save(options.out / f"{tab}-{width}.webp", quality=80, method=6)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
