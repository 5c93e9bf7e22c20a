"""A few real inputs to try a graph on before it is written."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.data.files import labelled_files
from oneglance_exporter.data.reading import Bring, bringing, in_windows, suffixes_of
from oneglance_exporter.errors import DataError
from oneglance_exporter.faces import bringing_faces

MOST = 7


def real_inputs(
    folder: ModelFolder[EncoderManifest],
    data: Sequence[str | os.PathLike[str]],
    finders: str | os.PathLike[str] | None = None,
    *,
    aligned: bool = False,
) -> npt.NDArray[Any]:
    """Up to MOST examples of ``data``, evenly chosen, as the encoder in ``folder`` takes them: ``dtype [n, *shape]``.

    Files that can't be used are passed over. The rest: as in ``Reading``. Raises DataError where none can be.
    """
    spec = folder.manifest.input
    bring: Bring = bringing(spec)
    if folder.manifest.alignment is not None and not aligned:
        bring = bringing_faces(folder, finders, threads=1)
    files = labelled_files(data, suffixes_of(spec))
    files = files[:: max(1, len(files) // MOST)][:MOST]
    if spec.windows is not None:
        files = in_windows(files, spec)[:MOST]
    found = []
    for file in files:
        try:
            made = bring(file.read())
        except (ValueError, DataError):
            continue
        if made is not None and made.shape == spec.shape and made.dtype == spec.dtype:
            found.append(made)
    if not found:
        raise DataError(f"{', '.join(map(str, data))}: nothing in it can be given to the encoder")
    return np.stack(found)
