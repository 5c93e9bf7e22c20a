"""How sounds, and signals longer than an encoder's input, become what it takes."""

from pydantic import Field

from oneglance_core.manifests.part import Part

LEAST_RATE, MOST_RATE = 4_000, 192_000  # samples a second,
RATE_STEP = 25  # a multiple of this: all usual rates are
MOST_OVERLAP = 8  # windows that a sample may be in


class SoundSpec(Part):
    """An encoder of signals takes sound files, too.

    They are brought to ``sample_rate`` samples a second and to as many channels as the input has.
    least_seconds: shorter ones are refused. least_dbfs: quieter ones are made louder, to this level (root mean square,
    in decibels below full scale); None: none are.
    """

    sample_rate: int = Field(ge=LEAST_RATE, le=MOST_RATE, multiple_of=RATE_STEP)
    least_seconds: float = Field(0.25, ge=0.01, le=60)
    least_dbfs: float | None = Field(None, ge=-90, le=0)


class Windows(Part):
    """A signal of any length is encoded in windows of the input's length; its encoding is the mean of theirs.

    If the encoder's encodings have unit norm, so has the mean. Lengths are numbers of samples.
    step: from the start of one window to that of the next. before: how many of a window's samples lie before its start
    (zeros, at the beginning of the signal). least: a window begins only where so many samples are left; the first
    begins in any case.
    """

    step: int = Field(ge=1)
    before: int = Field(0, ge=0)
    least: int = Field(ge=1)

    def count(self, length: int) -> int:
        """How many windows a signal of ``length`` samples has."""
        return 1 + max(0, length - self.least) // self.step
