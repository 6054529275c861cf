"""A study that was trained once for all who look at one."""

import pytest

from selftaught.study import reproduce
from selftaught.study.executor import in_this_process
from tests.study.reproduced import RECIPE


@pytest.fixture(scope="session")
def trained_study(tmp_path_factory):
    """The folder of `RECIPE` at the smallest budget, its nine trials finished and no table made; see `lend`."""
    folder = tmp_path_factory.mktemp("reproduced")
    (folder / "mine.yaml").write_text(RECIPE)
    study = reproduce.prepare([str(folder / "mine.yaml")], "smoke", folder / "out", {})
    assert not study.run(in_this_process, lambda event: None, lambda: False)
    return folder / "out"
