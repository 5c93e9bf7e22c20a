"""Examples, as an encoder's model folder takes and encodes them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_core.trials import Encodings
from oneglance_core.windows import joined
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import Content, labelled_files
from oneglance_exporter.data.reading import bring_all, bring_windows, read_examples, suffixes_of
from oneglance_exporter.errors import DataError
from oneglance_exporter.faces import read_faces
from oneglance_exporter.runtime import encoder_of

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """How ``data`` are read for the encoder in the folder ``model``.

    finders: for an encoder of faces, where the detector's and the landmarks' model folders are; None: beside the
    model. aligned: the pictures are aligned faces already. threads: of ONNX Runtime. least: examples of a subject.
    """

    model: StrPath
    data: Sequence[StrPath]
    finders: StrPath | None = None
    aligned: bool = False
    threads: int = 1
    least: int = 2

    def examples(self, tell: Callable[[str], None]) -> tuple[ModelFolder[EncoderManifest], Examples]:
        """The model folder, and the examples as its input. ``tell`` hears of photos without a face.

        Raises DataError, SettingsError and ModelFolderError.
        """
        folder = read_model_folder(self.model)
        if folder.manifest.alignment is None or self.aligned:
            return folder, read_examples(self.data, folder.manifest.input, self.least)
        examples, left_out = read_faces(self.data, folder, self.finders, self.threads, self.least)
        if left_out.files:
            people = len(left_out.subjects)
            tell(
                f"no face found in {left_out.files} pictures; they are left out, and so are {people} of "
                f"{people + len(examples.subjects)} people, of whom fewer than {self.least} are left"
            )
        return folder, examples

    def _encoded_whole(self, folder: ModelFolder[EncoderManifest]) -> Examples:
        """Examples with their encodings as inputs, each the mean of its windows'."""
        spec, encode = folder.manifest.input, encoder_of(folder.model, self.threads)

        def bring(content: Content) -> Encodings:
            windows = bring_windows(content, spec)
            one: Encodings = joined(encode(windows), [len(windows)], unit_norm=folder.manifest.output.unit_norm)[0]
            return one

        return bring_all(labelled_files(self.data, suffixes_of(spec)), bring, self.least)[0]

    def encoded(self, tell: Callable[[str], None]) -> tuple[ModelFolder[EncoderManifest], Examples, Encodings]:
        """And their encodings, float32 [N, D]. Raises DataError for one that isn't finite, too; it names the file."""
        folder = read_model_folder(self.model)
        if folder.manifest.input.windows is None:
            folder, examples = self.examples(tell)
            encodings = encoder_of(folder.model, self.threads)(examples.inputs)
        else:
            examples = self._encoded_whole(folder)
            encodings = examples.inputs
        bad = np.flatnonzero(~np.isfinite(encodings).all(axis=1))
        if len(bad):
            raise DataError(f"{examples.files[bad[0]]}: {folder.path} gives it an encoding that is not finite")
        return folder, examples, encodings
