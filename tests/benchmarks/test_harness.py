import gc
import json
import re

import pytest
import torch

from benchmarks import harness


def recorded(calls, name, seconds):
    def call():
        calls.append(name)
        return seconds() if callable(seconds) else seconds

    return call


def test_contestants_take_turns_and_each_begins_a_round_in_its_turn():
    calls = []
    found = harness.alternate(
        {name: recorded(calls, name, 1.0) for name in "abc"}, "a", rounds=4, seconds=60, warm_up=1
    )
    assert ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)] == ["abc", "abc", "bca", "cab", "abc"]
    assert list(found) == ["a", "b", "c"]
    assert {timing.rounds for timing in found.values()} == {4}


def test_ratios_compare_neighbours_in_time():
    # A machine that slows down tenfold: the ratio of medians would be 11, the median of ratios is 2.
    base, other = iter([1.0, 1.0, 1.0, 10.0, 10.0]), iter([2.0, 2.0, 11.0, 20.0, 40.0])
    found = harness.alternate(
        {"base": lambda: next(base), "other": lambda: next(other)}, "base", 5, seconds=60, warm_up=0
    )
    timing = found["other"]
    assert (timing.seconds, timing.ratio, timing.low, timing.high) == (11.0, 2.0, 2.0, 4.0)
    assert found["base"].ratio == found["base"].low == found["base"].high == 1.0
    assert found.times["other"] == [2.0, 2.0, 11.0, 20.0, 40.0]


def test_it_stops_when_the_time_is_over_but_not_before_five_rounds():
    one = {"a": lambda: 1.0}
    assert harness.alternate(one, "a", rounds=9, seconds=0)["a"].rounds == harness.LEAST_ROUNDS
    assert harness.alternate(one, "a", rounds=9, seconds=60)["a"].rounds == 9
    assert harness.alternate(one, "a", rounds=1, seconds=0)["a"].rounds == 1


def test_a_call_that_returns_no_number_is_timed():
    found = harness.alternate({"a": lambda: torch.ones(3)}, "a", rounds=5, seconds=0)
    assert 0 < found["a"].seconds < 1


def test_garbage_collection_is_left_as_found():
    def fail():
        raise RuntimeError

    for collects in (True, False):
        gc.enable() if collects else gc.disable()
        try:
            with pytest.raises(RuntimeError):
                harness.alternate({"a": fail}, "a", rounds=2, seconds=0, warm_up=0)
            assert gc.isenabled() is collects
        finally:
            gc.enable()


def test_an_unknown_base_is_refused():
    with pytest.raises(ValueError, match="'b' is not among the contestants"):
        harness.alternate({"a": lambda: 1.0}, "b", rounds=5, seconds=1)


def test_peak_memory():
    assert harness.peak_memory(lambda: torch.empty(2**20)) == 4 * 2**20


def test_a_page_for_people_and_one_with_every_number(tmp_path):
    page = harness.Page("pears", "Pears", "What was compared.")
    page.table("How many", ["name", "ms", "×"], [["a|b", 1.23456, 1.0], ["c", None, 1234.5678]], "Counted.")
    page.write(tmp_path / "new")
    text = (tmp_path / "new" / "pears.md").read_text()
    assert text.startswith("# Pears\n\nWhat was compared.\n\nMeasured on ")
    assert "## How many\n\n| name | ms | × |\n| --- | ---: | ---: |\n" in text
    assert "| a\\|b | 1.235 | 1.000 |\n| c | – | 1,235 |\n\nCounted.\n" in text
    data = json.loads((tmp_path / "new" / "pears.json").read_text())
    [table] = data["tables"]
    assert table["rows"][1] == {"name": "c", "ms": None, "×": 1234.5678}
    assert data["environment"]["torch"] == torch.__version__
    assert data["environment"]["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"[0-9a-f]{7,}\+?", data["environment"]["commit"] or "0000000")


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="every row needs 2 cells"):
        harness.Page("p", "P", "").table("T", ["a", "b"], [["one"]])
