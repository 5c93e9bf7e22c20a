"""How a stylizer's training begins: anew, with another run's styles and one more, or with another's weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from oneglance_core.folder import MANIFEST_FILE, read_any_model_folder
from oneglance_core.manifests import MAX_STYLES, StylizerManifest
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.vgg import LossNetwork, load_loss_network
from oneglance_exporter.stylizer.checkpoint import StylizerCheckpoint
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.stylizer.styles import StylePicture, read_styles
from oneglance_exporter.training.checkpoint import load, load_to_resume
from oneglance_exporter.training.muon import Muon

_NORMS_TIMES = 3.0  # the norms' learning rate as a multiple of the convolutions': styles part sooner


def load_loss_network_of(settings: StylizerSettings) -> LossNetwork:
    """The loss network that the settings name. Raises WeightsError."""
    return load_loss_network(Path(settings.loss_network) if settings.loss_network else None)


def first_checkpoint(
    settings: StylizerSettings, styles: list[StylePicture], network: LossNetwork, command: str
) -> StylizerCheckpoint:
    """The checkpoint before the first step, for new ``styles``.

    Raises SettingsError for settings that don't go with those of ``settings.base`` or ``settings.init``, RunError when
    there is no such run.
    """
    torch.manual_seed(settings.seed)
    names = [new.style.name for new in styles]
    base = load(Path(settings.base), StylizerCheckpoint) if settings.base is not None else None
    init = _weights_of(Path(settings.init)) if settings.init is not None else None
    if base is not None:
        _check_base(settings, base, names, network)
        model = base.stylizer().train()
        model.add_styles(len(styles))
    elif init is not None:
        model = Stylizer(len(styles))
        _begin_with(model, init, names)
    else:
        model = Stylizer(len(styles))
    if model.styles > MAX_STYLES:
        raise SettingsError(f"a stylizer has at most {MAX_STYLES} styles, not {model.styles}")
    before = init.steps if init else base.before + base.step if base else 0
    old_styles, old_betas = (base.styles, base.betas) if base else ((), [])
    return StylizerCheckpoint.first(
        settings,
        command,
        model,
        optimizer_of(model, len(old_styles), settings),
        styles=(*old_styles, *(new.style for new in styles)),
        fixed=len(old_styles),
        network=(network.identity.description, network.identity.sha256),
        scale=[0.0] * len(styles),
        betas=[*old_betas, *(new.beta or settings.beta for new in styles)],
        before=before,
    )


@dataclass(frozen=True, slots=True)
class _Weights:
    """A stylizer to begin with: its parameters by name, its styles' names, the steps it was trained for."""

    state: Mapping[str, Tensor]
    styles: list[str]
    steps: int


def _weights_of(path: Path) -> _Weights:
    """Of a run folder, or of a model folder. Raises RunError, ModelFolderError, SettingsError."""
    if not (path / MANIFEST_FILE).is_file():
        run = load(path, StylizerCheckpoint)
        return _Weights(run.average, [style.name for style in run.styles], run.before + run.step)
    folder = read_any_model_folder(path).of(StylizerManifest)
    graph = onnx.load_from_string(folder.model).graph
    state = {
        weights.name.removeprefix("stylizer."): torch.from_numpy(numpy_helper.to_array(weights).copy())
        for weights in graph.initializer
        if weights.name.startswith("stylizer.")
    }
    if not state:
        raise SettingsError(f"--init: {path} was not written by this exporter: its weights have no names")
    trained = folder.manifest.training
    steps = sum(int(trained.get(key, 0)) for key in ("steps", "steps_before"))
    return _Weights(state, [style.name for style in folder.manifest.styles], steps)


def _begin_with(model: Stylizer, init: _Weights, names: list[str]) -> None:
    """Give ``model`` the weights, as far as they are of its shape: those of an earlier network may not all be.

    Styles are matched by name; one that ``init`` lacks begins as the mean of its own.
    """
    rows = [init.styles.index(name) if name in init.styles else None for name in names]
    begun = dict(model.state_dict())
    for key, fresh in begun.items():
        found = init.state.get(key)
        if found is None:
            continue
        if key.endswith(("gamma", "beta", "keep")):
            found = torch.stack([found.mean(0) if row is None else found[row] for row in rows])
        if found.shape == fresh.shape:
            begun[key] = found
    model.load_state_dict(begun)


def checkpoint_to_resume(
    run: Path, changed: dict[str, object]
) -> tuple[StylizerCheckpoint, list[StylePicture], LossNetwork]:
    """The run's checkpoint with the settings in ``changed``; the pictures of the styles it trains; its loss network.

    Raises RunError, DataError, WeightsError; SettingsError for a changed setting, style or loss network that would make
    it another training.
    """
    checkpoint = load_to_resume(run, StylizerCheckpoint, changed)
    settings = checkpoint.settings
    styles = read_styles(settings.styles, settings.style_size)
    trained = [style.name for style in checkpoint.styles[checkpoint.fixed :]]
    if [new.style.name for new in styles] != trained:
        raise SettingsError(f"--styles: the run learns {', '.join(trained)}")
    network = load_loss_network_of(settings)
    if network.identity.sha256 != checkpoint.network[1]:
        raise SettingsError(f"the run's loss network is {checkpoint.network[0]}, {checkpoint.network[1][:12]}")
    return checkpoint, styles, network


def optimizer_of(model: Stylizer, fixed: int, settings: StylizerSettings) -> torch.optim.Optimizer:
    """The optimizer over everything; over the norms only when the first ``fixed`` styles must stay as they are.

    The fixed styles' rows of the norms then get gradients of exactly 0, and neither moves such.
    """
    model.convolutions.requires_grad_(not fixed)
    model.last.requires_grad_(not fixed)
    model.passed.requires_grad_(not fixed)
    convolutions = [*model.convolutions.parameters(), *model.last.parameters(), *model.passed.parameters()]
    norms: dict[str, Any] = {"params": [*model.norms.parameters(), model.keep], "times": _NORMS_TIMES}
    if settings.optimizer == "muon":
        filters = {"params": [each for each in convolutions if each.dim() > 1], "times": 1.0, "muon": True}
        biases = {"params": [each for each in convolutions if each.dim() == 1], "times": 1.0}
        return Muon([norms] if fixed else [filters, biases, norms], settings.learning_rate)
    return torch.optim.Adam([{"params": convolutions, "times": 1.0}, norms][fixed > 0 :], lr=settings.learning_rate)


def _check_base(settings: StylizerSettings, base: StylizerCheckpoint, names: list[str], network: LossNetwork) -> None:
    """Raise SettingsError unless the new styles ``names`` can be added to ``base``.

    The manifest states one J for all styles, with a beta for each: alpha, style_size and loss network must be equal.
    """
    for style in base.styles:
        if style.name in names:
            raise SettingsError(f"{settings.base} has a style {style.name!r} already; give the new one another name")
    for name in ("alpha", "style_size"):
        if getattr(settings, name) != getattr(base.settings, name):
            raise SettingsError(
                f"--{name.replace('_', '-')}: {settings.base} was trained with {getattr(base.settings, name)}, "
                "and its new styles must be, too"
            )
    if network.identity.sha256 != base.network[1]:
        raise SettingsError(f"--loss-network: {settings.base} was trained by {base.network[0]}, {base.network[1][:12]}")
