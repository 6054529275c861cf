"""How alike the saliency maps of two classes are (Section 4 of the paper).

Every measure takes maps of shape (B, C, *spatial), as `selftaught.explain` returns them, and labels of shape
(B,), and returns a tensor of shape (B, C) in [-1, 1]: the similarity of each class's map to the map of the true
class. `multiscale_mse` and `wasserstein` look at positions. Their spatial axes are the last two, or the only
one of (B, C, N); axes before them, such as the input channels of (B, C, K, H, W), are not spatial.
`between_classes` compares every two classes instead, and `rank_correlation` only looks at the order of a map's
values; they describe explanations (Figures 2 and 3), no target is made of them.

Half precision is computed and returned in float32, also under autocast. Maps are divided by their largest
magnitude first, so that tiny and huge ones do not under- or overflow; `cosine` looks first whether they could.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught._inputs import as_float, check_labels
from selftaught.errors import InputError, unknown


def cosine(maps: Tensor, labels: Tensor) -> Tensor:
    """Cosine between each class's flattened map and the true class's: cos(e_k, e_c) of Eq. 6.

    A map that is zero everywhere has cosine 0 with every map, itself included.

    Args:
        maps: (B, C, *spatial), floating point.
        labels: (B,), int64.

    Returns:
        (B, C) in [-1, 1].

    Raises:
        InputError: maps without spatial axes or elements, labels of the wrong shape, dtype or range.

    >>> maps = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]])
    >>> cosine(maps, torch.tensor([0]))
    tensor([[ 1.0000,  0.7071, -1.0000,  0.0000]])
    """
    _check(maps, labels)
    flat = as_float(maps).flatten(2)
    norm = torch.linalg.vector_norm(flat, dim=2)
    ordinary = _squares_fit(flat, norm)
    if not ordinary:
        flat = _scaled(flat)
        norm = torch.linalg.vector_norm(flat, dim=2)
    norm = norm.masked_fill(norm == 0, 1)
    truth = _of_truth(flat, labels) / norm.gather(1, labels[:, None])[:, :, None]
    if ordinary:
        # The maps are read where they lie: every copy of them costs more than all of this. Autocast would round.
        with torch.autocast(flat.device.type, enabled=False):
            dot = (flat @ truth.transpose(1, 2)).squeeze(2)
    else:
        dot = (flat * truth).sum(2)
    return (dot / norm).clamp(-1, 1)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps enlarged bilinearly, for example to the input's size as Section 1 has them ("a heatmap of the same size").

    Args:
        maps: (B, C, h, w), floating point.
        size: the new height and width, usually the input's.

    Returns:
        (B, C, *size); float32 where the maps are of half precision.

    Raises:
        InputError: the maps have other than two spatial axes.

    >>> upsampled(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    if maps.dim() != 4:
        raise InputError(
            f"maps must have two spatial axes to be upsampled, not the shape {tuple(maps.shape)}"
        )
    return F.interpolate(as_float(maps), size=size, mode="bilinear", align_corners=False)


def multiscale_mse(maps: Tensor, labels: Tensor) -> Tensor:
    """Mean over scales s of 1 - ½‖â_s - b̂_s‖², for maps average-pooled by s and then scaled to unit norm.

    The scales are those of 1, 2 and 4 which no spatial axis is shorter than; pooling leaves out the remainder of
    an axis that s does not divide. A map that is zero at some scale has no unit norm and stays zero there: the
    formula then gives 1 against another zero map and ½ against any other.

    Args:
        maps: (B, C, *spatial), floating point.
        labels: (B,), int64.

    Returns:
        (B, C) in [-1, 1].

    Raises:
        InputError: maps without spatial axes or elements, labels of the wrong shape, dtype or range.

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]])
    >>> multiscale_mse(maps, torch.tensor([0]))  # 0 at scale 1, 1 at scale 2
    tensor([[1.0000, 0.5000]])
    """
    _check(maps, labels)
    maps = _scaled(maps)
    scales = [scale for scale in (1, 2, 4) if scale <= min(maps.shape[axis] for axis in _spatial_axes(maps))]
    total = torch.zeros(maps.shape[:2], dtype=maps.dtype, device=maps.device)
    for scale in scales:
        unit = _unit(_average_pooled(maps, scale).flatten(2))
        total = total + 1 - (unit - _of_truth(unit, labels)).square().sum(2) / 2
    return (total / len(scales)).clamp(-1, 1)


def wasserstein(maps: Tensor, labels: Tensor) -> Tensor:
    """1 - 2·W, W the mean over the spatial axes of the 1-D Wasserstein-1 distance between the maps' marginals.

    The marginals are those of the maps' absolute values scaled to unit mass, summed over every other axis, the
    positions along an axis lie evenly in [0, 1], and the distance is exact: the area between the two cumulative
    distributions. A zero map is uniform mass; along an axis of length 1 the distance is 0.

    Args:
        maps: (B, C, *spatial), floating point.
        labels: (B,), int64.

    Returns:
        (B, C) in [-1, 1].

    Raises:
        InputError: maps without spatial axes or elements, labels of the wrong shape, dtype or range.

    >>> maps = torch.tensor([[[1.0, 0.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 0.5]]])
    >>> wasserstein(maps, torch.tensor([0]))
    tensor([[ 1.,  0., -1.]])
    """
    _check(maps, labels)
    mass = _scaled(maps).abs()
    distances = [_marginal_distance(mass, labels, axis) for axis in _spatial_axes(mass)]
    return (1 - 2 * torch.stack(distances).mean(0)).clamp(-1, 1)


def between_classes(maps: Tensor) -> Tensor:
    """Cosine between the flattened maps of every two classes: what Figure 2 averages over the test images.

    The row of the true class is `cosine`; as there, a map that is zero everywhere has cosine 0, with itself too.

    Args:
        maps: (B, C, *spatial), floating point.

    Returns:
        (B, C, C), symmetric, in [-1, 1].

    Raises:
        InputError: maps without spatial axes or elements.

    >>> maps = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    >>> between_classes(maps)
    tensor([[[1.0000, 0.7071, 0.0000],
             [0.7071, 1.0000, 0.0000],
             [0.0000, 0.0000, 0.0000]]])
    """
    _check(maps)
    flat = _scaled(maps).flatten(2)
    # Autocast would round the product to half precision.
    with torch.autocast(flat.device.type, enabled=False):
        dot = flat @ flat.transpose(1, 2)
    norm = torch.linalg.vector_norm(flat, dim=2)
    scale = (norm[:, :, None] * norm[:, None, :]).clamp_min(1)
    return (dot / scale).clamp(-1, 1)


def rank_correlation(maps: Tensor, labels: Tensor) -> Tensor:
    """Spearman's correlation between each class's flattened, signed map and the true class's.

    The measure of class-discriminativeness behind Figure 3 (Section 5.4): the less the maps of two classes rank the
    positions alike, the more they say about the class. Equal values share the mean of their ranks; a constant map has
    no order and correlation 0 with every map, itself included. No gradient flows through ranks.

    Args:
        maps: (B, C, *spatial), floating point.
        labels: (B,), int64.

    Returns:
        (B, C) in [-1, 1].

    Raises:
        InputError: maps without spatial axes or elements, labels of the wrong shape, dtype or range.

    >>> maps = torch.tensor([[[0.1, 0.2, 9.0], [1.0, 2.0, 2.5], [2.0, 1.0, -5.0], [4.0, 4.0, 4.0]]])
    >>> rank_correlation(maps, torch.tensor([0]))
    tensor([[ 1.,  1., -1.,  0.]])
    """
    _check(maps)
    return cosine(_centred_ranks(as_float(maps.detach()).flatten(2)), labels)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine,
    "multiscale-mse": multiscale_mse,
    "wasserstein": wasserstein,
}


def get(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The similarity called `name`, one of `SIMILARITIES`.

    Raises:
        InputError: there is none of that name.

    >>> get("cosine") is cosine
    True
    """
    if name not in SIMILARITIES:
        raise unknown("similarity", name, SIMILARITIES)
    return SIMILARITIES[name]


def _check(maps: Tensor, labels: Tensor | None = None) -> None:
    if maps.dim() < 3 or not maps.is_floating_point() or 0 in maps.shape[2:]:
        raise InputError(
            "maps must be floating point of shape (batch, classes, *spatial) with at least one element each, got "
            f"{maps.dtype} of shape {tuple(maps.shape)}"
        )
    if labels is not None:
        check_labels(labels, maps.shape[0], maps.shape[1])


def _squares_fit(flat: Tensor, norm: Tensor) -> bool:
    """Whether the maps may be squared as they are: no norm lost anything to under- or overflow, no map has a NaN.

    Elsewhere than on a CPU the question itself would cost a synchronisation per step, and a copy costs little.
    """
    if flat.device.type != "cpu" or flat.requires_grad or torch.compiler.is_compiling():
        return False
    range_ = torch.finfo(flat.dtype)
    inside = (norm >= range_.tiny ** (1 / 3)) & (norm <= range_.max ** (1 / 3))
    # Zero maps fit as well; a norm of 0 does not prove one.
    return bool(inside.all()) or bool((inside | (_peak(flat, 2).squeeze(2) == 0)).all())


def _peak(maps: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """The largest magnitude along `axes`, which stay with length 1; not by `abs`, a copy of all maps."""
    return torch.maximum(maps.amax(axes, keepdim=True), -maps.amin(axes, keepdim=True))


def _scaled(maps: Tensor) -> Tensor:
    """The maps in float32 or better, each divided by its largest magnitude, its peak; zero maps stay zero."""
    maps = as_float(maps)
    peak = _peak(maps, tuple(range(2, maps.dim())))
    return maps / peak.masked_fill(peak == 0, 1)


def _centred_ranks(flat: Tensor) -> Tensor:
    """Ranks along the last axis with mean 0, ties sharing theirs; of a row with a NaN every rank is NaN."""
    flat = flat.contiguous()
    ordered = flat.sort(dim=2).values
    below, not_above = torch.searchsorted(ordered, flat), torch.searchsorted(ordered, flat, right=True)
    # The ranks of equal values are below + 1, ..., not_above; twice their distance from the middle rank is whole.
    ranks = (below + not_above - flat.shape[2]).to(flat.dtype)
    return ranks.masked_fill(flat.isnan().any(2, keepdim=True), torch.nan)


def _of_truth(flat: Tensor, labels: Tensor) -> Tensor:
    """The true class's row of (B, C, F), as (B, 1, F); a gather, since indexing takes negative labels for valid."""
    return flat.gather(1, labels[:, None, None].expand(-1, 1, flat.shape[2]))


def _spatial_axes(maps: Tensor) -> range:
    return range(max(2, maps.dim() - 2), maps.dim())


def _average_pooled(maps: Tensor, scale: int) -> Tensor:
    if maps.dim() == 3:
        return F.avg_pool1d(maps, scale)
    return F.avg_pool2d(maps.flatten(1, -3), scale).unflatten(1, maps.shape[1:-2])


def _unit(flat: Tensor) -> Tensor:
    """Rows of unit norm; a row that pooling cancelled to rounding error of the map's peak, 1, counts as zero."""
    norm = torch.linalg.vector_norm(flat, dim=2, keepdim=True)
    return flat / torch.where(norm <= 8 * torch.finfo(flat.dtype).eps, torch.inf, norm)


def _marginal_distance(mass: Tensor, labels: Tensor, axis: int) -> Tensor:
    """(B, C): the distance to the true class's marginal along one axis of length n, positions i / (n - 1)."""
    length = mass.shape[axis]
    others = [other for other in range(2, mass.dim()) if other != axis]
    marginal = mass.sum(others) if others else mass
    total = marginal.sum(2, keepdim=True)
    # The peak is 1, so a mass below 1 is 0.
    cumulative = torch.where(total == 0, 1 / length, marginal / total.clamp_min(1)).cumsum(2)
    gap = (cumulative - _of_truth(cumulative, labels)).abs()
    return gap[..., :-1].sum(2) / max(length - 1, 1)
