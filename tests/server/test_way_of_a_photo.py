"""docs/architecture.md lists the files that one photo passes on its way through Identify: all of them, and no other."""

import re
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from oneglance import Client, photo
from tests.face_models import face_models, upright_look
from tests.face_models import photo as photo_of
from tests.pictures import png
from tests.running import server_thread

ROOT = Path(__file__).resolve().parents[2]
# What looks at the event loop now and then, so also during a photo's way, or not.
BESIDE = {"server/oneglance_server/loop_watch.py"}
PACKAGES = ("core/oneglance_core/", "index/oneglance_index/", "server/oneglance_server/")


def listed() -> list[str]:
    """The paths at the beginning of the lines of the block below the heading."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("## The way of one photo through Identify")[2]
    block = section.split("```")[1]
    return re.findall(r"^ *((?:core|index|server)/\S+\.py)", block, re.MULTILINE)


def test_the_files_of_the_page_are_those_that_a_photo_passes(tmp_path: Path) -> None:
    models = face_models(tmp_path / "models", check=True)
    entered: set[str] = set()
    tracing = threading.Event()

    def on_event(frame: FrameType, event: str, argument: Any) -> None:
        if tracing.is_set() and event == "call":
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(ROOT):
                entered.add(file.relative_to(ROOT).as_posix())

    threading.setprofile(on_event)  # of the threads to come: the server's loop and all of its pools
    try:
        with (
            # The audit trail is written by a task of its own, now and then.
            server_thread(data_dir=tmp_path / "data", models=(models,), audit="off") as server,
            Client(server.address) as client,
        ):
            client.create_gallery("people")
            client.enroll("people", "ada", photo(png(photo_of({(16, 16): 2}, looks=upright_look)), face="largest"))
            probe = photo(png(photo_of({(20, 16): 2}, looks=upright_look)), face="largest")
            client.identify("people", probe)  # the first of its kind, and the deadline timers, out of the way
            tracing.set()
            (answer,) = client.identify("people", probe).results
            tracing.clear()
    finally:
        threading.setprofile(None)
    assert answer.subject_id == "ada"
    passed = {file for file in entered if file.startswith(PACKAGES)} - BESIDE
    assert passed == set(listed())
