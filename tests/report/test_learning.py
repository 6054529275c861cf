"""What a quarter, a half and all of the images say of twice as many: may, and no more."""

import pytest

from selftaught.files.results import LearningPoint
from selftaught.report import sentences
from selftaught.report.learning import Learning, Point, another_doubling, learning
from tests.report import factory


def said(*shares: float) -> str:
    images = [75, 150, 300][-len(shares) :]
    points = [Point(n, share / 100, 0, 1, None, 0.1) for n, share in zip(images, shares, strict=True)]
    return sentences.more_images(Learning(tuple(points), 1))


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (
            (58, 66, 70),
            "From 75 to 150 to 300 training images the probe rose from 58 to 66 to 70 %: doubling them once more may "
            "bring 2 to 4 points.",
        ),
        ((58, 60, 59), "the probe went from 58 to 60 to 59 %: more photographs like these may bring little."),
        ((90, 92, 92.4), "rose from 90.0 to 92.0 to 92.4 %: doubling them once more may bring less than a point."),
        ((50, 60, 70), "once more may bring 8 to 10 points."),
        ((80, 90), "From 150 to 300 training images the probe rose from 80 to 90 %: doubling them once more may "
                   "bring 5 to 10 points."),
        ((70, 78, 79.4), "may bring up to 1 point."),
        ((100, 100, 100), "more photographs like these may bring little."),
    ],
)  # fmt: skip
def test_the_sentence(shares, expected):
    assert said(*shares).endswith(expected)


def test_where_the_first_part_misleads_the_last_gain_counts():
    """Half as many did worse than a quarter: no shrinking is to be seen."""
    assert another_doubling([60, 55, 65]) == pytest.approx((35 * 10 / 45, 10))


def test_points_are_means_over_the_trials_that_measured_as_many(tmp_path):
    def run(seed, *accuracies):
        made = factory.write_run(tmp_path, "probe", seed, val=0)
        points = tuple(
            LearningPoint(images=100 * 2**i, accuracy=accuracy, balanced_accuracy=accuracy / 2, seconds=i)
            for i, accuracy in enumerate(accuracies)
        )
        result = made.result.model_copy(update={"learning": points})
        return type(made)(made.directory, made.config, result)

    found = learning([run(0, 0.5, 0.6, 0.7), run(1, 0.4, 0.7, 0.9), run(2, 0.1, 0.2), run(3)])
    assert found.trials == 2
    assert [(p.images, p.lowest, p.highest) for p in found.points] == [
        (100, 0.4, 0.5),
        (200, 0.6, 0.7),
        (400, 0.7, 0.9),
    ]
    assert [p.accuracy for p in found.points] == pytest.approx([0.45, 0.65, 0.8])
    assert found.points[-1].balanced_accuracy == pytest.approx(0.4)
    assert learning([run(4, 0.5)]) is None
