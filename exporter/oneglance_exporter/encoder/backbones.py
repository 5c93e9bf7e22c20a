"""The network inside an encoder, by the name that ``--network`` has: ours, one of timm's, or a user's own.

conv                    ConvNet: 1, 2 or 3 dimensions
timm:NAME               timm.create_model(NAME): pictures and planes; needs the torchvision of the torch that is there
(with --base)           a head: one linear map, or two with a hidden layer between
FILE.py:FUNCTION        what FUNCTION(shape, dimension) of a Python file returns: a torch module that takes
                        float32 [N, *shape], shape = (C, *sizes), and returns [N, dimension]
"""

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import nn

from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import InputSpec
from oneglance_exporter.encoder.network import ConvNet, shrink_of
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import SettingsError

_TIMM = "timm:"
_TRIED_BATCHES = (2, 3)  # a network may be made for one size


def backbone(settings: TrainSettings, spec: InputSpec) -> nn.Module:
    """A new network, with weights from torch's random numbers. Raises SettingsError for one that can't be had or that
    doesn't return [N, dimension]."""
    *sizes, channels = spec.shape
    shape = (channels, *sizes)
    if settings.base is not None:
        return _head(sizes[0], settings.hidden, settings.learned_dimension)
    if settings.network == "conv":
        shrink = shrink_of(spec) if settings.shrink is None else settings.shrink
        if min(sizes) < shrink:
            raise SettingsError(f"--shrink {shrink} leaves nothing of {' x '.join(map(str, sizes))}")
        return ConvNet(channels, sizes, settings.learned_dimension, settings.widths, shrink)
    if settings.network.startswith(_TIMM):
        made = _timm(settings.network.removeprefix(_TIMM), spec, settings.learned_dimension)
    else:
        made = _own(settings.network, shape, settings.learned_dimension)
    _check(made, shape, settings)
    return made


def backbone_digest(settings: TrainSettings) -> str:
    """Of the Python file of a user's own network (SHA-256), or of the base, so that a resumed run has the same; else
    empty. Raises SettingsError, ModelFolderError."""
    if settings.base is not None:
        return read_model_folder(settings.base).digest
    if settings.network == "conv" or settings.network.startswith(_TIMM):
        return ""
    file, _ = _split(settings.network)
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"--network {settings.network}: can't be read: {error}") from error


def _head(given: int, hidden: int | None, dimension: int) -> nn.Module:
    """Encodings [N, 1, given] -> [N, dimension]."""
    if hidden is None:
        return nn.Sequential(nn.Flatten(), nn.Linear(given, dimension))
    return nn.Sequential(nn.Flatten(), nn.Linear(given, hidden), nn.ReLU(), nn.Linear(hidden, dimension))


def _timm(name: str, spec: InputSpec, dimension: int) -> nn.Module:
    if spec.axes != 2:
        raise SettingsError(f"--network timm:{name}: takes pictures and planes, not a {spec.kind}")
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--network timm:{name}: there is no module {error.name}: pip install 'oneglance[timm]'"
        ) from error
    except Exception as error:  # whatever a torchvision raises that was made for another torch
        raise SettingsError(
            f"--network timm:{name}: timm can't be imported: {_line(error)}; it needs the torchvision that was made "
            f"for torch {torch.__version__}"
        ) from error
    try:
        made: nn.Module = timm.create_model(name, in_chans=spec.shape[-1], num_classes=dimension)
    except Exception as error:  # timm's own classes, and whatever its models raise
        raise SettingsError(f"--network timm:{name}: {_line(error)}") from error
    return made


def _own(network: str, shape: tuple[int, ...], dimension: int) -> nn.Module:
    file, function = _split(network)
    spec = importlib.util.spec_from_file_location("oneglance_own_network", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise SettingsError(f"--network {network}: {file}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)(shape, dimension)
    except Exception as error:  # the user's own code
        raise SettingsError(f"--network {network}: {_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise SettingsError(f"--network {network}: returns {type(made).__name__}, no torch module")
    return made


def _split(network: str) -> tuple[Path, str]:
    file, _, function = network.rpartition(":")
    if not file.endswith(".py") or not function:
        raise SettingsError(f"--network must be conv, timm:NAME or FILE.py:FUNCTION, got {network!r}")
    return Path(file), function


@torch.no_grad()
def _check(made: nn.Module, shape: tuple[int, ...], settings: TrainSettings) -> None:
    training = made.training
    made.eval()
    for batch in _TRIED_BATCHES:
        try:
            found = made(torch.zeros(batch, *shape))
        except Exception as error:  # whatever the network raises
            raise SettingsError(
                f"--network {settings.network}: can't take {[batch, *shape]}: {_line(error)}"
            ) from error
        wanted = (batch, settings.learned_dimension)
        if not isinstance(found, torch.Tensor) or tuple(found.shape) != wanted:
            got = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise SettingsError(f"--network {settings.network}: returns {got}, must return {list(wanted)}")
    made.train(training)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
