import pytest

from benchmarks import sharing
from tests.benchmarks import pages


@pytest.mark.slow  # three processes that import everything
def test_one_and_two_processes_are_measured(tmp_path):
    [table] = pages.smoke(sharing, "Trials that share a device", tmp_path)["tables"]
    assert table["columns"] == sharing.COLUMNS
    assert [row["processes"] for row in table["rows"]] == [1, 2]
    assert all(row["steps/s together"] > 0 for row in table["rows"])
    assert table["rows"][0]["gain"] == 1


def test_a_process_that_fails_ends_the_measurement(tmp_path):
    with sharing.pictures(sharing.SMOKE) as (data, _):
        config = sharing.config_of(sharing.SMOKE, data, "ce")
    broken = config.model_copy(update={"model": "resnet9"})
    with pytest.raises(EOFError):
        sharing.rate(broken, 1, 0.1)
