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


def resized_crop(images, boxes):
    """uint8 (B, K, H, W): each (top, left, height, width) cut out, enlarged by Pillow, mirrored where asked."""
    out = np.empty_like(images)
    for b, (image, (top, left, height, width, flip)) in enumerate(zip(images, boxes, strict=True)):
        for k, channel in enumerate(image):
            cut = Image.fromarray(channel).crop((left, top, left + width, top + height))
            whole = cut.resize(channel.shape[::-1], Image.Resampling.BILINEAR)
            out[b, k] = np.asarray(ImageOps.mirror(whole) if flip else whole)
    return out


def draw_box(height, width, min_scale, rng):
    """(top, left, height, width) as torchvision documents its RandomResizedCrop, by rejection."""
    for _ in range(10):
        area = height * width * rng.uniform(min_scale, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    if width / height < 3 / 4:
        h, w = round(width / (3 / 4)), width
    elif width / height > 4 / 3:
        h, w = height, round(height * 4 / 3)
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w
