"""What goes wrong on the way, and what looks wrong and is not."""

import csv
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from selftaught.cli import _run
from selftaught.training import optimising
from tests.refusals.conftest import contents, photographs, train


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(place, capsys, monkeypatch):
    """The first steps are fine: the rate that ruins the rest comes with a changed schedule, as it were."""
    out = place.folder / "diverging"
    monkeypatch.setenv("SELFTAUGHT_SAVE_SECONDS", "0")
    original = optimising.lr_factor
    monkeypatch.setattr(
        optimising,
        "lr_factor",
        lambda config, step, steps: 1e25 if step > 5 else original(config, step, steps),
    )
    arguments = train(place.good, "--method", "ce", "--epochs", "9", "--out", str(out))
    assert _run(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "step" in said[0]
    assert "lower --lr; the last good checkpoint is kept" in said[0]
    epoch, step = (int(number) for number in re.findall(r"epoch (\d+), step (\d+)", said[0])[0])
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert 0 < 2 * state["position"]["epoch"] + state["position"]["step"] < 2 * (epoch - 1) + step
    assert all(value.isfinite().all() for value in state["parts"]["model"].values())
    assert not (out / "result.json").exists()


def test_nothing_is_promised_where_nothing_was_saved(place, capsys):
    arguments = train(place.good, "--method", "ce", "--epochs", "2", "--lr", "1e25", "--out", "run2")
    assert _run(arguments) == 2
    assert "checkpoint" not in capsys.readouterr().err
    assert not Path("run2/checkpoint.pt").exists()


@contextmanager
def no_room() -> Iterator[None]:
    """A limit on the size of files stands for a full disk: the writes in the middle of the training fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_loses_nothing(place, capsys):
    out = place.folder / "full"
    asked = train(place.good, "--out", str(out))
    before = contents(place.folder)
    with no_room():
        assert _run(asked) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("selftaught: error")]
    assert len(lines) == 1
    assert "checkpoint.pt" in lines[0]
    assert "Traceback" not in said
    assert not list(out.glob(".*.tmp"))
    after = contents(place.folder)
    assert {name: after[name] for name in before} == before
    assert _run(asked) == 0


def test_hidden_litter_is_no_mistake(place):
    spoiled = Path(place.spoiled(lambda f: (f / "class0" / ".DS_Store").write_text("x")))
    (spoiled / "class1" / "Thumbs.db").write_text("x")
    assert _run(train(spoiled)) == 0


def test_odd_pictures_are_no_mistake(place):
    spoiled = Path(place.spoiled(lambda f: None))
    grey = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    Image.fromarray(grey).save(spoiled / "class0" / "deep.png")
    Image.new("CMYK", (20, 30), (10, 20, 30, 40)).save(spoiled / "class0" / "press.jpg")
    Image.new("RGBA", (20, 30), (10, 20, 30, 40)).save(spoiled / "class1" / "clear.png")
    Image.new("P", (9, 9)).save(spoiled / "class2" / "palette.gif")
    assert _run(train(spoiled)) == 0


def test_a_csv_is_no_mistake(place):
    folder = photographs(place.folder / "pictures", classes=2, count=6)
    with open(place.folder / "pictures.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([str(path.relative_to(folder)), path.parent.name] for path in folder.glob("*/*"))
    assert _run(train(place.folder / "pictures.csv")) == 0
