"""The embedded default: the 1,797 scans of handwritten digits that come with scikit-learn."""

from importlib.metadata import version

import numpy as np
import torch
from PIL import Image

from selftaught.data import pictures
from selftaught.data.cache import cached
from selftaught.data.dataset import Decoded
from selftaught.data.splits import complement, stratified

_SIZE = (16, 16)
_TEST_SHARE = 0.2


def read(image_size: tuple[int, int] | None = None) -> Decoded:
    """The digits as grey images, 1,438 to train and 359 to test.

    The 8x8 scans with values 0..16 are scaled to 0..255 and enlarged (bilinear) to 16x16, so that the maps of a
    convolutional network still have a shape, or to `image_size` (height, width). scikit-learn does not divide
    them: this split is stratified, seeded with 0 and the same for every run and seed.
    """
    # The version stands for the bytes: asking for it spares the second that importing scikit-learn takes.
    return cached(f"scikit-learn {version('scikit-learn')} digits", image_size, lambda: _decode(image_size))


def _decode(image_size: tuple[int, int] | None) -> Decoded:
    from sklearn.datasets import load_digits

    scans, target = load_digits(return_X_y=True)
    grey = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = pictures.stack([pictures.resize(Image.fromarray(scan), image_size or _SIZE) for scan in grey])
    labels = torch.from_numpy(target).long()
    train = stratified(labels, round(len(labels) * (1 - _TEST_SHARE)), seed=0)
    test = complement(train, len(labels))
    classes = tuple(str(digit) for digit in range(10))
    return Decoded(classes, images[train], labels[train], images[test], labels[test])
