"""A model on held-out images."""

from typing import Any

import torch

from selftaught.activities import activity
from selftaught.data.streaming import Images
from selftaught.files.scores import MANY_CLASSES
from selftaught.training.metrics import (
    accuracy,
    balanced_accuracy,
    ece,
    fit_temperature,
    macro_f1,
    nll,
    per_class_accuracy,
    per_class_images,
    top_accuracy,
)
from selftaught.training.session import Session


@torch.no_grad()
def predict(
    session: Session, images: Images, labels: torch.Tensor, network: torch.nn.Module | None = None
) -> torch.Tensor:
    """Logits in eval mode: float32 (N, C) on the CPU, of the model or of another `network` of the session.

    It is left in eval mode; each epoch sets train mode.
    """
    network = session.model if network is None else network
    network.eval()
    found = []
    with activity(session.on_activity, "evaluating images", len(labels)) as doing:
        for x, _ in session.evaluation_batches(images, labels).epoch(0):
            found.append(network(x).float().cpu())
            doing.advance(sum(map(len, found)))
    return torch.cat(found)


def scores(logits: torch.Tensor, labels: torch.Tensor, prefix: str = "") -> dict[str, float]:
    """Accuracy and ECE (15 bins) as fractions, NLL in nats."""
    return {
        f"{prefix}accuracy": accuracy(logits, labels),
        f"{prefix}nll": nll(logits, labels),
        f"{prefix}ece": ece(logits, labels, bins=15),
    }


def by_class(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """What a `record.Result` says of the classes: fractions, and top-5 from `MANY_CLASSES` classes on."""
    return {
        "balanced_accuracy": balanced_accuracy(logits, labels),
        "macro_f1": macro_f1(logits, labels),
        "top5_accuracy": top_accuracy(logits, labels, 5) if logits.shape[1] >= MANY_CLASSES else None,
        "per_class_accuracy": per_class_accuracy(logits, labels),
        "per_class_images": per_class_images(labels, logits.shape[1]),
    }


def calibrate(
    logits: torch.Tensor, labels: torch.Tensor, val_logits: torch.Tensor, val_labels: torch.Tensor
) -> dict[str, float]:
    """The temperature that fits held-out images, and what NLL and ECE of the test images become with it."""
    temperature = fit_temperature(val_logits, val_labels)
    scaled = scores(logits / temperature, labels)
    return {"temperature": temperature, "nll_scaled": scaled["nll"], "ece_scaled": scaled["ece"]}
