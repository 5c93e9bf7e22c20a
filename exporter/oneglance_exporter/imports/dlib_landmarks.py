"""dlib's shape predictor (Kazemi and Sullivan 2014) as a graph, and in numpy to check it by.

Every cascade looks at some hundred pixels around the shape it has so far, and each of its trees adds a small step.
The graph runs all faces and all trees of a cascade at once, in dlib's precision and order, so that its points are
dlib's: the shape is float32, the similarity is fitted in float64 and used in float32, pixels are placed in float64 and
rounded half up, steps are summed from tree to tree.
"""

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from oneglance_exporter.imports.dat_predictor import ShapePredictor
from oneglance_exporter.imports.graph import Graph, value

Floats = npt.NDArray[np.float32]


def landmarks_graph(predictor: ShapePredictor) -> bytes:
    """``pixels``, ``pictures``, ``boxes`` -> ``points``, as LandmarksManifest says; ONNX bytes. Points are integers.

    Inside, the faces are the last dimension: picking a row for all of them at once is then one copy.
    """
    cascades, parts = len(predictor.leaves), len(predictor.initial_shape)
    x, y = predictor.deltas[..., 0], predictor.deltas[..., 1]
    tables = {
        # Turned by 90 degrees: for a similarity of cosine c and sine s, an offset maps to c * offset + s * turned.
        "offsets": np.concatenate([x, y], axis=1)[..., None],
        "turned_offsets": np.concatenate([-y, x], axis=1)[..., None],
        "anchors": np.concatenate([2 * predictor.anchors, 2 * predictor.anchors + 1], axis=1).astype(np.int32),
        "first": predictor.first.transpose(0, 2, 1).astype(np.int32),
        "second": predictor.second.transpose(0, 2, 1).astype(np.int32),
        "threshold": predictor.threshold.transpose(0, 2, 1)[..., None],
        "leaves": predictor.leaves.reshape(cascades, -1, 2 * parts),
    }
    g = Graph()
    # As rows of x and y: the box' corner and extent, the picture's size and the way to the next pixel.
    edges = g.add("Transpose", g.add("Cast", "boxes", to=TensorProto.DOUBLE), perm=[1, 0])
    corner, far_corner = g.add_several(2, "Split", edges, axis=0, num_outputs=2)
    extent = g.add("Sub", far_corner, corner)
    pictures = g.add("Transpose", g.add("Cast", "pictures", to=TensorProto.DOUBLE), perm=[1, 0])
    begin, height, width = g.add_several(3, "Split", pictures, axis=0, num_outputs=3)
    size = g.add("Concat", width, height, axis=0)
    origin = g.add("Sub", size, size)
    ones = g.add("Expand", np.ones((1, 1), np.float32), g.add("Shape", begin))
    rounding = g.add("Add", corner, np.array([[0.5], [0.5]]))  # half up: a floor then rounds
    pitch = g.add("Add", g.add("Mul", width, np.array([[0.0], [1.0]])), np.array([[1.0], [0.0]]))

    # As planes [2, 1, F], for many points of a face.
    def plane(rows: str) -> str:
        return g.add("Unsqueeze", rows, np.array([1]))

    box = plane(rounding), plane(extent)
    body = _cascade(predictor, box, plane(origin), plane(size), plane(pitch), begin, ones).proto(
        "cascade",
        [
            value("shape", np.float32, [2 * parts, "F"]),
            *(value(name, table.dtype, table.shape[1:]) for name, table in tables.items()),
        ],
        [value("next_shape", np.float32, [2 * parts, "F"])],
    )
    faces = g.add("Concat", np.array([2 * parts]), g.add("Shape", "boxes", start=0, end=1), axis=0)
    start = g.add("Expand", predictor.initial_shape.reshape(-1, 1), faces)
    names = [g.constant(np.ascontiguousarray(table)) for table in tables.values()]
    shape = g.add("Scan", start, *names, body=body, num_scan_inputs=len(names))
    by_axis = g.add("Transpose", g.add("Reshape", shape, np.array([parts, 2, -1])), perm=[1, 0, 2])
    points = g.add("Transpose", _placed(g, by_axis, *box), perm=[2, 1, 0])
    g.name(g.add("Cast", points, to=TensorProto.FLOAT), "points")
    return g.model(
        "dlib_shape_predictor_5_face_landmarks",
        [
            value("pixels", np.uint8, ["P"]),
            value("pictures", np.int64, ["F", 3]),
            value("boxes", np.float32, ["F", 4]),
        ],
        [value("points", np.float32, ["F", parts, 2])],
    )


def find_landmarks(predictor: ShapePredictor, picture: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> Floats:
    """The points float32 [L, 2] of one face in a gray ``picture`` uint8 [H, W], in a ``box`` float32 [4].

    As dlib does it, tree by tree; nothing is shared with the graph: parity vectors come from here.
    """
    corner, far_corner = box.astype(np.float64).reshape(2, 2)
    height, width = picture.shape

    def place(normalized: Floats) -> npt.NDArray[np.int64]:
        return np.floor(normalized.astype(np.float64) * (far_corner - corner) + corner + 0.5).astype(np.int64)

    shape = predictor.initial_shape
    for cascade in range(len(predictor.leaves)):
        matrix = _similarity(predictor.initial_shape, shape).astype(np.float32)
        x, y = predictor.deltas[cascade].T
        turned = np.stack([matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y], axis=1)
        light = np.zeros(len(turned), np.float32)
        for i, (column, row) in enumerate(place(turned + shape[predictor.anchors[cascade]])):
            if 0 <= column < width and 0 <= row < height:
                light[i] = picture[row, column]
        trees = zip(predictor.first[cascade], predictor.second[cascade], predictor.threshold[cascade], strict=True)
        for tree, (first, second, threshold) in enumerate(trees):
            node = 0
            while node < len(threshold):
                left = light[first[node]] - light[second[node]] > threshold[node]
                node = 2 * node + (1 if left else 2)
            shape = shape + predictor.leaves[cascade, tree, node - len(threshold)]
    return place(shape).astype(np.float32)


def parity_faces() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pixels, pictures and boxes of four made-up faces: a blob in three boxes, one half outside; and noise."""
    y, x = np.mgrid[:120, :100]
    blob = np.maximum(30, 230 - ((x - 55) ** 2 + (y - 60) ** 2) // 12)
    for eye in (40, 72):
        blob[(x - eye) ** 2 + (y - 48) ** 2 < 40] = 15
    noise = np.random.default_rng(0).integers(0, 256, (64, 80))
    pixels = np.concatenate([blob.ravel(), noise.ravel()]).astype(np.uint8)
    pictures = np.array([[0, 120, 100]] * 3 + [[blob.size, 64, 80]], np.int64)
    boxes = np.array([[20, 20, 90, 90], [28, 30, 80, 82], [-30, 60, 60, 150], [10, 5, 62, 57]], np.float32)
    return pixels, pictures, boxes


def _cascade(
    predictor: ShapePredictor, box: tuple[str, str], origin: str, size: str, pitch: str, begin: str, ones: str
) -> Graph:
    """One cascade, the body of the Scan: from the tables' rows of that cascade and ``shape`` to ``next_shape``.

    Outer products (MatMul) lay a column out for all faces: ONNX Runtime broadcasts a last dimension of 1 slowly.
    """
    _, trees, splits = predictor.threshold.shape
    g = Graph(prefix="cascade_")
    # Where the pixels lie: the similarity from the mean shape to this one turns and scales their offsets.
    fit = g.add("MatMul", _similarity_weights(predictor.initial_shape), g.add("Cast", "shape", to=TensorProto.DOUBLE))
    turn = g.add("Cast", fit, to=TensorProto.FLOAT)
    cosine, sine = g.add_several(2, "Split", turn, axis=0, num_outputs=2)
    offsets = g.add("Add", g.add("MatMul", "offsets", cosine), g.add("MatMul", "turned_offsets", sine))
    normalized = g.add("Add", offsets, g.add("Gather", "shape", "anchors", axis=0))
    place = _placed(g, g.add("Reshape", normalized, np.array([2, predictor.anchors.shape[1], -1])), *box)
    # Their light; outside the picture it is 0.
    xy = np.array([0])
    inside = g.add("And", g.add("GreaterOrEqual", place, origin), g.add("Less", place, size))
    inside = g.add("Squeeze", g.add("And", *g.add_several(2, "Split", inside, axis=0, num_outputs=2)), xy)
    address = g.add("Add", g.add("ReduceSum", g.add("Mul", place, pitch), xy, keepdims=0), begin)
    address = g.add("Cast", g.add("Where", inside, address, begin), to=TensorProto.INT64)
    light = g.add("Cast", g.add("Gather", "pixels", address), to=TensorProto.FLOAT)
    light = g.add("Mul", light, g.add("Cast", inside, to=TensorProto.FLOAT))
    # Of all splits of all trees, who goes left. The leaf reached is the one that most splits agree with.
    contrast = g.add("Sub", g.add("Gather", light, "first", axis=0), g.add("Gather", light, "second", axis=0))
    left = g.add("Greater", contrast, g.add("MatMul", "threshold", ones))
    left = g.add("Cast", left, to=TensorProto.FLOAT)
    ways = _ways_to_leaves(splits)
    rights = (ways < 0).sum(axis=1, keepdims=True).astype(np.float32)
    agreement = g.add("Gemm", ways, g.add("Reshape", left, np.array([splits, -1])), rights)
    leaf = g.add("ArgMax", agreement, axis=0, keepdims=0)
    leaf = g.add("Reshape", leaf, np.array([trees, -1]))
    steps = g.add("Gather", "leaves", g.add("Add", leaf, np.arange(trees)[:, None] * (splits + 1)), axis=0)
    # Float addition isn't associative: the sum has to run from tree to tree.
    terms = g.add("Concat", g.add("Unsqueeze", g.add("Transpose", "shape", perm=[1, 0]), xy), steps, axis=0)
    total = g.add("Gather", g.add("CumSum", terms, np.array(0)), np.array(trees), axis=0)
    g.name(g.add("Transpose", total, perm=[1, 0]), "next_shape")
    return g


def _placed(g: Graph, normalized: str, rounding: str, extent: str) -> str:
    """From the unit square to pixels of the picture, in float64, rounded half up."""
    exact = g.add("Cast", normalized, to=TensorProto.DOUBLE)
    return g.add("Floor", g.add("Add", g.add("Mul", exact, extent), rounding))


def _similarity_weights(reference: Floats) -> npt.NDArray[np.float64]:
    """float64 [2, 2 L]: this times a shape [2 L] is the scaled cosine and sine of the similarity from ``reference``.

    The one of least squares. In complex numbers it is the sum of conj(r) * shape over the sum of |r|^2, where r is the
    reference less its mean.
    """
    r = reference.astype(np.float64) - reference.mean(axis=0, dtype=np.float64)
    turned = np.stack([-r[:, 1], r[:, 0]], axis=1)
    weights: npt.NDArray[np.float64] = np.stack([r.reshape(-1), turned.reshape(-1)]) / (r * r).sum()
    return weights


def _similarity(reference: Floats, shape: Floats) -> npt.NDArray[np.float64]:
    """The matrix float64 [2, 2] of the least-squares similarity from ``reference`` to ``shape`` (Umeyama 1991)."""
    r = reference - reference.mean(axis=0, dtype=np.float64)
    s = shape - shape.mean(axis=0, dtype=np.float64)
    u, d, v = np.linalg.svd(s.T @ r)
    proper = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    matrix: npt.NDArray[np.float64] = (u * proper) @ v * (d * proper).sum() / (r * r).sum()
    return matrix


def _ways_to_leaves(splits: int) -> npt.NDArray[np.float32]:
    """float32 [splits + 1, splits]: 1 where the leaf lies to the left of the split, -1 to the right, else 0."""
    ways = np.zeros((splits + 1, splits), np.float32)
    for leaf in range(splits + 1):
        node = splits + leaf
        while node:
            parent, is_right = (node - 1) // 2, node % 2 == 0
            ways[leaf, parent] = -1 if is_right else 1
            node = parent
    return ways
