"""The bootstrap over seeds and images as a double loop over drawn pairs, with the standard library's randomness."""

import math
import random


def widened(difference):
    """Each seed's mean moved away from the grand mean by sqrt(S / (S - 1))."""
    seeds = len(difference)
    means = [sum(row) / len(row) for row in difference]
    grand = sum(means) / seeds
    factor = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    return [
        [value - mean + grand + factor * (mean - grand) for value in row]
        for row, mean in zip(difference, means, strict=True)
    ]


def paired_interval(difference, level, resamples, seed):
    rng = random.Random(seed)
    difference = widened(difference)
    seeds, images = len(difference), len(difference[0])
    means = []
    for _ in range(resamples):
        drawn_seeds = [rng.randrange(seeds) for _ in range(seeds)]
        drawn_images = [rng.randrange(images) for _ in range(images)]
        total = 0.0
        for s in drawn_seeds:
            for i in drawn_images:
                total += difference[s][i]
        means.append(total / (seeds * images))
    means.sort()
    return means[round((1 - level) / 2 * (resamples - 1))], means[round((1 + level) / 2 * (resamples - 1))]
