import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from selftaught.data import digits


def _scans():
    """Every scan at 16x16, by Pillow, as a set of bytes with its label."""
    scans, target = load_digits(return_X_y=True)
    enlarged = []
    for scan in scans.reshape(-1, 8, 8):
        grey = np.floor(scan * 255 / 16 + 0.5).astype(np.uint8)
        enlarged.append(
            np.asarray(Image.fromarray(grey).resize((16, 16), Image.Resampling.BILINEAR)).tobytes()
        )
    return sorted(zip(enlarged, target.tolist(), strict=True))


def test_all_scans_are_there_once_with_their_labels():
    decoded = digits.read()
    images = torch.cat([decoded.train_images, decoded.test_images])
    labels = torch.cat([decoded.train_labels, decoded.test_labels])
    assert images.shape == (1797, 1, 16, 16)
    assert images.max() > 250
    got = sorted(zip((image.numpy().tobytes() for image in images), labels.tolist(), strict=True))
    assert got == _scans()


def test_the_split_is_stratified_and_always_the_same():
    decoded = digits.read()
    assert (len(decoded.train_labels), len(decoded.test_labels)) == (1438, 359)
    train, test = (torch.bincount(labels) for labels in (decoded.train_labels, decoded.test_labels))
    assert ((train / (train + test)) - 0.8).abs().max() < 0.01
    # A change here changes every published number on digits.
    assert decoded.digest.startswith("f836a7b769a491b2")


def test_another_size_is_made_from_the_scans_themselves():
    small, usual = digits.read((8, 8)), digits.read()
    assert small.train_images.shape == (1438, 1, 8, 8)
    assert torch.equal(small.train_labels, usual.train_labels)
    values = set(np.floor(np.arange(17) * 255 / 16 + 0.5).astype(int).tolist())
    assert set(small.train_images.unique().tolist()) <= values
