"""VGG19's layers by name and size, and those that J compares. Without torch: the command line imports this file."""

from collections.abc import Iterable

from oneglance_exporter.errors import SettingsError

BLOCKS = (2, 2, 4, 4, 4)  # convolutions per block
CHANNELS = (64, 128, 256, 512, 512)
LAYERS = tuple(
    f"{kind}{block}_{i}" for block, n in enumerate(BLOCKS, 1) for i in range(1, n + 1) for kind in ("conv", "relu")
) + tuple(f"pool{block}" for block in range(1, len(BLOCKS) + 1))
"""Every layer: conv1_1, relu1_1, ... relu5_4 and pool1 ... pool5."""

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = {"relu1_1": 0.2, "relu2_1": 0.2, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2}
"""Gatys' layers, lambda 1/5 each."""


def check_layers(names: Iterable[str]) -> tuple[str, ...]:
    """The names, if all are layers of VGG19. Raises SettingsError."""
    names = tuple(names)
    for name in names:
        if name not in LAYERS:
            raise SettingsError(
                f"{name!r} is no layer of VGG19; they are conv1_1, relu1_1, ... relu5_4, pool1, ... pool5"
            )
    return names


def least_side(names: Iterable[str]) -> int:
    """Height and width in pixels below which one of these layers has no activations. Raises SettingsError."""
    return max(1 << _poolings(name) for name in check_layers(names))


def activations(name: str, height: int, width: int) -> tuple[int, int, int]:
    """(n_C, n_H, n_W) of a layer for a picture of height x width pixels. Raises SettingsError."""
    (name,) = check_layers([name])
    poolings = _poolings(name)
    return CHANNELS[_block(name) - 1], height >> poolings, width >> poolings


def _block(name: str) -> int:
    return int(name.partition("_")[0][4:])


def _poolings(name: str) -> int:
    return _block(name) if name.startswith("pool") else _block(name) - 1
