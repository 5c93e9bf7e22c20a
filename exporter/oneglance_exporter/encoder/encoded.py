"""Examples, as an encoder's model folder takes and encodes them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.judging.judge import Far
from oneglance_core.manifests import EncoderManifest, InputSpec
from oneglance_core.trials import Encodings
from oneglance_core.windows import joined
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import Content, File, labelled_files
from oneglance_exporter.data.reading import Bring, bring_all, bring_windows, bringing, in_windows, suffixes_of
from oneglance_exporter.data.spelling import checked
from oneglance_exporter.errors import DataError
from oneglance_exporter.faces import bringing_faces
from oneglance_exporter.runtime import encoder_of
from oneglance_exporter.settings import Spellings

StrPath = str | os.PathLike[str]

_BLOCK = 1024  # a multiple of what is encoded at once
_READING = 0.5  # of the work


def _silent(done: float, words: str) -> None:
    """Hears how far it is, and says nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How ``data`` are read for the encoder in the folder ``model``.

    finders: for an encoder of faces, where the detector's and the landmarks' model folders are; None: beside the
    model. aligned: the pictures are aligned faces already. threads: of ONNX Runtime. least: examples of a subject.
    spellings: what becomes of subjects whose names are one name in two spellings.
    """

    model: StrPath
    data: Sequence[StrPath]
    finders: StrPath | None = None
    aligned: bool = False
    threads: int = 1
    least: int = 2
    spellings: Spellings = "refuse"

    def examples(
        self, tell: Callable[[str], None], far: Far = _silent
    ) -> tuple[ModelFolder[EncoderManifest], Examples]:
        """The model folder, and the examples as its input. ``tell`` hears of photos without a face, ``far`` how far it
        is.

        Raises DataError, SettingsError and ModelFolderError.
        """
        folder = read_model_folder(self.model)
        spec = folder.manifest.input
        faces = folder.manifest.alignment is not None and not self.aligned
        bring = bringing_faces(folder, self.finders, self.threads) if faces else bringing(spec)
        files = self._files(spec)
        if spec.windows is not None:
            files = in_windows(files, spec)
        examples, left_out = bring_all(files, _counted(bring, len(files), far), self.least)
        if left_out.files:
            people = len(left_out.subjects)
            tell(
                f"no face found in {left_out.files} pictures; they are left out, and so are {people} of "
                f"{people + len(examples.subjects)} people, of whom fewer than {self.least} are left"
            )
        return folder, examples

    def _files(self, spec: InputSpec) -> list[File]:
        return checked(labelled_files(self.data, suffixes_of(spec)), self.spellings)

    def _encoded_whole(self, folder: ModelFolder[EncoderManifest], far: Far) -> Examples:
        """Examples with their encodings as inputs, each the mean of its windows'."""
        spec, encode = folder.manifest.input, encoder_of(folder.model, self.threads)

        def bring(content: Content) -> Encodings:
            windows = bring_windows(content, spec)
            one: Encodings = joined(encode(windows), [len(windows)], unit_norm=folder.manifest.output.unit_norm)[0]
            return one

        files = self._files(spec)
        return bring_all(files, _counted(bring, len(files), far), self.least)[0]

    def encoded(
        self, tell: Callable[[str], None], far: Far = _silent
    ) -> tuple[ModelFolder[EncoderManifest], Examples, Encodings]:
        """And their encodings, float32 [N, D]. Raises DataError for one that isn't finite, too; it names the file."""
        folder = read_model_folder(self.model)
        if folder.manifest.input.windows is None:
            folder, examples = self.examples(tell, lambda done, words: far(_READING * done, words))
            encode, inputs = encoder_of(folder.model, self.threads), examples.inputs
            blocks = []
            for start in range(0, len(inputs), _BLOCK):
                far(_READING + (1 - _READING) * start / len(inputs), f"{start} of {len(inputs)} encoded")
                blocks.append(encode(inputs[start : start + _BLOCK]))
            encodings = np.concatenate(blocks)
        else:
            examples = self._encoded_whole(folder, far)
            encodings = examples.inputs
        _check_finite(folder, examples, encodings)
        return folder, examples, encodings

    def encoded_by(self, other: ModelFolder[EncoderManifest], examples: Examples) -> Encodings:
        """What ``other``, which takes the same input, makes of the ``examples`` that ``encoded`` returned.

        Raises DataError.
        """
        if other.manifest.input.windows is None:
            encodings = encoder_of(other.model, self.threads)(examples.inputs)
        else:
            encodings = self._encoded_whole(other, _silent).inputs
        _check_finite(other, examples, encodings)
        return encodings


def _check_finite(folder: ModelFolder[EncoderManifest], examples: Examples, encodings: Encodings) -> None:
    bad = np.flatnonzero(~np.isfinite(encodings).all(axis=1))
    if len(bad):
        raise DataError(f"{examples.files[bad[0]]}: {folder.path} gives it an encoding that is not finite")


def _counted(bring: Bring, total: int, far: Far) -> Bring:
    number = 0

    def brought(content: Content) -> npt.NDArray[Any] | None:
        nonlocal number
        far(number / total, f"{number} of {total} read")
        number += 1
        return bring(content)

    return brought
