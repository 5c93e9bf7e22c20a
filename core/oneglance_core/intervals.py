"""How far to trust a measured rate: its 95 % interval, that of Clopper and Pearson. In plain numpy."""

import math

import numpy as np
import numpy.typing as npt

_CONFIDENCE = 0.95


def interval(hits: npt.NDArray[np.bool_], subjects: npt.NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the share of ``hits``, bool [n]; ``subjects``, int64 [n], says whose probe each is.

    Clopper and Pearson's for n / deff trials, where deff = sum(n_i^2) / n is the design effect (Kish 1965) if the
    probes of one subject all went the same way, the worst case. So it is never too narrow, and too wide as far as they
    go different ways. A percentile bootstrap over subjects is narrower but covers less than it says when few of them
    hit (88 to 93 % at 1 of 100), and nothing above 0 when none does.

    It holds although tau was fitted on the same probes: with the m-th smallest of n distances at or below tau and the
    next above, the true rate at tau lies between Beta(m, n - m + 1) and Beta(m + 1, n - m) (Wilks 1941), whose
    quantiles these are.
    """
    n = len(hits)
    probes = np.unique(subjects, return_counts=True)[1].astype(np.float64)
    trials = float(n**2 / (probes**2).sum())
    return clopper_pearson(int(hits.sum()) / n * trials, trials)


def clopper_pearson(hits: float, trials: float) -> tuple[float, float]:
    """95 % interval (low, high) of a rate that hit in ``hits`` of ``trials`` independent trials (1934).

    Both may be fractions. Of no trials, all of [0, 1].
    """
    missed = trials - hits
    tail = (1 - _CONFIDENCE) / 2
    low = _beta_quantile(hits, missed + 1, tail) if hits > 0 else 0.0
    high = _beta_quantile(hits + 1, missed, 1 - tail) if missed > 0 else 1.0
    return low, high


def _beta_quantile(a: float, b: float, share: float) -> float:
    """By integrating the density over the logit, where it is smooth and falls off exponentially to both sides."""
    reach = 40 * math.sqrt(1 / a + 1 / b)
    logit = math.log(a / b) + np.linspace(-reach, reach, 40_001)
    log_density = -a * np.logaddexp(0, -logit) - b * np.logaddexp(0, logit)
    mass = np.cumsum(np.exp(log_density - log_density.max()))
    middle = mass - 0.5 * np.diff(mass, prepend=0.0)
    found = float(np.interp(share, middle / mass[-1], logit))
    return 1 / (1 + math.exp(-found)) if found > -700 else 0.0  # exp overflows beyond
