"""The similarities of design.md, one sample, class and position at a time, in NumPy float64; POT and SciPy help."""

import warnings

import numpy as np
import ot
from scipy import stats


def pairwise(measure, maps, labels):
    """(B, C): `measure` of each class's map and the true class's."""
    maps = np.asarray(maps, dtype=np.float64)
    return np.array(
        [[measure(one, sample[label]) for one in sample] for sample, label in zip(maps, labels, strict=True)]
    )


def cosine(a, b):
    a, b = a.ravel(), b.ravel()
    norms = np.sqrt((a * a).sum()) * np.sqrt((b * b).sum())
    return 0.0 if norms == 0 else (a * b).sum() / norms


def between_classes(maps):
    """(B, C, C): the cosine of every two maps of a sample."""
    maps = np.asarray(maps, dtype=np.float64)
    return np.array([[[cosine(a, b) for b in sample] for a in sample] for sample in maps])


def rank_correlation(a, b):
    """Spearman's, 0 where it is undefined: a constant map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        correlation = stats.spearmanr(a.ravel(), b.ravel()).statistic
    return 0.0 if np.isnan(correlation) else correlation


def average_pool(array, scale):
    """Means over blocks of the last two axes, or of the only one; what is left over at the end is cut off."""
    if array.ndim == 1:
        return np.array([array[i * scale : (i + 1) * scale].mean() for i in range(len(array) // scale)])
    rows, columns = array.shape[-2] // scale, array.shape[-1] // scale
    pooled = np.empty((*array.shape[:-2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            block = array[..., i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
            pooled[..., i, j] = block.mean(axis=(-2, -1))
    return pooled


def unit(array):
    norm = np.sqrt((array * array).sum())
    return array if norm == 0 else array / norm


def multiscale_mse(a, b):
    terms = []
    for scale in (1, 2, 4):
        if min(a.shape[-2:]) >= scale:
            difference = unit(average_pool(a, scale)) - unit(average_pool(b, scale))
            terms.append(1 - 0.5 * (difference**2).sum())
    return np.mean(terms)


def upsampled(array, size):
    """Bilinear, by where each new pixel's centre lies among the old ones; beyond the outermost centres no change."""

    def weights(length, new):
        matrix = np.zeros((new, length))
        for i in range(new):
            position = min(max((i + 0.5) * length / new - 0.5, 0), length - 1)
            below = int(position)
            above = min(below + 1, length - 1)
            matrix[i, below] += 1 - (position - below)
            matrix[i, above] += position - below
        return matrix

    return weights(array.shape[0], size[0]) @ array @ weights(array.shape[1], size[1]).T


def marginal(array, axis):
    mass = np.abs(array)
    if mass.sum() == 0:
        mass = np.ones_like(mass)
    others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
    return mass.sum(axis=others) / mass.sum()


def wasserstein(a, b):
    axes = (-1,) if a.ndim == 1 else (-2, -1)
    distances = []
    for axis in axes:
        length = a.shape[axis]
        if length == 1:
            distances.append(0.0)
            continue
        positions = np.linspace(0, 1, length)
        distances.append(
            ot.emd2_1d(positions, positions, marginal(a, axis), marginal(b, axis), metric="euclidean")
        )
    return 1 - 2 * np.mean(distances)
