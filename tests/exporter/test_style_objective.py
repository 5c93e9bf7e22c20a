"""J, term by term, against its formulas written out in loops; and its gradient."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.objective import Normalisation, Objective, content_loss, gram, style_loss
from oneglance_exporter.perceptual.vgg import Identity, LossNetwork
from tests.loss_networks import CHANNELS, convolutions, tiny

Floats = npt.NDArray[np.float64]


def naive_content(content: Floats, generated: Floats, normalisation: Normalisation) -> float:
    """1/2 * sum (a(C) - a(G))^2, or 1/(4 n_H n_W n_C) * the same sum, of activations [n_C, n_H, n_W]."""
    n_c, n_h, n_w = content.shape
    total = 0.0
    for k in range(n_c):
        for i in range(n_h):
            for j in range(n_w):
                total += (content[k, i, j] - generated[k, i, j]) ** 2
    return total / 2 if normalisation == "half" else total / (4 * n_h * n_w * n_c)


def naive_gram(activations: Floats) -> Floats:
    """G_kk' = sum_i sum_j a_ijk * a_ijk'."""
    n_c, n_h, n_w = activations.shape
    found = np.zeros((n_c, n_c))
    for k in range(n_c):
        for other in range(n_c):
            for i in range(n_h):
                for j in range(n_w):
                    found[k, other] += activations[k, i, j] * activations[other, i, j]
    return found


def naive_style(style: Floats, generated: Floats) -> float:
    """1/(2 n_H n_W n_C)^2 * sum_k sum_k' (G_kk'(S) - G_kk'(G))^2, for pictures of one size."""
    n_c, n_h, n_w = style.shape
    of_style, of_generated = naive_gram(style), naive_gram(generated)
    total = 0.0
    for k in range(n_c):
        for other in range(n_c):
            total += (of_style[k, other] - of_generated[k, other]) ** 2
    return float(total / (2 * n_h * n_w * n_c) ** 2)


def naive_style_of_sizes(style: Floats, generated: Floats) -> float:
    """The same with each Gram matrix by its own n_H * n_W."""
    n_c = style.shape[0]
    of_style = naive_gram(style) / (style.shape[1] * style.shape[2])
    of_generated = naive_gram(generated) / (generated.shape[1] * generated.shape[2])
    total = 0.0
    for k in range(n_c):
        for other in range(n_c):
            total += (of_style[k, other] - of_generated[k, other]) ** 2
    return float(total / (2 * n_c) ** 2)


def activations(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def tensor(array: Floats) -> torch.Tensor:
    return torch.tensor(array)[None]


shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
seeds = st.integers(0, 1000)


@given(shapes, seeds, st.sampled_from(["half", "size"]))
@settings(max_examples=50)
def test_content(shape: tuple[int, int, int], seed: int, normalisation: Normalisation) -> None:
    content, generated = activations(seed, *shape), activations(seed + 1, *shape)
    found = content_loss(tensor(content), tensor(generated), normalisation)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(naive_content(content, generated, normalisation), rel=1e-12)


@given(shapes, seeds)
@settings(max_examples=50)
def test_style_of_one_size(shape: tuple[int, int, int], seed: int) -> None:
    style, generated = activations(seed, *shape), activations(seed + 1, *shape)
    found = style_loss(gram(tensor(style)), gram(tensor(generated)))
    assert found.item() == pytest.approx(naive_style(style, generated), rel=1e-10)


@given(shapes, st.tuples(st.integers(1, 5), st.integers(1, 5)), seeds)
@settings(max_examples=50)
def test_style_of_two_sizes(shape: tuple[int, int, int], other: tuple[int, int], seed: int) -> None:
    style, generated = activations(seed, *shape), activations(seed + 1, shape[0], *other)
    found = style_loss(gram(tensor(style)), gram(tensor(generated)))
    assert found.item() == pytest.approx(naive_style_of_sizes(style, generated), rel=1e-10)


def test_gram_of_a_repeated_picture_is_its_own() -> None:
    """Why pictures of two sizes can be compared."""
    once = tensor(activations(0, 3, 4, 5))
    torch.testing.assert_close(gram(once.repeat(1, 1, 2, 3)), gram(once))


@pytest.mark.parametrize("normalisation", ["half", "size"])
def test_the_whole_of_j(normalisation: Normalisation) -> None:
    """Of two pictures in a batch, against the formulas on the network's activations."""
    network = tiny(dtype=torch.float64)
    lambdas = {"relu1_2": 0.5, "pool2": 2.0, "conv3_1": 0.25}
    objective = Objective(
        network,
        content_layer="relu2_2",
        style_layers={**lambdas, "relu4_1": 0.0},
        normalisation=normalisation,
        alpha=0.7,
        beta=30.0,
    )
    random = torch.Generator().manual_seed(1)
    photos, generated = torch.rand(2, 2, 3, 16, 20, generator=random, dtype=torch.float64)
    painting = torch.rand(1, 3, 24, 12, generator=random, dtype=torch.float64)
    terms = objective.terms(generated, objective.content_of(photos), objective.style_of(painting))

    def of(pictures: torch.Tensor, layer: str) -> Floats:
        return network(pictures, [layer])[layer].numpy()  # type: ignore[no-any-return]

    for i in range(2):
        content = naive_content(of(photos, "relu2_2")[i], of(generated, "relu2_2")[i], normalisation)
        style = sum(
            weight * naive_style_of_sizes(of(painting, layer)[0], of(generated, layer)[i])
            for layer, weight in lambdas.items()
        )
        assert terms.content[i].item() == pytest.approx(content, rel=1e-9)
        assert terms.style[i].item() == pytest.approx(style, rel=1e-9)
        assert terms.total[i].item() == pytest.approx(0.7 * content + 30 * style, rel=1e-9)


def test_float32_is_close_to_float64() -> None:
    values = []
    for dtype in (torch.float32, torch.float64):
        network = tiny(dtype=torch.float64).to(dtype)
        objective = Objective(network)
        random = torch.Generator().manual_seed(2)
        photo, painting, generated = torch.rand(3, 1, 3, 32, 32, generator=random, dtype=torch.float64).to(dtype)
        terms = objective.terms(generated, objective.content_of(photo), objective.style_of(painting))
        values.append((terms.total.item(), terms.content.item(), terms.style.item()))
        assert terms.total.dtype == dtype
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("normalisation", ["half", "size"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_the_gradient_is_that_of_finite_differences(normalisation: Normalisation, pooling: Any) -> None:
    objective = Objective(
        tiny(dtype=torch.float64, pooling=pooling),
        content_layer="relu3_2",
        style_layers={"relu1_1": 1.0, "relu3_1": 0.5},
        normalisation=normalisation,
        beta=2.0,
    )
    random = torch.Generator().manual_seed(3)
    photo, painting, generated = torch.rand(3, 1, 3, 8, 8, generator=random, dtype=torch.float64)
    content, style = objective.content_of(photo), objective.style_of(painting)
    generated.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda pixels: objective.terms(pixels, content, style).total, generated, fast_mode=True
    )


def test_equal_pictures_have_a_j_of_zero() -> None:
    objective = Objective(tiny(dtype=torch.float64))
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    terms = objective.terms(picture, objective.content_of(picture), objective.style_of(picture))
    assert (terms.total.item(), terms.content.item(), terms.style.item()) == (0, 0, 0)


def test_bf16_does_not_round_mean_and_scale() -> None:
    """A picture that is the mean everywhere is 0 to the network, not a quarter of a level beside it."""
    layers = [(weight, torch.zeros_like(bias)) for weight, bias in convolutions(CHANNELS)]
    network = LossNetwork(layers, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "average", Identity("", ""))
    network.to(torch.bfloat16)
    picture = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 16, 16)
    found = network(picture, ["conv1_1"])["conv1_1"]
    assert found.dtype == torch.bfloat16
    assert not found.any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": -1.0}, "alpha and beta"),
        ({"beta": float("nan")}, "alpha and beta"),
        ({"alpha": 0.0, "beta": 0.0}, "alpha and beta"),
        ({"style_layers": {"relu1_1": -0.1}}, "style layers' weights"),
        ({"style_layers": {"relu1_1": 0.0}}, "style layers' weights"),
        ({"style_layers": {}}, "style layers' weights"),
        ({"style_layers": {"relu1_3": 1.0}}, "'relu1_3' is no layer"),
        ({"content_layer": "pool6"}, "'pool6' is no layer"),
        ({"normalisation": "none"}, "half or size"),
    ],
)
def test_what_no_objective_is_made_of(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Objective(tiny(), **given)
