"""How much memory a call takes at its peak, on CPU and GPU."""

import gc
import os
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile, record_function

ALLOCATION = "[memory]"
"""What torch's profiler calls an event in which memory is taken or given back."""

BEGINNING = "selftaught: from here on the peak counts"


def nothing() -> None:
    """Prepare nothing."""


def peak(
    call: Callable[[], object],
    device: torch.device | str = "cpu",
    prepare: Callable[[], object] = nothing,
) -> int:
    """Bytes that torch holds on `device` at the worst moment of `call()`, above what it held before `prepare()`.

    What a library allocates past torch does not count. On CPU both calls are recorded by torch's profiler and take
    longer than usual; what is older than `prepare()` and given back meanwhile is not seen there.

    Args:
        call: what is measured.
        device: where.
        prepare: called once before; what it leaves allocated counts, its own peak does not.
    """
    gc.collect()  # what is garbage already must not be given back in between
    return _on_gpu(call, torch.device(device), prepare) if "cuda" in str(device) else _on_cpu(call, prepare)


def _on_gpu(call: Callable[[], object], device: torch.device, prepare: Callable[[], object]) -> int:
    before = torch.cuda.memory_allocated(device)
    prepare()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(call: Callable[[], object], prepare: Callable[[], object]) -> int:
    # The profiler's engine announces every start on stderr unless told not to before its first use.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        prepare()
        with record_function(BEGINNING):
            pass
        call()
    results = recorded.profiler.kineto_results if recorded.profiler else None
    if results is None:
        raise RuntimeError("torch's profiler recorded nothing: end the other profiler of this process first")
    begun = next(event.start_ns() for event in results.events() if event.name() == BEGINNING)
    changes = [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == ALLOCATION]
    changes.sort(key=lambda change: change[0])
    held = sum(size for moment, size in changes if moment < begun)
    return max(accumulate((size for moment, size in changes if moment >= begun), initial=held))
