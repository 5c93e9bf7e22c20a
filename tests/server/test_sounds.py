"""Sounds and signals of any length through a real server: what they are given, and what is refused."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, enroll_request, identify_request, sound
from oneglance.client.requests import SOUND_SUFFIXES
from oneglance.v1.common_pb2 import Example
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_UNKNOWN
from oneglance_apps.cli import main
from oneglance_core import sounds
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.manifests import SoundSpec
from oneglance_core.windows import windows_of
from oneglance_server.app import Server
from tests.core.test_sounds import REFUSED
from tests.models import SOUND, pixels_model, signal_model, sound_model, tones
from tests.pictures import picture, png
from tests.running import server_thread
from tests.sounds import RATE, flac, soundfile, tone, wav
from tests.waiting import PATIENCE_SECONDS

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
GOOD = wav(tone(440))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    soundfile()
    folder = tmp_path_factory.mktemp("sounds")
    padded = signal_model(folder / "padded", name="padded", fit="pad")
    models = (sound_model(folder / "sound"), padded, pixels_model(folder / "pixels"))
    with server_thread(
        data_dir=folder / "data",
        models=models,
        max_sound_bytes=1 << 20,
        max_sound_seconds=2.0,
        max_call_sound_seconds=8.0,
        max_batch=8,
    ) as running:
        yield running


@pytest.fixture
def gallery(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """Two tones, each enrolled once."""
    name = re.sub(r"[^ -~]", "?", request.node.name)[:100]
    client.create_gallery(name, encoder="sound")
    client.enroll(name, "low", wav(tone(440)))
    client.enroll(name, "high", flac(tone(1400)))
    yield name
    client.delete_gallery(name)


def encoded(client: Client, *examples: Example | bytes | np.ndarray, encoder: str = "sound") -> np.ndarray:
    found = client.encode(*examples, encoder=encoder).encodings
    return np.array([one.values for one in found], np.float32)


def test_a_sound_seen_once_is_recognised_in_another_format_rate_and_length(client: Client, gallery: str) -> None:
    probes = [
        flac(tone(440, 0.3, level=0.1)),
        wav(np.repeat(tone(1400, 1.0, 44_100), 2, axis=1), 44_100),
        wav(tone(1400, 0.25, 16_000), 16_000, bits=32),
        wav(tone(2600)),
    ]
    found = client.identify(gallery, *probes).results
    assert [result.subject_id for result in found] == ["low", "high", "high", ""]
    assert [result.decision for result in found] == [DECISION_IDENTIFIED] * 3 + [DECISION_UNKNOWN]
    assert client.verify(gallery, "low", sound(GOOD)).same


def test_the_encoding_is_the_mean_of_the_windows(client: Client) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal((RATE, 1))).astype(np.float32)
    mean = tones(windows_of(noise, SOUND)).mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(encoded(client, wav(noise, bits=32))[0], expected, atol=1e-5)
    np.testing.assert_allclose(encoded(client, noise)[0], expected, atol=1e-5)


def test_sounds_of_many_lengths_that_meet_in_one_batch_get_the_answers_they_get_alone(client: Client) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(RATE // 4, RATE, 12)
    noises = [wav((0.1 * rng.standard_normal((length, 1))).astype(np.float32)) for length in lengths]
    together = encoded(client, *noises)
    alone = np.concatenate([encoded(client, noise) for noise in noises])
    np.testing.assert_allclose(together, alone, atol=1e-6, rtol=0)


def test_arrays_of_another_length_are_cut_or_followed_by_zeros(client: Client) -> None:
    given = np.arange(1, 17, dtype=np.float32).reshape(8, 2)
    short, longer = encoded(client, given[:4], given, encoder="padded")
    np.testing.assert_array_equal(short, [*range(1, 9), 0, 0, 0, 0])
    np.testing.assert_array_equal(longer, range(1, 13))


NAN = np.full((3, 2), np.nan, np.float32)
OTHERS: dict[str, tuple[Callable[[Client, str], object], str, str]] = {
    "sound-for-pictures": (
        lambda c, g: c.encode(sound(GOOD), encoder="pixels"),
        "INVALID_REQUEST",
        "examples[0].sound",
    ),
    "sound-for-arrays": (lambda c, g: c.encode(sound(GOOD), encoder="padded"), "INVALID_REQUEST", "examples[0].sound"),
    "picture-for-sounds": (lambda c, g: c.enroll(g, "s", png(picture(1))), "INVALID_REQUEST", "examples[0].image"),
    "sounds-too-long": (
        lambda c, g: c.identify(g, *[wav(tone(440, 1.9))] * 5),
        "TOO_MANY",
        "probes[4].sound",
    ),
    "array-channels": (
        lambda c, g: c.encode(np.zeros((4, 3), np.float32), encoder="padded"),
        "TENSOR_INVALID",
        "examples[0].tensor.shape",
    ),
    "array-empty": (
        lambda c, g: c.encode(np.zeros((0, 2), np.float32), encoder="padded"),
        "TENSOR_INVALID",
        "examples[0].tensor.shape",
    ),
    "array-nan": (lambda c, g: c.encode(NAN, encoder="padded"), "TENSOR_INVALID", "examples[0].tensor.data"),
}
SLUGS = {
    "sound-empty": "no bytes",
    "sound-undecodable": "not a sound",
    "sound-truncated": "truncated FLAC",
    "sound-header": "44 bytes that claim 4 GB",
    "sound-rate": "0 Hz",
    "sound-channels": "65,535 channels",
    "sound-nan": "NaN",
    "sound-too-many-bytes": "too many bytes",
    "sound-too-long": "too long",
    "sound-too-short": "too short",
    "sound-silent": "silent",
    "sound-clipped": "clipped",
}


def _enrolling(case: str) -> Callable[[Client, str], object]:
    return lambda c, g: c.enroll(g, "s", sound(REFUSED[case][0]()))


CASES = {slug: (_enrolling(case), REFUSED[case][1], "examples[0].sound") for slug, case in SLUGS.items()} | OTHERS


@pytest.mark.parametrize("slug", CASES)
def test_what_can_not_be_used_is_refused_and_leaves_everything_as_it_was(
    client: Client, gallery: str, slug: str
) -> None:
    call, reason, field = CASES[slug]
    before = client.get_gallery(gallery)
    with pytest.raises(OneglanceError) as caught:
        call(client, gallery)
    assert (caught.value.code.name, caught.value.reason) == ("INVALID_ARGUMENT", reason)
    assert field in dict(caught.value.field_violations)
    assert client.get_gallery(gallery).revision == before.revision


def test_the_page_has_these_rows_and_no_others() -> None:
    section = DOCS.read_text().split("## Sounds")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| INVALID_ARGUMENT \| `([A-Z_]+)` \|$", section, re.M))
    assert rows == {slug: reason for slug, (_, reason, _) in CASES.items()}


def test_a_bad_sound_among_good_ones_of_a_stream_is_answered_alone(client: Client, gallery: str) -> None:
    good, bad = identify_request(gallery, [GOOD]), identify_request(gallery, [sound(b"?")])
    answers = list(client.identify_stream([good, bad, good]))
    assert [answer.error.reason for answer in answers] == ["", "SOUND_UNDECODABLE", ""]
    enrolled = list(
        client.bulk_enroll([enroll_request(gallery, "x", [GOOD]), enroll_request(gallery, "y", [wav(0 * tone(1))])])
    )
    assert [answer.error.reason for answer in enrolled] == ["", "SOUND_SILENT"]


def test_sound_files_from_the_command_line(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (
        ("low.wav", wav(tone(440))),
        ("high.flac", flac(tone(1400))),
        ("probe.WAV", wav(tone(440, 0.3))),
    ):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder" / "other").mkdir(parents=True)
    (tmp_path / "folder" / "other" / "1.flac").write_bytes(flac(tone(2600)))
    (tmp_path / "text.wav").write_text("once upon a time")

    def run(*arguments: str) -> int:
        return main([*arguments[:1], "--server", server.address, *arguments[1:]])

    assert run("create-gallery", "files", "--encoder", "sound") == 0
    assert run("enroll", "files", "low", str(tmp_path / "low.wav")) == 0
    assert run("enroll", "files", "high", str(tmp_path / "high.flac")) == 0
    assert run("bulk-enroll", "files", str(tmp_path / "folder")) == 0
    capsys.readouterr()
    assert run("identify", "files", str(tmp_path / "probe.WAV")) == 0
    assert "low" in capsys.readouterr().out
    assert run("enroll", "files", "text", str(tmp_path / "text.wav")) == 1
    assert "SOUND_UNDECODABLE" in capsys.readouterr().err
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        assert [subject.id for subject in client.list_subjects("files")] == ["high", "low", "other"]
        client.delete_gallery("files")


def test_a_model_says_what_sounds_it_takes(client: Client) -> None:
    models = {model.name: model.input for model in client.list_models()}
    assert (models["sound"].sample_rate, models["sound"].fit) == (RATE, "pad")
    assert (models["pixels"].sample_rate, models["pixels"].fit) == (0, "")


def test_client_and_core_know_the_same_suffixes() -> None:
    assert SOUND_SUFFIXES == sounds.SOUND_SUFFIXES


def test_the_digest_covers_the_sounds_it_takes(tmp_path: Path) -> None:
    folder = read_model_folder(sound_model(tmp_path / "one"))
    spec = folder.manifest.input.model_copy(update={"sound": SoundSpec(sample_rate=RATE, least_dbfs=-30)})
    write_model_folder(tmp_path / "other", folder.manifest.model_copy(update={"input": spec}), folder.model)
    assert read_model_folder(tmp_path / "other").digest != folder.digest
