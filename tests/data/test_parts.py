"""Parts by name, and what classes must have."""

import pytest
import torch

from selftaught.data.parts import absent, check_classes, divide, division, ordered, part_of
from selftaught.errors import InputError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[(name, "train") for name in ("train", "TRAIN", "training", "Training")],
        *[(name, "test") for name in ("test", "Test", "testing")],
        *[(name, "validation") for name in ("val", "valid", "Validation")],
        *[(name, "train") for name in ("training_set", "01_train", "Train Images", "trainset", "my_train")],
        *[(name, "test") for name in ("TestImages", "test1", "data-test")],
        *[(name, "validation") for name in ("dev", "val2017")],
        *[(name, None) for name in ("trains", "tests", "cats", "", "test_tube", "train_test", "pred", "_")],
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
    names = tuple(f"class {number}" for number in range(9))
    [line] = absent(names, torch.tensor([0, 1]), None)
    assert line.startswith("7 classes have no images in the training part: 'class 2', 'class 3', ")
    assert line.endswith("'class 6' and 2 more")


def test_many_classes_are_checked_at_once():
    names = [str(number) for number in range(200_000)]
    labels = torch.arange(200_000).repeat(2)
    check_classes(names, labels, None, "S")
    with pytest.raises(InputError, match="two classes that are called '7'"):
        check_classes([*names, "7"], labels, None, "S")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["training_set", "test_set"], [{"training_set": "train", "test_set": "test"}]),
        (["seg_train", "seg_pred"], [{"seg_train": "train", "seg_pred": "unlabelled"}]),
        (["train"], [{"train": "train"}]),
        (["test_tube", "training_shoe", "valley"], []),
        (["unlabelled", "predictions"], []),
        (["cats_train", "dogs_train"], []),
        (["train_test", "x"], []),
        (["a_train", "a_val", "b_train", "b_val"], None),
    ],
)
def test_names_side_by_side(names, groups):
    found = division(names)
    assert found == groups if groups is not None else len(found) == 2


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["010", "9", "10"], ["9", "010", "10"]),
        (["-1", "1", "0.5"], ["-1", "0.5", "1"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["b", "a", "B"], ["B", "a", "b"]),
        (["class10", "class9"], ["class10", "class9"]),
    ],
)
def test_only_numbers_are_in_the_order_of_their_values(names, order):
    assert ordered(names) == order


@pytest.mark.parametrize(
    "pair", [("Dress", "dress"), ("T-Shirt", "t shirt"), ("01", "1"), ("cat 007", "Cat_7")]
)
def test_an_absent_class_that_looks_like_another_is_told(pair):
    found = absent((*pair, "hat"), torch.tensor([0, 2]), torch.tensor([1, 2]))
    first, second = pair
    assert found == [
        f"class {second!r} has no images in the training part (if {second!r} and {first!r} are one class, write both "
        "alike)",
        f"class {first!r} has no images in the test part (if {first!r} and {second!r} are one class, write both alike)",
    ]
    many = ("10", "100", "1", "11", "012", "12")
    [line] = absent(many, torch.tensor([0]), None)
    assert line.endswith("'1', '11', '012', '12' (if '012' and '12' are one class, write both alike)")
