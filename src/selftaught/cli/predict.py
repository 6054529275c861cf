"""`selftaught predict`: class and probability of images."""

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any

import torch

from selftaught import errors
from selftaught.cli import DONE
from selftaught.cli.inputs import batches, check_output, find_device, find_images, load_run, printable
from selftaught.errors import InputError, SelftaughtError
from selftaught.files import record

Row = tuple[str, torch.Tensor]
"""An image's name and its probabilities (C,)."""

_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Names of files need not be text: their bytes are written as they are."""


def predict(
    run: Path,
    paths: list[Path],
    top: int,
    style: str | None,
    out: Path | None,
    batch_size: int,
    device: str,
    calibrated: bool,
    model: str | None,
    as_json: bool = False,
) -> int:
    """Write what a trained model says of images, all of them or nothing; `as_json` is the format json."""
    for name, value in (("--top", top), ("--batch-size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is {value} but should be at least 1")
    if as_json and style not in (None, "json"):
        raise InputError(f"--json and --format {style} contradict each other: give one of them")
    write = _writer("json" if as_json else style, out)
    place = find_device(device)
    trained = load_run(run, model).to(place)
    temperature = _temperature(run) if calibrated else 1.0
    images = find_images(paths)
    if out is not None:
        check_output(out, images)
    top = min(top, len(trained.classes))

    @torch.inference_mode()
    def rows() -> Iterator[Row]:
        for names, x in batches(images, trained, batch_size):
            probabilities = (trained(x.to(place)).double() / temperature).softmax(1).cpu()
            yield from zip(map(str, names), probabilities, strict=True)

    with _complete(out) as file, redirect_stdout(sys.stderr):  # a network of the user's own may print
        write(rows(), trained.classes, top, [str(path) for path in images], file)
    return DONE


def _temperature(run: Path) -> float:
    temperature = record.read(run).result.temperature
    if temperature is None:
        raise InputError(
            f"{run} has no temperature to calibrate with: train with --val-fraction 0.1, which holds out images for it"
        )
    return temperature


def _table(rows: Iterator[Row], classes: tuple[str, ...], top: int, images: list[str], file: IO[str]) -> None:
    """Columns of fixed width: what is known beforehand is the longest name."""
    first = max(len("image"), *(len(printable(name)) for name in images))
    wide = max(len("class 10"), *(len(printable(name)) for name in classes))
    line = f"{{:<{first}}}" + f"  {{:<{wide}}}  {{:>11}}" * top
    file.write(line.format(*_header(top, " ")).rstrip() + "\n")
    for name, probabilities in rows:
        best = [(printable(classes[k]), f"{p:.4f}") for k, p in _best(probabilities, top)]
        file.write(line.format(printable(name), *(cell for pair in best for cell in pair)).rstrip() + "\n")


def _csv(rows: Iterator[Row], classes: tuple[str, ...], top: int, _images: list[str], file: IO[str]) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*_header(top, "_"), *(f"p_{name}" for name in classes)])
    for name, probabilities in rows:
        best = [(classes[k], f"{p:.6g}") for k, p in _best(probabilities, top)]
        everything = [f"{p:.6g}" for p in probabilities.tolist()]
        table.writerow([name, *(cell for pair in best for cell in pair), *everything])


def _json(rows: Iterator[Row], classes: tuple[str, ...], top: int, _images: list[str], file: IO[str]) -> None:
    separator = "[\n"
    for name, probabilities in rows:
        best = [{"class": classes[k], "probability": p} for k, p in _best(probabilities, top)]
        values = {
            "image": name,
            **best[0],
            "top": best,
            "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
        }
        file.write(separator + json.dumps(values))
        separator = ",\n"
    file.write("\n]\n")


_WRITERS: dict[str, Callable[[Iterator[Row], tuple[str, ...], int, list[str], IO[str]], None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
}

_SUFFIXES = {".csv": "csv", ".json": "json", ".txt": "table"}


def _writer(style: str | None, out: Path | None) -> Callable[..., None]:
    """The format asked for, else that of the file's suffix, else a table."""
    if out is not None:
        if out.exists() and not out.is_file():  # a folder, or a device such as /dev/stdout
            raise InputError(f"--out {out} is not a file: choose another name")
        if out.suffix.lower() not in _SUFFIXES:
            raise InputError(f"--out {out} is no table: name a .csv, .json or .txt file")
    if style is None:
        style = "table" if out is None else _SUFFIXES[out.suffix.lower()]
    if style not in _WRITERS:
        raise errors.unknown("format", style, _WRITERS)
    return _WRITERS[style]


def _header(top: int, space: str) -> list[str]:
    more = [f"{name}{space}{rank}" for rank in range(2, top + 1) for name in ("class", "probability")]
    return ["image", "class", "probability", *more]


def _best(probabilities: torch.Tensor, top: int) -> list[tuple[int, float]]:
    values, positions = probabilities.sort(descending=True, stable=True)
    return list(zip(positions[:top].tolist(), values[:top].tolist(), strict=True))


@contextmanager
def _complete(out: Path | None) -> Iterator[IO[str]]:
    """A file whose content reaches `out`, or stdout, when the block ends well, and nowhere otherwise."""
    if out is None:
        with tempfile.TemporaryFile("w+", **_TEXT) as file:
            yield file
            file.flush()
            file.buffer.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(file.buffer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    # What is there already of the folder takes the file until it is complete: a failure leaves no new folder.
    base = next(folder for folder in out.absolute().parents if folder.exists())
    record.make_directory(base)
    temporary = base / f".{out.name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", **_TEXT) as file:
            yield file
        record.make_directory(out.parent)
        os.replace(temporary, out)
    except OSError as error:
        raise SelftaughtError(f"cannot write {out}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    print(f"wrote {out}", file=sys.stderr)
