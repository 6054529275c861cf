"""The explanation's own backward pass, on the graph that the loss's backward pass will use too.

Two operations are differentiated in two ways: BatchNorm in train mode (the explanation holds the batch's
statistics constant, so that each sample's maps are its own; design.md) and, for guided backpropagation, ReLU
(Springenberg et al., 2014). Each records both rules during the one forward pass; a flag says which is in force.
A torch-function mode sees every call, whether it comes from a module, a function or a method, in place or
not, so that nothing of the model is replaced and no hook is left on it.
"""

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from selftaught._inputs import as_float
from selftaught.errors import ExplanationError, InputError
from selftaught.saliency.jacobian import leads_to

_RELU = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLAMP = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_}
_CLAMP |= {torch.clip, torch.clip_, Tensor.clip, Tensor.clip_}
_CLAMP |= {torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_}
_THRESHOLD = {F.threshold, torch.threshold, torch.threshold_}
_INSTANCE_NORM = {F.instance_norm, torch.instance_norm}
_ENTRANCES = {F.conv1d, F.conv2d, F.conv3d, F.linear}
_PREPARATIONS = {
    f"{name}Backward0"
    for name in (
        "Clone",
        "Alias",
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Permute",
        "Add",
        "Sub",
        "Mul",
        "Div",
    )
}
"""What networks do to their input before the first layer."""

_RELU_NODES = {"ReluBackward0", "ThresholdBackward0"}
_BATCH_NORM = inspect.signature(F.batch_norm)
# torch.batch_norm is a builtin: it has no signature to bind.
_TORCH_BATCH_NORM = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
_CHUNK_BYTES = 2**28


class _Flag:
    """Whether the backward pass now running is the explanation's."""

    on = False


class _FrozenStatistics(torch.autograd.Function):
    """Identity on a BatchNorm output; the explanation's gradient bypasses the batch statistics."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, source: Tensor, scale: Tensor, explaining: _Flag) -> Tensor:
        # Dirty, not a view or a copy: what follows may be an in-place ReLU, and BatchNorm saves only its input.
        ctx.mark_dirty(output)
        ctx.scale, ctx.explaining = scale, explaining
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.explaining.on:
            return grad, None, None, None
        return None, grad * ctx.scale.to(grad.dtype), None, None


class _Entrance(torch.autograd.Function):
    """Identity on what the first layer made of a detached input; only the explanation's gradient goes on to the input.

    The loss has no use for it, and would pay a product of the size of the layer's forward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, source: Tensor, layer: Any, weight: Tensor, explaining: _Flag
    ) -> Tensor:
        ctx.mark_dirty(output)  # as above; neither a convolution nor a linear layer keeps what it returns
        ctx.layer, ctx.weight, ctx.shape, ctx.explaining = layer, weight, source.shape, explaining
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if not ctx.explaining.on:
            return grad, None, None, None, None
        weight = ctx.weight.detach().to(grad.dtype)
        if len(ctx.shape) == 2:
            return None, grad @ weight, None, None, None
        geometry = (ctx.layer._saved_stride, ctx.layer._saved_padding, ctx.layer._saved_dilation)
        rest = (False, [0] * len(geometry[0]), ctx.layer._saved_groups, [True, False, False])
        # The input's values play no part in its own gradient, only its shape.
        shape = grad.new_empty(1).expand(ctx.shape)
        back = torch.ops.aten.convolution_backward(grad, shape, weight, None, *geometry, *rest)
        return None, back[0], None, None, None


class ExplanationRules(TorchFunctionMode):
    """Record, during a forward pass, how the explanation's backward differs from the loss's.

    Args:
        guided: pass only positive gradients through ReLUs.
        target: the input, a leaf that requires gradients for the explanation's sake alone; None where the loss's own
            backward must reach it too.

    Attributes:
        relus: how many ReLU calls were seen.
        hooked: whether the model put a hook on a tensor, so that a gradient is what the hook makes of it.
    """

    def __init__(self, guided: bool = False, target: Tensor | None = None) -> None:
        super().__init__()
        self.guided = guided
        self.target = target
        self.hooked = False
        self.relus = 0
        self._explaining = _Flag()
        self._paused = False
        self._seen: set[Any] = set()

    def pause(self) -> None:
        """See nothing until `resume`: what runs before the layer that is explained has no part in it."""
        self._paused = True

    def resume(self) -> None:
        """See what runs from now on."""
        self._paused = False

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """While inside, backward passes through the recorded graph follow the explanation's rules."""
        self._explaining.on = True
        try:
            yield
        finally:
            self._explaining.on = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        self.hooked |= func is Tensor.register_hook
        if func in _ENTRANCES and self.target is not None:
            return self._enter(func, args, kwargs)
        out = func(*args, **kwargs)
        if func in _INSTANCE_NORM:
            self._instance_norm(out)
        if func is F.batch_norm:
            return self._batch_norm(out, **_BATCH_NORM.bind(*args, **kwargs).arguments)
        if func is torch.batch_norm:
            return self._batch_norm(out, **{**dict(zip(_TORCH_BATCH_NORM, args, strict=False)), **kwargs})
        if self.guided and _rectifies(func, args, kwargs):
            self._relu(out)
        return out

    def check_complete(self, logits: Tensor, activation: Tensor | None = None) -> None:
        """Make sure that the graph between `activation`, or the input, and `logits` holds no rule that was missed.

        Raises:
            ExplanationError: a train-mode BatchNorm, or for guided backpropagation a ReLU, that runs where it cannot
                be seen, as in exported or scripted code.
        """
        if activation is None:
            nodes: Iterable[Any] = _graph(logits)
        else:  # what made the layer's output, or leads past it, ran before, where nothing was looked at
            between = leads_to(logits.grad_fn, activation)
            nodes = (node for node, leads in between.items() if leads and node is not activation.grad_fn)
        for node in nodes:
            if node in self._seen:
                continue
            name = node.name()
            if "BatchNormBackward" in name and getattr(node, "_saved_training", False):
                raise ExplanationError(
                    "a BatchNorm in train mode runs inside exported or scripted code, where its statistics cannot be "
                    "held constant: use the original module, or eval mode"
                )
            if self.guided and name in _RELU_NODES:
                raise ExplanationError(
                    "a ReLU runs inside exported or scripted code, where guided backpropagation cannot reach it: use "
                    "the original module, or saliency='grad'"
                )

    def _enter(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """A convolution or linear layer, past which the loss's gradient does not go if only the input is there."""
        given = dict(zip(("input", "weight", "bias", "stride", "padding"), args, strict=False)) | kwargs
        source, weight, bias = given["input"], given["weight"], given.get("bias")
        # A weight made of something may be made of the input as well; what it is made of is not asked.
        learned = weight.requires_grad and weight.is_leaf and (bias is None or bias.is_leaf)
        plain = source.dim() == weight.dim() and not isinstance(given.get("padding"), str)
        if not (learned and plain and torch.is_grad_enabled() and _made_of(source, self.target)):
            return func(*args, **kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "input"}
        out = func(source.detach(), *args[1:], **rest)
        return _Entrance.apply(out, source, out.grad_fn, weight, self._explaining)

    def _batch_norm(
        self,
        out: Tensor,
        input: Tensor,
        weight: Tensor | None = None,
        training: bool = False,
        eps: float = 1e-5,
        **_: Any,
    ) -> Tensor:
        if not training or not input.requires_grad or not torch.is_grad_enabled():
            return out
        self._seen.add(out.grad_fn)
        # What the forward pass kept for its own backward is this; computing it again costs as much as a convolution.
        scale = getattr(out.grad_fn, "_saved_result2", None)
        if scale is None or scale.numel() != input.shape[1]:
            scale = _inverse_deviation(input.detach(), eps)
        if weight is not None:
            scale = scale * weight.detach()
        scale = scale.view(1, -1, *[1] * (input.dim() - 2))
        return _FrozenStatistics.apply(out, input, scale, self._explaining)

    def _instance_norm(self, out: Tensor) -> None:
        """Made of a BatchNorm over each sample's own pixels: its statistics are differentiated, nothing is mixed."""
        node = out.grad_fn
        while node is not None and "BatchNormBackward" not in node.name():
            node = node.next_functions[0][0]
        self._seen.add(node)

    def _relu(self, out: Tensor) -> None:
        self.relus += 1
        if out.requires_grad:
            self._seen.add(out.grad_fn)
            flag = self._explaining
            # On the output: its input may feed other branches, whose gradient must not be clamped.
            out.register_hook(lambda grad: grad.clamp(min=0) if flag.on else grad)


def _made_of(source: Tensor, target: Tensor | None) -> bool:
    """Whether a tensor is `target` or another shape or scale of it, and nothing that learns went into it."""
    node: Any = source.grad_fn
    if node is None:
        return source is target
    while node.name() in _PREPARATIONS:
        inputs = [parent for parent, _ in node.next_functions if parent is not None]
        if len(inputs) != 1:
            return False
        node = inputs[0]
    return getattr(node, "variable", None) is target


def _rectifies(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return (
        func in _RELU
        or (func in _CLAMP and _clamps_at_zero(*args, **kwargs))
        or (func in _THRESHOLD and _thresholds_at_zero(*args, **kwargs))
    )


def _clamps_at_zero(input: Tensor, min: Any = None, max: Any = None, **_: Any) -> bool:
    return max in (None, float("inf")) and _is_zero(min)


def _thresholds_at_zero(input: Tensor, threshold: Any, value: Any, *_: Any, **__: Any) -> bool:
    return _is_zero(threshold) and _is_zero(value)


def _is_zero(bound: Any) -> bool:
    if isinstance(bound, Tensor):
        return bound.numel() == 1 and not bound.requires_grad and bound.item() == 0
    return bound is not None and bound == 0


def _inverse_deviation(source: Tensor, eps: float) -> Tensor:
    source = as_float(source)
    axes = [axis for axis in range(source.dim()) if axis != 1]
    return (source.var(axes, correction=0) + eps).rsqrt()


def _graph(logits: Tensor) -> Iterator[Any]:
    """The nodes of the autograd graph from `logits` back, each once."""
    waiting: list[Any] = [logits.grad_fn]
    met = {None}
    while waiting:
        node = waiting.pop()
        if node not in met:
            met.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]


def chosen(classes: Sequence[int] | None, logits: Tensor) -> Sequence[int]:
    """The classes to explain, all of them if None.

    Raises:
        InputError: none, one that the model does not have, or one that is no integer.
    """
    count = logits.shape[1]
    if classes is None:
        return range(count)
    try:
        labels = [operator.index(label) for label in classes]
    except TypeError:
        raise InputError(
            f"classes= must be a sequence of integers or None for all, not {classes!r}"
        ) from None
    if not labels:
        raise InputError("classes= is empty: name at least one class, or None for all")
    for label in labels:
        if not 0 <= label < count:
            raise InputError(f"class {label} is out of range: the model has classes 0 to {count - 1}")
    return labels


def pays_to_vectorize(x: Tensor, modules: Iterable[nn.Module]) -> bool:
    """Whether one batched backward through `modules` beats one per class: not for convolutions on a CPU (measured)."""
    return x.is_cuda or not any(isinstance(module, _ConvNd) for module in modules)


def class_gradients(
    logits: Tensor, target: Tensor, classes: Sequence[int], *, chunk_size: int | None, vectorized: bool
) -> Iterator[Tensor]:
    """Gradients of the logits of `classes` with respect to `target`, some classes at a time.

    Args:
        logits: (B, C), with a graph to `target`; the graph is kept.
        target: (B, ...).
        classes: the K classes to differentiate.
        chunk_size: how many classes at once; by default as many as fit 256 MB of gradients.
        vectorized: push the classes of a chunk through one batched backward, instead of one each.

    Yields:
        (k, B, ...) for k classes at a time, K in total.
    """
    if not vectorized:
        chunk_size = 1
    elif chunk_size is None:
        chunk_size = max(1, _CHUNK_BYTES // max(1, target.numel() * target.element_size()))
    for start in range(0, len(classes), chunk_size):
        chunk = classes[start : start + chunk_size]
        if len(chunk) == 1:
            cotangent = torch.zeros_like(logits)
            cotangent[:, chunk[0]] = 1
            yield _gradient(logits, target, cotangent)[None]
        else:
            yield _batched(logits, target, chunk)


def _batched(logits: Tensor, target: Tensor, classes: Sequence[int]) -> Tensor:
    every = torch.arange(logits.shape[1], device=logits.device)
    # A range stays on the device: numbers from the CPU would make it wait, and could not be recorded as a CUDA graph.
    wanted = every[classes.start : classes.stop] if isinstance(classes, range) else every.new_tensor(classes)
    one_hot = (wanted[:, None] == every).to(logits.dtype)
    cotangents = one_hot[:, None].expand(-1, *logits.shape)
    try:
        return _gradient(logits, target, cotangents, batched=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # What a user's own backward does need not be possible for several classes at once. If that is not the reason,
        # one by one it fails as well.
        return torch.stack([_gradient(logits, target, cotangent) for cotangent in cotangents])


def _gradient(output: Tensor, target: Tensor, cotangent: Tensor, batched: bool = False) -> Tensor:
    (grad,) = torch.autograd.grad(
        output, target, cotangent, retain_graph=True, is_grads_batched=batched, allow_unused=True
    )
    if grad is None:
        grad = target.new_zeros(*cotangent.shape[:1], *target.shape) if batched else torch.zeros_like(target)
    return grad
