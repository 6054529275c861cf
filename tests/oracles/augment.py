"""The paper's augmentation (Sec. 3) one image and one channel at a time, by Pillow."""

import numpy as np
from PIL import Image, ImageOps


def crop_flip(images, tops, lefts, flips, padding):
    """uint8 (B, K, H, W): pad with zeros, crop at (top, left), mirror where `flips`."""
    out = np.empty_like(images)
    for b, image in enumerate(images):
        for k, channel in enumerate(image):
            height, width = channel.shape
            padded = ImageOps.expand(Image.fromarray(channel), border=int(padding), fill=0)
            top, left = int(tops[b]), int(lefts[b])
            patch = padded.crop((left, top, left + width, top + height))
            out[b, k] = np.asarray(ImageOps.mirror(patch) if flips[b] else patch)
    return out


def every_variant(image, padding, flip):
    """All patches that augmenting one image (K, H, W) may give, as a list of arrays."""
    offsets = range(2 * padding + 1)
    return [
        crop_flip(image[None], [top], [left], [mirrored], padding)[0]
        for top in offsets
        for left in offsets
        for mirrored in ([False, True] if flip else [False])
    ]
