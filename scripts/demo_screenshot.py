"""The upper part of the page that `oneglance demo` writes, as a picture: demo_screenshot.py docs/demo.png"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 2036
SHOWN = (880, 1400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        written = Path(folder) / "demo.html"
        subprocess.run([sys.executable, "-m", "oneglance_apps.cli", "demo", "--out", written], check=True)
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(written.as_uri())
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS)
        shot.quantize(256).save(options.out, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
