"""Original colours: luminance-only transfer (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer").

J then compares luma alone, that is, gray pictures, and the result's luma is joined with the photo's chroma. The paper
uses YIQ, whose Y is the luma of BT.601; I and Q, as Cb and Cr, are linear in what a colour differs from its luma by, so
that keeping one pair keeps the other. We don't match the style's mean and deviation of luma to the photo's, which the
paper does where they are far apart.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def luma(pictures: Tensor) -> Tensor:
    """Float [B, 3, H, W] rgb -> [B, 1, H, W]."""
    return (pictures * pictures.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def gray(pictures: Tensor) -> Tensor:
    """Float [B, 3, H, W] rgb -> the same shape, every channel being the luma."""
    return luma(pictures).expand(-1, 3, -1, -1)


def with_luma(photo: Tensor, new: Tensor) -> Tensor:
    """The photo, float [B, 3, H, W] in [0, 1], with the luma ``new`` [B, 1, H, W] and its own chroma: [B, 3, H, W].

    What leaves [0, 1] by that is cut off, which moves luma and chroma of such pixels.
    """
    # Chroma is what a colour differs from its luma by: exchanging the luma moves all three channels alike.
    return torch.clamp(photo + (new - luma(photo)), 0, 1)
