"""Read dlib's 5-point shape predictor from its ``.dat`` file.

Raises WeightsError, and nothing else, for any bytes that aren't such a file.
"""

from dataclasses import dataclass

from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dat_format import Floats, IntegerReader, Integers, floats


@dataclass(frozen=True, slots=True)
class ShapePredictor:
    """An ensemble of regression trees: C cascades of T trees with S splits and S + 1 leaves, L points, P pixels.

    initial_shape: float32 [L, 2], (x, y) in a face's box, (0, 0) its top left and (1, 1) its bottom right corner.
    first, second: int64 [C, T, S], pixels to compare: where first - second > threshold, the tree goes left.
    threshold: float32 [C, T, S]. leaves: float32 [C, T, S + 1, L, 2], steps to add to the shape.
    anchors: int64 [C, P], the point that each pixel belongs to; deltas: float32 [C, P, 2], its way from there.
    """

    initial_shape: Floats
    first: Integers
    second: Integers
    threshold: Floats
    leaves: Floats
    anchors: Integers
    deltas: Floats


def read_shape_predictor(data: bytes) -> ShapePredictor:
    """The landmark finder of ``shape_predictor_5_face_landmarks.dat``. Raises WeightsError."""
    values = IntegerReader(data)
    values.expect(1, "version")
    numbers = values.matrix()
    if len(numbers) % 2 or not len(numbers):
        raise WeightsError(f"damaged: a shape of {len(numbers)} numbers")
    initial = numbers.reshape(-1, 2)

    # All trees are alike, so the forest is one table: splits, then leaves, each led by its sizes.
    cascades, trees, splits = values.peek(0), values.peek(1), values.peek(2)
    if min(cascades, trees, splits) < 1:
        raise WeightsError("damaged: an empty forest")
    per_tree = 1 + 4 * splits + 1 + (splits + 1) * (2 + 2 * initial.size)
    values.expect(cascades, "cascades")
    table = values.take(cascades, 1 + trees * per_tree)
    if (table[:, 0] != trees).any():
        raise WeightsError("damaged: cascades of several lengths")
    table = table[:, 1:].reshape(cascades, trees, per_tree)
    branches, leaves = table[..., 1 : 1 + 4 * splits], table[..., 2 + 4 * splits :]
    branches = branches.reshape(cascades, trees, splits, 4)
    leaves = leaves.reshape(cascades, trees, splits + 1, 2 + 2 * initial.size)
    if (
        (table[..., 0] != splits).any()
        or (table[..., 1 + 4 * splits] != splits + 1).any()
        or (leaves[..., 0] != -initial.size).any()
        or (leaves[..., 1] != -1).any()
        or (splits & (splits + 1))
    ):
        raise WeightsError("damaged: trees of several shapes")

    values.expect(cascades, "cascades")
    pixels = values.peek(0)
    if pixels < 1:
        raise WeightsError("damaged: no pixels to look at")
    anchors = values.take(cascades, 1 + pixels)
    values.expect(cascades, "cascades")
    deltas = values.take(cascades, 1 + 4 * pixels)
    values.end()
    if (anchors[:, 0] != pixels).any() or (deltas[:, 0] != pixels).any():
        raise WeightsError("damaged: cascades of several pixel counts")
    anchors = anchors[:, 1:]
    compared = branches[..., :2]
    if compared.min() < 0 or compared.max() >= pixels or anchors.min() < 0 or anchors.max() >= len(initial):
        raise WeightsError("damaged: an index beyond its table")
    return ShapePredictor(
        initial_shape=initial,
        first=compared[..., 0].copy(),
        second=compared[..., 1].copy(),
        threshold=floats(branches[..., 2:])[..., 0],
        leaves=floats(leaves[..., 2:]).reshape(cascades, trees, splits + 1, len(initial), 2),
        anchors=anchors.copy(),
        deltas=floats(deltas[:, 1:]).reshape(cascades, pixels, 2),
    )
