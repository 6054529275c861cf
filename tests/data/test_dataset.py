import torch

from selftaught.data import ImageData


def test_image_data_knows_its_shape():
    images, labels = torch.zeros(4, 1, 3, 5, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    parts = (images, labels, images[:0], labels[:0], images[:2], labels[:2])
    data = ImageData("x", ("a", "b"), *parts, fingerprint="f", mean=(0.5,), std=(0.2,))
    assert (data.channels, data.image_size, data.num_classes) == (1, (3, 5), 2)
