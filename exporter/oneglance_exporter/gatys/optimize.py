"""Neural style transfer as the textbook has it (Gatys, Ecker and Bethge 2016): descend the gradient of J on the pixels.

    G = noise, or the photo
    repeat: J(G) = alpha * J_content(C, G) + beta * J_style(S, G); G moves against dJ/dG

The pixels of a picture file lie in [0, 1], so G is clipped to that after every step: projected gradient descent. If
pixels may leave [0, 1] and are clipped only at the end, J of the clipped picture was eight times as large when we
measured. ``Result.measured`` is J of the 8-bit picture that is written.

A step is one evaluation of J and its gradient, with L-BFGS too. J doesn't fall in every step, so the best G is kept,
not the last.

Large pictures (Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer", on high resolution): the
receptive fields of the loss network don't grow with the picture, so strokes get small and evaluations dear; begin with
photo and style reduced alike, enlarge the result, and go on from there.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from PIL import Image
from torch import Tensor

from oneglance_exporter.device import usable_device
from oneglance_exporter.errors import DataError, DivergedError
from oneglance_exporter.gatys.animation import moments_of
from oneglance_exporter.gatys.colors import gray, luma, with_luma
from oneglance_exporter.gatys.curve import Point
from oneglance_exporter.gatys.lbfgs import LBFGS
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.perceptual.layers import least_side
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import Rgb, fitted, to_pictures, to_tensor
from oneglance_exporter.perceptual.vgg import Identity, LossNetwork, load_loss_network

# Of [0, 1] that the first noise fills. The finest of it escapes J, by average pooling, and so stays in G: all of [0, 1]
# comes to the same J, and to a visibly speckled picture.
_NOISE = 0.2


@dataclass(frozen=True, slots=True)
class J:
    """J and its parts of one picture; total = alpha * content + beta * style."""

    total: float
    content: float
    style: float


@dataclass(frozen=True, slots=True)
class Result:
    """The picture that an optimisation found, and how it got there.

    picture: uint8 [H, W, 3]. measured: J of that picture, by the loss network in fp32; with ``keep_colors`` of its
    luma. best: where in the curve it was found; their totals differ by the rounding to 8 bits (and with ``keep_colors``
    by colours that had to be cut off). curve: every evaluation; those of another size aren't comparable. frames: some
    of the G evaluated, in order. beta: its default spelled out. stopped: before its time.
    """

    picture: Rgb
    measured: J
    best: Point
    curve: tuple[Point, ...]
    frames: tuple[Rgb, ...]
    beta: float
    network: Identity
    stopped: bool


@dataclass(frozen=True, slots=True)
class DescentReport:
    """One evaluation, for ``Progress.step``. lowest: J so far at this size. evaluations: how many there will be."""

    point: Point
    lowest: float
    evaluations: int

    @property
    def done(self) -> float:
        return self.point.evaluation / self.evaluations

    def __str__(self) -> str:
        at = self.point
        return (
            f"{at.evaluation}/{self.evaluations} at {at.width} x {at.height}  J {at.total:.4g} "
            f"(content {at.content:.4g}, style {at.style:.4g})  lowest {self.lowest:.4g}"
        )


class DescentDivergedError(DivergedError):
    """Raised when J becomes NaN or infinite. best: the best result before; None if there was no evaluation before."""

    def __init__(self, message: str, best: Result | None) -> None:
        super().__init__(message)
        self.best = best


def optimize(
    content: Rgb,
    style: Rgb,
    settings: GatysSettings,
    report: Callable[[DescentReport], None] = lambda report: None,
    *,
    network: LossNetwork | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Result:
    """The photo ``content`` in the style of the picture ``style``: uint8 [H, W, 3] of any sizes.

    Args:
        report: called after every evaluation. network: instead of the one that ``settings`` name, with its own pooling.
            stopped: asked after every evaluation; True ends the work with the best G so far, at the size it has then.

    Raises DataError for pictures too small for the layers, WeightsError for the loss network, and
    DescentDivergedError when J is NaN or infinite.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = usable_device(settings.device)
    levels = [_pictures(content, style, size, settings) for size, _ in settings.levels]
    if network is None:
        file = Path(settings.loss_network) if settings.loss_network else None
        network = load_loss_network(file, settings.pooling, settings.loss_network_sha256 or "")
    dtype = torch.bfloat16 if settings.precision == "bf16" else network.dtype
    quick = copy.deepcopy(network).to(device, dtype) if (device, dtype) != (network.device, network.dtype) else network
    run = _Descent(settings, report, stopped)
    try:
        for (photo, painting), (_, evaluations) in zip(levels, settings.levels, strict=True):
            run.descend(_Problem(quick, photo, painting, settings), evaluations)
            if run.stopped:
                break
    except DivergedError as error:
        raise DescentDivergedError(str(error), run.result(network) if run.curve else None) from error
    return run.result(network)


class _Problem:
    """J at one size, as a function of pixels [1, 3, H, W], or [1, 1, H, W] where luma alone is sought, on the network's
    device."""

    def __init__(self, network: LossNetwork, photo: Rgb, painting: Rgb, settings: GatysSettings) -> None:
        self.photo, self.painting = photo, painting
        self.settings = settings
        self.alpha, self.beta = settings.alpha, settings.beta_at(*photo.shape[:2])
        self._objective = Objective(
            network,
            content_layer=settings.content_layer,
            style_layers=settings.lambdas,
            normalisation=settings.normalisation,
            alpha=self.alpha,
            beta=self.beta,
        )
        self._content = self._objective.content_of(self._seen(photo))
        self._style = self._objective.style_of(self._seen(painting))

    def terms(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """J_content and J_style, with gradients."""
        terms = self._objective.terms(pixels.expand(-1, 3, -1, -1), self._content, self._style)
        return terms.content[0], terms.style[0]

    def j(self, content: float, style: float) -> J:
        """In Python's floats: no alpha or beta overflows them."""
        return J(self.alpha * content + self.beta * style, content, style)

    @torch.no_grad()
    def measured(self, picture: Rgb) -> J:
        """J of a finished picture uint8 [H, W, 3]."""
        content, style = self.terms(self._seen(picture))
        return self.j(content.item(), style.item())

    def start(self) -> Tensor:
        """What the settings say to begin with."""
        if self.settings.start == "photo":
            photo = self._on_device(self.photo)
            return luma(photo) if self.settings.keep_colors else photo
        height, width = self.photo.shape[:2]
        random = torch.Generator().manual_seed(self.settings.seed)
        noise = torch.rand(1, 1 if self.settings.keep_colors else 3, height, width, generator=random)
        return (0.5 + _NOISE * (noise - 0.5)).to(self._objective.network.device)

    def finished(self, pixels: Tensor) -> Rgb:
        """uint8 [H, W, 3] of G."""
        colored = with_luma(self._on_device(self.photo), pixels) if self.settings.keep_colors else pixels
        picture: Rgb = to_pictures(colored)[0]
        return picture

    def _seen(self, picture: Rgb) -> Tensor:
        shown = self._on_device(picture)
        return gray(shown) if self.settings.keep_colors else shown

    def _on_device(self, picture: Rgb) -> Tensor:
        return to_tensor(picture).to(self._objective.network.device)


class _Descent:
    """The loop, level by level."""

    def __init__(
        self, settings: GatysSettings, report: Callable[[DescentReport], None], stopped: Callable[[], bool]
    ) -> None:
        self.curve: list[Point] = []
        self.stopped = False
        self._settings, self._report, self._asked = settings, report, stopped
        self._begun = time.monotonic()
        self._frames: list[Rgb] = []
        self._moments = moments_of(settings.iterations, settings.frames)
        # The lowest J of the latest level at which there is one, its G, and that level.
        self._best: tuple[Point, Tensor, _Problem] | None = None

    def descend(self, problem: _Problem, evaluations: int) -> None:
        """So many evaluations from the best of the level before, or from the start. Raises DivergedError."""
        pixels = problem.start() if self._best is None else _enlarged(self._best[1], problem.photo)
        pixels = pixels.clamp(0, 1).contiguous().requires_grad_()
        step = _optimizer(pixels, self._settings)
        scale, lowest, fresh = 0.0, math.inf, True
        for _ in range(evaluations):
            content, style = problem.terms(pixels)
            j = problem.j(content.item(), style.item())
            if not math.isfinite(j.total):
                raise DivergedError(f"J is {j.total} at evaluation {len(self.curve) + 1}: {j}")
            lowest = min(lowest, j.total)
            self._note(problem, pixels.detach(), j, lowest)
            # J by its first value, that is: float32 gradients neither overflow nor vanish for any alpha and beta.
            scale = scale or 1 / (j.total or 1.0)
            loss = problem.alpha * scale * content + problem.beta * scale * style
            pixels.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            before = pixels.detach().clone()
            step(loss)
            with torch.no_grad():
                pixels.clamp_(0, 1)
            self.stopped = self._asked()
            stuck = torch.equal(pixels, before)
            if self.stopped or (stuck and fresh):
                return  # J is flat here, or falls outside [0, 1] only
            if stuck:
                step = _optimizer(pixels, self._settings)
            fresh = stuck

    def _note(self, problem: _Problem, pixels: Tensor, j: J, lowest: float) -> None:
        """Keep G if it is the best so far, and report the evaluation. lowest: J at this size, this one included."""
        height, width = pixels.shape[2:]
        now = time.monotonic() - self._begun
        point = Point(len(self.curve) + 1, now, width, height, j.total, j.content, j.style)
        self.curve.append(point)
        if self._best is None or self._best[2] is not problem or j.total < self._best[0].total:
            self._best = point, pixels.clone(), problem
        if point.evaluation in self._moments:
            self._frames.append(problem.finished(pixels))
        self._report(DescentReport(point, lowest, self._settings.iterations))

    def result(self, network: LossNetwork) -> Result:
        """The best of the last level; ``network`` measures it."""
        assert self._best is not None  # there was an evaluation
        point, pixels, problem = self._best
        picture = problem.finished(pixels)
        exact = _Problem(network, problem.photo, problem.painting, self._settings)
        return Result(
            picture=picture,
            measured=exact.measured(picture),
            best=point,
            curve=tuple(self.curve),
            frames=tuple(self._frames),
            beta=problem.beta,
            network=network.identity,
            stopped=self.stopped,
        )


def _optimizer(pixels: Tensor, settings: GatysSettings) -> Callable[[Tensor], None]:
    """A function that moves the pixels by their gradient, given the loss it is of."""
    if settings.optimizer == "lbfgs":
        return LBFGS(pixels).step
    adam = torch.optim.Adam([pixels], lr=settings.learning_rate)

    def step(loss: Tensor) -> None:
        adam.step()

    return step


def _pictures(content: Rgb, style: Rgb, size: int, settings: GatysSettings) -> tuple[Rgb, Rgb]:
    """Photo and style picture of a level whose longer side is ``size``. Raises DataError for too small ones."""
    style_size = round((settings.style_size or settings.size) * size / settings.size)
    needed = least_side([settings.content_layer, *settings.lambdas])
    found = []
    for name, given, longer in (("content", content, size), ("style", style, style_size)):
        picture = fitted(Image.fromarray(given), longer, 1)
        for what, array in (("", given), (f" at --size {settings.size}", picture)):
            if min(array.shape[:2]) < needed:
                height, width = array.shape[:2]
                raise DataError(
                    f"the {name} picture is {width} x {height} pixels{what}; the layers need {needed} x {needed}"
                )
        found.append(picture)
    return found[0], found[1]


def _enlarged(pixels: Tensor, photo: Rgb) -> Tensor:
    """G [1, C, h, w] brought to the photo's size."""
    return F.interpolate(pixels, photo.shape[:2], mode="bicubic", align_corners=False)
