"""Make docs/console.png: the console before a real server, with the pretrained face models.

    oneglance-exporter import dlib-faces --out models/faces
    PYTHONPATH=. python scripts/console_screenshot.py models/faces astronaut.png grace_hopper.jpg docs/console.png

docs/console.md says where the two pictures are; both are in the public domain.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from oneglance import Client
from oneglance_apps.console.process import start_console
from tests.running import ServerProcess

SIDE = 560


def square(path: Path) -> Image.Image:
    """The top of a portrait."""
    with Image.open(path) as portrait:
        side = min(portrait.size)
        return portrait.convert("RGB").crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder of the face models")
    parser.add_argument("known", type=Path, help="a portrait, to be enrolled as Eileen Collins")
    parser.add_argument("unknown", type=Path, help="a portrait of somebody else")
    parser.add_argument("out", type=Path, help="where to put the screenshot")
    options = parser.parse_args()
    group = Image.new("RGB", (2 * SIDE, SIDE))
    for i, path in enumerate((options.known, options.unknown)):
        group.paste(square(path), (i * SIDE, 0))
    picture = io.BytesIO()
    group.save(picture, "JPEG", quality=92)

    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess(Path(data), models=options.models) as server,
        Client(server.address) as client,
        sync_playwright() as running,
    ):
        (encoder,) = (model for model in client.list_models() if model.takes_photos)
        client.create_gallery("crew", encoder=encoder.name)
        client.enroll("crew", "Eileen Collins", options.known)
        console = start_console("127.0.0.1:0", server.address)
        try:
            browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 760})
            page.goto(console.url)
            page.get_by_role("tab", name="Look").wait_for()
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Choose a photo").click()
            chooser.value.set_files({"name": "crew.jpg", "mimeType": "image/jpeg", "buffer": picture.getvalue()})
            expect(page.locator(".box")).to_have_count(2, timeout=30_000)
            expect(page.locator(".box.known")).to_contain_text("Eileen Collins")
            page.wait_for_timeout(1000)  # transitions
            page.screenshot(path=options.out)
            browser.close()
        finally:
            console.stop()


if __name__ == "__main__":
    main()
