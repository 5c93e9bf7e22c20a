"""Gatys' optimisation: what it reaches, what it reports of it, and how it ends. On a tiny random loss network."""

import dataclasses
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.gatys.animation import moments_of
from oneglance_exporter.gatys.colors import gray, luma, with_luma
from oneglance_exporter.gatys.lbfgs import LBFGS
from oneglance_exporter.gatys.optimize import DescentDivergedError, DescentReport, Result, _Problem, optimize
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.perceptual.layers import STYLE_LAYERS
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import Rgb, to_tensor
from oneglance_exporter.perceptual.vgg import LossNetwork
from tests.loss_networks import tiny


def photo(height: int = 24, width: int = 32) -> Rgb:
    """A disc on a slope of colours, none of them pure."""
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    inside = (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.08
    channels = [0.3 + 0.3 * x, 0.35 + 0.2 * y, np.where(inside, 0.7, 0.4)]
    return (np.stack(channels, axis=2) * 255).astype(np.uint8)


def painting(height: int = 32, width: int = 28) -> Rgb:
    """Stripes."""
    y, x = np.mgrid[:height, :width]
    wave = np.sin((x + 2 * y) / 2)
    return ((np.stack([0.5 + 0.4 * wave, 0.5 - 0.3 * wave, 0.2 + 0.2 * wave], axis=2)) * 255).astype(np.uint8)


def made(network: LossNetwork | None = None, **changes: Any) -> Result:
    given = {"size": 32, "iterations": 30, "beta": 1.0, "frames": 0, "threads": 1, **changes}
    return optimize(photo(), painting(), GatysSettings(**given), network=network or tiny())


def j_of(picture: Rgb, *, beta: float = 1.0, keep_colors: bool = False) -> tuple[float, float, float]:
    """J of a finished picture of ``photo()``'s size, straight from the objective."""
    seen = gray if keep_colors else Tensor.clone
    objective = Objective(tiny(), beta=beta)
    style = np.asarray(Image.fromarray(painting()).resize((28, 32)))
    content, grams = objective.content_of(seen(to_tensor(photo()))), objective.style_of(seen(to_tensor(style)))
    terms = objective.terms(seen(to_tensor(picture)), content, grams)
    return terms.total.item(), terms.content.item(), terms.style.item()


@pytest.mark.parametrize("start", ["noise", "photo"])
@pytest.mark.parametrize(
    ("optimizer", "share"), [({"optimizer": "lbfgs"}, 0.5), ({"optimizer": "adam", "learning_rate": 0.02}, 0.7)]
)
def test_j_falls(start: str, optimizer: dict[str, Any], share: float) -> None:
    result = made(start=start, **optimizer)
    assert result.picture.shape == (24, 32, 3)
    assert result.picture.dtype == np.uint8
    assert [point.evaluation for point in result.curve] == list(range(1, 31))
    assert result.best.total < share * result.curve[0].total
    for point in result.curve:
        assert point.total == pytest.approx(point.content + point.style)
        assert (point.width, point.height) == (32, 24)
    assert all(a.seconds < b.seconds for a, b in pairwise(result.curve))
    if start == "photo":
        assert result.curve[0].content == 0


def test_the_first_g_is_the_photo_or_noise() -> None:
    frames = made(start="photo", iterations=1, frames=1).frames
    assert np.array_equal(frames[0], photo())
    noise = made(start="noise", iterations=1, frames=1).frames[0].astype(float) / 255
    assert 0.05 < noise.std() < 0.07  # uniform over a fifth
    assert abs(noise.mean() - 0.5) < 0.01


def test_the_lowest_j_is_kept_and_not_the_last() -> None:
    result = made(optimizer="adam", learning_rate=0.5, iterations=25, start="photo", beta=100.0)
    totals = [point.total for point in result.curve]
    assert result.best.total == min(totals) < totals[-1]
    assert result.best == result.curve[totals.index(min(totals))]
    assert result.measured.total == pytest.approx(result.best.total, rel=0.02)
    assert result.measured.total < totals[-1]


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam"}, {"start": "photo"}, {"precision": "bf16"}])
def test_the_told_j_is_that_of_the_picture(changes: dict[str, Any]) -> None:
    """To float32's rounding; and 8 bits cost little."""
    result = made(**changes)
    total, content, style = j_of(result.picture)
    assert dataclasses.astuple(result.measured) == pytest.approx((total, content, style), rel=1e-4)
    assert result.measured.total == pytest.approx(result.best.total, rel=0.05)


def test_original_colours() -> None:
    result = made(keep_colors=True)
    kept, before = (np.asarray(Image.fromarray(p).convert("YCbCr"), int) for p in (result.picture, photo()))
    inside = ((result.picture > 0) & (result.picture < 255)).all(axis=2)  # elsewhere a colour was cut off
    assert inside.mean() > 0.5
    assert np.abs(kept - before)[inside][:, 1:].max() <= 2  # of 255: rounded twice
    assert np.abs(kept - before)[inside][:, 0].max() > 20
    assert dataclasses.astuple(result.measured) == pytest.approx(j_of(result.picture, keep_colors=True), rel=1e-4)
    assert result.best.total < 0.6 * result.curve[0].total


def test_luma_is_that_of_bt601() -> None:
    random = torch.Generator().manual_seed(0)
    pictures, new = torch.rand(2, 3, 4, 5, generator=random) * 0.2 + 0.4, torch.rand(2, 1, 4, 5, generator=random)
    r, g, b = pictures.unbind(1)
    torch.testing.assert_close(luma(pictures)[:, 0], 0.299 * r + 0.587 * g + 0.114 * b)
    torch.testing.assert_close(gray(pictures), luma(pictures).repeat(1, 3, 1, 1))
    changed = with_luma(pictures, new * 0.2 + 0.4)
    torch.testing.assert_close(luma(changed), new * 0.2 + 0.4)
    r2, _, b2 = changed.unbind(1)
    for after, before in ((b2, b), (r2, r)):
        torch.testing.assert_close(after - luma(changed)[:, 0], before - luma(pictures)[:, 0])
    far = with_luma(pictures, torch.full((2, 1, 4, 5), 1.2))
    assert far.max() == 1


def test_coarse_to_fine() -> None:
    result = optimize(
        photo(96, 128),
        painting(),
        GatysSettings(size=128, coarse_to_fine=True, coarsest=40, iterations=21, beta=1.0, frames=100),
        network=tiny(),
    )
    assert result.picture.shape == (96, 128, 3)
    sizes = [(point.width, point.height) for point in result.curve]
    assert sizes == [(32, 24)] * 12 + [(64, 48)] * 6 + [(128, 96)] * 3
    assert result.best in result.curve[-3:]
    assert [frame.shape[:2] for frame in result.frames] == [(height, width) for width, height in sizes]
    totals = [point.total for point in result.curve]
    for end, width, height in ((12, 64, 48), (18, 128, 96)):  # each level begins from the enlarged best before
        begin = end - 12 if end == 12 else 12
        best = result.frames[begin + int(np.argmin(totals[begin:end]))]
        enlarged = np.asarray(Image.fromarray(best).resize((width, height), Image.Resampling.BICUBIC), float)
        assert np.abs(enlarged - result.frames[end]).mean() < 1.5
        assert np.abs(enlarged - 127.5).mean() > 8  # which isn't any picture's distance


def test_coarse_levels_reduce_the_style_picture_as_much_as_the_photo() -> None:
    changes: dict[str, Any] = {"iterations": 3, "start": "photo", "beta": 1.0}
    coarse = GatysSettings(size=128, style_size=96, coarse_to_fine=True, coarsest=32, **changes)
    small = GatysSettings(size=32, style_size=24, **changes)
    js = [optimize(photo(96, 128), painting(), settings, network=tiny()).curve[0] for settings in (coarse, small)]
    assert js[0].style == js[1].style > 0
    assert (js[0].width, js[0].height) == (32, 24)


def test_seeds() -> None:
    first, again, other = (made(seed=seed, iterations=5) for seed in (1, 1, 2))
    assert np.array_equal(first.picture, again.picture)
    assert [p.total for p in first.curve] == [p.total for p in again.curve]
    assert first.curve[0].total != other.curve[0].total


def test_the_style_pictures_size() -> None:
    """Its longer side is --size, or --style-size."""
    same, given, large = (made(iterations=1, start="photo", style_size=side).curve[0].style for side in (None, 32, 64))
    assert same == given != large


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0.0},
        {"beta": 0.0},
        {"alpha": 1e30, "beta": 1e30},
        {"alpha": 1e-30, "beta": 1e-30},
        {"alpha": 0.0, "beta": 1e-300},
        {"alpha": 1e300, "beta": 0.0},
        {"normalisation": "half", "beta": 1000.0},
        {"pooling": "max", "style_layers": ("pool1=1", "conv3_1=0.5"), "content_layer": "pool2"},
    ],
)
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_any_alpha_and_beta(changes: dict[str, Any], optimizer: str) -> None:
    result = made(optimizer=optimizer, learning_rate=0.05, iterations=20, **changes)
    assert result.best.total < 0.8 * result.curve[0].total


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_where_nothing_is_to_be_gained_it_ends(optimizer: str) -> None:
    """From the photo, with content alone, J is 0 and its gradient, too."""
    result = made(start="photo", beta=0.0, optimizer=optimizer)
    assert len(result.curve) == 1
    assert result.measured.total == 0
    assert np.array_equal(result.picture, photo())


class Breaks(LossNetwork):
    """``tiny`` whose activations are NaN from some call on. Two calls come before the first evaluation."""

    def __init__(self, after: int) -> None:
        torch.nn.Module.__init__(self)
        self.network, self.left = tiny(), after
        self.identity = self.network.identity

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, pictures: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        self.left -= 1
        found: dict[str, Tensor] = self.network(pictures, layers)
        # Only while it is optimised: measuring the best afterwards runs without gradients.
        broken = self.left < 0 and pictures.requires_grad
        return {layer: value * float("nan") if broken else value for layer, value in found.items()}


def test_nan_ends_it_with_the_best_so_far() -> None:
    with pytest.raises(DescentDivergedError, match="J is nan at evaluation 8") as caught:
        made(Breaks(after=2 + 7))
    best = caught.value.best
    assert isinstance(best, Result)
    assert len(best.curve) == 7
    assert best.best.total == min(point.total for point in best.curve)
    assert best.measured.total == pytest.approx(j_of(best.picture)[0], rel=1e-4)


def test_nan_from_the_beginning_leaves_nothing() -> None:
    with pytest.raises(DescentDivergedError, match="J is nan at evaluation 1:") as caught:
        made(Breaks(after=2))
    assert caught.value.best is None


def test_it_stops_when_asked_and_reports_every_evaluation() -> None:
    seen: list[DescentReport] = []
    settings = GatysSettings(size=32, iterations=50, beta=1.0)
    result = optimize(photo(), painting(), settings, seen.append, network=tiny(), stopped=lambda: len(seen) == 4)
    assert result.stopped
    assert [report.point for report in seen] == list(result.curve)
    assert len(seen) == 4
    assert [report.done for report in seen] == [0.02, 0.04, 0.06, 0.08]
    assert [report.lowest for report in seen] == [min(p.total for p in result.curve[: n + 1]) for n in range(4)]
    assert str(seen[3]).startswith("4/50 at 32 x 24  J ")
    assert not made(iterations=2).stopped


@pytest.mark.parametrize(
    ("content", "style", "changes", "message"),
    [
        (photo(1, 1), painting(), {}, "the content picture is 1 x 1 pixels; the layers need 16 x 16"),
        (photo(), painting(15, 400), {}, "the style picture is 400 x 15 pixels; the layers need 16 x 16"),
        (photo(40, 400), painting(), {"size": 32}, "the content picture is 32 x 4 pixels at --size 32"),
        (photo(), painting(), {"content_layer": "pool5"}, "picture is 32 x 24 pixels; the layers need 32 x 32"),
        (photo(), painting(), {"style_size": 10}, "the style picture is 9 x 10 pixels at --size 32"),
        (photo(), painting(), {"coarse_to_fine": True, "coarsest": 16}, "the content picture is 16 x 12 pixels at"),
    ],
)  # fmt: skip
def test_pictures_too_small_for_the_layers(content: Rgb, style: Rgb, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        optimize(content, style, GatysSettings(**{"size": 32, **changes}), network=tiny())


def test_shallow_layers_take_small_pictures() -> None:
    settings = GatysSettings(size=6, iterations=3, content_layer="relu1_2", style_layers=("relu1_1=1",), beta=1.0)
    assert optimize(photo(6, 5), painting(6, 6), settings, network=tiny()).picture.shape == (6, 5, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 0},
        {"threads": 0},
        {"size": 0},
        {"size": 4097},
        {"style_size": -1},
        {"coarsest": 0},
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"beta": float("inf")},
        {"beta": float("nan")},
        {"alpha": 0.0, "beta": 0.0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"frames": -1},
        {"seed": -1},
        {"start": "black"},
        {"optimizer": "sgd"},
        {"normalisation": "both"},
        {"pooling": "min"},
        {"precision": "int8"},
        {"content_layer": "relu9_1"},
        {"style_layers": ()},
        {"style_layers": ("relu1_1",)},
        {"style_layers": ("relu1_1=",)},
        {"style_layers": ("relu1_1=x",)},
        {"style_layers": ("relu1_1=nan",)},
        {"style_layers": ("relu1_1=inf",)},
        {"style_layers": ("relu1_1=-1",)},
        {"style_layers": ("relu1_1=0",)},
        {"style_layers": ("relu1_1=1", "relu1_1=1")},
        {"style_layers": ("relu1_9=1",)},
        {"loss_network_sha256": "0" * 64},
        {"loss_network": "x.pth", "loss_network_sha256": "0" * 63},
    ],
)
def test_settings_out_of_range(changes: dict[str, Any]) -> None:
    GatysSettings()
    with pytest.raises(SettingsError):
        GatysSettings(**changes)


def test_defaults_of_lambda_and_beta() -> None:
    assert GatysSettings().lambdas == STYLE_LAYERS
    assert GatysSettings(beta=3.0).beta_at(256, 256) == 3
    assert GatysSettings().beta_at(256, 256) == GatysSettings().beta_at(64, 512) == 1e-3
    # relu4_2 of 256 x 192 pixels: 512 channels of 32 x 24
    half = GatysSettings(normalisation="half").beta_at(256, 192)
    assert half == pytest.approx(1e-3 * 2 * 512 * 32 * 24)


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(1, 2000), st.booleans())
def test_levels(size: int, coarsest: int, iterations: int, coarse_to_fine: bool) -> None:
    levels = GatysSettings(size=size, coarsest=coarsest, iterations=iterations, coarse_to_fine=coarse_to_fine).levels
    assert levels[-1][0] == size
    assert sum(count for _, count in levels) == iterations
    assert all(count >= 1 for _, count in levels)
    if not coarse_to_fine:
        assert len(levels) == 1
    for (small, many), (large, few) in pairwise(levels):
        assert small < large <= 2 * small + 1
        assert large > coarsest
        assert many >= few
    if coarse_to_fine and len(levels) < iterations:
        assert levels[0][0] <= coarsest


@given(st.integers(1, 3000), st.integers(0, 100))
def test_when_frames_are_taken(evaluations: int, frames: int) -> None:
    found = moments_of(evaluations, frames)
    assert len(found) <= frames
    assert all(1 <= moment <= evaluations for moment in found)
    if frames >= 2:
        assert {1, evaluations} <= found
    if evaluations >= frames**2 and frames:
        assert len(found) > frames / 2


def descend(
    x: Tensor, j: Callable[[Tensor], Tensor], steps: int, low: float = -torch.inf, high: float = torch.inf
) -> list[tuple[float, list[float]]]:
    """J and where, before each step; x is moved, and clipped, in place."""
    optimizer, found = LBFGS(x), []
    for _ in range(steps):
        x.grad = None
        loss = j(x)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((loss.item(), x.tolist()))
        optimizer.step(loss)
        with torch.no_grad():
            x.clamp_(low, high)
    return found


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def corner() -> Tensor:
    return torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)


def test_lbfgs_finds_the_lowest_point_of_a_box() -> None:
    """sum w (x - c)^2 with c outside [0, 1] here and there: there it is clip(c)."""
    random = torch.Generator().manual_seed(0)
    centre = torch.rand(40, generator=random, dtype=torch.float64) * 2 - 0.5
    weight = 10 ** (torch.rand(40, generator=random, dtype=torch.float64) * 3)
    x = torch.full((40,), 0.5, dtype=torch.float64, requires_grad=True)
    descend(x, lambda x: (weight * (x - centre) ** 2).sum(), 200, 0, 1)
    torch.testing.assert_close(x.detach(), centre.clamp(0, 1), rtol=0, atol=1e-4)


def test_lbfgs_goes_round_rosenbrocks_bend() -> None:
    path = descend(corner(), rosenbrock, 150)
    lowest, where = min(path)
    assert lowest < 1e-10
    assert where == pytest.approx([1, 1], abs=1e-4)


def test_lbfgs_does_not_depend_on_the_scale_of_j() -> None:
    """Powers of 2 are exact, so the paths are equal to the bit."""
    paths = [
        [where for _, where in descend(corner(), lambda x, by=scale: by * rosenbrock(x), 40)]  # type: ignore[misc]
        for scale in (1.0, 2.0**40, 2.0**-40)
    ]
    assert paths[0] == paths[1] == paths[2]


def test_lbfgs_takes_back_a_move_that_makes_j_rise() -> None:
    """The next place is on the same line, nearer to where it came from."""
    path = descend(corner(), rosenbrock, 60)
    came_from, rises = path[0], 0
    for (j, where), (_, then) in pairwise(path[1:]):
        if j > came_from[0]:
            rises += 1
            origin = np.array(came_from[1])
            move, shorter = np.array(where) - origin, np.array(then) - origin
            share = (shorter @ move) / (move @ move)
            assert 0.09 < share < 0.51
            np.testing.assert_allclose(shorter, share * move, atol=1e-12)
        else:
            came_from = j, where
    assert rises > 0


def test_lbfgs_stays_where_the_gradient_is_zero() -> None:
    x = torch.tensor([0.3, 0.7], requires_grad=True)
    descend(x, lambda x: (x * 0).sum(), 3)
    assert x.tolist() == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize("colors", [False, True])
def test_all_of_a_problem_is_where_the_network_is(colors: bool) -> None:
    """On torch's device without data, which takes none of the CPU's tensors, as a card wouldn't."""
    problem = _Problem(tiny().to("meta"), photo(), painting(), GatysSettings(beta=1.0, keep_colors=colors))
    pixels = problem.start()
    content, style = problem.terms(pixels)
    assert {one.device.type for one in (pixels, content, style)} == {"meta"}


def test_without_a_card_nothing_is_optimised_on_the_cpu_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"--device cuda: torch .*; nothing is computed on the CPU instead"):
        made(device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and a torch built for it")
@pytest.mark.parametrize("colors", [False, True])
def test_a_card_comes_to_about_what_the_cpu_does(colors: bool) -> None:
    cpu, card = made(keep_colors=colors), made(keep_colors=colors, device="cuda")
    assert card.measured.total == pytest.approx(cpu.measured.total, rel=0.05)
