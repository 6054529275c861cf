"""Whether a network that looks at no image would do as well: one that guesses, or names the most frequent class."""

from collections.abc import Sequence

import numpy as np

from selftaught.errors import shown

CLEARLY = 1.2
"""An accuracy of more than this many times 1/C is clearly better than guessing; a class with more than this many times
1/C of the images is clearly more frequent than others."""


def caution(best: float, classes: Sequence[str], sizes: np.ndarray | None) -> str | None:
    """What to say of the best method's accuracy, None where it is clearly better.

    Args:
        best: the accuracy, in [0, 1].
        classes: the names of the C classes.
        sizes: test images of each class, int64 (C,); None where they are not known.
    """
    count = len(classes)
    # Up to an image more is what dividing few images leaves over.
    if sizes is None or sizes.max() <= max(CLEARLY * sizes.mean(), sizes.mean() + 1):
        if best >= CLEARLY / count:
            return None
        return (
            f"No method is clearly better than guessing, {100 / count:.2g} % with {count} classes: train longer "
            "before comparing."
        )
    frequent, share = classes[int(sizes.argmax())], sizes.max() / sizes.sum()
    # CLEARLY times 90 % is more than all. The standard error of the share, what another draw of as many test images
    # would change in it, leaves room above: what is right on all images passes, unless they are of a single class.
    if best > share + np.sqrt(share * (1 - share) / sizes.sum()):
        return None
    return (
        f"No method is clearly better than always naming '{shown(frequent)}', which would score {100 * share:.2f} %: "
        "see in the report how each class fares, and train longer or with more images of the rare classes before "
        "comparing."
    )
