"""Measure a stylizer on photos that it wasn't trained on: J, and how much its pictures change when the photo does.

For each style and photo:

* J of the network's picture, by the loss network and with the alpha, beta and style picture it was trained with;
* J of the photo itself, and, if asked for, J of Gatys' optimisation after so many evaluations from noise;
* shift: RMSE, of [0, 1], between the pictures of two crops of the photo 4 pixels apart, where both show the same;
* gain: how much small noise on the photo grows: RMSE between the pictures, divided by RMSE of the noise.

The network is run as a server runs it: by ONNX Runtime, on 8-bit pictures and to 8-bit pictures.
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
from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import Arrays, StylizerManifest
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.gatys.optimize import optimize
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.perceptual.objective import Objective, Terms
from oneglance_exporter.perceptual.pictures import Rgb, read_picture, to_tensor
from oneglance_exporter.perceptual.vgg import load_loss_network
from oneglance_exporter.runtime import session_of
from oneglance_exporter.stylizer.settings import MEASURED_SIDE
from oneglance_exporter.stylizer.sheet import grid
from oneglance_exporter.stylizer.styles import read_styles
from oneglance_exporter.training.checkpoint import writing

_SHIFT = 4  # pixels
_NOISE = 4  # standard deviation, of 0..255
_PHOTO_PIXELS = 2048 * 2048


class Deployed:
    """A stylizer's model folder on ONNX Runtime. Raises ModelFolderError, ExportError."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        folder = read_any_model_folder(path).of(StylizerManifest)
        self.manifest = folder.manifest
        self._session = session_of(folder.model, threads)

    def __call__(self, pictures: Rgb, weights: Sequence[float]) -> Rgb:
        """uint8 [N, H, W, 3], sides multiples of the manifest's, in one mixture of styles: uint8 [N, H, W, 3]."""
        count = len(pictures)
        inputs: Arrays = {
            "image": pictures,
            "weights": np.tile(np.asarray(weights, np.float32), (count, 1)),
            "moments": np.zeros((count, self.manifest.moments, 2), np.float32),
            "own": np.ones(count, np.float32),
        }
        stylized: Rgb = np.rint(self._session.run(["stylized"], inputs)[0]).astype(np.uint8)
        return stylized

    def style(self, name: str) -> list[float]:
        """The weights of one style."""
        return [float(style.name == name) for style in self.manifest.styles]


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

    gatys: J of Gatys' picture; None when it wasn't made. shift: RMSE in [0, 1]. gain: a ratio.
    """

    style: str
    photo: int
    net: WeightedJ
    untouched: WeightedJ
    gatys: WeightedJ | None
    shift: float
    gain: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """All styles on all photos, and a contact sheet: a row per photo, a column per style."""

    rows: tuple[Measured, ...]
    sheet: Image.Image
    evaluations: int

    def by_style(self) -> list[dict[str, Any]]:
        """A dict per style: medians over the photos, but the worst shift and gain."""
        names = list(dict.fromkeys(row.style for row in self.rows))
        return [_medians(name, [row for row in self.rows if row.style == name]) for name in names]

    def __str__(self) -> str:
        """A table in Markdown."""
        lines = [
            f"| style | J(net)/J(Gatys@{self.evaluations}) | J(net)/J(photo) | content net, Gatys | style net, Gatys "
            "| style photo | shift RMSE | gain of noise |",
            "|---|---|---|---|---|---|---|---|",
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
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def measure(
    model: Path,
    styles: Sequence[str],
    photos: Sequence[str],
    *,
    size: int = MEASURED_SIDE,
    evaluations: int = 0,
    references: Path | None = None,
    loss_network: Path | None = None,
    threads: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> Measurements:
    """Measure the stylizer in ``model`` on ``photos`` it never saw, shrunk to ``size`` pixels on the longer side.

    styles: the pictures it was trained on, as ``train stylizer`` took them. evaluations: of J by Gatys' optimisation,
    L-BFGS from noise; 0 leaves it out. references: a folder to keep its pictures in, and to take them from when they
    are there already, since they take far longer than the rest; they are known by style, number of the photo and
    evaluations, so other photos or betas need another folder.

    Raises SettingsError when the styles or the loss network are others than the model's; RunError when ``references``
    can't be written; DataError, WeightsError, ModelFolderError.
    """
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
    seen = [_pair(photo, size, net.manifest.multiple) for photo in read_photos(photos, 64, _PHOTO_PIXELS)]
    sheet: list[list[Rgb]] = [[pair[0]] for pair in seen]
    for picture in pictures:
        objective = Objective(network, alpha=training.alpha, beta=training.betas[picture.style.name])
        style = objective.style_of(to_tensor(picture.picture))
        weights = net.style(picture.style.name)
        for i, pair in enumerate(seen):
            stylized = net(pair, weights)
            content = objective.content_of(to_tensor(pair[0]))

            def j(
                shown: Rgb, objective: Objective = objective, content: Any = content, style: Any = style
            ) -> WeightedJ:
                with torch.no_grad():
                    return _j(objective, objective.terms(to_tensor(shown), content, style))

            by_gatys = None
            if evaluations:
                kept = references and references / f"{picture.style.name}-{i}-{evaluations}"
                by_gatys = j(_by_gatys(pair[0], picture.picture, objective, evaluations, threads, kept))
            rows.append(
                Measured(
                    style=picture.style.name,
                    photo=i,
                    net=j(stylized[0]),
                    untouched=j(pair[0]),
                    gatys=by_gatys,
                    shift=_rmse(stylized[0, :, _SHIFT:], stylized[1, :, :-_SHIFT]) / 255,
                    gain=_gain(net, pair[0], stylized[0], weights),
                )
            )
            sheet[i].append(stylized[0])
            report(f"{picture.style.name}, photo {i + 1} of {len(seen)}")
    titles = ["photo", *(picture.style.name for picture in pictures)]
    return Measurements(tuple(rows), grid(sheet, titles), evaluations)


def _by_gatys(photo: Rgb, style: Rgb, objective: Objective, evaluations: int, threads: int, kept: Path | None) -> Rgb:
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
    )
    made = optimize(photo, style, settings, network=objective.network).picture
    if kept is not None:
        with writing(kept.parent), replacing(kept) as fresh:
            Image.fromarray(made).save(fresh, "PNG")
    return made


def _pair(photo: Rgb, size: int, multiple: int) -> Rgb:
    """Two crops of a photo, 4 pixels apart, that differ in nothing else: uint8 [2, H, W, 3]."""
    height, width = photo.shape[:2]
    scale = size / max(height, width)
    high, wide = (max(4 * multiple, round(side * scale / multiple) * multiple) for side in (height, width))
    whole = Image.fromarray(photo).resize((wide + _SHIFT, high), Image.Resampling.LANCZOS)
    shown = np.asarray(whole)
    return np.stack((shown[:, :-_SHIFT], shown[:, _SHIFT:]))


def _gain(net: Deployed, photo: Rgb, stylized: Rgb, weights: Sequence[float]) -> float:
    noise = np.random.default_rng(0).normal(0, _NOISE, photo.shape)
    noisy = np.rint(photo + noise).clip(0, 255).astype(np.uint8)
    return _rmse(net(noisy[np.newaxis], weights)[0], stylized) / _rmse(noisy, photo)


def _rmse(a: Rgb, b: Rgb) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _j(objective: Objective, terms: Terms) -> WeightedJ:
    content, style = objective.alpha * terms.content.item(), objective.beta * terms.style.item()
    return WeightedJ(terms.total.item(), content, style)


def _medians(name: str, rows: list[Measured]) -> dict[str, Any]:
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
    }
