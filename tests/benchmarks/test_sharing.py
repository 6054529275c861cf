import pytest

from benchmarks import sharing
from tests.benchmarks import pages


def test_the_page_says_what_so_many_processes_gain(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "rate", lambda config, processes, seconds: 10.0 + 5 * processes)
    [table] = pages.smoke(sharing, "Trials that share a device", tmp_path)["tables"]
    assert table["columns"] == sharing.COLUMNS
    assert [row["processes"] for row in table["rows"]] == [1, 2]
    assert [row["steps/s together"] for row in table["rows"]] == [15, 20]
    assert [row["gain"] for row in table["rows"]] == [1, pytest.approx(4 / 3)]


@pytest.mark.slow
def test_a_process_says_how_many_steps_it_takes():
    with sharing.pictures(sharing.SMOKE) as (data, _):
        assert sharing.rate(sharing.config_of(sharing.SMOKE, data, "ce"), 1, 0.1) > 0


@pytest.mark.slow
def test_a_process_that_fails_ends_the_measurement(tmp_path):
    with sharing.pictures(sharing.SMOKE) as (data, _):
        config = sharing.config_of(sharing.SMOKE, data, "ce")
    broken = config.model_copy(update={"model": "resnet9"})
    with pytest.raises(EOFError):
        sharing.rate(broken, 1, 0.1)
