"""How a stylizer's training begins: anew, with another run's styles and one more, or with another run's weights."""

from pathlib import Path

import torch

from oneglance_core.manifests import MAX_STYLES
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.vgg import LossNetwork, load_loss_network
from oneglance_exporter.stylizer.checkpoint import StylizerCheckpoint
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.stylizer.styles import StylePicture, read_styles
from oneglance_exporter.training.checkpoint import load, load_to_resume

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
    init = load(Path(settings.init), StylizerCheckpoint) if settings.init is not None else None
    if base is not None:
        _check_base(settings, base, names, network)
        model = base.stylizer().train()
        model.add_styles(len(styles))
    elif init is not None:
        if [style.name for style in init.styles] != names:
            raise SettingsError(f"--init: {settings.init} has the styles {', '.join(s.name for s in init.styles)}")
        model = init.stylizer().train()
    else:
        model = Stylizer(len(styles))
    if model.styles > MAX_STYLES:
        raise SettingsError(f"a stylizer has at most {MAX_STYLES} styles, not {model.styles}")
    earlier = base or init
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
        before=earlier.before + earlier.step if earlier else 0,
    )


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
    """Adam over everything; over the norms only when the first ``fixed`` styles must stay as they are.

    The fixed styles' rows of the norms then get gradients of exactly 0, and Adam doesn't move such.
    """
    model.convolutions.requires_grad_(not fixed)
    model.last.requires_grad_(not fixed)
    groups = [
        {"params": [*model.convolutions.parameters(), *model.last.parameters()], "times": 1.0},
        {"params": list(model.norms.parameters()), "times": _NORMS_TIMES},
    ]
    return torch.optim.Adam(groups[fixed > 0 :], lr=settings.learning_rate)


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
