"""Which layer's output Grad-CAM explains when it is not told."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd

from selftaught.errors import ExplanationError, InputError
from selftaught.saliency.capture import first_tensor
from selftaught.saliency.reach import Graph, Leaks

_READ_OF_A_PICTURE = 0.75
"""The share of a picture's positions that the logits must depend on: a window may leave out its border."""

_READ_OF_TOKENS = 0.5
"""The same of tokens, among which class and register tokens may be unread: reading two of eighteen is not enough."""

_COARSE = 9
"""Maps of so few positions, 3x3, are called coarse."""


@dataclass(frozen=True)
class Record:
    """One module's output during a forward pass.

    Attributes:
        name: the module's dotted name.
        module: the module.
        run: which of the module's runs it was, counted from 0.
        output: what the module returned; a later operation may have overwritten its values.
        edge: where its gradient is found in the graph, None if it has none.
        over_positions: whether the module's input had several positions.
    """

    name: str
    module: nn.Module
    run: int
    output: Tensor
    edge: GradientEdge | None
    over_positions: bool


@dataclass
class Recording:
    """What a forward pass of all modules left.

    Attributes:
        records: every module's output, in the order in which they finished.
        logits: (B, C).
        dropouts: the rate of each active dropout, and how many records there were when it ran.
    """

    records: list[Record] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    dropouts: list[tuple[int, float]] = field(default_factory=list)

    def dropout_after(self, index: int) -> float:
        """The highest rate of a dropout that ran after the record `index`; 0 if none did."""
        return max((rate for count, rate in self.dropouts if count > index), default=0.0)


@dataclass(frozen=True)
class Fault:
    """Why an output is not explained.

    Attributes:
        text: in words that follow "the outputs of later layers".
        unread: whether the reason is that the logits depend on few of its positions.
    """

    text: str
    unread: bool = False

    def __str__(self) -> str:
        return self.text


_BRANCH = Fault("are one branch of several")
_UNLEARNED = Fault("come before all weights")
_UNUSED = Fault("do not reach the logits")
_ONE_CHANNEL = Fault("have one channel")
_ONE_POSITION = Fault("have one position")
_POOLED = Fault("are pooled")


@dataclass(frozen=True)
class Choice:
    """The layer to explain.

    Attributes:
        index: the number of its record.
        note: what is doubtful about it, in a few words; empty if nothing is.
    """

    index: int
    note: str


def record(module: nn.Module, forward: Callable[[], Tensor]) -> Recording:
    """What every module returns during `forward()`, with gradients that reach whatever has a way to the logits."""
    found = Recording()
    runs: dict[str, int] = {}

    def after(name: str) -> Callable[..., None]:
        def hook(child: nn.Module, args: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is None:
                return
            run = runs[name] = runs.get(name, -1) + 1
            edge = get_gradient_edge(tensor) if tensor.requires_grad else None
            given = first_tensor(args) if isinstance(args, tuple) else None
            over_positions = given is not None and given.dim() > 2 and given[0, 0].numel() > 1
            found.records.append(Record(name, child, run, tensor, edge, over_positions))

        return hook

    handles = [child.register_forward_hook(after(name)) for name, child in module.named_modules() if name]
    try:
        with (
            recorded_everywhere(module),
            Leaks(lambda rate: found.dropouts.append((len(found.records), rate))),
        ):
            found.logits = forward()
        return found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_everywhere(module: nn.Module) -> Iterator[None]:
    """While inside, what modules compute under `torch.no_grad()` is recorded too: a frozen backbone has layers."""

    def before(_child: nn.Module, _args: Any) -> None:
        torch.set_grad_enabled(True)

    handles = [child.register_forward_pre_hook(before) for child in module.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def name_of(module: nn.Module, layer: nn.Module | str) -> str:
    """The dotted name of a layer given as a module or a name.

    Raises:
        InputError: it is not a part of `module`.
    """
    names = {name: child for name, child in module.named_modules() if name}
    for name, child in names.items():
        if child is layer or name == layer:
            return name
    if isinstance(layer, str):
        for name, child in module.named_modules(remove_duplicate=False):
            if name == layer:  # a second name of a module that is there twice
                return name_of(module, child)
    if not isinstance(layer, str):
        raise InputError(f"layer {type(layer).__name__} is not in the model: give one of its modules")
    near = difflib.get_close_matches(layer, names, n=3, cutoff=0.3)
    raise InputError(
        f"layer {layer!r} is not in the model: did you mean {', '.join(map(repr, near or list(names)[-3:]))}?"
    )


def find(recording: Recording, source: Tensor) -> Choice:
    """The last output that everything goes through, with several channels, at several positions that are read.

    That is what global pooling sees, the output of the last block. Attention weights, gates and branches are no such
    outputs, for the values that they weight or are added to go past them. Where later outputs are read at few positions
    (class tokens), it is the last normalisation that is read at (nearly) all of them: the last block's first one, its
    input tokens.

    Args:
        recording: what the modules returned.
        source: the input that it was made with.

    Raises:
        ExplanationError: there is none, as in an MLP.
    """
    faults: list[tuple[int, Fault]] = []
    shares = _read_shares(recording)
    graph = Graph(recording.logits, source)
    last_norm: int | None = None
    for index, candidate in reversed(_spatial(recording)):
        assert candidate.edge is not None
        fault = _fault(recording.records[: index + 1], shares.get(index))
        if not graph.all_goes_through(candidate.edge):
            if fault is None and last_norm is None and _is_norm(candidate.module):
                last_norm = index
            fault = _UNUSED if fault is _UNUSED else _BRANCH
        elif fault is None and not graph.is_learned(candidate.edge):
            fault = _UNLEARNED
        if fault is None:
            break
        faults.append((index, fault))
    else:
        index = -1
    if last_norm is not None and any(fault.unread for _, fault in faults):
        return Choice(last_norm, coarseness(recording.records[: last_norm + 1]))
    if index < 0:
        raise _nothing([fault for _, fault in faults])
    return Choice(index, _doubts(recording.records, index, faults))


def channel_dim(records: Sequence[Record]) -> int:
    """Where the last record's output keeps its channels: 1, or -1 for tokens (B, N, D) and NHWC maps.

    Told by the nearest layer before it that is as wide as one of the two.
    """
    last = records[-1]
    shape = last.output.shape
    for r in reversed(records):
        match r.module:
            case (
                _ConvNd(out_channels=width)
                | _BatchNorm(num_features=width)
                | nn.GroupNorm(num_channels=width)
            ):
                if shape[1] == width:
                    return 1
                # A picture's channels that were flattened to tokens. Elsewhere the last axis says nothing: after a
                # concatenation its length may be this width by chance.
                if len(shape) == 3 < r.output.dim() and shape[-1] == width:
                    return -1
                continue
            case nn.Linear(out_features=width) | nn.LayerNorm(normalized_shape=(*_, width)):
                if shape[-1] == width and _in_the_same_layout(r, last):
                    return -1
            case nn.Embedding(embedding_dim=width) | nn.MultiheadAttention(embed_dim=width):
                pass
            case nn.RNNBase(hidden_size=hidden, proj_size=projected, bidirectional=both):
                width = (projected or hidden) * (1 + both)
            case _:
                continue
        matches = [dim for dim in (1, -1) if shape[dim] == width]
        if len(matches) == 1:
            return matches[0]
        if matches:
            return 1 if len(shape) > 3 else -1
    return 1


def _in_the_same_layout(earlier: Record, later: Record) -> bool:
    """Whether the later output was made of the earlier one without a change of its axes, as far as the graph tells."""
    if earlier.edge is None or later.edge is None:
        return earlier is later
    waiting, met = [later.edge.node], set()
    while waiting:
        node = waiting.pop()
        if node is earlier.edge.node:
            return True
        if node not in met and not any(kind in node.name() for kind in ("Permute", "Transpose", "View")):
            met.add(node)
            waiting += [parent for parent, _ in node.next_functions if parent is not None]
    return False


def size(records: Sequence[Record]) -> tuple[int, tuple[int, ...]]:
    """How many channels the last record's output has, and the shape of its positions."""
    shape = records[-1].output.shape
    if channel_dim(records) == 1:
        return shape[1], tuple(shape[2:])
    return shape[-1], tuple(shape[1:-1])


def _spatial(recording: Recording) -> list[tuple[int, Record]]:
    """The outputs with positions that have a gradient, with their numbers; each once, under its outermost module.

    A module that merely hands its input on is none: when it has run, others may have worked on that already.
    """
    batch = recording.logits.shape[0]
    found: dict[tuple[Any, int], tuple[int, Record]] = {}
    for index, record in enumerate(recording.records):
        if record.edge is None or record.output.dim() < 3 or record.output.shape[0] != batch:
            continue
        place = record.edge.node, record.edge.output_nr
        if place not in found or found[place][1].name.startswith(f"{record.name}."):
            found[place] = index, record
    return sorted(found.values(), key=lambda item: item[0])


def _read_shares(recording: Recording) -> dict[int, float]:
    """The share of positions that the logits of any sample depend on, by the record's number."""
    logits = recording.logits
    # One generic direction in logit space tells which positions reach the logits at all.
    direction = torch.arange(1, logits.shape[1] + 1, device=logits.device).cos().expand_as(logits)
    spatial = _spatial(recording)
    edges = [r.edge for _, r in spatial if r.edge is not None]
    if not edges or logits.grad_fn is None:
        return {}
    grads = torch.autograd.grad(
        logits, edges, direction.to(logits.dtype), retain_graph=True, allow_unused=True
    )
    shares = {}
    for (index, _), grad in zip(spatial, grads, strict=True):
        if grad is not None:
            read = grad.abs().amax(channel_dim(recording.records[: index + 1])) > 0
            shares[index] = float(read.any(0).double().mean())
    return shares


def fault_of_shape(records: Sequence[Record]) -> Fault | None:
    """Why the last record's output is not to be explained, as far as its shape tells."""
    output = records[-1].output
    if output.dim() < 3:
        return Fault(f"are of shape {tuple(output.shape)}, without spatial extent")
    channels, positions = size(records)
    if torch.Size(positions).numel() == 1 or (output.dim() == 3 and output.shape[1] == 1):
        return _ONE_POSITION
    return _ONE_CHANNEL if channels == 1 else None


def _fault(records: Sequence[Record], share: float | None) -> Fault | None:
    """Why the last record's output is not to be explained, as far as its own shape and its gradient tell."""
    if not share:
        return _UNUSED
    fault = fault_of_shape(records)
    if fault is None and isinstance(records[-1].module, _AdaptiveAvgPoolNd | _AdaptiveMaxPoolNd):
        return _POOLED  # what it sees is explained; it may even repeat one position several times
    count = torch.Size(size(records)[1]).numel()
    if fault is None and share < (_READ_OF_TOKENS if records[-1].output.dim() == 3 else _READ_OF_A_PICTURE):
        return Fault(f"are read at {round(share * count)} of {count} positions", unread=True)
    return fault


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _doubts(records: Sequence[Record], chosen: int, faults: Sequence[tuple[int, Fault]]) -> str:
    """What to say of a layer: that a later one could not be taken, and that its maps are coarse."""
    coarse = coarseness(records[: chosen + 1])
    for index, fault in faults:
        later = records[index]
        # One number for each position that goes beside others is a weight of theirs, and no layer that is missed.
        scores = fault is _BRANCH and size(records[: index + 1])[0] == 1
        weighs = isinstance(later.module, _ConvNd | nn.Linear) and later.over_positions
        if weighs and not scores and fault is not _UNUSED:
            earlier = f"an earlier layer than the last one, for the outputs of later ones {fault}"
            return f"{earlier}; {coarse}" if coarse else earlier
    return coarse


def coarseness(records: Sequence[Record]) -> str:
    """What to say of the size of the last record's maps; nothing where it is fine."""
    positions = size(records)[1]
    if torch.Size(positions).numel() > _COARSE:
        return ""
    shape = "x".join(map(str, positions))
    return f"its {shape} positions are coarse: larger images or an earlier layer= give finer maps"


def _nothing(faults: Sequence[Fault]) -> ExplanationError:
    joined = _BRANCH in faults
    seen = f" (what it has: outputs that {_BRANCH if joined else faults[0]})" if faults else ""
    remedy = "send what the branches are joined to through an nn.Identity, " if joined else ""
    return ExplanationError(
        "Grad-CAM finds no layer with spatial extent before the logits that has several channels and that everything "
        f"goes through{seen}: {remedy}use saliency='grad', or give layer="
    )
