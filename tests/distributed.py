"""One of two processes that share a batch: it imports little, since it starts anew in every test."""

import copy
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from selftaught import IntrospectiveLoss


def plain_cnn(linear_head: bool) -> nn.Module:
    """Free of BatchNorm, whose statistics are each process's own."""
    if linear_head:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 5)).double()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 6),
        nn.ReLU(), nn.Linear(6, 5),
    ).double()  # fmt: skip


def work(
    rank: int,
    port: int,
    saliencies: list[str],
    compiled: bool,
    models: list[nn.Module],
    x: Tensor,
    y: Tensor,
    out: Path,
) -> None:
    """Two steps of each model on this process's half of the batch; the gradients of the second go into a file."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    half = slice(0, 4) if rank == 0 else slice(4, 8)
    found = []
    try:
        for saliency, model in zip(saliencies, models, strict=True):
            own = copy.deepcopy(model)  # what is sent to a process shares its memory
            wrapped = nn.parallel.DistributedDataParallel(own)
            outermost = torch.compile(wrapped, backend="aot_eager") if compiled else wrapped
            criterion = IntrospectiveLoss(outermost, saliency=saliency)
            for _ in range(2):
                wrapped.zero_grad()
                criterion(x[half], y[half]).backward()
            found.append([p.grad for p in own.parameters()])
        torch.save(found, out / str(rank))
    finally:
        dist.destroy_process_group()
