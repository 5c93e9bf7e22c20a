"""Names of people in more than twenty scripts: through gRPC, the command line, folders, a backup, and back."""

import json
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from oneglance import Client, OneglanceError, keyed, subject_filter
from oneglance_apps.cli.main import main
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

NAMES = {
    "Latin": "José Ñandú Ångström",
    "Vietnamese": "Nguyễn Thị Diệu",
    "Greek": "Ελένη Παπαδοπούλου",
    "Cyrillic": "Юлия Ёлкина",
    "Armenian": "Արամ Խաչատրյան",
    "Georgian": "ნინო ბერიძე",
    "Hebrew": "שָׂרָה לֵוִי",
    "Arabic": "مُحَمَّد الأحمد",
    "Persian": "علی‌رضا نوری‌زاده",
    "Urdu": "فاطمہ‌بی بی",
    "Devanagari": "श्रीमती क़मर",
    "Bengali": "শ্রী রবীন্দ্রনাথ",
    "Tamil": "ஸ்ரீனிவாசன்",
    "Telugu": "శ్రీనివాసరావు",
    "Kannada": "ಶ್ರೀಧರ್‌ರಾವ್",
    "Malayalam": "അമ്മിണി നായർ",
    "Sinhala": "ශ්‍රී ජයවර්ධන",
    "Thai": "สมชาย น้ำใจ",
    "Lao": "ສົມໃຈ ແກ້ວ",
    "Khmer": "សុខ ស្រីមុំ",
    "Burmese": "အောင်ဆန်း",
    "Tibetan": "བསྟན་འཛིན་རྒྱ་མཚོ",
    "Amharic": "ኃይለ ሥላሴ",
    "Cherokee": "ᏍᏏᏉᏯ",
    "Inuktitut": "ᐱᓯᕝᕕᒃ",
    "Mongolian": "ᠴᠢᠩᠭᠢᠰ᠎ᠠ",
    "Han": "葛󠄀山　太郎",
    "Kana": "がっきー ジョー",
    "Hangul": "김철수",
    "Adlam": "𞤀𞤣𞤢𞤤𞤢𞤥",
    "Emoji": "👩‍👩‍👧‍👦 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "No-break": "Anne\u00a0Marie d’Été",
}


def spelled(form: Literal["NFC", "NFD"]) -> dict[str, str]:
    return {script: unicodedata.normalize(form, name) for script, name in NAMES.items()}


COMPOSED, APART = spelled("NFC"), spelled("NFD")


def test_the_names_are_of_twenty_scripts_and_spelled_in_two_ways() -> None:
    assert len(NAMES) >= 20
    assert sum(COMPOSED[script] != APART[script] for script in NAMES) >= 6


def test_through_grpc_in_either_spelling(client: Client, gallery: str) -> None:
    for i, script in enumerate(NAMES):
        name, other = APART[script], COMPOSED[script]
        enrolled = client.enroll(
            *(gallery, name, keyed(png(picture(i)), other, name)), labels={name: other}, request_id=name
        )
        assert (enrolled.subject_id, enrolled.created) == (other, True)
        again = client.enroll(
            *(gallery, other, keyed(png(picture(i)), other, name)), labels={name: other}, request_id=other
        )
        assert (again.replayed, again.subject_id) == (True, other)
        subject = client.get_subject(gallery, name)
        assert subject == client.get_subject(gallery, other)
        assert (subject.id, dict(subject.labels)) == (other, {other: other})
        assert (subject.encodings[0].key, subject.encodings[0].source) == (other, other)
        found = client.identify(gallery, png(picture(i)), tau=0.0, filter=subject_filter({other: name}))
        assert found.results[0].subject_id == other
        assert client.verify(gallery, name, png(picture(i))).same
        client.update_labels(gallery, name, {"seen": name})
        assert client.count_subjects(gallery, "seen", subject_filter(id_prefix=other)).subjects == 1
    assert sorted(COMPOSED.values()) == [one.id for one in client.list_subjects(gallery)]
    for script in NAMES:
        client.delete_subject(gallery, APART[script])
    assert list(client.list_subjects(gallery)) == []


def test_galleries_have_such_names_too(client: Client) -> None:
    for script in NAMES:
        assert client.create_gallery(APART[script], encoder="pixels").id == COMPOSED[script]
        client.enroll(APART[script], "s", png(picture(1)))
        with pytest.raises(OneglanceError, match="GALLERY_EXISTS"):
            client.create_gallery(COMPOSED[script], encoder="pixels")
        assert client.identify(APART[script], png(picture(1))).results[0].subject_id == "s"
        assert client.get_gallery(COMPOSED[script]).subject_count == 1
        client.set_threshold(APART[script], 0.5)
        client.delete_gallery(APART[script])
    assert not {one.id for one in client.list_galleries()} & set(COMPOSED.values())


def test_through_the_command_line_and_out_and_in_again(
    server: Server, gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        assert main([words[0], "--server", server.address, *words[1:]]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    for i, script in enumerate(NAMES):
        folder = tmp_path / "people" / APART[script]  # as the folders of a Mac are spelled
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(png(picture(i)))
    run("bulk-enroll", gallery, str(tmp_path / "people"))
    listed = [json.loads(line) for line in run("list-subjects", gallery, "--json").splitlines()]
    assert {one["id"] for one in listed} == set(COMPOSED.values())
    text = run("list-subjects", gallery)
    for script in NAMES:
        assert f"{COMPOSED[script]}: encoding id" in text  # nothing of it is escaped
        run("update-labels", gallery, APART[script], "--label", f"name={APART[script]}")
        shown = run("get-subject", gallery, COMPOSED[script], "--json")
        assert json.loads(shown)["labels"] == {"name": COMPOSED[script]}
    for i, one in enumerate(listed):
        run("rename-subject", gallery, one["id"], f"n{i}")
        run("rename-subject", gallery, f"n{i}", one["id"])
    again = [json.loads(line) for line in run("list-subjects", gallery, "--json").splitlines()]
    assert [one["id"] for one in again] == [one["id"] for one in listed]
    run("delete-subjects", gallery, "--having", f"name={APART['Latin']}")
    assert COMPOSED["Latin"] not in run("list-subjects", gallery)


def test_through_a_backup_and_back(models: tuple[Path, Path], tmp_path: Path) -> None:
    served = server_thread(data_dir=tmp_path / "data", models=models, backup_dir=str(tmp_path / "backups"))
    with served as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.create_gallery("g", encoder="pixels")
        for i, script in enumerate(NAMES):
            client.enroll("g", APART[script], png(picture(i)), labels={"name": APART[script]})
        client.create_backup("b")
    master = f"file:{tmp_path / 'data' / 'master.key'}"
    assert main(["restore", str(tmp_path / "backups" / "b"), str(tmp_path / "new"), "--master-key", master]) == 0
    (tmp_path / "new" / "master.key").write_bytes((tmp_path / "data" / "master.key").read_bytes())
    with server_thread(data_dir=tmp_path / "new", models=models) as server, Client(server.address) as client:
        assert {one.id: one.labels["name"] for one in client.list_subjects("g")} == {
            name: name for name in COMPOSED.values()
        }


def test_what_no_name_is_is_said_before_the_server_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, told in (("a\u202eb", "U+202E"), (" a", "U+0020"), ("a\udcff", "U+DCFF")):
        for words in (["get-subject", "g", wrong], ["get-gallery", wrong], ["rename-subject", "g", "s", wrong]):
            with pytest.raises(SystemExit) as ended:
                main([*words, "--server", "127.0.0.1:1"])
            assert ended.value.code == 2
            assert told in capsys.readouterr().err
