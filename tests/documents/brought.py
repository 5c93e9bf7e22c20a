"""What a reader brings to a page: small stand-ins for photos, drawings, models and videos, written into a folder."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_apps.landscape import landscape
from oneglance_core.glyphs import alphabet
from oneglance_core.pair_head import PairHead
from oneglance_core.voices import RATE, voices
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER
from tests.apps.watch.videos import write_video
from tests.documents.blocks import ROOT, blocks_of, commands_of
from tests.exporter.conftest import write_alphabets
from tests.exporter.test_import_onnx import graph_file
from tests.face_models import face_models, photo, upright_look
from tests.models import pixels_model, sound_model
from tests.sounds import flac, tone, wav

ADA, BOB, JANE, EVE = range(1, 5)
STRANGERS = range(20, 120)
SIDE = 32
"""Pixels of a face: large enough for every quality policy."""


def face(person: int, shift: int = 0) -> npt.NDArray[np.uint8]:
    return photo({(16 + 8 * shift, 16): person}, side=SIDE, looks=upright_look)


def save(picture: npt.NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=100, subsampling=0)


def tiny_faces(folder: Path) -> None:
    """In models/faces: they take 0.1 s to load, and their people are squares."""
    face_models(folder / "models/faces", check=True)


def photos(folder: Path) -> None:
    """Of people that tiny_faces knows: singly, in groups, in folders."""
    for end in ("jpg", "png"):
        save(face(ADA), folder / f"ada.{end}")
        save(face(ADA, 1), folder / f"probe.{end}")
        save(face(EVE), folder / f"eve.{end}")
        for number in (1, 2):
            save(face(BOB, number), folder / f"bob-{number}.{end}")
    save(photo({(8, 16): ADA, (72, 16): BOB}, side=SIDE, looks=upright_look), folder / "party.jpg")
    save(face(ADA, 1), folder / "monday.png")
    save(face(EVE), folder / "tuesday.png")
    for name, person in {"ada": ADA, "j.doe": JANE, "jane": JANE, "eve": EVE}.items():
        for number in range(2):
            save(face(person, number), folder / f"pictures/{name}/{number}.png")
            save(face(person, number + 2), folder / f"others-of-ours/{name}/{number}.jpg")
        for number in range(5):
            save(face(person, number), folder / f"photos/{name}-{number}.jpg")
    for person in STRANGERS:
        save(face(person), folder / f"strangers/{person}.jpg")


def video(folder: Path) -> None:
    """gate.mp4: ada walks past; and the same as pictures, in stills/."""
    nobody = photo({})
    frames = [*[face(ADA)] * 20, *[nobody] * 20, *[face(STRANGERS[0])] * 20]
    write_video(folder / "gate.mp4", frames, fps=10)
    for number, frame in enumerate(frames[::5]):
        save(frame, folder / f"stills/{number:03}.png")


def cat(folder: Path) -> None:
    """cat.jpg, some folders of such, and a short video."""
    picture = Image.fromarray(landscape()).resize((96, 64))
    (folder / "photos").mkdir(exist_ok=True)
    for name in (
        "cat.jpg",
        "cat.png",
        "large.jpg",
        "painting.jpg",
        "starry_night.jpg",
        "photos/one.jpg",
        "photos/two.jpg",
    ):
        picture.save(folder / name)


def letters(folder: Path) -> None:
    """The drawings of examples/drawings."""
    for path in (ROOT / "examples/drawings").glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())


def drawings(folder: Path) -> None:
    """drawings.zip and heldout.zip, of invented alphabets, and the latter's pictures in pictures/."""
    write_alphabets(folder / "drawings.zip", range(100, 103), 6, 5)
    write_alphabets(folder / "heldout.zip", range(200, 202), 20, 3)
    for character in alphabet(300, 6, 3):
        for number, drawing in enumerate(character.drawings):
            save(drawing, folder / f"pictures/{character.name}/{number}.png")


def models(folder: Path) -> None:
    """models/mine, a tiny encoder of drawings with a pair head, and models/other without."""
    head = PairHead("difference", np.linspace(-4, 1, 64), 1.0)
    pixels_model(folder / "models/mine", name="mine", head=head)
    pixels_model(folder / "models/other", name="other", resize="bilinear")


def deep_model(folder: Path) -> None:
    """models/mine, an encoder of drawings that has layers: the bundled one."""
    shutil.copytree(BUNDLED_MODEL, folder / "models/mine")


def people(folder: Path) -> None:
    """People's photos in people/, a folder each."""
    for person in (ADA, BOB, JANE, EVE):
        for number in range(4):
            save(face(person, number), folder / f"people/{person}/{number}.jpg")


def certificates(folder: Path) -> None:
    """Of localhost, by the script of deploy/compose."""
    subprocess.run([ROOT / "deploy/compose/make-secrets", "localhost"], cwd=folder, check=True, capture_output=True)
    for made, name in (("ca.crt", "ca.pem"), ("tls.crt", "server.crt"), ("tls.key", "server.key")):
        (folder / "secrets" / made).rename(folder / name)


def foreign_encoder(folder: Path) -> None:
    """arcface.onnx, which has only its input's shape in common with one."""
    graph_file(folder / "arcface.onnx", size=(112, 112))


def recordings(folder: Path) -> None:
    """Of invented voices, a folder per speaker in speakers/, others/ and recordings/."""
    for top, seed, count in (("speakers", 1, 8), ("others", 2, 8), ("recordings", 3, 2)):
        for voice in voices(seed, count, 3):
            for number, said in enumerate(voice.utterances):
                path = folder / top / voice.name / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(wav(said[:, np.newaxis], RATE))


def sound_server(folder: Path) -> None:
    """models/tones, a tiny encoder of sounds, with what is sent to it."""
    sound_model(folder / "models/tones")
    (folder / "probe.wav").write_bytes(wav(tone(600)))
    (folder / "hum.wav").write_bytes(wav(tone(600, level=1e-4)))
    (folder / "ada.wav").write_bytes(wav(tone(500)))
    for name in ("ada.flac", "probe.flac"):
        (folder / name).write_bytes(flac(tone(500)))
    np.save(folder / "probe.npy", tone(600))


def clone(folder: Path) -> None:
    """What pages run of examples/ and scripts/."""
    for name in ("examples", "scripts"):
        (folder / name).symlink_to(ROOT / name)


def walk(folder: Path) -> None:
    """walk.mp4 and walk.mov: half a second."""
    for name in ("walk.mp4", "walk.mov"):
        write_video(folder / name, [face(ADA, shift) for shift in range(5)], fps=10)


def styles(folder: Path) -> None:
    """Photos, whatever the page of styles gives to --styles, and models/before, a stylizer to begin with."""
    picture = Image.fromarray(landscape(256))
    for number in range(4):
        for top in ("photos", "heldout"):
            (folder / top).mkdir(exist_ok=True)
            picture.rotate(90 * number).save(folder / top / f"{number}.jpg")
    shutil.copytree(BUNDLED_STYLIZER, folder / "models/before")
    commands = " ".join(command.text for block in blocks_of("docs/stylize.md") for command in commands_of(block))
    for name in re.findall(r"\S+\.(?:jpg|png|toml)", " ".join(re.findall(r"--styles? ([^-]+)", commands))):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".toml":
            picture.save(path.with_suffix(".jpg"))
            path.write_text(f"""[[style]]\npicture = "{path.stem}.jpg"\nname = "of-{path.stem}"\n""")
        else:
            picture.save(path)
