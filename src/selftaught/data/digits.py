"""The embedded default: the 1,797 scans of handwritten digits that come with scikit-learn."""

import io
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selftaught.data.encoded import Collection, Part
from selftaught.data.splits import complement, stratified

_SIZE = (16, 16)
_TEST_SHARE = 0.2


class Scans:
    """Grey pictures, uint8 (N, 8, 8), encoded as PNG when they are read."""

    def __init__(self, scans: np.ndarray, rows: Tensor) -> None:
        self._scans = scans
        self._rows = rows.tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """The scan as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self._scans[self._rows[index]]).save(buffer, "PNG")
        return buffer.getvalue()

    def name(self, index: int) -> str:
        """Which of scikit-learn's digits it is, counted from 0."""
        return f"digits, scan {self._rows[index]}"


def collect() -> Collection:
    """The digits as grey images, 1,438 to train and 359 to test.

    The 8x8 scans with values 0..16 are scaled to 0..255; they ask to be enlarged to 16x16, so that the maps of a
    convolutional network still have a shape. scikit-learn does not divide them: this split is stratified, seeded
    with 0 and the same for every run and seed.
    """
    values, target = _read()
    scans = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(target).long()
    train = stratified(labels, round(len(labels) * (1 - _TEST_SHARE)), seed=0)
    test = complement(train, len(labels))
    return Collection(
        classes=tuple(str(digit) for digit in range(10)),
        train=Part(Scans(scans, train), labels[train]),
        test=Part(Scans(scans, test), labels[test]),
        key=f"scikit-learn {version('scikit-learn')} digits",
        size=_SIZE,
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    """The scans, float (N, 64), and their labels, int (N,)."""
    # Importing scikit-learn takes a second or two in every process of a study; its file takes 30 ms.
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if file and file.is_file():
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1], rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    values, target = load_digits(return_X_y=True)
    return values, target
