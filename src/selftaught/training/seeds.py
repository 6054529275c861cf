"""Where randomness comes from: every stream is derived from the trial's seed by name."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(seed: int, stream: str) -> int:
    """A seed in [0, 2**63) for one named stream of a trial.

    >>> derive(0, "init") == derive(0, "init") != derive(0, "method")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed torch's, Python's and NumPy's global generators: a model of the user's own may draw from any of them."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def contained(threads: int) -> Iterator[None]:
    """Run with this number of CPU threads and deterministic cuDNN; the caller's settings and RNG come back after."""
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    python, numpy = random.getstate(), np.random.get_state()
    torch.set_num_threads(threads)
    try:
        with (
            torch.random.fork_rng(gpus),
            cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(before)
        random.setstate(python)
        np.random.set_state(numpy)


def state(device: torch.device) -> dict[str, Any]:
    """Where the global generators are, with that of a GPU if `device` is one; plain values and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        # No array: a checkpoint is read without unpickling any.
        "numpy_rng": (str(kind), list(map(int, keys)), position, has_gauss, gauss),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Put the global generators where a `state` has them."""
    version, numbers, gauss = state["python_rng"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy_rng"])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] is not None:
        torch.cuda.set_rng_state(state["cuda_rng"], device)
