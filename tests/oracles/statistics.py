"""The bootstrap over seeds and images in plain loops, with the standard library's randomness."""

import random
import statistics


def parts(difference):
    """Grand mean, standard error of the mean over seeds, and effects of the images, by variance components."""
    seeds, images = len(difference), len(difference[0])
    rows = [statistics.fmean(row) for row in difference]
    columns = [statistics.fmean(difference[s][i] for s in range(seeds)) for i in range(images)]
    grand = statistics.fmean(rows)
    effects = [column - grand for column in columns]
    if seeds == 1:
        return grand, 0.0, effects
    squares = [
        (difference[s][i] - rows[s] - columns[i] + grand) ** 2 for s in range(seeds) for i in range(images)
    ]
    residual = sum(squares) / ((seeds - 1) * (images - 1))
    of_image = statistics.variance(columns)
    own = max(0.0, (of_image - residual / seeds) / of_image)
    error = (max(statistics.variance(rows), residual / images) / seeds) ** 0.5
    return grand, error, [own**0.5 * effect for effect in effects]


def student(rng, freedom):
    """A draw from Student's distribution: a normal one over the root of a chi-squared one's mean square."""
    return rng.gauss(0, 1) / (rng.gammavariate(freedom / 2, 2) / freedom) ** 0.5


def resampled_means(difference, resamples, seed):
    rng = random.Random(seed)
    grand, error, of_image = parts(difference)
    return sorted(
        grand
        + (error * student(rng, len(difference) - 1) if len(difference) > 1 else 0.0)
        + sum(rng.choices([*of_image, -1, 1], k=len(of_image))) / len(of_image)
        for _ in range(resamples)
    )


def paired_interval(difference, level, resamples, seed):
    means = resampled_means(difference, resamples, seed)
    return means[round((1 - level) / 2 * (resamples - 1))], means[round((1 + level) / 2 * (resamples - 1))]
