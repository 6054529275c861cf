"""A trained model as something to use."""

import os

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from selftaught import models, objectives
from selftaught.errors import InputError
from selftaught.training import record
from selftaught.training.config import RunConfig


class TrainedModel(nn.Module):
    """A model with its preprocessing: images (B, K, H, W), uint8 or float in [0, 1], to logits (B, C).

    Attributes:
        model: the network itself, which takes normalised images; `selftaught.explain` takes this whole module
            as well.
        classes: the C class names.
        config: the `RunConfig` that it was trained with.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, config: RunConfig, data: record.DataSummary) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.classes = data.classes
        self.input_shape = (data.channels, *data.image_size)
        self.register_buffer("mean", torch.tensor(data.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(data.std).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, C); an `InputError` for images of another shape than the model was trained on."""
        if images.dim() != 4 or tuple(images.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise InputError(f"expected images of shape (B, {expected}), got {tuple(images.shape)}")
        x = images.to(self.mean.dtype)
        if images.dtype == torch.uint8:
            x = x / 255
        return self.model((x - self.mean) / self.std)


def load(run_directory: str | os.PathLike) -> TrainedModel:
    """The trained model of a finished run, on the CPU in eval mode, with its classes and preprocessing.

    Raises:
        InputError: the directory is not a run, or the run is not finished.
    """
    run = record.read(run_directory)
    data = run.result.data
    options = objectives.create(run.config.method, **run.config.settings).model_options()
    model = models.create(run.config.model, len(data.classes), data.channels, data.image_size, **options)
    weights = run.directory / record.WEIGHTS
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError):
        raise InputError(f"{weights} is missing, damaged or of another model: train the run again") from None
    return TrainedModel(model, run.config, data).eval()
