"""The training, validation and test parts that data comes as."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from selftaught.data.originals import Originals
from selftaught.data.streaming import Images


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set, on the CPU.

    The images of a part are uint8 (N, K, H, W): a tensor, or, where they are too many to be held or copied, an object
    with the same `.shape`, `len()` and ``[slice or int64 index tensor]``. Labels are int64 (N,) in 0..C-1. The
    validation part is empty unless a hold-out was asked for; it is taken from the training part, never from the test
    part.

    Attributes:
        fingerprint: a hex digest of the classes, the images and labels, and of which of them are in which part.
        mean: of each channel of the training images in [0, 1], or what the model asks for; to be subtracted.
        std: likewise, to be divided by.
        crop: how pictures were brought to size, see `selftaught.data.preparation.Preparation`, as for the next three.
        test_part: where the test images come from, in a few words.
        duplicates: how many test images equal a training or validation image, pixel by pixel.
        notes: what a user should know about the data, one line each.
        originals: what random parts of the training images are cut from; None where nobody asked for it.
        test_name: what to call a test image, by its position: a file's path, or a file and its row.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Images
    train_labels: Tensor
    val_images: Images
    val_labels: Tensor
    test_images: Images
    test_labels: Tensor
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float | None = None
    resample: str = "bilinear"
    stretch: bool = False
    levels: tuple[float, float] | None = None
    test_part: str = "the source's own"
    duplicates: int = 0
    notes: tuple[str, ...] = ()
    test_name: Callable[[int], str] = "test image {}".format
    originals: Originals | None = None

    @property
    def channels(self) -> int:
        """K, the number of channels: 1 for grey and 3 for colour."""
        return self.train_images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.train_images.shape[2:]
        return height, width

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.classes)
