"""L-BFGS (Nocedal and Wright 2006, algorithm 7.4) for pixels that something else may clip between two steps.

``torch.optim.LBFGS`` takes the move it proposed for the move that was made. Where pixels are clipped to [0, 1] that is
wrong, and pairs of false moves and true changes of the gradient spoil the memory: with a dark style picture J rose to
500 times its lowest. Here the moves are looked up. Nor does anything here depend on how J is scaled, while torch's
thresholds are absolute numbers.

A step is one evaluation of J and its gradient. If a move doesn't make J fall enough (Armijo's condition, on the move as
clipped), the next step goes back and tries a shorter one: without that, one bad move left J high for good in three of
four runs on one pair of pictures.
"""

from collections import deque

import torch
from torch import Tensor

_FIRST_MOVE = 0.002  # mean of |move| over pixels in [0, 1], while nothing is known of the curvature
_LEAST_CURVATURE = 1e-7  # cosine of a move and the gradient's change below which their pair is noise
_LEAST_FALL = 1e-4  # of what the slope promises
_SHORTEST = 1e-4  # of a move; when that is too long, what is known of the curvature is wrong


class LBFGS:
    """Descends the gradient of one tensor ``x`` that holds its own ``grad``. ``memory``: pairs of tensors kept."""

    def __init__(self, x: Tensor, memory: int = 20) -> None:
        self._x = x
        self._pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=memory)
        # Where x was when J last fell, J and the gradient there, the direction taken, and how far along it.
        self._before: tuple[Tensor, float, Tensor, Tensor, float] | None = None

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        """Move ``x``, at which J is ``loss`` and which has the gradient, to where J should be lower."""
        assert self._x.grad is not None  # backward() comes first
        x, gradient, j = self._x.flatten().clone(), self._x.grad.flatten().clone(), loss.item()
        if self._before is not None:
            origin, j_before, gradient_before, direction, length = self._before
            move, change = x - origin, gradient - gradient_before
            slope = min(0.0, (gradient_before @ move).item())
            if j > j_before + _LEAST_FALL * slope:
                length *= _shorter(j - j_before, slope)
                if length < _SHORTEST:
                    self._pairs.clear()
                    direction, length = self._direction(gradient_before), 0.1
                self._before = origin, j_before, gradient_before, direction, length
                self._x.copy_((origin - length * direction).view_as(self._x))
                return
            if move @ change > _LEAST_CURVATURE * move.norm() * change.norm():
                self._pairs.append((move, change))
        direction = self._direction(gradient)
        if not direction @ gradient > 0:  # rounding has made it point uphill
            self._pairs.clear()
            direction = self._direction(gradient)
        self._before = x, j, gradient, direction, 1.0
        self._x.sub_(direction.view_as(self._x))

    def _direction(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian, as far as the pairs tell it, times the gradient."""
        if not self._pairs:
            size = gradient.abs().mean()
            return gradient * (_FIRST_MOVE / size) if size > 0 else gradient
        q = gradient.clone()
        kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for move, change in reversed(self._pairs):
            rho = 1 / (move @ change)
            share = rho * (move @ q)
            q -= share * change
            kept.append((move, change, rho, share))
        move, change = self._pairs[-1]
        q *= (move @ change) / (change @ change)
        for move, change, rho, share in reversed(kept):
            q += move * (share - rho * (change @ q))
        return q


def _shorter(rise: float, slope: float) -> float:
    """By how much to shorten a move: to the lowest point of the parabola through what is known, within reason."""
    return min(0.5, max(0.1, -slope / (2 * (rise - slope)))) if rise > slope else 0.5
