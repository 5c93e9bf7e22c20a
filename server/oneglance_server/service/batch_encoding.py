"""A batch of an encoder's: its examples read, brought to the encoder's input, and encoded, off the event loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import usable_encodings
from oneglance_core.faces.uprightness import UprightnessCheck
from oneglance_core.input_figures import input_figures
from oneglance_core.kept_crops import LONGEST_SIDE, crop_of
from oneglance_core.limits import Breach, Limit, breaches
from oneglance_core.pictures import PictureError, decode_layers, encoder_input
from oneglance_core.sound_header import SoundError
from oneglance_core.sounds import sound_input
from oneglance_core.windows import joined, windows_of
from oneglance_index import MAX_CROP_BYTES
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest, Overloaded
from oneglance_server.service.content import Picture, Sound, Tensor
from oneglance_server.service.plan import Vectors
from oneglance_server.service.work import ContentLimits

_NOTHING = np.empty(0, np.float32)
_NO_ENCODING = "the encoder gives it no usable encoding"

Breaches = tuple[Breach, ...]


@dataclass(frozen=True, slots=True)
class Chip:
    """An aligned face, uint8 [H, W, 3]."""

    path: str
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Output:
    """An encoding float32 [D], the limits of the encoder's manifest that its input breaks, and the crop of its picture,
    b"" where none is wanted."""

    vector: Vectors
    breaches: Breaches
    crop: bytes = b""


Input = Picture | Sound | Tensor | Chip


def runner(
    encoder: Encoder,
    limits: ContentLimits,
    max_rows: int,
    check_inputs: bool,
    uprightness: UprightnessCheck | None,
) -> Callable[[Sequence[Input]], Sequence[Output | Exception]]:
    """What encodes a batch of inputs, off the event loop: at most ``max_rows`` windows of sounds and signals at once.

    All windows have one length, so that a signal's encoding doesn't depend on those that it meets in a batch."""
    spec = encoder.manifest.input
    made_for = encoder.manifest.made_for
    input_limits = made_for.limits if made_for is not None else ()
    alignment = encoder.manifest.alignment

    def breaches_in(content: Input, prepared: npt.NDArray[Any]) -> Breaches:
        if not check_inputs or isinstance(content, Chip):  # a chip of ours was checked before it was cut
            return ()
        found = breaches(input_figures(prepared[0]), input_limits) if input_limits else ()
        if uprightness is None or alignment is None:
            return found
        seen = uprightness.judge_chip(prepared[0], alignment)
        return found if seen.enough else (*found, Breach(Limit("uprightness", least=seen.threshold), seen.score))

    def prepare(content: Input) -> npt.NDArray[Any]:
        """The encoder's inputs [windows, *shape]; one of what has no windows."""
        if isinstance(content, Chip):
            return content.pixels[np.newaxis]
        if isinstance(content, Tensor):
            given = np.frombuffer(content.data, np.dtype(content.dtype).newbyteorder("<")).reshape(content.shape)
            return windows_of(given, spec)
        if isinstance(content, Sound):
            return sound_input(content.data, spec, limits.sounds)
        return encoder_input(content.data, spec, limits.pictures)[np.newaxis]

    def run(contents: Sequence[Input]) -> Sequence[Output | Exception]:
        inputs: list[npt.NDArray[Any]] = []
        results: list[Output | Exception] = []
        good: list[tuple[int, Breaches, bytes]] = []
        for i, content in enumerate(contents):
            try:
                prepared = prepare(content)
                good.append((i, breaches_in(content, prepared), _crop_of(content, limits)))
                inputs.append(prepared)
                results.append(Output(_NOTHING, ()))  # replaced below
            except (PictureError, SoundError) as error:
                results.append(InvalidRequest.field(content.path, str(error), reason=error.reason))
            except MemoryError:
                results.append(Overloaded.for_want_of_memory("pictures"))
        if good:
            outputs = _encoded(encoder, inputs, max_rows)
            for (i, found, crop), output, fine in zip(good, outputs, usable_encodings(outputs), strict=True):
                results[i] = (
                    Output(output, found, crop)
                    if fine
                    else InvalidRequest.field(contents[i].path, _NO_ENCODING, reason="NO_ENCODING")
                )
        return results

    return run


def _crop_of(content: Input, limits: ContentLimits) -> bytes:
    """Raises PictureError."""
    if not isinstance(content, Picture) or not content.keep:
        return b""
    small = decode_layers(content.data, limits.pictures, max_side=LONGEST_SIDE, halve=True)
    return crop_of(small.pixels, MAX_CROP_BYTES)


def _encoded(encoder: Encoder, inputs: Sequence[npt.NDArray[Any]], max_rows: int) -> Vectors:
    """One encoding of each of ``inputs`` [windows, *shape], float32 [len(inputs), D]."""
    rows = np.concatenate(inputs)
    blocks = [encoder.encode(rows[start : start + max_rows]) for start in range(0, len(rows), max_rows)]
    encodings = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return joined(encodings, [len(one) for one in inputs], unit_norm=encoder.manifest.output.unit_norm)
