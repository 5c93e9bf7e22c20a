"""Figures as people read them."""

from oneglance_apps.demo.measure import Share


def counted(number: int, noun: str) -> str:
    """``1 stranger``, ``1,200 strangers``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def percent(value: float) -> str:
    """``89.5 %`` of 0.895; no more digits than that; ``n/a`` of nothing."""
    return "n/a" if value != value else f"{100 * value:.1f} %"


def of(share: Share) -> str:
    """``716 of 800``."""
    return f"{share.count:,} of {share.total:,}"


def rate(share: Share) -> str:
    """``89.5 % (716 of 800)``."""
    return f"{percent(share.value)} ({of(share)})"


def interval(share: Share) -> str:
    """``0.0 to 0.9 %``: the 95 % interval."""
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def distance(value: float) -> str:
    """Squared L2, four decimals."""
    return f"{value:.4f}"
