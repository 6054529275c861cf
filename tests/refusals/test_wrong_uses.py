"""Wrong uses, each with its one line; beside them the good folder that passes.

Every case: exit code 2, one line on stderr that names the culprit and the remedy, nothing else said, and not a byte
of what lay there before has changed.
"""

import pytest

from selftaught.cli import _run
from tests.refusals.conftest import compare, contents
from tests.refusals.wrong_uses import CASES


def test_there_are_more_than_forty():
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(place, capsys, case):
    prepare, expected = CASES[case]
    arguments = prepare(place)
    before = contents(place.folder)
    capsys.readouterr()
    assert _run(arguments) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("selftaught: error: ")
    assert said.out == ""
    for words in expected:
        assert words in lines[0], lines[0]
    after = contents(place.folder)
    assert {name: after.get(name) for name in before} == before
    assert not (place.folder / "owned").exists()


def test_the_good_folder_passes(place, capsys):
    assert _run(compare(place.good)) == 0
    assert "le" in capsys.readouterr().out
