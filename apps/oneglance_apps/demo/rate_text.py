"""Rates as text."""

from oneglance_apps.demo.measure import Share


def percent(value: float) -> str:
    """``89.5 %`` for 0.895; ``n/a`` for NaN."""
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
