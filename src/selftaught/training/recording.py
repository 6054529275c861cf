"""Losses and gradients of a run's steps; on a GPU recorded once, as a CUDA graph, and replayed.

The paper's networks compute for a millisecond what Python takes several milliseconds to ask for, one operation after
another. A recorded step is asked for at once, and does what the step did that was recorded.
"""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selftaught.errors import SelftaughtError
from selftaught.files.config import RunConfig
from selftaught.methods import Method, Step
from selftaught.training.teaching import lineage

UNRECORDED = 3
"""Steps of a kind that run as they are before one is recorded: libraries choose and prepare what they need in them."""

SWITCH = "SELFTAUGHT_CUDA_GRAPHS"
"""The environment variable that turns recording off if it is 0."""

Compute = Callable[[Tensor, Tensor], Step]
"""From a batch to its step, leaving the gradients in the parameters; what it returns has no graph.

To be recorded it must not make the CPU wait for the GPU, nor depend on anything in Python but whether a warm-up is on.
"""


def is_on(config: RunConfig, method: Method) -> bool:
    """Whether a run's steps are recorded: on a GPU, with methods and networks that are known to be fit for it.

    Someone else's network may look at its tensors' values, and is seldom so small that it matters. With
    ``SELFTAUGHT_CUDA_GRAPHS=0`` no step is.
    """
    ours = (
        method.recordable
        and not method.needs_view
        and not any(of.model_fingerprint for of in lineage(config))
    )
    ours = ours and config.class_weights == "none"  # whose weights are other tensors in every step
    return config.device == "cuda" and ours and os.environ.get(SWITCH, "1") != "0"


class Recorder:
    """Computes steps on CUDA, most of them by replaying one that was recorded.

    Args:
        parameters: those that a step leaves gradients in.
        device: the GPU.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], device: torch.device) -> None:
        self._parameters = parameters
        # Not the default stream, on which nothing can be recorded; and the same for all steps, since autograd remembers
        # on which one a parameter was used first.
        self._stream = torch.cuda.Stream(device)
        self._met: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream of their own, on which all steps have to be taken and their batches to be made."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            try:
                yield
            finally:
                self._stream.synchronize()

    def __call__(self, compute: Compute, x: Tensor, y: Tensor, warming_up: bool) -> Step:
        """The step of a batch; `compute` does the same for all batches of the warm-up, and for all after it.

        What it returns belongs to the caller; the gradients are good until the next call.

        Raises:
            SelftaughtError: there is no memory left for a recording.
        """
        kind = (warming_up, x.shape, x.dtype)
        if self._met[kind] < UNRECORDED:
            self._met[kind] += 1
            return compute(x, y)
        if kind not in self._recordings:
            self._recordings[kind] = self._recorded(compute, x, y)
        return self._recordings[kind].replay(x, y)

    def _recorded(self, compute: Compute, x: Tensor, y: Tensor) -> "_Recording":
        try:
            return _Recording(compute, self._parameters, x, y)
        except torch.OutOfMemoryError as error:
            raise SelftaughtError(
                f"no memory left on the GPU to record a step: set {SWITCH}=0 or lower --batch-size"
            ) from error


class _Recording:
    """One recorded step, with the tensors that it reads and writes."""

    def __init__(self, compute: Compute, parameters: Sequence[nn.Parameter], x: Tensor, y: Tensor) -> None:
        self._parameters = parameters
        self._x, self._y = x.clone(), y.clone()
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(x.device)
        # Recorded, not run: the parameters and the random state are as before. Other threads may use the GPU meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._step = compute(self._x, self._y)
        self._gradients = [parameter.grad for parameter in parameters]

    def replay(self, x: Tensor, y: Tensor) -> Step:
        """The step of another batch."""
        self._x.copy_(x)
        self._y.copy_(y)
        self._graph.replay()
        # Another recording, or a step that was not replayed, may have left others there.
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        recorded = self._step
        # Copies: the next replay writes to the same places.
        loss, *terms = torch.stack([recorded.loss, *recorded.terms.values()]).unbind()
        similarities = None if recorded.similarities is None else recorded.similarities.clone()
        return Step(
            loss, recorded.logits.clone(), dict(zip(recorded.terms, terms, strict=True)), similarities
        )
