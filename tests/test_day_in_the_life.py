"""A day in the life: forty people from a messy folder, renamed, merged, relabelled, moved, deleted, and a server that
is killed in between. What it says at the end is what a plain dictionary says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from oneglance import Client, subject_filter
from tests.face_models import encoded, face_models, photo
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS

pillow_heif = pytest.importorskip("pillow_heif", reason="pip install 'oneglance[heic]'")

NAMES = (
    *("Ada Lovelace", "José García", "Zoë", "Łukasz Żółć", "Đặng Thị Mai", "Ólafur", "Þórunn", "Çağla", "Αθηνά"),
    *("Анна", "Յուլիա", "ნინო", "שרה לוי", "عمر خیّام", "می‌خواهم", "ශ්‍රී", "अनीता", "অনিতা", "ਗੁਰਪ੍ਰੀਤ", "ગીતા"),
    *("அனிதா", "అనిత", "ಅನಿತಾ", "അനിത", "สมชาย", "ສົມ", "ကျော်", "សុខ", "བསྟན་འཛིན", "Мөнх"),
    *("王小明", "山田 太郎", "김철수", "አበበ", "ⵎⵓⵏⴰ", "ᎠᏂ", "ᐊᓂ", "ꦱꦫꦶ", "ߒߞߏ", "👩‍👩‍👧"),
)
assert len(NAMES) == 40


@dataclass
class Person:
    """As the dictionary has it. photos: seeds of those that are enrolled, by a file's name."""

    photos: dict[str, int] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def face(seed: int, at: tuple[int, int] = (8, 8)) -> bytes:
    return encoded(photo({at: seed}))


def messy_folder(folder: Path) -> tuple[dict[str, Person], dict[str, str]]:
    """Makes it. Who should be enrolled by what, and what should become of each file that isn't."""
    people: dict[str, Person] = {}
    not_enrolled: dict[str, str] = {}

    def put(name: str, content: bytes, outcome: str = "") -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if outcome:
            not_enrolled[name] = outcome

    for i, name in enumerate(NAMES):
        person = people[name] = Person(labels={"team": "red" if i % 2 else "blue", "floor": str(i % 3)})
        for number in range(2):
            person.photos[f"{name}/{number}.png"] = seed = 100 * (i + 1) + number
            put(f"{name}/{number}.png", face(seed))
    put(f"{NAMES[2]}/broken.jpg", face(1)[:200], "refused")
    put(f"{NAMES[3]}/empty.png", b"", "refused")
    put(f"{NAMES[4]}/again.png", face(501), "skipped")  # the content of its 1.png
    put(f"{NAMES[5]}/group.png", encoded(photo({(8, 8): 7, (64, 32): 8})), "refused")
    put(f"{NAMES[6]}/nobody.png", encoded(photo({})), "refused")
    put(f"{NAMES[7]}/holiday/beach.png", face(9), "left out")
    put(f"{NAMES[8]}/notes.txt", b"not a photo", "left out")
    put(f"{NAMES[9]}/._0.png", b"\0\5\26\7")
    put("Thumbs.db", b"?")
    heic = folder / NAMES[10] / "phone.heic"
    pillow_heif.from_pillow(Image.fromarray(photo({(8, 8): 1100}))).save(heic, quality=-1, chroma=444)
    people[NAMES[10]].photos[f"{NAMES[10]}/phone.heic"] = 1100
    return people, not_enrolled


class Day:
    """A server that can be killed, and the commands that are given to it."""

    def __init__(self, folder: Path, models: Path) -> None:
        self._folder, self._models = folder, models
        self.server = self._start("127.0.0.1:0")

    def _start(self, listen: str) -> ServerProcess:
        log = self._folder / "log"
        return ServerProcess(self._folder / "data", log=log, models=self._models, listen=listen)

    def kill_and_start(self) -> None:
        self.server.kill()
        self.server = self._start(self.server.address)

    def command(self, *words: str) -> subprocess.Popen[str]:
        code = "import sys; from oneglance_apps.cli import main; sys.exit(main())"
        where = ["--server", self.server.address, "--timeout", str(PATIENCE_SECONDS)]
        return subprocess.Popen([sys.executable, "-c", code, *words, *where], stdout=subprocess.PIPE, text=True)

    def run(self, *words: str, status: int = 0) -> str:
        process = self.command(*words)
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == status, out
        return out

    def client(self) -> Client:
        client = Client(self.server.address, timeout_seconds=PATIENCE_SECONDS)
        client.wait_until_serving(PATIENCE_SECONDS)
        return client


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    day = Day(tmp_path, face_models(tmp_path / "models"))
    yield day
    day.server.kill()


def check(day: Day, people: dict[str, Person]) -> None:
    """That the server says what the dictionary says, and finds everybody."""
    with day.client() as client:
        found = {one.id: one for one in client.list_subjects("people")}
        assert set(found) == set(people)
        for name, person in people.items():
            assert dict(found[name].labels) == person.labels, name
            assert len(found[name].encodings) == len(person.photos), name
        assert client.count_subjects("people").subjects == len(people)
        owners = {seed: name for name, person in people.items() for seed in person.photos.values()}
        seeds = sorted(owners)
        for start in range(0, len(seeds), 32):
            some = seeds[start : start + 32]
            answers = client.identify("people", *(face(seed) for seed in some), tau=1e-6).results
            assert [one.subject_id for one in answers] == [owners[seed] for seed in some]
        for team in ("red", "blue", "none"):
            expected = {name for name, person in people.items() if person.labels.get("team") == team}
            assert {one.id for one in client.list_subjects("people", subject_filter({"team": team}))} == expected


def encoding_of(client: Client, seed: int) -> str:
    (found,) = client.identify("people", face(seed), tau=1e-6).results
    return found.candidates[0].encoding_id


def test_a_day_in_the_life(day: Day, tmp_path: Path) -> None:
    folder, labels, report = tmp_path / "photos", tmp_path / "labels.csv", tmp_path / "report.json"
    people, not_enrolled = messy_folder(folder)
    rows = [f'"{name}",{person.labels["team"]},{person.labels["floor"]}' for name, person in people.items()]
    labels.write_text("\n".join(["subject,team,floor", *rows]) + "\n")
    day.run("create-gallery", "people", "--fusion", "nearest")
    bulk = ("bulk-enroll", "people", str(folder), "--labels", str(labels), "--report", str(report), "--json")

    # The server is killed while the folder goes in, and the command, too.
    going = day.command(*bulk)
    assert going.stdout is not None
    for _ in range(10):
        assert going.stdout.readline()
    day.kill_and_start()
    for _ in range(10):
        assert going.stdout.readline()
    going.send_signal(signal.SIGKILL)
    going.communicate()
    day.run(*bulk, status=3)
    check(day, people)

    # A second run changes nothing, and says what became of each file.
    with day.client() as client:
        before = client.get_gallery("people").revision
    day.run(*bulk, status=3)
    account = json.loads(report.read_text())
    told = {entry["file"]: entry["outcome"] for entry in (*account["photos"], *account["left_out"])}
    assert {name for name, outcome in told.items() if outcome == "skipped"} == {
        *(name for person in people.values() for name in person.photos),
        *(name for name, outcome in not_enrolled.items() if outcome == "skipped"),
    }
    assert {name: told[name] for name in not_enrolled} == not_enrolled
    with day.client() as client:
        assert client.get_gallery("people").revision == before

    # People are managed, and the server is killed right after each acknowledgement.
    day.run("rename-subject", "people", NAMES[0], "Augusta Ada King")
    people["Augusta Ada King"] = people.pop(NAMES[0])
    day.kill_and_start()
    day.run("merge-subjects", "people", NAMES[1], NAMES[2])
    people[NAMES[2]].photos |= people.pop(NAMES[1]).photos
    day.kill_and_start()
    with day.client() as client:
        client.update_labels("people", NAMES[3], {"team": "none"}, remove=["floor"])
        people[NAMES[3]].labels = {"team": "none"}
        client.move_encoding("people", NAMES[4], encoding_of(client, 500), NAMES[5])
        people[NAMES[5]].photos["moved"] = people[NAMES[4]].photos.pop(f"{NAMES[4]}/0.png")
    day.kill_and_start()
    with day.client() as client:
        day.run("delete-encoding", "people", NAMES[6], encoding_of(client, 701))
        del people[NAMES[6]].photos[f"{NAMES[6]}/1.png"]
    check(day, people)
    with day.client() as client:
        gone = {name for name, one in people.items() if one.labels == {"team": "red", "floor": "2"}}
        some = subject_filter({"team": "red", "floor": "2"})
        assert client.delete_subjects("people", some, dry_run=True).remaining == len(gone)
        assert client.delete_subjects("people", some).remaining == 0
        assert gone
        for name in gone:
            del people[name]
    day.kill_and_start()
    check(day, people)

    # Stopped and started in the proper way, too.
    status, _ = day.server.terminate()
    assert status == 0
    day.server = day._start(day.server.address)
    check(day, people)
