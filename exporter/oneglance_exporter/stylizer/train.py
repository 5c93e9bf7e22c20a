"""Train a stylizer: crops of photos, each in a style drawn at random, and J of what the network makes of them.

The loop around it is ``training.driver``. J is the textbook's (``objective``), with the photo as content. Seven things
are ours:

* each crop's J is divided by the moving mean of its style's J. Styles of strong contrast have a J a hundred times
  larger and would drown the others; so what falls is the mean of log J;
* beta rises to its value, from a small part of it: a network that learns textures first never learns to keep content;
* a second pass with a little noise on the crops, whose squared gain is part of the loss (``calm``): against the flicker
  of stylized video, whose frames differ by noise;
* a third pass, where it is asked for, with the crops moved by up to 3 pixels: what is painted is to move along
  (``shift``), or it swims where a camera pans. Up to _STIR of it is free, since some strokes must snap into place, and
  calmer ones cost style;
* the brightness of a part of the picture is to be the style's, lighter or darker by _LEVEL_KEPT of what the photo's is
  (``level``). J asks for no level, and a fade to black would flash. So some crops are faded (``fade``): of those, less
  style is asked for. Of the others less level is, since J pulls against it there: its gradient and that of J_style are
  opposed;
* some crops are very light or very dark, where that is asked for (``expose``): few photos are, and a network that saw
  none gives them the least style;
* what all cells of 4 x 4 pixels have in common is to be flat (``grid``): a network with strides likes to lay its
  strokes on the lattice of these.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor

from oneglance_exporter.device import usable_device
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import to_tensor
from oneglance_exporter.perceptual.vgg import LossNetwork
from oneglance_exporter.stylizer.beginning import (
    checkpoint_to_resume,
    first_checkpoint,
    load_loss_network_of,
    optimizer_of,
)
from oneglance_exporter.stylizer.checkpoint import StylizerCheckpoint
from oneglance_exporter.stylizer.crops import PhotoCrops, exposed, faded
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.stylizer.sheet import contact_sheet
from oneglance_exporter.stylizer.styles import StylePicture, read_styles
from oneglance_exporter.training.checkpoint import check_new, writing
from oneglance_exporter.training.driver import Reporter, Training, drive

_SCALE_DECAY = 0.95  # of the moving mean of a style's J
_FIRST_BETA = 0.03  # of beta, where its rise begins
_NOISE = (2 / 255, 8 / 255)  # standard deviation of the noise for ``calm``, of pixels in [0, 1]
_FARTHEST = 3  # pixels that a crop is moved by, for ``shift``: a lattice of 4 pixels knows no other ways
_STIR = 0.06  # RMSE between what is painted of a crop and of the crop moved, of 1
_SHEET_PHOTOS, _SHEET_SIDE = 3, 256
_LEVEL_KEPT = 0.62  # of a difference in brightness
_LEVEL_SHOWN = 0.4  # of ``level``, for crops that aren't faded
_LEVELS = (0.35, 0.65)  # of a middle grey's brightness in any style: so there is room for darker and lighter
_CELL, _WINDOW = 4, 64  # pixels: of the lattice of the network's strides, of a window whose cells are compared
_PARTS = 4  # by as many parts of a crop's brightness is compared
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


@dataclass(frozen=True, slots=True)
class StylizerFigures:
    """One step: J of its batch, and J's parts as they are weighted in it (``beta`` as far as it has risen).

    gain: of small noise, by the network. shift: RMSE between the pictures of two crops a little apart, where both show
    the same, of 1; None where nothing is asked of it. level: root of the mean squared error of brightness, of 1.
    by_style: the moving mean of J of each style that is trained.
    """

    total: float
    content: float
    style: float
    gain: float
    shift: float | None
    level: float
    by_style: dict[str, float]

    def __str__(self) -> str:
        return (
            f"J {self.total:.4g} = content {self.content:.4g} + style {self.style:.4g}  gain of noise {self.gain:.2f}  "
            f"{'' if self.shift is None else f'shift {self.shift:.3f}  '}brightness {self.level:.3f}"
        )


def train(settings: StylizerSettings, run: Path, command: str, report: Reporter[StylizerFigures]) -> StylizerCheckpoint:
    """Train a new stylizer, or new styles of the one in ``settings.base``, in the run folder ``run``.

    Returns the last checkpoint, which is saved. Raises RunError when ``run`` has a checkpoint already, SettingsError,
    DataError for unusable pictures, WeightsError for the loss network, and as ``drive``.
    """
    check_new(run)
    styles = read_styles(settings.styles, settings.style_size)
    if not styles:
        raise SettingsError("say which styles to learn: --styles")
    device, network = usable_device(settings.device), load_loss_network_of(settings)
    return _drive(run, first_checkpoint(settings, styles, network, command), styles, network.to(device), report)


def resume(run: Path, changed: dict[str, object], report: Reporter[StylizerFigures]) -> StylizerCheckpoint:
    """Go on with the training in ``run``; ``changed`` holds the settings that were given anew.

    Raises as ``train``, and SettingsError when a changed setting would make it another training.
    """
    checkpoint, styles, network = checkpoint_to_resume(run, changed)
    return _drive(run, checkpoint, styles, network.to(usable_device(checkpoint.settings.device)), report)


def _drive(
    run: Path,
    checkpoint: StylizerCheckpoint,
    styles: list[StylePicture],
    network: LossNetwork,
    report: Reporter[StylizerFigures],
) -> StylizerCheckpoint:
    if not checkpoint.settings.photos:
        raise SettingsError("say what to learn on: --photos")
    return drive(run, checkpoint, lambda checkpoint: StylizerTraining(checkpoint, styles, network), report)


class Batch(NamedTuple):
    """Crops to learn on. room: float [B, 3, H + 3, W + 3], of which the first [H, W] are the crops, and those at
    ``moved``, down and right, are the ones that are compared. contrast: [B], of 1, what fading left. chosen: int64 [B],
    the style, of those that are trained. noise: [B, 3, H, W], of standard deviations sigma [B]."""

    room: Tensor
    contrast: Tensor
    chosen: Tensor
    sigma: Tensor
    noise: Tensor
    moved: tuple[int, int]

    def on(self, device: torch.device) -> "Batch":
        room, contrast, chosen, sigma, noise = (one.to(device) for one in self[:-1])
        return Batch(room, contrast, chosen, sigma, noise, self.moved)


class Parts(NamedTuple):
    """What a batch's loss is made of. total: J, [B]; content and style: its parts as they are weighted in it, of crops
    that aren't faded. gain: of noise, squared. shift, level: squared, [B]; shift None where nothing is asked of it."""

    total: Tensor
    content: Tensor
    style: Tensor
    gain: Tensor
    shift: Tensor | None
    level: Tensor
    grid: Tensor


class StylizerTraining(Training[StylizerCheckpoint, StylizerFigures]):
    """The stylizer's network, crops and loss, and its contact sheets: ``sheets/step-N.png`` at each checkpoint.

    styles: those that are trained. network: the loss network, on the device to train on. Random numbers are the CPU's,
    whatever the device: so batches are the same. Raises DataError for unusable photos.
    """

    model: Stylizer
    average: Stylizer
    largest_gradient = 1.0  # the gradient of a crop of plain sky can be a thousand times the others'
    most_bad_steps = 20

    def __init__(self, checkpoint: StylizerCheckpoint, styles: list[StylePicture], network: LossNetwork) -> None:
        super().__init__(checkpoint)
        settings = self.settings = checkpoint.settings
        device = self.device = network.device
        self.names = [new.style.name for new in styles]
        self.photos = PhotoCrops(settings.photos, settings.seed)
        checkpoint.photos = len(self.photos)
        self.objective = Objective(network, alpha=settings.alpha, beta=settings.beta)
        pictures = [to_tensor(style.picture).to(device) for style in styles]
        grams = [self.objective.style_of(picture) for picture in pictures]
        self.middle = torch.cat([brightness(picture).mean((1, 2, 3)) for picture in pictures]).clamp(*_LEVELS)
        self.targets = {layer: torch.cat([gram[layer] for gram in grams]) for layer in self.objective.style_layers}
        if settings.precision == "bf16":
            network.to(torch.bfloat16)
        self.model = Stylizer(len(checkpoint.styles)).to(device)
        self.average = Stylizer(len(checkpoint.styles)).to(device).eval()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.optimizer = optimizer_of(self.model, checkpoint.fixed, settings)
        self.betas = torch.tensor(checkpoint.betas[checkpoint.fixed :], device=device)
        levels = [settings.level if new.level is None else new.level for new in styles]
        self.levels = torch.tensor(levels, device=device)

    def step(self, step: int, done: float) -> tuple[Tensor, StylizerFigures]:
        batch = self.batch(step, done).on(self.device)
        parts = self.parts(batch, done)
        whole = parts.total.detach().where(batch.contrast == 1, torch.nan)
        scale = _follow(torch.tensor(self.checkpoint.scale), batch.chosen.cpu(), whole.cpu())
        self.checkpoint.scale = scale.tolist()
        figures = StylizerFigures(
            total=parts.total.mean().item(),
            content=parts.content.mean().item(),
            style=parts.style.mean().item(),
            gain=parts.gain.item() ** 0.5,
            shift=None if parts.shift is None else parts.shift.mean().item() ** 0.5,
            level=parts.level.mean().item() ** 0.5,
            by_style=dict(zip(self.names, self.checkpoint.scale, strict=True)),
        )
        return self.loss(batch, parts, scale.to(self.device)), figures

    def batch(self, step: int, done: float) -> Batch:
        """What is drawn for a step, on the CPU."""
        settings = self.settings
        side, count = _size(settings, done)
        random = torch.Generator().manual_seed((settings.seed << 32) + step)
        shown = to_tensor(self.photos.crops(step, count, side + _FARTHEST))
        if settings.expose:
            shown = exposed(shown, settings.expose, random)
        room, contrast = faded(shown, settings.fade, random)
        sigma = torch.empty(count, 1, 1, 1).uniform_(*_NOISE, generator=random)
        noise = torch.randn(count, 3, side, side, generator=random) * sigma
        moved = divmod(int(torch.randint(1, (_FARTHEST + 1) ** 2, (), generator=random)), _FARTHEST + 1)
        chosen = _styles(step, count, len(self.names), settings.seed)
        return Batch(room, contrast, chosen, sigma.flatten(), noise, moved)

    def parts(self, batch: Batch, done: float) -> Parts:
        """J of a batch, and what else the loss is made of."""
        settings, objective, side, (down, right) = self.settings, self.objective, batch.noise.shape[-1], batch.moved
        crops = batch.room[:, :, :side, :side].contiguous(memory_format=torch.channels_last)
        count = len(crops)
        weights = F.one_hot(batch.chosen + self.checkpoint.fixed, self.model.styles).float()
        shaken = (count + 1) // 2  # crops that get noise and that are moved; all of them would teach little more
        others = [(crops + batch.noise)[:shaken]]
        if settings.shift:
            others.append(batch.room[:shaken, :, down : down + side, right : right + side])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            made = self.model(torch.cat((crops, *others)), torch.cat((weights, *[weights[:shaken]] * len(others))))
        generated, again, *elsewhere = made.split([count, *[shaken] * len(others)])
        style = {layer: target[batch.chosen] for layer, target in self.targets.items()}
        j = objective.terms(generated, objective.content_of(crops), style)
        changed = (again - generated[:shaken]).square().mean((1, 2, 3))
        shift = None
        if elsewhere:
            same = elsewhere[0][:, :, : side - down, : side - right]
            shift = (generated[:shaken, :, down:, right:] - same).square().mean((1, 2, 3))
        beta = self.betas[batch.chosen] * _FIRST_BETA ** max(0.0, 1 - done / settings.rise if settings.rise else 0.0)
        wanted = self.middle[batch.chosen].view(-1, 1, 1, 1) + _LEVEL_KEPT * (brightness(crops) - 0.5)
        return Parts(
            total=settings.alpha * j.content + beta * batch.contrast.square() * j.style,
            content=settings.alpha * j.content,
            style=beta * j.style,
            gain=(changed / batch.sigma[:shaken].square()).mean(),
            shift=shift,
            level=(brightness(generated) - wanted).square().mean((1, 2, 3)),
            grid=grid_of(generated).square().mean(),
        )

    def loss(self, batch: Batch, parts: Parts, scale: Tensor) -> Tensor:
        """A scalar. scale: of each style's J, [S]."""
        settings, total, of_style = self.settings, parts.total, scale[batch.chosen]
        order = self.levels[batch.chosen] * torch.ones_like(total).where(batch.contrast < 1, _LEVEL_SHOWN)
        loss = (total / of_style.where(of_style > 0, total.detach())).mean()
        loss = loss + settings.calm * parts.gain + (order * parts.level).mean() + settings.grid * parts.grid
        if parts.shift is not None:
            loss = loss + settings.shift * (parts.shift - _STIR**2).relu().mean()
        return loss

    def checkpoint_saved(self, run: Path) -> None:
        names = [style.name for style in self.checkpoint.styles]
        sheet = contact_sheet(self.average, names, self.photos.first(_SHEET_PHOTOS, _SHEET_SIDE))
        with writing(run):
            (run / "sheets").mkdir(exist_ok=True)
            sheet.save(run / "sheets" / f"step-{self.checkpoint.step:06d}.png")


def grid_of(pictures: Tensor) -> Tensor:
    """How much each place of a cell of 4 x 4 pixels differs from all, in the mean over the cells of a window of about
    64 pixels: [B, 3, windows, 4, 4] of rgb pictures [B, 3, H, W], sides multiples of 4."""
    count, colors, height, width = pictures.shape
    cells = F.pixel_unshuffle(pictures, _CELL)  # [B, 3 * 16, H / 4, W / 4]
    windows = F.adaptive_avg_pool2d(cells, (max(1, height // _WINDOW), max(1, width // _WINDOW)))
    places = windows.flatten(2).transpose(1, 2).reshape(count, -1, colors, _CELL * _CELL)
    return (places - places.mean(3, keepdim=True)).reshape(count, -1, colors, _CELL, _CELL).transpose(1, 2)


def brightness(pictures: Tensor) -> Tensor:
    """Mean luminance of each of 4 x 4 parts of rgb pictures [B, 3, H, W] in [0, 1]: [B, 1, 4, 4]."""
    luminance = (pictures * pictures.new_tensor(_LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)
    return F.adaptive_avg_pool2d(luminance, _PARTS)


def _size(settings: StylizerSettings, done: float) -> tuple[int, int]:
    """Side and number of the crops: larger and fewer in the last part of the training."""
    if done < 1 - settings.last_share:
        return settings.crop, settings.batch
    return settings.last_crop, max(1, round(settings.batch * (settings.crop / settings.last_crop) ** 2))


def _styles(step: int, count: int, styles: int, seed: int) -> Tensor:
    """The style of each crop of a batch, int64 [count] in [0, styles): all equally often, in random order."""
    at = step * count + np.arange(count)
    return torch.tensor(
        [
            np.random.default_rng((seed, 7, int(turn))).permutation(styles)[i]
            for turn, i in zip(at // styles, at % styles, strict=True)
        ]
    )


def _follow(scale: Tensor, chosen: Tensor, totals: Tensor) -> Tensor:
    """The moving mean of each style's J, one step later. It begins with the first J that is seen."""
    scale = scale.clone()
    for style, total in zip(chosen.tolist(), totals.tolist(), strict=True):
        if not math.isfinite(total):
            continue
        scale[style] = _SCALE_DECAY * scale[style] + (1 - _SCALE_DECAY) * total if scale[style] else total
    return scale
