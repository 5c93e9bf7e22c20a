"""Where in which examples the units of a layer are excited most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from oneglance_exporter.data.examples import Inputs
from oneglance_exporter.look.receptive_fields import Layer
from oneglance_exporter.runtime import session_of

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of every unit (channel) in every example, its largest output.

    values: float32 [N, channels]. places: int64 [N, channels], where it is: a flat index into the layer's places.
    """

    values: npt.NDArray[np.float32]
    places: npt.NDArray[np.int64]

    def best(self, unit: int, count: int) -> npt.NDArray[np.int64]:
        """The examples in which ``unit`` is excited most, the strongest first; one place of each counts."""
        order: npt.NDArray[np.int64] = np.argsort(-self.values[:, unit], kind="stable")[:count]
        return order

    def alive(self) -> list[int]:
        """The units that don't give the same everywhere."""
        spread = self.values.max(axis=0) - self.values.min(axis=0)
        return [int(unit) for unit in np.flatnonzero(spread > 1e-6 * np.abs(self.values).max(initial=1e-12))]


def peaks(model: onnx.ModelProto, layers: Sequence[Layer], inputs: Inputs, threads: int) -> list[Peaks]:
    """Of each of ``layers``. inputs: dtype [N, *shape]. Raises ExportError for a graph that can't be run."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {one.name for one in shown.graph.output}
    for layer in layers:
        if layer.name not in known:
            shown.graph.output.append(onnx.ValueInfoProto(name=layer.name))
    session = session_of(shown.SerializeToString(), threads)
    (takes, *_) = session.inputs
    names = [layer.name for layer in layers]
    values: list[list[npt.NDArray[np.float32]]] = [[] for _ in layers]
    places: list[list[npt.NDArray[np.int64]]] = [[] for _ in layers]
    for start in range(0, len(inputs), _BLOCK):
        block = np.ascontiguousarray(inputs[start : start + _BLOCK])
        for i, output in enumerate(session.run(names, {takes.name: block})):
            first_view = output[: len(block)]
            flat = first_view.reshape(*first_view.shape[:2], -1)
            where = flat.argmax(axis=2)
            places[i].append(where)
            values[i].append(np.take_along_axis(flat, where[..., np.newaxis], axis=2)[..., 0].astype(np.float32))
    return [Peaks(np.concatenate(v), np.concatenate(p)) for v, p in zip(values, places, strict=True)]


def patch(
    layer: Layer, place: int, example: npt.NDArray[np.float64], outside: float = np.nan
) -> npt.NDArray[np.float64]:
    """What the unit at ``place`` sees of an example [*sizes, C]: float64 [*shown, C]; ``outside``: beyond the example.

    Along an axis on which it could see more than there is, ``shown`` is the whole example, with ``outside`` where it
    doesn't see; else its receptive field.
    """
    index = np.unravel_index(place, layer.places)
    shown = [min(size, length) for size, length in zip(layer.size, example.shape[:-1], strict=True)]
    cut = np.full((*shown, example.shape[-1]), outside)
    to, of = [], []
    for field, i, length in zip(layer.fields, index, example.shape[:-1], strict=True):
        first, end = field.seen_from(int(i))
        low, high = max(first, 0), min(end, length)
        begin = first if field.size <= length else 0
        of.append(slice(low, max(low, high)))
        to.append(slice(low - begin, max(low, high) - begin))
    cut[tuple(to)] = example[tuple(of)]
    return cut
