"""The values of dlib's ``.dat`` files, as its ``serialize`` writes them.

An integer is a control byte (low 4 bits: how many bytes follow, little endian; bit 7: negative) and those bytes.
A float is two integers, mantissa and exponent of two. A bool is ``1`` or ``0``, a string its length and bytes, a tensor
the integer 2, four sizes, and raw little-endian float32.

Memory and time are in proportion to the file: every size is compared with the bytes that are left before anything is
allocated. Raises WeightsError, and nothing else, for any bytes that aren't such a file.
"""

import numpy as np
import numpy.typing as npt

from oneglance_exporter.errors import WeightsError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_MAX_SIZE = 1 << 28  # of any dimension
_MAX_MANTISSA = 1 << 53  # what a double holds exactly
_EXPONENTS = range(-1100, 961)  # such a mantissa times a power of two in it is a finite double
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Reader:
    """Reads one thing after the other from the bytes of a file. Raises WeightsError at the end of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise WeightsError(f"truncated: {count} bytes wanted at byte {self._at} of {len(self._data)}")
        self._at += count
        return self._data[self._at - count : self._at]

    def integer(self) -> int:
        control = self._bytes(1)[0]
        length = control & 0x0F
        if not 1 <= length <= 8 or control & 0x70:
            raise WeightsError(f"damaged: no integer at byte {self._at - 1}")
        magnitude = int.from_bytes(self._bytes(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def size(self) -> int:
        value = self.integer()
        if not 0 <= value <= _MAX_SIZE:
            raise WeightsError(f"damaged: a size of {value} before byte {self._at}")
        return value

    def pair(self) -> tuple[int, int]:
        return self.size(), self.size()

    def expect_integer(self, expected: int, what: str) -> None:
        value = self.integer()
        if value != expected:
            raise WeightsError(f"{what}: {value}, only {expected} is known")

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(mantissa) > _MAX_MANTISSA or exponent not in _EXPONENTS:
            raise WeightsError(f"damaged: no finite number before byte {self._at}")
        return float(np.ldexp(float(mantissa), exponent))

    def numbers(self, count: int) -> tuple[float, ...]:
        return tuple(self.number() for _ in range(count))

    def boolean(self) -> bool:
        value = self._bytes(1)
        if value not in (b"0", b"1"):
            raise WeightsError(f"damaged: neither yes nor no at byte {self._at - 1}")
        return value == b"1"

    def string(self) -> str:
        return self._bytes(self.size()).decode("ascii", errors="replace")

    def expect_string(self, expected: str) -> None:
        value = self.string()
        if value != expected:
            raise WeightsError(f"{value[:40]!r} stands where {expected!r} was expected: another kind of file")

    def shape(self) -> tuple[int, int, int, int]:
        return self.size(), self.size(), self.size(), self.size()

    def alias(self) -> tuple[int, int, int, int]:
        self.expect_integer(1, "version of an alias")
        return self.shape()

    def tensor(self) -> Floats:
        """A tensor's values in C order, float32 [n]."""
        self.expect_integer(2, "version of a tensor")
        shape = self.shape()
        count = shape[0] * shape[1] * shape[2] * shape[3]
        values = np.frombuffer(self._bytes(4 * count), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"damaged: a weight before byte {self._at} isn't finite")
        return values

    def aliases(self, params: Floats) -> tuple[Floats, Floats]:
        """The two parts of ``params`` that the next two aliases describe."""
        one, two = self.alias(), self.alias()
        size = one[0] * one[1] * one[2] * one[3]
        rest = two[0] * two[1] * two[2] * two[3]
        if not size or not rest or size + rest != params.size:
            raise WeightsError(f"damaged: {params.size} weights for {one} and {two}")
        return params[:size].reshape(one), params[size:].reshape(two)

    def end(self) -> None:
        if self._at != len(self._data):
            raise WeightsError(f"damaged: {len(self._data) - self._at} bytes too many")


class IntegerReader:
    """A file that holds integers and nothing else, decoded as a whole: some millions of them in a second."""

    def __init__(self, data: bytes) -> None:
        # How far it is from each byte to the next integer, if an integer begins there; 0 where none can.
        steps = data.translate(bytes(1 + (c & 15) if 1 <= c & 15 <= 8 and not c & 0x70 else 0 for c in range(256)))
        starts = []
        at, end = 0, len(data)
        while at < end:
            starts.append(at)
            step = steps[at]
            if not step:
                raise WeightsError(f"damaged: no integer at byte {at}")
            at += step
        if at != end:
            raise WeightsError(f"truncated: the integer at byte {starts[-1]} goes beyond the end")
        padded = np.frombuffer(data + bytes(8), np.uint8)
        where = np.array(starts, np.int64)
        control = padded[where]
        lengths = control & 15
        values = np.zeros(len(where), np.uint64)
        for i in range(int(lengths.max(initial=0))):
            byte = np.where(lengths > i, padded[where + 1 + i], 0).astype(np.uint64)
            values |= byte << np.uint64(8 * i)
        if (values >> np.uint64(63)).any():
            raise WeightsError("damaged: an integer of more than 63 bits")
        signed = values.astype(np.int64)
        self._values: Integers = np.where(control & 0x80, -signed, signed)
        self._at = 0

    def peek(self, ahead: int) -> int:
        if self._at + ahead >= len(self._values):
            raise WeightsError("truncated")
        return int(self._values[self._at + ahead])

    def expect(self, expected: int, what: str) -> None:
        value = self.peek(0)
        if value != expected:
            raise WeightsError(f"{what}: {value} where {expected} was expected")
        self._at += 1

    def take(self, rows: int, columns: int) -> Integers:
        """The next ``rows * columns`` integers, int64 [rows, columns]."""
        count = rows * columns
        if count > len(self._values) - self._at:
            raise WeightsError(f"truncated: {count} integers wanted, {len(self._values) - self._at} are left")
        self._at += count
        return self._values[self._at - count : self._at].reshape(rows, columns)

    def matrix(self) -> Floats:
        """A matrix of floats: its sizes, negated, then its elements; flat."""
        rows, columns = -self.peek(0), -self.peek(1)
        self._at += 2
        if min(rows, columns) < 0:
            raise WeightsError("damaged: a matrix of negative size")
        return floats(self.take(1, 2 * rows * columns)).reshape(-1)

    def end(self) -> None:
        if self._at != len(self._values):
            raise WeightsError(f"damaged: {len(self._values) - self._at} integers too many")


def floats(pairs: Integers) -> Floats:
    """Mantissas and exponents, int64 [..., 2 * n], to float32 [..., n]."""
    mantissa, exponent = pairs[..., 0::2], pairs[..., 1::2]
    exact = np.abs(mantissa) <= _MAX_MANTISSA
    if not (exact & (exponent >= _EXPONENTS.start) & (exponent < _EXPONENTS.stop)).all():
        raise WeightsError("damaged: a number isn't finite")
    values = np.ldexp(mantissa.astype(np.float64), exponent.astype(np.int32))
    if not (np.abs(values) <= _FLOAT32_MAX).all():
        raise WeightsError("damaged: a number is beyond float32")
    return values.astype(np.float32)
