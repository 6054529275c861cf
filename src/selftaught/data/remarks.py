"""What a user should know about the files of a collection, one line a matter."""

from collections.abc import Callable

from torch import Tensor

from selftaught.data.decoding import Facts, Survey

Name = Callable[[int], str]
"""What to call a picture, by its position."""


def remarks(survey: Survey, facts: Facts, name: Name) -> list[str]:
    """What was done with odd files; `name` names one of each kind."""
    matters = {
        "lack{s} the end of the file but none of {its} pixels: read as other programs do": facts.endless,
        "ha{ve} several frames or pages, of which the first is used": survey.several,
        "ha{ve} colour channels of 16 bits, of which the upper 8 are used (65,535 is full intensity)": survey.coarse,
    }
    return [_remark(what, which, name) for what, which in matters.items() if which.any()]


def _remark(what: str, which: Tensor, name: Name) -> str:
    count, example = int(which.sum()), name(int(which.int().argmax()))
    if count == 1:
        return f"1 picture ({example}) " + what.format(s="s", its="its", ve="s")
    return f"{count:,} pictures (such as {example}) " + what.format(s="", its="their", ve="ve")
