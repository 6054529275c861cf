"""What a user should know about odd files among pictures, one line a matter."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_MATTERS = {
    "endless": "lack{s} the end of the file but none of {its} pixels: read as other programs do",
    "several": "ha{ve} several frames or pages, of which the first is used",
    "coarse": "ha{ve} colour channels of 16 bits, of which the upper 8 are used (65,535 is full intensity)",
    "deep": (
        "ha{ve} grey values of more than 8 bits, of which 65,535 is taken for white: the network was trained on "
        "pictures of 8 bits"
    ),
}


def remarks(found: Mapping[str, Sequence[bool] | np.ndarray], name: Callable[[int], str]) -> list[str]:
    """What was done with odd files.

    Args:
        found: by matter (endless, several, coarse, deep), of which pictures it is true.
        name: what to call a picture, by its position.
    """
    columns = {matter: np.asarray(which, dtype=bool) for matter, which in found.items()}
    return [_remark(_MATTERS[matter], which, name) for matter, which in columns.items() if which.any()]


def _remark(what: str, which: np.ndarray, name: Callable[[int], str]) -> str:
    count, example = int(which.sum()), name(int(which.argmax()))
    if count == 1:
        return f"1 picture ({example}) " + what.format(s="s", its="its", ve="s")
    return f"{count:,} pictures (such as {example}) " + what.format(s="", its="their", ve="ve")
