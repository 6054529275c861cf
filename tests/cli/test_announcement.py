"""What is said before training of data whose classes are uneven."""

from types import SimpleNamespace

import pytest
import torch

from selftaught.cli import announcement
from selftaught.cli.showing import _beside
from selftaught.files.evidence import Classes
from tests.report import factory


@pytest.fixture
def notes(monkeypatch):
    def of(sizes, **changes):
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        names = ("hat", "t-shirt", "shoe", "sock")[: len(sizes)]
        images = SimpleNamespace(train_labels=labels, classes=names, num_classes=len(sizes), notes=())
        monkeypatch.setattr(announcement, "data_of", lambda config: images)
        return announcement.notes(factory.config("ce", 0, **changes), ["ce"])

    return of


def test_uneven_classes_are_told_with_what_counts_them_alike(notes):
    [line] = [line for line in notes([14, 65, 30]) if "--sampling balanced" in line]
    assert line.startswith(
        "t-shirt has 65 of 109 training images, hat 14: --class-weights balanced or --sampling"
    )


@pytest.mark.parametrize("changes", [{"sampling": "balanced"}, {"class_weights": "balanced"}], ids=str)
def test_who_counts_them_alike_already_is_told_nothing(notes, changes):
    assert not [line for line in notes([14, 65, 30], **changes) if "balanced" in line]


def test_nothing_is_said_of_classes_up_to_three_to_one(notes):
    assert not [line for line in notes([10, 30, 0, 20]) if "balanced" in line]


def test_a_run_s_line_has_more_where_accuracy_misleads_or_classes_are_many():
    few, many = Classes(0.5, 0.4, None, (), ()), Classes(0.5, 0.4, 0.9, (), ())
    assert (_beside(few, False), _beside(few, True)) == ("", " (balanced 50.00 %, macro F1 40.00 %)")
    assert _beside(many, False) == " (top-5 90.00 %)"
    assert _beside(many, True) == " (balanced 50.00 %, macro F1 40.00 %, top-5 90.00 %)"
