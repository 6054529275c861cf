"""`selftaught explain`: Figure 1 for a trained run."""

import io
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch

from selftaught.activities import activity
from selftaught.cli import DONE
from selftaught.cli.busy import hear
from selftaught.cli.inputs import batches, check_output, find_device, find_images, load_run, printable
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files.trace import ExplainedImage
from selftaught.training.explanations import explain_images, one_per_class
from selftaught.training.presets import data_of
from selftaught.training.trained import TrainedModel

_ROWS = 20
"""Images per picture; more become several pictures."""

_COLUMNS = 100

_Part = tuple[list[str], torch.Tensor, torch.Tensor | None]
"""Names, uint8 images (N, K, H, W) and labels of some images, at most `_ROWS`."""


def explain(
    run: Path,
    images: list[Path],
    count: int,
    classes: int,
    saliency: str | None,
    layer: str | None,
    overlay: bool | None,
    out: Path,
    as_json: bool,
    device: str,
    model: str | None,
) -> int:
    """Explain images, or test images of the run's own data, as pictures and in words; writes all or nothing."""
    if out.is_dir() or out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"--out {out} is not a picture: name a .png, .pdf or .svg file")
    if count < 1:
        raise InputError(f"--count is {count} but should be at least 1")
    if not 2 <= classes <= _COLUMNS:
        raise InputError(
            f"--classes is {classes} but should be from 2 to {_COLUMNS}, what a picture can hold"
        )
    place = find_device(device)
    trained = load_run(run, model)
    files = find_images(images)
    for path in _paths(out, -(-len(files) // _ROWS)):
        check_output(path, files)
    parts = _files(files, trained) if images else _test_images(trained, count)
    trained = trained.to(place)
    explained, pictures = [], []
    with redirect_stdout(sys.stderr):  # a network of the user's own may print
        for names, x, labels in parts:
            with activity(hear, "explaining"):
                some = explain_images(trained, x, names, labels, saliency, layer, classes)
            with activity(hear, "drawing"):
                pictures.append(_draw(some, trained.classes, overlay, out.suffix[1:].lower()))
            explained += [
                _values(item, trained.classes) if as_json else _line(item, trained.classes) for item in some
            ]
    written = _write(pictures, out)
    if as_json:
        print(json.dumps(explained, indent=2))
        return DONE
    print(*explained, sep="\n")
    print(f"wrote {written[0]}" + (f" to {written[-1].name}" if written[1:] else ""), file=sys.stderr)
    return DONE


def _files(paths: list[Path], model: TrainedModel) -> Iterator[_Part]:
    for names, images in batches(paths, model, _ROWS):
        yield [str(name) for name in names], images, None


def _test_images(model: TrainedModel, count: int) -> Iterator[_Part]:
    data = data_of(model.config, model.preparation, hear)
    for chosen in torch.tensor(one_per_class(data.test_labels, count)).split(_ROWS):
        yield [data.test_name(i) for i in chosen.tolist()], data.test_images[chosen], data.test_labels[chosen]


def _draw(
    explained: list[ExplainedImage], classes: tuple[str, ...], overlay: bool | None, kind: str
) -> bytes:
    from selftaught.report.figures import explanation_grid

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the words on stdout have it.
        warnings.filterwarnings("ignore", message=".*missing from font")
        explanation_grid(explained, classes, overlay).savefig(buffer, dpi=150, format=kind)
    return buffer.getvalue()


def _paths(out: Path, count: int) -> list[Path]:
    """One picture has its own name; several are numbered: name-1.png, name-2.png, ..."""
    digits = len(str(count))
    numbered = [out.with_stem(f"{out.stem}-{i:0{digits}}") for i in range(1, count + 1)]
    return numbered if count > 1 else [out]


def _write(pictures: list[bytes], out: Path) -> list[Path]:
    paths = _paths(out, len(pictures))
    record.make_directory(out.parent)
    for path, picture in zip(paths, pictures, strict=True):
        record.write(path, picture)
    return paths


def _values(item: ExplainedImage, classes: tuple[str, ...]) -> dict[str, object]:
    return {
        "image": item.name,
        "prediction": classes[item.prediction],
        "truth": None if item.truth is None else classes[item.truth],
        "reference": classes[item.reference],
        "probabilities": dict(zip(classes, item.probabilities.tolist(), strict=True)),
        "similarity": {classes[k]: s for k, s in zip(item.classes, item.similarity.tolist(), strict=True)},
    }


def _line(item: ExplainedImage, classes: tuple[str, ...]) -> str:
    others = sorted(
        (-s, k) for k, s in zip(item.classes, item.similarity.tolist(), strict=True) if k != item.reference
    )
    alike = ", ".join(f"{classes[k]} {-s:+.2f}" for s, k in others[:3])
    truth = "" if item.truth is None else f" (is {classes[item.truth]})"
    sure = f"{100 * item.probabilities[item.prediction]:.1f} %"
    return printable(
        f"{item.name}: {classes[item.prediction]} {sure}{truth}; most like {classes[item.reference]}: {alike}"
    )
