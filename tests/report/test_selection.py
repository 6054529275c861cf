"""From a search's records to what it selected."""

import dataclasses

import numpy as np
import pytest

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.report.selection import select
from tests.report.factory import write_run

SEARCH = recipes.load("search-ls")
"""Its values are 0.6, 0.7, 0.8 and 0.9."""


@pytest.fixture
def found(tmp_path):
    """Makes the records of a search in one group from (accuracy, NLL) per trial of each value."""

    def make(group="ResNet8", **scores):
        records = {}
        for label, trials in scores.items():
            value = float(label[1:]) / 10
            for seed, (accuracy, nll) in enumerate(trials):
                run = write_run(
                    tmp_path,
                    "ls",
                    seed,
                    images=20,
                    val=20,
                    size=8,
                    epochs=2,
                    settings={"alpha": value},
                    val_fraction=0.1,
                )
                # The first epoch is the better one, and test accuracy runs the other way: neither may count.
                lines = [
                    {"epoch": 1, "val_accuracy": 1 - accuracy, "val_nll": -nll},
                    {"epoch": 2, "val_accuracy": accuracy, "val_nll": nll},
                ]
                record.write_metrics(run.directory, lines)
                result = run.result.model_copy(update={"accuracy": 1 - accuracy, "nll": -nll})
                run = dataclasses.replace(run, result=result)
                records.setdefault((group, SEARCH.search.label(value)), []).append(run)
        return records

    return make


class TestSelect:
    def test_the_highest_mean_of_the_last_epoch_wins(self, found):
        records = found(
            a6=[(0.70, 1), (0.80, 1)],
            a7=[(0.76, 9), (0.78, 9)],
            a8=[(0.90, 0.1), (0.50, 0.1)],
            a9=[(0.6, 1), (0.6, 1)],
        )
        assert select(SEARCH, records) == {("search-ls", "ResNet8"): 0.7}

    def test_of_equals_the_lower_nll_and_then_the_first_value(self, found):
        # 0.1 + 0.2 + 0.3 depends on the order in the last bit.
        orders = [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1)]
        by_nll = found(
            a6=[(a, 2.0) for a in orders[0]],
            a8=[(a, 1.5) for a in orders[1]],
            a9=[(a, 1.7) for a in orders[0]],
        )
        assert select(SEARCH, by_nll) == {("search-ls", "ResNet8"): 0.8}

    def test_the_first_of_what_is_equal_in_both(self, found):
        assert select(SEARCH, found(a9=[(0.5, 1)], a7=[(0.5, 1)])) == {("search-ls", "ResNet8"): 0.7}

    def test_a_value_with_failed_trials_comes_after_those_without(self, found):
        assert select(SEARCH, found(a6=[(0.9, 1)], a9=[(0.5, 1), (0.5, 1)])) == {
            ("search-ls", "ResNet8"): 0.9
        }

    def test_an_nll_that_was_not_finite_loses(self, found):
        assert select(SEARCH, found(a6=[(0.5, float("nan"))], a9=[(0.5, 7.0)])) == {
            ("search-ls", "ResNet8"): 0.9
        }

    def test_groups_are_selected_for_one_by_one_and_those_without_trials_left_out(self, found):
        records = found(a6=[(0.9, 1)], a7=[(0.2, 1)]) | found("MNIST MLP", a8=[(0.2, 1)], a9=[(0.9, 1)])
        assert select(SEARCH, records) == {("search-ls", "ResNet8"): 0.6, ("search-ls", "MNIST MLP"): 0.9}
        assert select(SEARCH, {}) == {}

    def test_a_run_that_held_nothing_out_cannot_be_judged(self, tmp_path):
        run = write_run(tmp_path, "ls", 0, images=20, val=0, size=8, epochs=2)
        with pytest.raises(InputError, match="has no accuracy on held-out images in its last epoch"):
            select(SEARCH, {("ResNet8", "alpha 0.6"): [run]})

    def test_a_table_selects_nothing(self):
        with pytest.raises(InputError, match="recipe table2 is no search"):
            select(recipes.load("table2"), {})

    def test_the_order_of_the_trials_does_not_matter(self, found):
        rng = np.random.default_rng(0)
        records = found(
            **{f"a{k}": [(float(a), 1.0) for a in rng.uniform(0.4, 0.6, 4)] for k in (6, 7, 8, 9)}
        )
        turned = {label: runs[::-1] for label, runs in reversed(records.items())}
        assert select(SEARCH, records) == select(SEARCH, turned)
