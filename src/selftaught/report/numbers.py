"""Signed numbers as people read them: a true minus, and nothing rounds to minus zero."""

from collections.abc import Iterable


def signed(value: float) -> str:
    """Two decimals with a sign.

    >>> signed(0.5), signed(-0.004), signed(-1.5)
    ('+0.50', '0.00', '−1.50')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def points(values: Iterable[float], unit: float = 1.0) -> str:
    """A difference and the two ends of its interval, in points; `unit` is 100 where the values are fractions.

    >>> points((0.4, -0.1, 0.9)), points((0.004, -0.001, 0.009), 100)
    ('+0.40 [−0.10, +0.90]', '+0.40 [−0.10, +0.90]')
    """
    estimate, low, high = (signed(unit * value) for value in values)
    return f"{estimate} [{low}, {high}]"


def p_value(p: float | None) -> str:
    """A p-value in a column; empty where there is none.

    >>> p_value(0.0431), p_value(0.0002), p_value(None)
    ('0.043', '< 0.001', '')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float) -> str:
    """A fraction in %, two decimals of it.

    >>> percent(0.1234)
    '12.34'
    """
    return f"{100 * share:.2f}"


def mean_std(mean: float, std: float | None) -> str:
    """A mean and, if there is one, its standard deviation.

    >>> mean_std(90.256, 0.331), mean_std(90.256, None)
    ('90.26 ± 0.33', '90.26')
    """
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def duration(seconds: float) -> str:
    """A time of training, two digits of it in its unit.

    >>> duration(0.42), duration(9.96), duration(94), duration(720), duration(20_000)
    ('0.4 s', '10 s', '94 s', '12 min', '5.6 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
