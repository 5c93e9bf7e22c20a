"""Make the sheet of an encoder in a model folder."""

from collections.abc import Sequence

import numpy as np
import onnx

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.look.activations import patch, peaks
from oneglance_exporter.look.drawing import scale_of, tile
from oneglance_exporter.look.receptive_fields import Layer, layers_of
from oneglance_exporter.look.settings import LookSettings
from oneglance_exporter.look.sheet import LayerSheet, Unit

PATCHES = 9
_LAYERS = 4  # unless some are named


def layers_in(folder: ModelFolder[EncoderManifest]) -> list[Layer]:
    """Those that can be looked at, from the input on. Raises ExportError."""
    return layers_of(onnx.load_from_string(folder.model), folder.manifest.input.axes)


def look(
    folder: ModelFolder[EncoderManifest], examples: Examples, settings: LookSettings, threads: int = 1
) -> list[LayerSheet]:
    """For each layer some units, for each unit the nine patches of ``examples`` that excite it most, one of an example.

    Raises SettingsError for a layer or a unit that isn't there; ExportError for a graph without layers to look at.
    """
    layers = chosen(layers_in(folder), settings.layers)
    for layer in layers:
        if settings.units and max(settings.units) >= layer.channels:
            raise SettingsError(f"--units {max(settings.units)}: {layer.name} has units 0 to {layer.channels - 1}")
    rows = np.unique(np.linspace(0, len(examples.inputs) - 1, min(len(examples.inputs), settings.most)).astype(int))
    inputs = examples.inputs[rows]
    files = [examples.files[row] if examples.files else str(row) for row in rows]
    kind = folder.manifest.input.kind
    low, high = (0.0, 255.0) if kind == "image" else (float(inputs.min()), float(inputs.max()))
    found = peaks(onnx.load_from_string(folder.model), layers, inputs, threads)
    sheets = []
    for layer, of_layer in zip(layers, found, strict=True):
        units = []
        for number in settings.units or spread(of_layer.alive(), settings.count):
            best = of_layer.best(number, PATCHES)
            cuts = [patch(layer, of_layer.places[row, number], inputs[row].astype(np.float64)) for row in best]
            black, white = (low, high) if kind == "image" else scale_of(cuts, low, high)
            tiles = [tile(cut, kind, black, white) for cut in cuts]
            strongest = float(of_layer.values[best[0], number])
            units.append(Unit(number, tiles, strongest, [files[row] for row in best]))
        sheets.append(LayerSheet(layer, units))
    return [sheet for sheet in sheets if sheet.units]


def chosen(layers: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """By name, or by number from 1 on; none: the first, the last and some evenly between. Raises SettingsError."""
    if not names:
        return [layers[i] for i in spread(range(len(layers)), _LAYERS)]
    by_name = {layer.name: layer for layer in layers} | {str(i): layer for i, layer in enumerate(layers, 1)}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise SettingsError(f"--layers {missing[0]}: no such layer; there are 1 to {len(layers)} (see --list)")
    return [by_name[name] for name in names]


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """``count`` of ``numbers``, evenly, with the first and the last."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[i] for i in np.linspace(0, len(numbers) - 1, count).round().astype(int).tolist()]
