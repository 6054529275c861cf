"""Signed numbers as people read them: a true minus, and nothing rounds to minus zero."""


def signed(value: float) -> str:
    """Two decimals with a sign.

    >>> signed(0.5), signed(-0.004), signed(-1.5)
    ('+0.50', '0.00', '−1.50')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def points(estimate: float, low: float, high: float) -> str:
    """A difference in points and the two ends of its interval.

    >>> points(0.4, -0.1, 0.9)
    '+0.40 [−0.10, +0.90]'
    """
    return f"{signed(estimate)} [{signed(low)}, {signed(high)}]"
