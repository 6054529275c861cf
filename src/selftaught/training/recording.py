"""Losses and gradients of a run's steps; on a GPU recorded once, as a CUDA graph, and replayed.

The paper's networks compute for a fraction of a millisecond what Python takes several milliseconds to ask for, one
operation after another. A recorded step is asked for at once, and does what the step did that was recorded.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selftaught.objectives import Step

REHEARSALS = 3
"""Steps of a kind that run as they are before one is recorded: libraries choose and prepare what they need in them."""

Compute = Callable[[Tensor, Tensor], Step]
"""From a batch to its step, leaving the gradients in the parameters; what it returns has no graph."""


class Recorder:
    """Takes the place of `compute` on CUDA: the same steps, launched at once.

    Args:
        compute: must not make the CPU wait for the GPU, nor choose by a tensor's values what to do.
        parameters: those that `compute` leaves gradients in; all others it must leave alone.
        device: the GPU.
    """

    def __init__(self, compute: Compute, parameters: Sequence[nn.Parameter], device: torch.device) -> None:
        self._compute, self._parameters = compute, parameters
        # A step cannot be recorded on the default stream, nor where one before has run on it.
        self._stream = torch.cuda.Stream(device)
        self._met: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}
        self._latest: _Recording | None = None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Where steps have to be taken, and what their batches are made of: a stream of their own."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield
            self._stream.synchronize()

    def __call__(self, x: Tensor, y: Tensor, phase: Hashable | None) -> Step:
        """The step of a batch; `phase` as `Objective.phase` says.

        What it returns belongs to the caller; the gradients are good until the next call.
        """
        if phase is None:
            return self._as_it_is(x, y)
        kind = (phase, x.shape, x.dtype)
        if kind not in self._recordings:
            self._met[kind] += 1
            if self._met[kind] <= REHEARSALS:
                return self._as_it_is(x, y)
            self._recordings[kind] = _Recording(self._compute, self._parameters, x, y)
        recording = self._recordings[kind]
        if recording is not self._latest:
            recording.hand_over_gradients()
            self._latest = recording
        return recording.replay(x, y)

    def _as_it_is(self, x: Tensor, y: Tensor) -> Step:
        self._latest = None
        return self._compute(x, y)


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

    def hand_over_gradients(self) -> None:
        """Let the parameters' gradients be those that a replay writes."""
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def replay(self, x: Tensor, y: Tensor) -> Step:
        """The step of another batch."""
        self._x.copy_(x)
        self._y.copy_(y)
        self._graph.replay()
        recorded = self._step
        # Copies: the next replay writes to the same places.
        loss, *terms = torch.stack([recorded.loss, *recorded.terms.values()]).unbind()
        return Step(loss, recorded.logits.clone(), dict(zip(recorded.terms, terms, strict=True)))
