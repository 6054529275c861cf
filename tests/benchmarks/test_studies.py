import pytest

from benchmarks import studies
from selftaught.training.environment import usable_cores
from tests.benchmarks import pages


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return pages.smoke(studies, "Trials together and one after another", tmp_path_factory.mktemp("pages"))


@pytest.mark.slow
def test_the_three_ways_to_run_the_trials(page):
    [table] = page["tables"]
    assert table["heading"] == studies.setting(smoke=True).heading
    assert table["columns"] == studies.COLUMNS
    together, after, anew = table["rows"]
    assert together["trials"] == studies.BASE
    assert (together["processes"], together["threads of each"]) == (min(usable_cores(), 2), 1)
    for row in (after, anew):
        assert (row["processes"], row["threads of each"]) == (1, usable_cores())
    for row in table["rows"]:
        assert row["seconds"] > 0
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert together["ratio"] == 1


def test_a_trial_that_fails_ends_the_benchmark():
    hopeless = studies.Setting(1, {"model": "resnet8", "epochs": 2, "train_size": 40, "lr": 1e30})
    with pytest.raises(RuntimeError, match="1 of 1 trials did not finish"):
        studies.in_one_study(hopeless, jobs=1, threads=1)
