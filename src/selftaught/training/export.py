"""A trained model with its preprocessing as one file that runs without this package."""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

import selftaught
from selftaught.errors import InputError, SelftaughtError
from selftaught.files import record
from selftaught.training.trained import TrainedModel

TOLERANCE = 1e-4
"""How far logits may be from the model's, relative to the largest of them."""


def export(model: TrainedModel, out: Path) -> float | None:
    """Write a model as `.pt2` (`torch.export`) or `.onnx`; what is written has been run and gives the same logits.

    The file takes `images`, float32 (B, K, H, W) in [0, 1] for any B, and returns `logits` (B, C); normalisation is
    inside. It carries the class names and how pictures become images (`description`): as metadata of an ONNX file, as
    extra files of a `.pt2`.

    Args:
        model: from `selftaught.load`, on the CPU in eval mode.
        out: the file to write, at once.

    Returns:
        The largest difference to the model's own logits, relative to the largest of them; None for ONNX where
        onnxruntime is not installed, so that nothing could be run.

    Raises:
        InputError: another suffix, a package is missing, or the network cannot be exported.
        SelftaughtError: the exported network does not compute the same; nothing is written.
    """
    suffix = out.suffix.lower()
    if suffix not in _FORMATS or out.is_dir():
        raise InputError(f"--out {out} is no format to export to: name a file {' or '.join(_FORMATS)}")
    to_bytes, run = _FORMATS[suffix]
    with _silence():
        content = to_bytes(model)
        difference = _difference(model, lambda images: run(content, images))
    if difference is not None and not difference <= TOLERANCE:
        raise SelftaughtError(
            f"{out} is not written: as {suffix} the network's logits are off by {difference:.1e} of the largest"
        )
    record.make_directory(out.parent)
    record.write(out, content)
    return difference


def description(model: TrainedModel) -> dict[str, str]:
    """What a user of the file needs to know, as JSON texts: `classes`, and the `input`'s shape and preparation."""
    how, (channels, height, width) = model.preparation, model.input_shape
    images = {"channels": channels, "height": height, "width": width, "range": [0, 1]}
    options = {name: getattr(how, name) for name in ("resample", "crop", "stretch", "levels")}
    return {
        "classes": json.dumps(model.classes),
        "input": json.dumps(images | options),
        "selftaught": json.dumps({"version": selftaught.__version__, "trial": model.config.trial_id}),
    }


def _traced(model: TrainedModel) -> ExportedProgram:
    try:
        # Not one image: torch takes a size of 1 for a constant.
        return torch.export.export(model, (_images(model, 2),), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # whatever the network's own code raises when it is traced
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"the network cannot be exported: {reason}") from error


def _to_pt2(model: TrainedModel) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_traced(model), buffer, extra_files=description(model))
    return buffer.getvalue()


def _run_pt2(content: bytes, images: torch.Tensor) -> torch.Tensor:
    return torch.export.load(io.BytesIO(content)).module()(images)


def _to_onnx(model: TrainedModel) -> bytes:
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"an .onnx file needs {missing[0]}: pip install 'selftaught[onnx]', or export to .pt2"
        )
    import onnx

    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    program = torch.onnx.export(_traced(model), dynamo=True, verbose=False, **names)
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, description(model))
    return proto.SerializeToString()


def _run_onnx(content: bytes, images: torch.Tensor) -> torch.Tensor | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(np.asarray(logits))


_FORMATS: dict[str, tuple[Callable[..., bytes], Callable[..., torch.Tensor | None]]] = {
    ".onnx": (_to_onnx, _run_onnx),
    ".pt2": (_to_pt2, _run_pt2),
}


@torch.no_grad()
def _difference(model: TrainedModel, run: Callable[[torch.Tensor], torch.Tensor | None]) -> float | None:
    worst = 0.0
    for size in (1, 3):  # others than the one it was traced with
        images = _images(model, size)
        expected, got = model(images), run(images)
        if got is None:
            return None
        worst = max(worst, float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-30)))
    return worst


def _images(model: TrainedModel, size: int) -> torch.Tensor:
    return torch.rand(size, *model.input_shape, generator=torch.Generator().manual_seed(size))


@contextmanager
def _silence() -> Iterator[None]:
    """Exporters talk of their steps and of their own future; what matters to a user arrives as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
