"""The paper's own comparison in plain numbers, and Holm's correction from its definition."""


def verdict(ours, paper, std_ours, std_paper, trials, higher_is_better=True):
    """Agrees within two combined standard errors, five trials behind each printed value."""
    error = ((std_ours / trials**0.5) ** 2 + (std_paper / 5**0.5) ** 2) ** 0.5
    if abs(ours - paper) <= 2 * error:
        return "agrees"
    return "better" if (ours > paper) is higher_is_better else "worse"


def holm_rejects(p_values, level):
    """Which hypotheses the step-down procedure rejects: compare with level / number left, stop at the first failure."""
    rejected = set()
    for left, i in zip(
        range(len(p_values), 0, -1), sorted(range(len(p_values)), key=lambda i: p_values[i]), strict=True
    ):
        if p_values[i] > level / left:
            break
        rejected.add(i)
    return rejected
