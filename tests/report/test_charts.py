import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.files.evidence import BINS
from selftaught.report import charts, svg
from selftaught.statistics.paired import Interval

STYLES = {"ce": 0, "le": 1}


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def marks(markup: str, style: int) -> list[tuple[float, float]]:
    """Where the markers of a style are."""
    found = [e for e in parse(markup).iter("path") if e.get("class", "").startswith(f"m{style} mark")]
    return [tuple(map(float, re.findall(r"[-\d.]+", e.get("transform")))) for e in found]


@settings(max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.booleans())
def test_a_scale_shows_every_value_between_its_ends(values, whole):
    scale = svg.scale([*values, math.nan], 40, 300, whole=whole)
    assert scale.low < scale.high
    assert all(40 <= scale(value) <= 300 for value in values)
    assert all(40 <= scale(tick) <= 300 for tick in scale.ticks)
    labels = [scale.label(tick) for tick in scale.ticks]
    assert len(set(labels)) == len(labels)
    assert all(
        float(label.replace("−", "-")) == pytest.approx(tick, abs=1e-9 + 1e-6 * abs(tick))
        for label, tick in zip(labels, scale.ticks, strict=True)
    )


def test_seeds_stand_in_the_order_of_their_accuracy():
    values = {"ce": {0: 90.0, 1: 92.0}, "le": {0: 91.0, 1: 95.0}}
    chart = charts.seeds(values, STYLES)
    ce, le = marks(chart, 0), marks(chart, 1)
    assert ce[0][0] < le[0][0] < ce[1][0] < le[1][0]
    assert ce[0][1] == ce[1][1] < le[0][1]  # a row per method
    assert (ce[1][0] - ce[0][0]) / (le[1][0] - le[0][0]) == pytest.approx(0.5, abs=0.01)
    assert "ce 91.00 on average, from 90.00 to 92.00" in parse(chart).get("aria-label")


def test_seeds_that_came_out_equal_do_not_hide_each_other():
    points = marks(charts.seeds({"ce": {0: 90.0, 1: 90.0, 2: 90.0}}, STYLES), 0)
    assert len({y for _, y in points}) == 3


def test_intervals_and_the_zero_line():
    chart = charts.differences({"le": Interval(0.01, -0.01, 0.03)}, "ce", STYLES)
    [zero] = [e for e in parse(chart).iter("path") if e.get("class") == "zero"]
    at_zero = float(re.match(r"M([\d.]+)", zero.get("d"))[1])
    [(estimate, _)] = marks(chart, 1)
    ends = [e.get("d") for e in parse(chart).iter("path") if e.get("class") == "interval m1"]
    low, high = (float(x) for x in re.findall(r"[ML]([\d.]+) ", ends[0]))
    assert low < at_zero < estimate < high
    assert estimate - at_zero == pytest.approx((high - low) / 4, abs=0.02)
    assert "le +1.00 [−1.00, +3.00]" in parse(chart).get("aria-label")


def test_curves_are_means_within_bands_and_gaps_are_left_out():
    table = np.array([[1.0, 3.0, np.nan], [2.0, 5.0, np.nan]])
    chart = charts.curves({"le": table}, [table], "loss", STYLES)
    points = marks(chart, 1)
    assert len(points) == 2  # nothing is known of the last epoch
    assert points[0][1] > points[1][1]  # higher values stand higher
    assert any(e.get("class") == "band m1" for e in parse(chart).iter("path"))
    assert "le from 1.5 to 4" in parse(chart).get("aria-label")
    assert not any(
        e.get("class") == "band m1"
        for e in parse(charts.curves({"le": table[:1]}, [table], "loss", STYLES)).iter("path")
    )


def test_long_trainings_are_thinned_out():
    table = np.linspace(0, 1, 50_000)[None]
    assert len(charts.curves({"ce": table}, [table], "loss", STYLES)) < 10_000


def test_reliability_puts_bins_where_confidence_and_accuracy_are():
    bins = np.zeros((3, BINS))
    bins[:, 7] = 40, 20, 20  # on the diagonal
    bins[:, 14] = 60, 30, 58
    chart = charts.reliability("ce", bins, None, 0)
    [(x1, y1), (x2, y2)] = marks(chart, 0)
    [ideal] = [e.get("d") for e in parse(chart).iter("path") if e.get("class") == "ideal"]
    left, bottom, right, top = map(float, re.findall(r"[\d.]+", ideal))
    assert (x1 - left) / (right - left) == pytest.approx(0.5, abs=0.01)
    assert (bottom - y1) / (bottom - top) == pytest.approx(0.5, abs=0.01)
    assert (x2 - left) / (right - left) == pytest.approx(58 / 60, abs=0.01)
    assert (bottom - y2) / (bottom - top) == pytest.approx(0.5, abs=0.01)
    assert "28.0 points above the accuracy" in parse(chart).get("aria-label")
    assert "hollow" not in chart
    assert "hollow" in charts.reliability("ce", bins, bins, 0)


def test_few_predictions_are_faint():
    bins = np.zeros((3, BINS))
    bins[:, 3], bins[:, 9] = (29, 9, 9), (30, 9, 9)
    kinds = [
        e.get("class")
        for e in parse(charts.reliability("ce", bins, None, 0)).iter("path")
        if "mark" in e.get("class")
    ]
    assert kinds == ["m0 mark faint", "m0 mark"]


def test_names_of_users_stay_text():
    name = "<script>'\"&</svg>"
    chart = charts.classes({"ce": np.array([50.0, math.nan])}, [name, "empty class"], STYLES)
    titles = [e.text for e in parse(chart).iter("title")]
    assert name in titles
    assert parse(chart).find(".//script") is None
    assert len(marks(chart, 0)) == 1


def test_more_methods_than_styles_repeat_them():
    assert svg.marker(svg.STYLES + 1, 0, 0) == svg.marker(1, 0, 0)
    assert len({str(svg.key(style)) for style in range(svg.STYLES)}) == svg.STYLES
