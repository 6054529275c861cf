"""A model on held-out images."""

import torch

from selftaught.training.metrics import accuracy, ece, nll
from selftaught.training.session import Session


@torch.no_grad()
def predict(session: Session, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits in eval mode: float32 (N, C) on the CPU. The model is left in eval mode; each epoch sets train mode."""
    session.model.eval()
    batches = session.evaluation_batches(images, labels)
    return torch.cat([session.model(x).float().cpu() for x, _ in batches.epoch(0)])


def scores(logits: torch.Tensor, labels: torch.Tensor, prefix: str = "") -> dict[str, float]:
    """Accuracy and ECE (15 bins) as fractions, NLL in nats."""
    return {
        f"{prefix}accuracy": accuracy(logits, labels),
        f"{prefix}nll": nll(logits, labels),
        f"{prefix}ece": ece(logits, labels, bins=15),
    }
