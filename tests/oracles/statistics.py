"""The bootstrap over seed and image effects in plain loops, with the standard library's randomness."""

import random
import statistics

from scipy import stats


def effects(difference, level):
    """Effects of seeds and of images, from row and column means and the textbook's variance components."""
    seeds, images = len(difference), len(difference[0])
    rows = [statistics.fmean(row) for row in difference]
    columns = [statistics.fmean(difference[s][i] for s in range(seeds)) for i in range(images)]
    grand = statistics.fmean(rows)
    if seeds == 1:
        return [0.0], [column - grand for column in columns], grand
    squares = [
        (difference[s][i] - rows[s] - columns[i] + grand) ** 2 for s in range(seeds) for i in range(images)
    ]
    residual = sum(squares) / ((seeds - 1) * (images - 1))
    of_seed = statistics.variance(rows)
    own = max(0.0, (of_seed - residual / images) / of_seed)
    quantile = (1 + level) / 2
    wider = stats.t(seeds - 1).ppf(quantile) / statistics.NormalDist().inv_cdf(quantile)
    wider *= (own * seeds / (seeds - 1)) ** 0.5
    return [wider * (row - grand) for row in rows], [column - grand for column in columns], grand


def paired_interval(difference, level, resamples, seed):
    rng = random.Random(seed)
    of_seed, of_image, grand = effects(difference, level)
    means = sorted(
        grand
        + statistics.fmean(rng.choices(of_seed, k=len(of_seed)))
        + statistics.fmean(rng.choices(of_image, k=len(of_image)))
        for _ in range(resamples)
    )
    return means[round((1 - level) / 2 * (resamples - 1))], means[round((1 + level) / 2 * (resamples - 1))]
