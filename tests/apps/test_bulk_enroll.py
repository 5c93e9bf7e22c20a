"""``oneglance bulk-enroll``: every file of a folder has an outcome, and a second run changes nothing."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client
from oneglance_apps.bulk.enroll import key_of
from oneglance_apps.bulk.labels import read_labels
from oneglance_apps.bulk.listing import list_folder
from oneglance_apps.cli import main
from oneglance_core.picture_files import is_picture
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.running import ServerProcess, server_thread
from tests.server.access.callers import ADMIN, grant
from tests.server.access.callers import key_of as api_key
from tests.waiting import PATIENCE_SECONDS

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def put(folder: Path, name: str, seed: int | bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(seed if isinstance(seed, bytes) else png(picture(seed)))
    return file


def enrolled(client: Client, gallery: str) -> dict[str, int]:
    """How many encodings each subject has."""
    return {subject.id: len(subject.encodings) for subject in client.list_subjects(gallery)}


class Command:
    """Runs ``bulk-enroll`` with ``--json``: outcomes by file."""

    def __init__(self, server: Server, gallery: str, folder: Path, capture: Capture) -> None:
        self.words = [gallery, str(folder), "--server", server.address, "--timeout", str(PATIENCE_SECONDS)]
        self.capture = capture

    def __call__(self, *options: str, status: int = 0) -> dict[str, dict[str, Any]]:
        assert main(["bulk-enroll", *self.words, "--json", *options]) == status
        self.out, self.err = self.capture.readouterr()
        return {entry["file"]: entry for entry in map(json.loads, self.out.splitlines())}


@pytest.fixture
def bulk(server: Server, gallery: str, folder: Path, capsys: Capture) -> Command:
    return Command(server, gallery, folder, capsys)


def outcomes(told: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: entry["outcome"] for name, entry in told.items()}


def test_a_broken_photo_takes_no_other_with_it(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", b"?")
    put(folder, "ada/3.jpg", 1)
    put(folder, "bob.png", 2)
    told = bulk(status=3)
    assert outcomes(told) == {
        "ada/1.png": "enrolled",
        "ada/2.png": "refused",
        "ada/3.jpg": "enrolled",
        "bob.png": "enrolled",
    }
    refused = told["ada/2.png"]
    assert (refused["subject"], refused["reason"]) == ("ada", "IMAGE_UNDECODABLE")
    assert refused["why"]
    assert "examples" not in bulk.out
    assert enrolled(client, gallery) == {"ada": 2, "bob": 1}


def test_people_are_told_of_each_photo_and_of_all(server: Server, gallery: str, folder: Path, capsys: Capture) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", b"?")
    put(folder, "ada/evil\x1b[2J\n.png", b"??")
    put(folder, "notes.txt", b"")
    assert main(["bulk-enroll", gallery, str(folder), "--server", server.address]) == 3
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "notes.txt: left out: no picture and no sound by its name"
    assert sum(line.startswith("ada/1.png: enrolled as ada, encoding id ") for line in lines) == 1
    assert sum(line.startswith("ada/2.png: refused for ada: ") for line in lines) == 1
    assert sum(line.startswith("ada/evil\\x1b[2J\\n.png: refused for ada: ") for line in lines) == 1
    assert len(lines) == 4
    assert re.fullmatch(r"oneglance: 1 photo of 1 subject enrolled in \d+ s; 2 refused; 1 other left out\n", err)


def test_seventy_photos_of_one_person(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    for seed in range(70):
        put(folder, f"ada/{seed}.png", seed)
    assert Counter(outcomes(bulk()).values()) == {"enrolled": 70}
    assert enrolled(client, gallery) == {"ada": 70}


def test_a_second_run_changes_nothing(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "ada/copy.png", 0)
    put(folder, "bob.png", 0)
    first = bulk()
    assert Counter(outcomes(first).values()) == {"enrolled": 2, "skipped": 1}
    copy = first["ada/1.png"] if first["ada/1.png"]["outcome"] == "skipped" else first["ada/copy.png"]
    assert copy["why"].startswith("the same content as ada/")
    revision = client.get_gallery(gallery).revision
    assert set(outcomes(bulk()).values()) == {"skipped"}
    put(folder, "ada/new.png", 3)
    assert outcomes(bulk())["ada/new.png"] == "enrolled"
    assert client.get_gallery(gallery).revision == revision + 1
    client.delete_subject(gallery, "bob")
    assert outcomes(bulk())["bob.png"] == "enrolled"  # what was deleted is not taken for enrolled
    assert enrolled(client, gallery) == {"ada": 2, "bob": 1}


def test_a_gallery_made_anew_knows_nobody(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada.png", 0)
    assert outcomes(bulk()) == {"ada.png": "enrolled"}
    client.delete_gallery(gallery)
    client.create_gallery(gallery, encoder="pixels")
    assert outcomes(bulk()) == {"ada.png": "enrolled"}


def test_what_to_do_with_known_subjects(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    client.enroll(gallery, "ada", png(picture(9)), labels={"old": "yes"})
    put(folder, "ada/0-bad.png", b"?")
    put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", 1)
    put(folder, "bob.png", 2)
    assert outcomes(bulk("--on-existing", "fail", "--dry-run", status=3))["ada/1.png"] == "refused"
    told = bulk("--on-existing", "fail", status=3)
    assert told["ada/1.png"]["reason"] == told["ada/2.png"]["reason"] == "SUBJECT_EXISTS"
    assert outcomes(told)["bob.png"] == "enrolled"
    bulk("--on-existing", "add", status=3)
    assert enrolled(client, gallery) == {"ada": 3, "bob": 2}
    bulk("--on-existing", "replace", status=3)
    assert enrolled(client, gallery) == {"ada": 2, "bob": 1}
    assert not client.get_subject(gallery, "ada").labels
    assert set(outcomes(bulk(status=3)).values()) == {"skipped", "refused"}


def test_what_is_no_photo_is_told(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "ada/phone.HEIC", b"\0\0\0\x18ftypheic")
    put(folder, "ada/old.jfif", 1)
    put(folder, "ada/2019/beach.png", 2)
    put(folder, "ada/notes.txt", b"")
    for name in ("ada/._1.png", "ada/Thumbs.db", ".DS_Store", ".git/a.png"):
        put(folder, name, b"?")
    (folder / "nobody").mkdir()
    (folder / "ada/again").symlink_to(folder / "ada")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    told = bulk(status=3)
    assert outcomes(told) == {
        "ada/1.png": "enrolled",
        "ada/phone.HEIC": "refused",
        "ada/old.jfif": "enrolled",
        "ada/2019/beach.png": "left out",
        "ada/notes.txt": "left out",
        "nobody": "left out",
        "ada/again": "left out",
        "gone.png": "left out",
        "pipe.png": "left out",
    }
    assert "4 hidden or system files ignored" in bulk.err
    assert "2 photos left out; 4 others left out" in bulk.err
    assert enrolled(client, gallery) == {"ada": 2}


@pytest.mark.parametrize(("nested", "subject"), [("top", "class"), ("last", "ada")])
def test_nested_folders(nested: str, subject: str, bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "class/ada/1.png", 0)
    why = bulk(status=3)["class/ada/1.png"]["why"]
    assert "--nested top enrolls it as class" in why
    assert "--nested last as ada" in why
    bulk("--nested", nested)
    assert enrolled(client, gallery) == {subject: 1}


def test_names_that_are_not_utf8_stop_nothing(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, os.fsdecode(b"ada/caf\xe9.png"), 1)
    put(folder, os.fsdecode(b"Jos\xe9/1.png"), 2)
    told = bulk(status=3)
    assert outcomes(told) == {
        "ada/1.png": "enrolled",
        "ada/caf\udce9.png": "enrolled",
        "Jos\udce9/1.png": "left out",
    }
    assert enrolled(client, gallery) == {"ada": 2}


def test_one_name_in_two_forms_is_one_subject(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "José/1.png", 0)
    put(folder, "Jose\u0301/2.png", 1)
    bulk("--on-existing", "replace")
    assert enrolled(client, gallery) == {"José": 2}


def test_labels_come_from_a_table(bulk: Command, client: Client, gallery: str, folder: Path, tmp_path: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "bob.png", 1)
    table = tmp_path / "labels.csv"
    table.write_text("\ufeffname;subject;team\nAda L.;ada;\nCyd;cyd;red\n", encoding="utf-8")
    bulk("--labels", str(table))
    assert dict(client.get_subject(gallery, "ada").labels) == {"name": "Ada L."}
    assert not client.get_subject(gallery, "bob").labels
    assert "labels of cyd, of whom there is no photo" in bulk.err


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("", "the first line names the columns"),
        ("name,team\n", "the first line names the columns"),
        ("subject,a,a\n", "the first line names the columns"),
        ("subject,a\nada\n", "line 2: has not as many cells"),
        ("subject,a\nada,1,2\n", "line 2: has not as many cells"),
        ("subject,a\nada,1\nada,2\n", "line 3: ada has a line already"),
        ("subject,a\n,1\n", "line 2: names no subject"),
        ('subject,a\nada,"1\n', "unexpected end of data"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_line(table: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(table)
    with pytest.raises(ValueError, match=complaint):
        read_labels(file)


def test_a_dry_run_changes_nothing(bulk: Command, client: Client, gallery: str, folder: Path, tmp_path: Path) -> None:
    put(folder, "ada/1.png", 0)
    assert outcomes(bulk("--dry-run")) == {"ada/1.png": "planned"}
    assert bulk.err == "oneglance: 1 photo of 1 subject would be enrolled\n"
    assert not enrolled(client, gallery)
    assert not (tmp_path / "state").exists()
    bulk()
    assert outcomes(bulk("--dry-run")) == {"ada/1.png": "skipped"}


def test_the_report_has_every_file(bulk: Command, folder: Path, tmp_path: Path) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", b"?")
    put(folder, "notes.txt", b"")
    report = tmp_path / "report.json"
    bulk("--report", str(report), status=3)
    told = json.loads(report.read_text())
    assert told["complete"] is False
    assert told["counts"] == {"enrolled": 1, "refused": 1, "not_done": 0, "left_out": 1, "system_files": 0}
    assert {entry["file"]: entry["outcome"] for entry in told["photos"]} == {
        "ada/1.png": "enrolled",
        "ada/2.png": "refused",
    }
    assert [entry["file"] for entry in told["left_out"]] == ["notes.txt"]


def test_what_concerns_all_photos_ends_the_run(server: Server, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    put(folder, "ada/1.png", 0)
    at = ["--server", server.address]
    assert main(["bulk-enroll", "no such", str(folder), *at]) == 1
    assert "GALLERY_NOT_FOUND" in capsys.readouterr().err
    assert main(["bulk-enroll", "g", str(tmp_path / "none"), *at]) == 2
    assert "not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["bulk-enroll", "g", str(tmp_path / "empty"), *at]) == 2
    assert "no photos in it" in capsys.readouterr().err


def test_who_may_only_enroll_doubles_nothing(
    models: tuple[Path, Path], folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """He may not see what is enrolled: the server says so, photo by photo."""
    put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", 1)
    (tmp_path / "policy.toml").write_text(ADMIN + grant(["key:door"], ["g"], ["enroll"]))
    data = tmp_path / "data"
    admin, door = api_key(data, "admin"), api_key(data, "door")
    with (
        server_thread(data_dir=data, models=models[:1], policy=str(tmp_path / "policy.toml")) as server,
        Client(server.address, token=admin) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        token = tmp_path / "token"
        token.write_text(door)
        words = ["bulk-enroll", "g", str(folder), "--server", server.address, "--token-file", str(token), "--json"]
        for outcome in ("enrolled", "skipped"):
            assert main(words) == 0
            told = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
            assert told == [outcome] * 2
        assert enrolled(client, "g") == {"ada": 2}


def test_who_is_enrolled_gets_new_labels(
    bulk: Command, client: Client, gallery: str, folder: Path, tmp_path: Path
) -> None:
    put(folder, "ada/1.png", 0)
    put(folder, "bob/1.png", 1)
    bulk()
    client.update_labels(gallery, "ada", {"team": "red", "own": "kept"})
    table = tmp_path / "labels.csv"
    table.write_text("subject,team\nada,blue\nbob,green\n")
    assert set(outcomes(bulk("--labels", str(table), "--dry-run")).values()) == {"skipped"}
    assert client.get_subject(gallery, "ada").labels["team"] == "red"
    assert set(outcomes(bulk("--labels", str(table))).values()) == {"skipped"}
    assert dict(client.get_subject(gallery, "ada").labels) == {"team": "blue", "own": "kept"}
    assert dict(client.get_subject(gallery, "bob").labels) == {"team": "green"}
    revision = client.get_gallery(gallery).revision
    bulk("--labels", str(table))
    assert client.get_gallery(gallery).revision == revision


def test_a_link_to_the_folder_itself_is_told(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    (folder / "self").symlink_to(folder)
    told = bulk()
    assert told["self"]["outcome"] == "left out"
    assert enrolled(client, gallery) == {"ada": 1}


def test_what_was_moved_or_renamed_is_known(bulk: Command, client: Client, gallery: str, folder: Path) -> None:
    file = put(folder, "ada/1.png", 0)
    put(folder, "ada/2.png", 1)
    bulk()
    by_source = {one.source: one.key for one in client.get_subject(gallery, "ada").encodings}
    assert by_source["ada/1.png"] == key_of(hashlib.sha256(file.read_bytes()).hexdigest())
    client.rename_subject(gallery, "ada", "Ada")
    (folder / "ada").rename(folder / "Ada")
    assert set(outcomes(bulk()).values()) == {"skipped"}
    client.enroll(gallery, "Bob", png(picture(5)))
    client.merge_subjects(gallery, "Ada", "Bob")
    (folder / "Ada").rename(folder / "Bob")
    assert set(outcomes(bulk()).values()) == {"skipped"}
    assert enrolled(client, gallery) == {"Bob": 3}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_ended_goes_on(
    number: signal.Signals, bulk: Command, client: Client, gallery: str, folder: Path
) -> None:
    for seed in range(150):
        put(folder, f"{seed % 7}/{seed}.png", seed)
    command = [sys.executable, "-m", "oneglance_apps.cli", "bulk-enroll", *bulk.words, "--in-flight", "4", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or " not done: the same command goes on" in err
    told = bulk()
    assert set(outcomes(told).values()) == {"enrolled", "skipped"}
    assert sum(outcome == "skipped" for outcome in outcomes(told).values()) >= 20
    assert sum(enrolled(client, gallery).values()) == 150
    assert set(outcomes(bulk()).values()) == {"skipped"}


def test_a_server_that_is_started_again_is_waited_for(models: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    for seed in range(200):
        put(folder, f"{seed}.png", seed)
    data = tmp_path / "data"
    with ServerProcess(data, models=":".join(map(str, models))) as first:
        with Client(first.address, timeout_seconds=PATIENCE_SECONDS) as client:
            client.create_gallery("g", encoder="pixels")
        command = [sys.executable, "-m", "oneglance_apps.cli", "bulk-enroll", "g", str(folder)]
        command += ["--server", first.address, "--timeout", str(PATIENCE_SECONDS)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
        first.kill()
    with ServerProcess(data, models=":".join(map(str, models)), listen=first.address) as second:
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
        with Client(second.address, timeout_seconds=PATIENCE_SECONDS) as client:
            assert enrolled(client, "g") == {str(seed): 1 for seed in range(200)}


def test_a_folder_that_cannot_be_read_is_told(folder: Path) -> None:
    put(folder, "ada/1.png", 0)
    (folder / "ada").chmod(0)
    try:
        if os.access(folder / "ada", os.R_OK):
            pytest.skip("root reads everything")
        listing = list_folder(folder, is_picture, "refuse")
        assert [one.name for one in listing.left_out if one.photo] == ["ada"]
    finally:
        (folder / "ada").chmod(0o700)


def test_a_folder_may_be_deep(folder: Path) -> None:
    folders = [os.path.join(folder, *["d"] * depth) for depth in range(1201)]
    for one in folders:
        os.mkdir(one)
    listing = list_folder(folder, is_picture, "refuse")
    for one in reversed(folders):  # what removes it afterwards can't
        os.rmdir(one)
    assert not listing.photos
    assert [one.why for one in listing.left_out] == ["an empty folder"]
