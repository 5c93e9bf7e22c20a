"""Train the stylizer: crops of photos, each in a style drawn at random; J of what the network makes of them; step.

J is the textbook's (``objective``), with the photo as content. Three things are ours:

* each crop's J is divided by the moving mean of its style's J, so that styles of strong contrast, whose J is a hundred
  times larger, don't drown the others: what falls is the mean of log J;
* beta rises to its value, from a small part of it: a network that learns textures first never learns to keep content;
* a second pass with a little noise on the crops, and the squared gain of that noise as a loss (``calm``): against the
  flicker of stylized video, whose frames differ by noise.
"""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from oneglance_core.manifests import MAX_STYLES, Style
from oneglance_exporter.errors import DivergedError, RunError, SettingsError
from oneglance_exporter.gatys.objective import Objective
from oneglance_exporter.gatys.vgg import LossNetwork, load_loss_network
from oneglance_exporter.stylizer import checkpoint as checkpoints
from oneglance_exporter.stylizer.checkpoint import Checkpoint
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.pictures import Photos, StylePicture, read_styles, to_tensor
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.stylizer.sheet import contact_sheet
from oneglance_exporter.training import checkpoint as files
from oneglance_exporter.training.loop import move_average, stop_signals

# Settings that a resumed run may change without becoming another run.
_FREE = {"styles", "photos", "loss_network", "threads", "checkpoint_seconds"}
_WARMUP = 0.02  # share of the training in which the learning rate rises from 0
_SCALE_DECAY = 0.95  # of the moving mean of a style's J
_NORMS_TIMES = 3.0  # their learning rate by that of the convolutions: styles part sooner
_FIRST_BETA = 0.03  # of beta, where its rise begins
_LARGEST_GRADIENT = 1.0  # its norm; that of a crop of plain sky can be a thousand times the others'
_BAD_STEPS = 20  # running; single ones are left out
_NOISE = (2 / 255, 8 / 255)  # standard deviation of the noise for ``calm``
_SHEET_PHOTOS, _SHEET_SIDE = 3, 256


@dataclass(frozen=True, slots=True)
class Report:
    """One step: J of its batch and J's parts as they are weighted in it (``beta`` as far as it has risen).

    gain: of small noise. by_style: the moving mean of J of each style that is trained.
    """

    step: int
    done: float
    elapsed_seconds: float
    total: float
    content: float
    style: float
    gain: float
    by_style: dict[str, float]

    def __str__(self) -> str:
        rate = self.step / max(self.elapsed_seconds, 1e-9)
        return (
            f"step {self.step}  J {self.total:.4g} = content {self.content:.4g} + style {self.style:.4g}  "
            f"gain of noise {self.gain:.2f}  {rate:.2f} steps/s"
        )


def train(settings: StylizerSettings, run: Path, command: str, report: Callable[[Report], None]) -> Checkpoint:
    """Train a new stylizer, or new styles of the one in ``settings.base``, into the run folder ``run``.

    Returns the last checkpoint, saved. Raises RunError when ``run`` has a checkpoint already, SettingsError, DataError
    for unusable pictures, WeightsError for the loss network, and KeyboardInterrupt after a signal, once the checkpoint
    is written.
    """
    if (run / files.CHECKPOINT_FILE).exists():
        raise RunError(f"{run}: holds a training already; go on with --resume, or choose another --out")
    styles = read_styles(settings.styles, settings.style_size)
    if not styles:
        raise SettingsError("say which styles to learn: --styles")
    torch.manual_seed(settings.seed)
    old: tuple[Style, ...] = ()
    betas: list[float] = []
    before = 0
    if settings.init is not None:
        init = checkpoints.load(Path(settings.init))
        if [style.name for style in init.styles] != [new.style.name for new in styles]:
            raise SettingsError(f"--init: {settings.init} has the styles {', '.join(s.name for s in init.styles)}")
        before, model = init.before + init.step, init.stylizer().train()
    elif settings.base is None:
        model = Stylizer(len(styles))
    else:
        base = checkpoints.load(Path(settings.base))
        before, old, betas, model = base.before + base.step, base.styles, base.betas, base.stylizer().train()
        model.add_styles(len(styles))
        for style in old:
            if style.name in [new.style.name for new in styles]:
                raise SettingsError(
                    f"{settings.base} has a style {style.name!r} already; give the new one another name"
                )
    if model.styles > MAX_STYLES:
        raise SettingsError(f"a stylizer has at most {MAX_STYLES} styles, not {model.styles}")
    network = _loss_network(settings)
    if settings.base is not None:
        _check_base(settings, base, network)
    start = Checkpoint(
        settings=settings,
        command=command,
        styles=(*old, *(new.style for new in styles)),
        fixed=len(old),
        network=(network.identity.description, network.identity.sha256),
        step=0,
        elapsed_seconds=0.0,
        model=model.state_dict(),
        average=copy.deepcopy(model.state_dict()),
        optimizer=_optimizer(model, len(old), settings).state_dict(),
        scale=[0.0] * len(styles),
        before=before,
        betas=[*betas, *(new.beta or settings.beta for new in styles)],
    )
    return _run(start, network, styles, run, report)


def resume(run: Path, changed: dict[str, object], report: Callable[[Report], None]) -> Checkpoint:
    """Go on with the training in ``run``; ``changed`` holds settings that were given anew.

    Raises as ``train``, and SettingsError when a changed setting would make it another training.
    """
    start = checkpoints.load(run)
    start.settings = start.settings.resumed(changed, _FREE)
    styles = read_styles(start.settings.styles, start.settings.style_size)
    if [new.style.name for new in styles] != [style.name for style in start.styles[start.fixed :]]:
        raise SettingsError(f"--styles: the run learns {', '.join(s.name for s in start.styles[start.fixed :])}")
    network = _loss_network(start.settings)
    if network.identity.sha256 != start.network[1]:
        raise SettingsError(f"the run's loss network is {start.network[0]}, {start.network[1][:12]}")
    return _run(start, network, styles, run, report)


def _run(
    state: Checkpoint,
    network: LossNetwork,
    styles: list[StylePicture],
    run: Path,
    report: Callable[[Report], None],
) -> Checkpoint:
    settings = state.settings
    if not settings.photos:
        raise SettingsError("say what to learn on: --photos")
    with files.writing(run):
        run.mkdir(parents=True, exist_ok=True)
        log = open(run / files.LOG_FILE, "a")  # noqa: SIM115  # closed below
    with log:
        return _steps(state, network, styles, run, log, report)


def _steps(
    state: Checkpoint,
    network: LossNetwork,
    styles: list[StylePicture],
    run: Path,
    log: TextIO,
    report: Callable[[Report], None],
) -> Checkpoint:
    settings = state.settings
    torch.set_num_threads(settings.threads)
    photos = Photos(settings.photos, settings.seed)
    state.photos = len(photos)
    objective = Objective(network, alpha=settings.alpha, beta=settings.beta)
    grams = [objective.style_of(to_tensor(style.picture)) for style in styles]
    targets = {layer: torch.cat([gram[layer] for gram in grams]) for layer in objective.style_layers}  # [S, C, C]
    if settings.precision == "bf16":
        network.to(torch.bfloat16)

    model, average = Stylizer(len(state.styles)), Stylizer(len(state.styles)).eval()
    model.load_state_dict(state.model)
    average.load_state_dict(state.average)
    optimizer = _optimizer(model, state.fixed, settings)
    optimizer.load_state_dict(state.optimizer)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    scale, betas = torch.tensor(state.scale), torch.tensor(state.betas[state.fixed :])

    begun, before = time.monotonic(), state.elapsed_seconds
    saved, bad = begun, 0
    with stop_signals() as stopped:
        while (done := settings.progress(state.step, state.elapsed_seconds)) < 1 and not stopped():
            rate = settings.learning_rate * min(done / _WARMUP, 1 - done)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["times"]
            side, count = _batch(settings, done)
            crops = to_tensor(photos.crops(state.step, count, side)).contiguous(memory_format=torch.channels_last)
            random = torch.Generator().manual_seed((settings.seed << 32) + state.step)
            chosen = _styles(state.step, count, len(styles), settings.seed)
            weights = torch.nn.functional.one_hot(chosen + state.fixed, len(state.styles)).float()
            shaken = (count + 1) // 2  # of the crops; all of them would teach little more
            sigma = torch.empty(count, 1, 1, 1).uniform_(*_NOISE, generator=random)
            noise = torch.randn(crops.shape, generator=random) * sigma

            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                both = model(torch.cat((crops, (crops + noise)[:shaken])), torch.cat((weights, weights[:shaken])))
            generated, again = both[:count], both[count:]
            style = {layer: target[chosen] for layer, target in targets.items()}
            terms = objective.terms(generated, objective.content_of(crops), style)
            moved = (again - generated[:shaken]).square().mean((1, 2, 3))
            gain = (moved / sigma[:shaken].flatten().square()).mean()
            beta = betas[chosen] * _FIRST_BETA ** max(0.0, 1 - done / settings.rise if settings.rise else 0.0)
            total = settings.alpha * terms.content + beta * terms.style
            scale = _follow(scale, chosen, total.detach())
            loss = (total / scale[chosen]).mean() + settings.calm * gain
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
            bad = 0 if torch.isfinite(norm) else bad + 1
            if bad == _BAD_STEPS:
                raise DivergedError(
                    f"J or its gradient was not finite {bad} steps running; try a lower --learning-rate"
                )
            if not bad:
                optimizer.step()
            move_average(average, model, min(settings.average, (1 + state.step) / (10 + state.step)))

            now = time.monotonic()
            state.step, state.elapsed_seconds = state.step + 1, before + now - begun
            finished = settings.progress(state.step, state.elapsed_seconds) >= 1
            line = Report(
                step=state.step,
                done=settings.progress(state.step, state.elapsed_seconds),
                elapsed_seconds=state.elapsed_seconds,
                total=total.mean().item(),
                content=settings.alpha * terms.content.mean().item(),
                style=(beta * terms.style).mean().item(),
                gain=gain.item() ** 0.5,
                by_style={new.style.name: value for new, value in zip(styles, scale.tolist(), strict=True)},
            )
            report(line)
            if state.step % 20 == 0 or finished:
                with files.writing(run):
                    log.write(json.dumps(dataclasses.asdict(line)) + "\n")
                    log.flush()
            if finished or stopped() or now - saved > settings.checkpoint_seconds:
                state.model, state.average = model.state_dict(), average.state_dict()
                state.optimizer, state.scale = optimizer.state_dict(), scale.tolist()
                checkpoints.save(run, state)
                sheet = contact_sheet(average, [s.name for s in state.styles], photos.first(_SHEET_PHOTOS, _SHEET_SIDE))
                with files.writing(run):
                    (run / "sheets").mkdir(exist_ok=True)
                    sheet.save(run / "sheets" / f"step-{state.step:06d}.png")
                saved = time.monotonic()
        if stopped():
            raise KeyboardInterrupt
    return state


def _check_base(settings: StylizerSettings, base: Checkpoint, network: LossNetwork) -> None:
    """The manifest tells of one J for all styles, but for beta. Raises SettingsError for another one."""
    for name in ("alpha", "style_size"):
        if getattr(settings, name) != getattr(base.settings, name):
            raise SettingsError(
                f"--{name.replace('_', '-')}: {settings.base} was trained with {getattr(base.settings, name)}, "
                "and its new styles must be, too"
            )
    if network.identity.sha256 != base.network[1]:
        raise SettingsError(f"--loss-network: {settings.base} was trained by {base.network[0]}, {base.network[1][:12]}")


def _loss_network(settings: StylizerSettings) -> LossNetwork:
    return load_loss_network(Path(settings.loss_network) if settings.loss_network else None)


def _optimizer(model: Stylizer, fixed: int, settings: StylizerSettings) -> torch.optim.Optimizer:
    """Adam over everything; over the norms only when the first ``fixed`` styles must stay as they are.

    The old styles' rows of the norms then get gradients of exactly 0, and Adam leaves such alone.
    """
    model.convolutions.requires_grad_(not fixed)
    model.last.requires_grad_(not fixed)
    groups = [
        {"params": [*model.convolutions.parameters(), *model.last.parameters()], "times": 1.0},
        {"params": list(model.norms.parameters()), "times": _NORMS_TIMES},
    ]
    return torch.optim.Adam(groups[fixed > 0 :], lr=settings.learning_rate)


def _batch(settings: StylizerSettings, done: float) -> tuple[int, int]:
    """Side and number of the crops; in the last part of the training larger and fewer."""
    if done < 1 - settings.last_share:
        return settings.crop, settings.batch
    return settings.last_crop, max(1, round(settings.batch * (settings.crop / settings.last_crop) ** 2))


def _styles(step: int, count: int, styles: int, seed: int) -> Tensor:
    """Which style each of a batch's crops is painted in, int64 [count]: every style equally often, in random order."""
    at = step * count + np.arange(count)
    return torch.tensor(
        [
            np.random.default_rng((seed, 7, int(turn))).permutation(styles)[i]
            for turn, i in zip(at // styles, at % styles, strict=True)
        ]
    )


def _follow(scale: Tensor, chosen: Tensor, totals: Tensor) -> Tensor:
    """The moving mean of each style's J, a step on; it begins at the first J that is seen."""
    scale = scale.clone()
    for style, total in zip(chosen.tolist(), totals.tolist(), strict=True):
        if not math.isfinite(total):
            continue
        scale[style] = _SCALE_DECAY * scale[style] + (1 - _SCALE_DECAY) * total if scale[style] else total
    return scale
