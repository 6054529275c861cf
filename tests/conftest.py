"""What every test shares: one thread per test process and the real data where it is present."""

import gc
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import torch

from selftaught.cli import busy

# One core, whatever the machine has: by default `train` takes a thread per core, and threads that wait for one another
# while a second test process wants the same cores are most of what they do.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

# Lightning imports torchmetrics, and that transformers, to look at a version: five seconds in every process that a test
# starts. Like whoever has not installed torchmetrics they do without; a process of pytest, which has it by now, keeps
# it. What is spawned or forked takes over `sys.path`, a command the environment.
with suppress(ImportError):
    import torchmetrics  # noqa: F401
HIDDEN = str(Path(__file__).parent / "hidden")
collect_ignore = ["hidden"]
sys.path.insert(0, HIDDEN)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (HIDDEN, os.environ.get("PYTHONPATH"))))

# What is said depends on no clock: on a busy machine anything may take long enough to be told.
busy.PATIENCE = math.inf

# Small tensors: a second thread only fights with the other test process.
torch.set_num_threads(1)

# No test measures time: on a busy machine the first example may take as long as it likes.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="module")
def _old_objects_are_left_alone():
    """The garbage collector looks at what the module's tests make, not again at every library imported so far."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _made_up_data(tmp_path_factory) -> Path:
    from tests.data import made_up

    return made_up.write(tmp_path_factory.mktemp("made-up"))


@pytest.fixture
def stand_ins(_made_up_data, monkeypatch) -> Iterator[Path]:
    """A few pictures of noise that are found as ``mnist`` and ``cifar10``."""
    from selftaught.training import presets

    monkeypatch.setenv("SELFTAUGHT_DATA", str(_made_up_data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(_made_up_data / "cache"))
    presets.load_data.cache_clear()
    yield _made_up_data
    presets.load_data.cache_clear()


@pytest.fixture
def real_data(tmp_path_factory, worker_id, monkeypatch) -> Path:
    """The folder that SELFTAUGHT_DATA names; the test is skipped where there is none.

    Decoding it takes most of a minute: once for all tests of this session, in whichever process.
    """
    folder = os.environ.get("SELFTAUGHT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SELFTAUGHT_DATA does not name a folder with mnist/ and cifar10/ Parquet files")
    own = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("XDG_CACHE_HOME", str((own if worker_id == "master" else own.parent) / "cache"))
    return Path(folder)
