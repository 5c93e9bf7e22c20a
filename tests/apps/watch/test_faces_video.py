"""``oneglance watch`` on real faces: a video made of photos of people, one after the other; some are strangers."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance import Client
from oneglance_apps.cli import main
from oneglance_server.app import Server
from tests.apps.watch.videos import Picture, write_video
from tests.running import server_thread

FPS = 10
SIZE = (640, 260)
TAU = "0.3"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, face_folder: Path, lfw: dict[str, list[bytes]]
) -> Iterator[Server]:
    """A server with the imported models; half of the people are enrolled from their first photo."""
    data = tmp_path_factory.mktemp("data")
    with server_thread(data_dir=data, models=(face_folder,)) as running, Client(running.address) as client:
        client.create_gallery("people")
        for name in list(lfw)[:5]:
            client.enroll("people", name, lfw[name][0])
        yield running


def scene(*photos: tuple[bytes, int]) -> Picture:
    """A wide gray frame with each photo pasted at its x."""
    frame = Image.new("RGB", SIZE, (90, 90, 90))
    for photo, x in photos:
        frame.paste(Image.open(io.BytesIO(photo)).convert("RGB"), (x, 5))
    return np.asarray(frame)


def watch(server: Server, video: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    words = ["--json", "--gone", "1", "--tau", TAU, "--server", server.address, "people", str(video)]
    assert main(["watch", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_after_the_other(
    server: Server, lfw: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known, stranger, known, stranger, known: each two photos of a second, with a short gap without faces."""
    names = list(lfw)
    order = [names[0], names[5], names[1], names[6], names[2]]
    frames = []
    for name in order:
        for still in (1, 2):
            frames += [scene((lfw[name][still], 200))] * FPS
        frames += [scene()] * (3 * FPS // 2)
    found = watch(server, write_video(tmp_path / "gate.mp4", frames, fps=FPS), capsys)
    assert [e["subject_id"] for e in found] == [names[0], None, names[1], None, names[2]]
    assert [e["kind"] for e in found] == ["identified", "unknown", "identified", "unknown", "identified"]
    for event, start in zip(found, (0, 3.5, 7, 10.5, 14), strict=True):
        seconds, box, distance = event["seconds"], event["box"], event["distance"]
        assert isinstance(seconds, float)
        assert start <= seconds < start + 2
        assert isinstance(distance, float)
        assert (distance <= float(TAU)) == (event["kind"] == "identified")
        # In LFW's photos, 250 pixels wide, the face is in the middle.
        assert isinstance(box, dict)
        assert abs(box["x"] + box["width"] / 2 - 325) < 30
        assert abs(box["y"] + box["height"] / 2 - 130) < 30


def test_a_stranger_behind_somebody_known(
    server: Server, lfw: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two people side by side, who change places: one event each, and the names stay with the faces."""
    names = list(lfw)
    known, other, stranger = (lfw[name][1] for name in (names[0], names[1], names[5]))
    frames = [scene((known, 0), (stranger, 380))] * (2 * FPS) + [scene((known, 380), (other, 0))] * (2 * FPS)
    found = watch(server, write_video(tmp_path / "gate.mp4", frames, fps=FPS), capsys)
    assert [(e["kind"], e["subject_id"]) for e in found] == [
        ("identified", names[0]),
        ("unknown", None),
        ("identified", names[1]),
    ]
    assert len({e["appearance"] for e in found}) == 3


def test_a_large_frame_is_shrunk_and_the_box_is_not(
    server: Server, lfw: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(lfw))
    large = np.asarray(Image.fromarray(scene((lfw[name][1], 200))).resize((1920, 780)))
    (found,) = watch(server, write_video(tmp_path / "gate.mp4", [large] * FPS, fps=FPS), capsys)
    assert found["subject_id"] == name
    box = found["box"]
    assert isinstance(box, dict)
    assert abs(box["x"] + box["width"] / 2 - 3 * 325) < 90
    assert 150 < box["width"] < 600


def test_4k_shows_what_720p_shows_with_one_setting(
    server: Server, lfw: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A face of as many pixels, in a corner of either."""
    name = next(iter(lfw))
    face = Image.open(io.BytesIO(lfw[name][1])).convert("RGB")
    words = ["watch", "--json", "--tau", TAU, "--server", server.address, "--confirm", "1", "people"]
    for size, more, seen in (((1280, 720), [], True), ((3840, 2160), [], False), ((3840, 2160), ["3840"], True)):
        frame = Image.new("RGB", size, (90, 90, 90))
        frame.paste(face, (size[0] - 300, size[1] - 300))
        folder = tmp_path / f"{size[0]}{len(more)}"
        folder.mkdir()
        frame.save(folder / "a.jpg", quality=95)
        assert main([*words, str(folder), *(["--max-side", *more] if more else [])]) == 0
        out, said = capsys.readouterr()
        assert [json.loads(line)["subject_id"] for line in out.splitlines()] == ([name] if seen else [])
        assert f"faces from {80 if seen else 240} pixels on are looked for in {size[0]} x {size[1]}" in said
