"""Measure a stylizer on photos that it wasn't trained on: J, and how much its pictures change when the photo does.

For each style and photo:

* J of the network's picture, by the loss network and with the alpha, beta and style picture it was trained with;
* J of the photo itself, and, if asked for, J of Gatys' optimisation after so many evaluations from noise;
* shift: RMSE, of [0, 1], between the pictures of two crops of the photo 1, 2, 3 or 5 pixels apart, where both show the
  same; the worst of them;
* gain: how much small noise on the photo grows: RMSE between the pictures, divided by RMSE of the noise;
* grid: the largest mean difference, in levels of 255, between pixels of one place in cells of 2 x 2 or 4 x 4 and all
  pixels: of 16 crops that bring every point of the photo to every place of a cell, so that only the network's own grid
  is left; and of pictures of one grey;
* flash: by how many levels the mean brightness rises at most from one frame to the next while the photo fades to black.

And for each style light: the difference in mean brightness between a white picture and a black one, of the 1 that it
was.

If asked for, grid and shift at other sizes, too (``sizes``).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from oneglance_core.files import replacing
from oneglance_core.manifests import StylizerManifest
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.device import usable_device
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.gatys.optimize import optimize
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.perceptual.objective import Objective, Terms
from oneglance_exporter.perceptual.pictures import Rgb, read_picture, to_tensor
from oneglance_exporter.perceptual.vgg import load_loss_network
from oneglance_exporter.settings import DeviceName
from oneglance_exporter.stylizer.deployed import Deployed
from oneglance_exporter.stylizer.faults import (
    OnGreys,
    crop,
    flash_of,
    gain_of,
    grid_on,
    largest,
    on_greys,
    room_of,
    shift_of,
)
from oneglance_exporter.stylizer.settings import MEASURED_SIDE
from oneglance_exporter.stylizer.sheet import grid
from oneglance_exporter.stylizer.sizes import AtSize, at_size, sizes_table
from oneglance_exporter.stylizer.styles import read_styles
from oneglance_exporter.training.checkpoint import writing

_PHOTO_PIXELS = 2048 * 2048


@dataclass(frozen=True, slots=True)
class _TrainedWith:
    """The J that a stylizer was trained with, from its manifest. sha256: of the loss network."""

    style_size: int
    alpha: float
    betas: dict[str, float]
    sha256: str

    @classmethod
    def of(cls, manifest: StylizerManifest, where: Path) -> "_TrainedWith":
        told = manifest.training
        try:
            settings, network = told["settings"], told["loss_network"]
            betas = {style.name: float(told["betas"][style.name]) for style in manifest.styles}
            return cls(int(settings["style_size"]), float(settings["alpha"]), betas, str(network["sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"{where}: its manifest doesn't tell how it was trained; was it exported here?"
            ) from error


@dataclass(frozen=True, slots=True)
class WeightedJ:
    """J and its parts as they are weighted in it: total = content + style."""

    total: float
    content: float
    style: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One style on one photo; photo: its number. net: J of the stylizer's picture. untouched: J of the photo itself.

    gatys: J of Gatys' picture; None when it wasn't made. shift: RMSE in [0, 1]. gain: a ratio. grid, flash: levels.
    """

    style: str
    photo: int
    net: WeightedJ
    untouched: WeightedJ
    gatys: WeightedJ | None
    shift: float
    gain: float
    grid: float
    flash: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """All styles on all photos, and a contact sheet: a row per photo, a column per style."""

    rows: tuple[Measured, ...]
    greys: dict[str, OnGreys]
    sheet: Image.Image
    evaluations: int
    at_sizes: tuple[AtSize, ...] = ()

    def by_style(self) -> list[dict[str, Any]]:
        """A dict per style: medians over the photos, but the worst shift, gain, grid and flash."""
        return [
            _medians(name, [row for row in self.rows if row.style == name], greys) for name, greys in self.greys.items()
        ]

    def __str__(self) -> str:
        """A table in Markdown."""
        lines = [
            f"| style | J(net)/J(Gatys@{self.evaluations}) | J(net)/J(photo) | content net, Gatys | style net, Gatys "
            "| style photo | shift RMSE | gain of noise | grid | light | flash |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.by_style():
            cells = [
                row["style"],
                _shown(row["ratio"], ".2f"),
                _shown(row["by_photo"], ".2f"),
                f"{row['content']:.3g}, {_shown(row['gatys_content'], '.3g')}",
                f"{row['style_part']:.3g}, {_shown(row['gatys_style'], '.3g')}",
                _shown(row["photo_style"], ".3g"),
                _shown(row["shift"], ".3f"),
                _shown(row["gain"], ".2f"),
                _shown(row["grid"], ".2f"),
                _shown(row["light"], ".2f"),
                _shown(row["flash"], ".1f"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        if self.at_sizes:
            lines += ["", *sizes_table(self.at_sizes)]
        return "\n".join(lines)


def measure(
    model: Path,
    styles: Sequence[str],
    photos: Sequence[str],
    *,
    size: int = MEASURED_SIDE,
    sizes: Sequence[int] = (),
    evaluations: int = 0,
    references: Path | None = None,
    loss_network: Path | None = None,
    threads: int = 1,
    device: DeviceName = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> Measurements:
    """Measure the stylizer in ``model`` on ``photos`` it never saw, shrunk to ``size`` pixels on the longer side.

    styles: the pictures it was trained on, as ``train stylizer`` took them. sizes: longer sides, each at least 32, at
    which grid and shift are measured, too. evaluations: of J by Gatys' optimisation, L-BFGS from noise; 0 leaves it
    out. references: a folder to keep its pictures in, and to take them from when they are there already, since they
    take far longer than the rest; they are known by style, number of the photo and evaluations, so other photos or
    betas need another folder. device: where they are made.

    Raises SettingsError when the styles or the loss network are others than the model's, or the device can't be used;
    RunError when ``references`` can't be written; DataError, WeightsError, ModelFolderError.
    """
    if evaluations:
        usable_device(device)
    torch.set_num_threads(threads)
    net = Deployed(model, threads)
    training = _TrainedWith.of(net.manifest, model)
    pictures = read_styles(styles, training.style_size)
    unknown = {picture.style.name for picture in pictures} - {style.name for style in net.manifest.styles}
    if unknown:
        raise SettingsError(f"{model} has no style {', '.join(sorted(unknown))}")
    network = load_loss_network(loss_network)
    if network.identity.sha256 != training.sha256:
        raise SettingsError(f"{model} was trained by another loss network, SHA-256 {training.sha256}")
    if references is not None:
        with writing(references):
            references.mkdir(parents=True, exist_ok=True)
    rows: list[Measured] = []
    given = read_photos(photos, 64, _PHOTO_PIXELS)
    seen = [room_of(photo, size, net.manifest.multiple) for photo in given]
    shown_at = [crop(photo, 0, 0) for photo in seen]
    sheet: list[list[Rgb]] = [[photo] for photo in shown_at]
    greys: dict[str, OnGreys] = {}
    for picture in pictures:
        objective = Objective(network, alpha=training.alpha, beta=training.betas[picture.style.name])
        style = objective.style_of(to_tensor(picture.picture))
        weights = net.style(picture.style.name)
        greys[picture.style.name] = on_greys(net, weights, size)
        for i, (room, photo) in enumerate(zip(seen, shown_at, strict=True)):
            stylized = net(photo[np.newaxis], weights)[0]
            content = objective.content_of(to_tensor(photo))

            def j(
                shown: Rgb, objective: Objective = objective, content: Any = content, style: Any = style
            ) -> WeightedJ:
                with torch.no_grad():
                    return _j(objective, objective.terms(to_tensor(shown), content, style))

            by_gatys = None
            if evaluations:
                kept = references and references / f"{picture.style.name}-{i}-{evaluations}"
                by_gatys = j(_by_gatys(photo, picture.picture, objective, evaluations, threads, device, kept))
            rows.append(
                Measured(
                    style=picture.style.name,
                    photo=i,
                    net=j(stylized),
                    untouched=j(photo),
                    gatys=by_gatys,
                    shift=shift_of(net, room, weights),
                    gain=gain_of(net, photo, stylized, weights),
                    grid=largest(grid_on(net, room, weights)),
                    flash=flash_of(net, photo, weights),
                )
            )
            sheet[i].append(stylized)
            report(f"{picture.style.name}, photo {i + 1} of {len(seen)}")
    at_sizes = []
    for side in sizes:
        report(f"at {side} px")
        at_sizes += [at_size(net, picture.style.name, given, side) for picture in pictures]
    titles = ["photo", *(picture.style.name for picture in pictures)]
    return Measurements(tuple(rows), greys, grid(sheet, titles), evaluations, tuple(at_sizes))


def _by_gatys(
    photo: Rgb,
    style: Rgb,
    objective: Objective,
    evaluations: int,
    threads: int,
    device: DeviceName,
    kept: Path | None,
) -> Rgb:
    if kept is not None:
        # So that another photo, style picture or J never gets this one's.
        network = objective.network.identity.sha256
        problem = repr((photo.shape, style.shape, objective.alpha, objective.beta, network)).encode()
        digest = hashlib.sha256(problem + photo.tobytes() + style.tobytes()).hexdigest()
        kept = kept.with_name(f"{kept.name}-{digest[:12]}.png")
        if kept.is_file():
            return read_picture(kept)
    settings = GatysSettings(
        size=max(photo.shape),
        style_size=max(style.shape),
        iterations=evaluations,
        alpha=objective.alpha,
        beta=objective.beta,
        frames=0,
        threads=threads,
        device=device,
    )
    made = optimize(photo, style, settings, network=objective.network).picture
    if kept is not None:
        with writing(kept.parent), replacing(kept) as fresh:
            Image.fromarray(made).save(fresh, "PNG")
    return made


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _j(objective: Objective, terms: Terms) -> WeightedJ:
    content, style = objective.alpha * terms.content.item(), objective.beta * terms.style.item()
    return WeightedJ(terms.total.item(), content, style)


def _medians(name: str, rows: list[Measured], greys: OnGreys) -> dict[str, Any]:
    gatys = [row.gatys for row in rows if row.gatys is not None]
    untouched = all(row.untouched.total for row in rows)  # 0 where beta is
    return {
        "style": name,
        "photos": len(rows),
        "ratio": median(row.net.total / row.gatys.total for row in rows if row.gatys) if gatys else None,
        "by_photo": median(row.net.total / row.untouched.total for row in rows) if untouched else None,
        "content": median(row.net.content for row in rows),
        "style_part": median(row.net.style for row in rows),
        "gatys_content": median(g.content for g in gatys) if gatys else None,
        "gatys_style": median(g.style for g in gatys) if gatys else None,
        "photo_style": median(row.untouched.style for row in rows),
        "shift": max(row.shift for row in rows),
        "gain": max(row.gain for row in rows),
        "grid": max(greys.grid, *(row.grid for row in rows)),
        "light": greys.light,
        "flash": max(row.flash for row in rows),
    }
