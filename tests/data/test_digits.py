import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from selftaught.data import digits, pictures
from selftaught.data.preparation import Preparation


def _scans():
    """Every scan at 8x8, rounded by hand, with its label."""
    scans, target = load_digits(return_X_y=True)
    grey = [np.floor(scan * 255 / 16 + 0.5).astype(np.uint8) for scan in scans]
    return sorted((scan.tobytes(), int(label)) for scan, label in zip(grey, target, strict=True))


def _decoded(part):
    blobs = [part.pictures.read(i) for i in range(len(part.pictures))]
    return [np.asarray(Image.open(io.BytesIO(blob))) for blob in blobs]


def test_all_scans_are_there_once_with_their_labels():
    found = digits.collect()
    got = [
        (image.tobytes(), label)
        for part in (found.train, found.test)
        for image, label in zip(_decoded(part), part.labels.tolist(), strict=True)
    ]
    assert sorted(got) == _scans()
    assert found.classes == tuple("0123456789")
    assert found.train.labels.dtype == torch.int64


def test_the_split_is_stratified_and_always_the_same():
    found = digits.collect()
    assert (len(found.train.labels), len(found.test.labels)) == (1438, 359)
    train, test = (torch.bincount(part.labels) for part in (found.train, found.test))
    assert ((train / (train + test)) - 0.8).abs().max() < 0.01
    again = digits.collect()
    assert (again.key, again.test.labels.tolist()) == (found.key, found.test.labels.tolist())


def test_the_pixels_are_those_of_every_published_number():
    """SHA-256 as `Decoded.digest` made it of the four tensors at 16x16, before sources were taken apart from pixels."""
    import hashlib
    import json

    found = digits.collect()
    content = hashlib.sha256(json.dumps(found.classes).encode())
    for part in (found.train, found.test):
        assert found.size == (16, 16)
        blobs = [part.pictures.read(i) for i in range(len(part.pictures))]
        images = pictures.stack([pictures.decode(blob, Preparation(size=found.size)) for blob in blobs])
        for tensor in (images, part.labels):
            content.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            content.update(tensor.flatten().numpy().data)
    assert content.hexdigest().startswith("f836a7b769a491b2")


def test_names_count_through_the_whole_set():
    found = digits.collect()
    names = [part.pictures.name(i) for part in (found.train, found.test) for i in range(len(part.pictures))]
    assert sorted(int(name.rsplit(" ", 1)[1]) for name in names) == list(range(1797))


@pytest.mark.parametrize("origin", [None, "/nowhere/sklearn/__init__.py"])
def test_where_scikit_learns_file_is_not_found_it_is_asked(monkeypatch, origin):
    expected = digits.collect()

    class Spec:
        pass

    Spec.origin = origin
    monkeypatch.setattr(digits, "find_spec", lambda _: Spec)
    found = digits.collect()
    assert torch.equal(found.train.labels, expected.train.labels)
    assert found.test.pictures.read(7) == expected.test.pictures.read(7)
