"""Parts by name, and what classes must have."""

import pytest
import torch

from selftaught.data.parts import absent, check_classes, divide, part_of
from selftaught.errors import InputError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[(name, "train") for name in ("train", "TRAIN", "training", "Training")],
        *[(name, "test") for name in ("test", "Test", "testing")],
        *[(name, "validation") for name in ("val", "valid", "Validation")],
        *[(name, None) for name in ("trains", "tests", "cats", "")],
    ],
)
def test_names_of_parts(name, part):
    assert part_of(name) == part


def test_the_test_part_is_the_sources_own_where_it_has_one():
    assert divide({"train": 1}, "S") == (1, None, ())
    assert divide({"train": 1, "test": 2}, "S") == (1, 2, ())
    train, test, notes = divide({"train": 1, "validation": 3}, "S")
    assert (train, test, len(notes)) == (1, 3, 1)
    assert "S has no test part" in notes[0]
    train, test, notes = divide({"train": 1, "test": 2, "validation": 3}, "S")
    assert (train, test, len(notes)) == (1, 2, 1)
    assert "validation part of S is not used" in notes[0]


@pytest.mark.parametrize("parts", [{"test": 1}, {"validation": 1}, {"test": 1, "validation": 2}])
def test_without_a_training_part_it_is_refused(parts):
    with pytest.raises(InputError, match=r"S has no training part.*complete it"):
        divide(parts, "S")


def test_classes_that_cannot_be_learned_are_refused():
    two, both = torch.tensor([0, 0, 1]), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"S has one class only \('a'\)"):
        check_classes(("a",), torch.tensor([0, 0]), None, "S")
    with pytest.raises(InputError, match="S has two classes that are called 'a': rename one"):
        check_classes(("a", "b", "a"), two, both, "S")
    with pytest.raises(InputError, match="class 'b' of S has only one image"):
        check_classes(("a", "b"), two, None, "S")
    check_classes(("a", "b"), two, both, "S")
    check_classes(("a", "b", "never"), torch.tensor([0, 0, 1, 1]), None, "S")


def test_classes_without_images_are_named():
    train, test = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert absent(("a", "b", "c"), train, test) == [
        "class 'c' has no images in the training part",
        "class 'a' has no images in the test part",
    ]
    assert absent(("a", "b", "c"), train, None) == ["class 'c' has no images in the training part"]
