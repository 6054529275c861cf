"""What the commands that use a trained model read: a run, and images from files and folders."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught import models
from selftaught.activities import activity
from selftaught.cli import early
from selftaught.cli.busy import hear
from selftaught.data import mending, pictures
from selftaught.data.image_files import is_image, is_picture, regular, state, walk
from selftaught.data.remarks import remarks
from selftaught.errors import InputError, shown
from selftaught.files import record
from selftaught.files.study_folder import STUDY, TRIALS
from selftaught.training.environment import check_device, usable_cores
from selftaught.training.trained import TrainedModel, load


def load_run(run: Path, model: str | None = None) -> TrainedModel:
    """The model of a finished run; an `InputError` for a comparison names a run of each method in it."""
    early.check_trained(run)
    with activity(hear, "loading the network"):
        return load(run, model=model)


def with_teacher(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """The options, and where a teacher that is a finished run lies, by its trial; the option is then its configuration.

    Raises:
        InputError: the directory holds no finished run.
    """
    name = options.get("teacher")
    if name is None:
        return options, {}
    if not (Path(name) / record.CONFIG).exists():
        try:
            models.is_spatial(name)
        except InputError as error:
            raise InputError(f"--teacher {name} is no directory of a run and no model: {error}") from None
        return options, {}
    run = record.read(name)
    if models.runs_code(run.config.model):
        raise InputError(
            f"the teacher in {name} is made by the Python file of {run.config.model!r}, which its record alone may not "
            "run: name the file as --teacher FILE.py:FUNCTION, and it is trained first"
        )
    return {**options, "teacher": run.config}, {run.config.trial_id: run.directory.absolute()}


def find_device(name: str) -> torch.device:
    """The device called cpu, cuda or auto (the GPU where there is one)."""
    early.check_device(name)
    check_device(name)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and all pictures in the folders named and below them, in the order of their names.

    Hidden files and what systems leave in folders are skipped; how many other files are none is said on stderr.

    Raises:
        InputError: a folder without images, or a file in it that is a picture of a kind that is not read.
    """
    found = []
    for path in paths:
        files = _images_below(path) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path} holds no images: name another folder, or image files")
        found += files
    return found


def _images_below(folder: Path) -> list[Path]:
    images, others = list[Path](), list[Path]()
    for path in walk(folder, None):
        if not is_picture(path):
            others.append(path)
            continue
        if not is_image(path.name):
            state(path)  # says why it is not read
        images.append(path)
    if images and others:
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        print(f"not used, because no image: {shown(others[0])}{more}", file=sys.stderr)
    return images


def check_output(out: Path, images: Sequence[Path] = ()) -> None:
    """Refuse to write where it would destroy what was read or trained.

    Raises:
        InputError: `out` is one of the images, or lies in the directory of a run or of a comparison.
    """
    if mark := _mark_of_a_run(out.parent):
        raise InputError(
            f"--out {out} is where a run or a comparison lies ({mark} is there): name another folder"
        )
    if out.exists() and any(path.exists() and out.samefile(path) for path in images):
        raise InputError(f"--out {out} is one of the images and would replace it: choose another name")


def _mark_of_a_run(folder: Path) -> str | None:
    """What shows that a run or a comparison lies in a folder; others, too, have files called config.json."""
    for name in (STUDY, TRIALS):
        if (folder / name).exists():
            return name
    try:
        return record.CONFIG if record.read_config(folder) is not None else None
    except InputError:
        return None


def batches(paths: Sequence[Path], model: TrainedModel, size: int) -> Iterator[tuple[list[Path], Tensor]]:
    """Images as the model takes them, uint8 (B, K, H, W), at most `size` at a time, with their paths.

    What is odd about the files is said on stderr.

    Raises:
        InputError: a file that cannot be read or is no picture.
    """
    oddities = list[dict[str, bool]]()
    parts = [list(paths[start : start + size]) for start in range(0, len(paths), size)]
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        activity(hear, "going through images", len(paths)) as doing,
    ):
        for part in parts:
            found = list(pool.map(lambda path: _read(path, model), part))
            yield part, torch.stack([image for image, _ in found])
            oddities += [odd for _, odd in found]
            doing.advance(len(oddities))
    by_matter = {matter: [odd[matter] for odd in oddities] for matter in oddities[0]} if oddities else {}
    for line in remarks(by_matter, lambda index: shown(paths[index])):
        print(line, file=sys.stderr)


def printable(name: str) -> str:
    """As it is, unless a terminal would act on it or cannot show it: line ends, escape sequences, no text at all.

    >>> print(printable("a b.png"), printable("a\\nb.png"))
    a b.png 'a\\nb.png'
    """
    return name if name.isprintable() else ascii(name)


def _read(path: Path, model: TrainedModel) -> tuple[Tensor, dict[str, bool]]:
    """An image as the model takes it, and what is odd about its file, see `remarks`."""
    try:
        regular(path)
        content = path.read_bytes()
    except OSError as error:
        remedy = "make it readable" if isinstance(error, PermissionError) else "check its path"
        raise InputError(f"cannot read {shown(path)}: {error.strerror}; {remedy}, or leave it out") from None
    try:
        return model.prepare(content), _odd(content, model)
    except ValueError as error:
        raise InputError(
            f"{shown(path)} is not an image that can be read: {error}; replace it, or leave it out"
        ) from None


def _odd(content: bytes, model: TrainedModel) -> dict[str, bool]:
    found, ordinary = pictures.header(content), model.preparation.levels is None
    return {
        "endless": mending.lacks_end(content),
        "several": found.several,
        "coarse": found.coarse,
        "deep": found.deep and ordinary,
    }
