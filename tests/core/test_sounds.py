"""From sound files to an encoder's input: what is read, what is refused and why, and the windows of long ones."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_core.manifests import InputSpec, SoundSpec, Windows
from oneglance_core.resampling import resampled
from oneglance_core.sound_header import SoundError, read_sound_header
from oneglance_core.sounds import SoundLimits, sound_input, sound_samples
from oneglance_core.windows import joined, windows_of
from tests.sounds import RATE, flac, soundfile, tone, wav, wav_of

LIMITS = SoundLimits(max_sound_bytes=1 << 20, max_sound_seconds=2.0)
SPEC = InputSpec(
    kind="signal", shape=(RATE, 1), dtype="float32", fit="pad", sound=SoundSpec(sample_rate=RATE, least_seconds=0.1)
)
STEREO = SPEC.model_copy(update={"shape": (RATE, 2)})


@pytest.fixture(autouse=True)
def needs_soundfile() -> None:
    soundfile()


def reason(data: bytes, limits: SoundLimits = LIMITS) -> str:
    with pytest.raises(SoundError) as refused:
        sound_input(data, SPEC, limits)
    return refused.value.reason


@pytest.mark.parametrize("make", [wav, flac, lambda samples: wav(samples, bits=32)], ids=["wav", "flac", "float wav"])
def test_a_sound_is_read_as_it_was_written(make: Callable[[np.ndarray], bytes]) -> None:
    given = tone(440)
    found = sound_samples(make(given), SPEC, LIMITS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, given, atol=1 / 32768)


def test_channels_are_averaged_or_repeated() -> None:
    both = np.concatenate([tone(300), tone(500)], axis=1)
    np.testing.assert_allclose(sound_samples(wav(both), SPEC, LIMITS)[:, 0], both.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(sound_samples(wav(tone(300)), STEREO, LIMITS), np.repeat(tone(300), 2, 1), atol=1e-4)


def test_extra_chunks_and_a_size_that_was_never_filled_in_are_read() -> None:
    body = (tone(440) * 32768).astype("<i2").tobytes()
    streamed = wav_of(body, claimed=0xFFFFFFFF)
    plain = wav_of(body)
    noted = plain[:36] + struct.pack("<4sI", b"LIST", 3) + b"abc\0" + plain[36:]
    for data in (streamed, noted):
        np.testing.assert_array_equal(sound_samples(data, SPEC, LIMITS), sound_samples(plain, SPEC, LIMITS))


TONE = tone(440)
LOUD = np.clip(20 * tone(440), -1, 1)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", "SOUND_EMPTY"),
    "not a sound": (lambda: b"once upon a time", "SOUND_UNDECODABLE"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "SOUND_UNDECODABLE"),
    "too many bytes": (lambda: wav(np.zeros((1 << 20, 1))), "SOUND_TOO_LARGE"),
    "too long": (lambda: flac(np.zeros((RATE * 3, 1), np.float32)), "SOUND_TOO_LARGE"),
    "too short": (lambda: wav(tone(440, seconds=0.05)), "SOUND_TOO_SHORT"),
    "no samples": (lambda: wav_of(b""), "SOUND_TOO_SHORT"),
    "silent": (lambda: wav(0 * TONE), "SOUND_SILENT"),
    "silent, with an offset": (lambda: wav(0 * TONE + 0.3), "SOUND_SILENT"),
    "clipped": (lambda: wav(LOUD), "SOUND_CLIPPED"),
    "clipped below full scale": (lambda: wav(0.5 * LOUD), "SOUND_CLIPPED"),
    "clipped FLAC": (lambda: flac(LOUD), "SOUND_CLIPPED"),
    "floats far beyond full scale": (lambda: wav(TONE * 30_000, bits=32), "SOUND_CLIPPED"),
    "NaN": (
        lambda: wav(np.where(np.arange(len(TONE)) == 99, np.nan, TONE[:, 0])[:, None], bits=32),
        "SOUND_UNDECODABLE",
    ),
    "infinite": (lambda: wav(np.full((RATE, 1), np.inf), bits=32), "SOUND_UNDECODABLE"),
    "truncated WAV": (lambda: wav(TONE)[:2000], "SOUND_UNDECODABLE"),
    "truncated FLAC": (lambda: flac(TONE)[:2000], "SOUND_UNDECODABLE"),
    "header only": (lambda: wav(TONE)[:30], "SOUND_UNDECODABLE"),
    "44 bytes that claim 4 GB": (lambda: wav_of(b"", claimed=0xFFFFFFFF), "SOUND_UNDECODABLE"),
    "44 bytes that claim almost 4 GB": (lambda: wav_of(b"", claimed=0xFFFFFF00), "SOUND_UNDECODABLE"),
    "0 Hz": (lambda: wav_of(TONE.tobytes(), rate=0), "SOUND_UNDECODABLE"),
    "4 GHz": (lambda: wav_of(TONE.tobytes(), rate=0xFFFFFFFF), "SOUND_UNDECODABLE"),
    "a rate of no use": (lambda: wav_of(TONE.tobytes(), rate=44_101), "SOUND_UNDECODABLE"),
    "0 channels": (lambda: wav_of(TONE.tobytes(), channels=0), "SOUND_UNDECODABLE"),
    "65,535 channels": (lambda: wav_of(TONE.tobytes(), channels=65_535), "SOUND_UNDECODABLE"),
    "compressed WAV": (lambda: wav_of(TONE.tobytes(), bits=4, code=2), "SOUND_UNDECODABLE"),
    "samples before their format": (lambda: b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "SOUND_UNDECODABLE"),
    "a thousand chunks": (lambda: wav(TONE)[:12] + b"junk\0\0\0\0" * 1000, "SOUND_UNDECODABLE"),
    "a FLAC that claims hours": (lambda: _claiming(flac(TONE), (1 << 36) - 1), "SOUND_TOO_LARGE"),
    "a FLAC that claims more than it has": (lambda: _claiming(flac(TONE), len(TONE) * 2), "SOUND_UNDECODABLE"),
    "a FLAC of unknown length": (lambda: _claiming(flac(TONE), 0), "SOUND_UNDECODABLE"),
}


def _claiming(data: bytes, frames: int) -> bytes:
    packed = int.from_bytes(data[18:26], "big")
    changed = packed >> 36 << 36 | frames
    return data[:18] + changed.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_used_is_refused_with_its_reason(case: str) -> None:
    make, expected = REFUSED[case]
    assert reason(make()) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_bytes_come_are_read_or_refused(data: st.DataObject) -> None:
    sound = bytearray(data.draw(st.sampled_from([wav(TONE), wav(TONE, bits=32), flac(TONE)])))
    for position in data.draw(st.lists(st.integers(0, 60), max_size=6)):
        sound[position] = data.draw(st.integers(0, 255))
    try:
        found = sound_input(bytes(sound[: data.draw(st.integers(0, len(sound)))]), SPEC, LIMITS)
    except SoundError:
        return
    assert found.shape == (1, RATE, 1)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("hertz", [60, 440, 2000, 3000])
@pytest.mark.parametrize("level", [0.99999, 0.4, 0.01])
def test_loud_low_and_quiet_sines_are_not_taken_for_clipped(hertz: int, level: float) -> None:
    sound_samples(wav(tone(hertz, level=level)), SPEC, LIMITS)


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 16_000), (8000, 16_000), (48_000, 8000), (11_025, 8000)])
def test_resampling_keeps_what_both_rates_hold_and_nothing_else(rate: int, wanted: int) -> None:
    found = resampled(tone(1000, 1.0, rate), rate, wanted)
    assert len(found) == wanted
    inner = slice(300, -300)
    np.testing.assert_allclose(found[inner], tone(1000, 1.0, wanted)[inner], atol=1e-4)
    if wanted < rate / 1.2:
        assert np.abs(resampled(tone(0.55 * wanted, 1.0, rate), rate, wanted)[inner]).max() < 1e-3


def test_quiet_sounds_are_made_louder_and_loud_ones_left() -> None:
    assert SPEC.sound is not None
    level = SPEC.model_copy(update={"sound": SPEC.sound.model_copy(update={"least_dbfs": -20.0})})
    quiet = sound_samples(wav(tone(440, level=0.01)), level, LIMITS)
    assert np.sqrt(np.square(quiet).mean()) == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_allclose(sound_samples(wav(TONE), level, LIMITS), TONE, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(13, 60), st.integers(0, 20), st.integers(1, 90))
def test_windows_are_those_that_a_loop_cuts(length: int, step: int, before: int, least: int) -> None:
    size = 100
    windows = Windows(step=step, before=before, least=least)
    spec = InputSpec(kind="signal", shape=(size, 2), dtype="float32", fit="pad", windows=windows)
    signal = np.arange(1, 2 * length + 1, dtype=np.float32).reshape(length, 2)
    expected = []
    start = 0
    while start == 0 or length - start >= least:
        window = np.zeros((size, 2), np.float32)
        for i in range(size):
            if 0 <= start - before + i < length:
                window[i] = signal[start - before + i]
        expected.append(window)
        start += step
    np.testing.assert_array_equal(windows_of(signal, spec), expected)


def test_the_windows_encodings_become_one_mean_of_unit_norm() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = joined(rows, [1, 3, 2], unit_norm=True)
    for row, members in enumerate(([0], [1, 2, 3], [4, 5])):
        mean = rows[members].mean(axis=0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), rtol=1e-6)
    np.testing.assert_array_equal(found[0], rows[0])
    np.testing.assert_allclose(joined(rows, [1, 3, 2], unit_norm=False)[1], rows[1:4].mean(axis=0), rtol=1e-6)


def test_the_header_says_what_the_decoder_finds() -> None:
    for make in (wav, flac):
        header = read_sound_header(make(np.repeat(TONE, 2, 1), 16_000))
        assert (header.rate, header.channels, header.frames, header.bits) == (16_000, 2, len(TONE), 16)
