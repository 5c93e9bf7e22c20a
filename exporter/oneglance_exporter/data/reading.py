"""Read labelled files into examples: each as the server would give it to the encoder."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.judging.labelled import group_of_subject
from oneglance_core.manifests import InputSpec
from oneglance_core.picture_files import PICTURE_SUFFIXES
from oneglance_core.pictures import PictureError, encoder_input
from oneglance_core.sound_header import is_sound
from oneglance_core.sounds import SOUND_SUFFIXES, SoundLimits, sound_input
from oneglance_core.tensors import TensorError, tensor_input
from oneglance_core.windows import windows_of
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import ARRAY_SUFFIXES, Content, File, array_of, labelled_files
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.errors import DataError

SOUND_LIMITS = SoundLimits(max_sound_bytes=sys.maxsize, max_sound_seconds=3600.0)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out.

    files: how many of which nothing could be brought. subjects: those which then had too few, in order.
    """

    files: int
    subjects: tuple[str, ...]


Bring = Callable[[Content], npt.NDArray[Any] | None]
"""From what a file holds to an encoder's input, ``dtype [*shape]``; None leaves the file out. Raises PictureError,
SoundError, TensorError, ValueError."""

Skip = Callable[[str], None]
"""Told of each broken file, which is then left out."""

Store = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""Where examples of this shape and dtype are put: a new array."""


def read_examples(paths: Sequence[str | os.PathLike[str]], spec: InputSpec, least: int = 2) -> Examples:
    """Read every picture, sound or array of ``paths`` as the server would give it to an encoder that takes ``spec``.

    Where ``spec`` has windows, each is an example. Raises as bring_all.
    """
    files = labelled_files(paths, suffixes_of(spec))
    if spec.windows is not None:
        files = in_windows(files, spec)
    return bring_all(files, bringing(spec), least)[0]


def suffixes_of(spec: InputSpec) -> tuple[str, ...]:
    """Of the files that hold what an encoder of ``spec`` takes."""
    if spec.kind == "image":
        return PICTURE_SUFFIXES
    return ARRAY_SUFFIXES if spec.sound is None else (*SOUND_SUFFIXES, *ARRAY_SUFFIXES)


def bringing(spec: InputSpec) -> Bring:
    """For pictures, or for sounds and arrays: whichever ``spec`` takes. Where it has windows, for files in_windows."""

    def bring(content: Content) -> npt.NDArray[Any]:
        if spec.windows is not None and isinstance(content, np.ndarray):
            return tensor_input(content, spec)
        if spec.kind != "image":
            whole: npt.NDArray[Any] = bring_windows(content, spec)[0]
            return whole
        if isinstance(content, bytes):
            return encoder_input(content, spec, LIMITS)
        if content.dtype != np.uint8 or content.shape != spec.shape:
            raise TensorError(f"is {content.dtype} {list(content.shape)}, the encoder takes uint8 {list(spec.shape)}")
        return content

    return bring


def bring_windows(content: Content, spec: InputSpec) -> npt.NDArray[Any]:
    """All windows of a sound or an array, ``dtype [windows, *shape]``. Raises SoundError, TensorError, ValueError."""
    if spec.sound is not None and isinstance(content, bytes) and is_sound(content):
        return sound_input(content, spec, SOUND_LIMITS)
    return windows_of(array_of(content), spec)


def in_windows(files: Sequence[File], spec: InputSpec) -> list[File]:
    """An array for each window of each of ``files``, which are read for it. A broken file stays as it is."""

    @lru_cache(maxsize=1)  # windows are read one after the other
    def windows_in(number: int) -> npt.NDArray[Any]:
        return bring_windows(files[number].read(), spec)

    def window_of(number: int, window: int) -> npt.NDArray[Any]:
        one: npt.NDArray[Any] = windows_in(number)[window]
        return one

    found: list[File] = []
    for number, file in enumerate(files):
        try:
            count = len(windows_in(number))
        except (ValueError, DataError):
            found.append(file)
            continue
        for window in range(count):
            place, name = f"{file.place} [{window}]", f"{file.name} [{window:06d}]"
            found.append(replace(file, place=place, name=name, read=partial(window_of, number, window)))
    return found


def bring_all(
    files: Sequence[File], bring: Bring, least: int = 2, skip: Skip | None = None, store: Store = np.empty
) -> tuple[Examples, LeftOut]:
    """Read ``files``, sorted by subject, and let ``bring`` make an encoder's input of each.

    A subject of which fewer than ``least`` files could be brought is left out with all of them. Of broken files
    ``skip`` is told, and they count as not brought. Raises DataError for a file that can't be read or, without
    ``skip``, used, a subject with fewer than ``least`` files, and when nobody is left.
    """
    given = Counter(file.subject for file in files)
    scarce = min(given, key=lambda subject: given[subject])
    if given[scarce] < least:
        raise DataError(f"subject {scarce!r} has {given[scarce]} picture(s); at least {least} are needed for each")
    inputs: npt.NDArray[Any] | None = None
    brought: list[File] = []
    for file in files:
        try:
            made = _bring(file, bring)
        except DataError as error:
            if skip is None:
                raise
            skip(str(error))
            continue
        if made is None:
            continue
        if inputs is None:
            inputs = store((len(files), *made.shape), made.dtype)
        if made.shape != inputs.shape[1:] or made.dtype != inputs.dtype:
            raise DataError(f"{file.place}: is {made.dtype} {list(made.shape)}, those before {list(inputs.shape[1:])}")
        inputs[len(brought)] = made
        brought.append(file)
    enough = Counter(file.subject for file in brought)
    kept = [row for row, file in enumerate(brought) if enough[file.subject] >= least]
    if inputs is None or not kept:
        raise DataError(f"there is nobody of whom {least} pictures or more could be used")
    for row, source in enumerate(kept):  # moved to the front in place: there may be more than memory holds
        if row != source:
            inputs[row] = inputs[source]
    without = tuple(subject for subject in given if enough[subject] < least)
    return _examples(inputs[: len(kept)], [brought[row] for row in kept]), LeftOut(len(files) - len(brought), without)


def _bring(file: File, bring: Bring) -> npt.NDArray[Any] | None:
    content = file.read()
    try:
        return bring(content)
    except PictureError as error:
        raise DataError(f"{file.place}: can't be decoded: {error}") from error
    except ValueError as error:  # SoundError, TensorError too
        raise DataError(f"{file.place}: {error}") from error


def _examples(inputs: npt.NDArray[Any], files: Sequence[File]) -> Examples:
    subjects = tuple(dict.fromkeys(file.subject for file in files))
    groups = tuple(sorted({group_of_subject(subject) for subject in subjects}))
    number = {subject: i for i, subject in enumerate(subjects)}
    return Examples(
        inputs=inputs,
        subject_of=np.array([number[file.subject] for file in files]),
        subjects=subjects,
        group_of=np.array([groups.index(group_of_subject(subject)) for subject in subjects]),
        groups=groups,
        files=tuple(file.place for file in files),
    )
