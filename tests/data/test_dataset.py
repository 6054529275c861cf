import pickle

import torch

from selftaught import data
from selftaught.data import ImageData


def test_image_data_knows_its_shape():
    images, labels = torch.zeros(4, 1, 3, 5, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    parts = (images, labels, images[:0], labels[:0], images[:2], labels[:2])
    made = ImageData("x", ("a", "b"), *parts, fingerprint="f", mean=(0.5,), std=(0.2,))
    assert (made.channels, made.image_size, made.num_classes) == (1, (3, 5), 2)


def test_data_can_be_sent_to_another_process(digits_once):
    digits = data.load("digits")
    again = pickle.loads(pickle.dumps(digits))
    assert torch.equal(again.test_images[:], digits.test_images[:])
    assert again.test_name(3) == digits.test_name(3)
