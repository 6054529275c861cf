"""`selftaught explain`: Figure 1 for a trained run."""

import io
import json
import sys
from pathlib import Path

import torch

from selftaught.cli import DONE
from selftaught.data import pictures
from selftaught.errors import InputError
from selftaught.report.explanations import ExplainedImage, explain_images, one_per_class
from selftaught.training import record
from selftaught.training.presets import data_of
from selftaught.training.trained import TrainedModel, load


def explain(
    run: Path,
    images: list[Path],
    count: int,
    saliency: str | None,
    layer: str | None,
    out: Path,
    as_json: bool,
) -> int:
    """Explain image files, or test images of the run's own data, as a picture and in words."""
    if out.is_dir() or out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"--out {out} is not a picture: name a .png, .pdf or .svg file")
    model = load(run)
    if images:
        tensors, labels = torch.stack([_read(path, model) for path in images]), None
        names = [str(path) for path in images]
    else:
        if count < 1:
            raise InputError(f"--count is {count} but should be at least 1")
        data = data_of(model.config)
        chosen = one_per_class(data.test_labels, count)
        tensors, labels = data.test_images[chosen], data.test_labels[chosen]
        names = [f"test image {i}" for i in chosen]
    explained = explain_images(model, tensors, names, labels, saliency, layer)
    _draw(explained, model.classes, out)
    if as_json:
        print(json.dumps([_values(item, model.classes) for item in explained], indent=2))
    else:
        for item in explained:
            print(_line(item, model.classes))
        print(f"wrote {out}", file=sys.stderr)
    return DONE


def _draw(explained: list[ExplainedImage], classes: tuple[str, ...], out: Path) -> None:
    from selftaught.report.figures import explanation_grid

    record.make_directory(out.parent)
    buffer = io.BytesIO()
    explanation_grid(explained, classes).savefig(buffer, dpi=150, format=out.suffix[1:].lower())
    record.write(out, buffer.getvalue())


def _read(path: Path, model: TrainedModel) -> torch.Tensor:
    channels, height, width = model.input_shape
    try:
        pixels = pictures.decode(path.read_bytes(), (height, width), channels)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not an image that can be read: {error}") from None
    return pictures.stack([pixels])[0]


def _values(item: ExplainedImage, classes: tuple[str, ...]) -> dict[str, object]:
    return {
        "image": item.name,
        "prediction": classes[item.prediction],
        "truth": None if item.truth is None else classes[item.truth],
        "reference": classes[item.reference],
        "probabilities": dict(zip(classes, item.probabilities.tolist(), strict=True)),
        "similarity": dict(zip(classes, item.similarity.tolist(), strict=True)),
    }


def _line(item: ExplainedImage, classes: tuple[str, ...]) -> str:
    ranked = sorted(
        (k for k in range(len(classes)) if k != item.reference), key=lambda k: -item.similarity[k]
    )
    alike = ", ".join(f"{classes[k]} {item.similarity[k]:+.2f}" for k in ranked[:3])
    truth = "" if item.truth is None else f" (is {classes[item.truth]})"
    sure = f"{100 * item.probabilities[item.prediction]:.1f} %"
    return (
        f"{item.name}: {classes[item.prediction]} {sure}{truth}; most like {classes[item.reference]}: {alike}"
    )
