"""Collections made in memory, so that what is done with pictures is tested without any source of them."""

import io

import torch
from PIL import Image

from selftaught.data.encoded import Collection, Part
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures


class Blobs:
    """Encoded pictures in a list, that are named by number and count how often they are read."""

    def __init__(self, blobs):
        self.blobs = list(blobs)
        self.reads = 0

    def __len__(self):
        return len(self.blobs)

    def read(self, index):
        self.reads += 1
        if self.blobs[index] is None:
            raise InputError(f"picture {index} is gone")
        return self.blobs[index]

    def name(self, index):
        return f"picture {index}"


def labels(count, classes=2):
    return torch.arange(count) % classes


def collection(train, test=None, classes=("ant", "bee"), key="key", **options):
    """A collection of arrays (encoded as PNG) or of encoded pictures, labelled 0, 1, 0, 1, ..."""

    def part(pictures):
        blobs = [p if isinstance(p, bytes) else encode(p) for p in pictures]
        return Part(Blobs(blobs), labels(len(blobs), len(classes)))

    return Collection(classes, part(train), None if test is None else part(test), key, **options)


def photographs(count, seed=0):
    """JPEG photographs (of noise) in sizes from 20x30 on, each another."""
    blobs = []
    for number, pixels in enumerate(random_pictures(count, (6, 5), seed=seed)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((30 + number, 20 + number)).save(buffer, "JPEG")
        blobs.append(buffer.getvalue())
    return blobs
