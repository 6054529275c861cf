"""Maps in input space: the gradient of every logit with respect to the input, and what is made of it."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from selftaught._inputs import as_float
from selftaught._notes import note
from selftaught.errors import InputError
from selftaught.saliency.backward import ExplanationRules, chosen, class_gradients, pays_to_vectorize
from selftaught.saliency.capture import Capture
from selftaught.saliency.jacobian import Jacobian, Unsupported, final_linear
from selftaught.saliency.maps import Maps
from selftaught.saliency.preserve import eager, refuse_synchronised, unwrap


class Grad:
    """∂logit_k/∂x, signed (Simonyan et al., 2014).

    Args:
        chunk_size: how many classes to differentiate at once.
    """

    guided = False

    def __init__(self, chunk_size: int | None = None) -> None:
        self.chunk_size = chunk_size

    def __call__(self, model: nn.Module, x: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Maps]:
        """Logits (B, C), with their graph, and maps (B, K, *shape of one input) of the K classes, detached."""
        _check(x)
        refuse_synchronised(model)
        # The user's own tensor must not start to require gradients.
        own = None if x.requires_grad else x.detach().requires_grad_()
        x = x if own is None else own
        rules = ExplanationRules(self.guided, target=own)
        # Compiled code hides its inside from the rules.
        with torch.enable_grad(), eager(model), Capture(unwrap(model), end=True) as captured, rules:
            # A copy: the model may work on its input in place.
            captured.run(lambda: model(x.clone()))
        assert captured.end is not None
        rules.check_complete(captured.end)
        if self.guided and rules.relus == 0:
            note("guided backpropagation saw no ReLU: its maps are the plain gradient")
        every = chosen(classes, captured.end)
        vectorized = pays_to_vectorize(x, model.modules())
        with rules.explaining(), torch.autocast(x.device.type, enabled=False):
            # What a hook makes of a gradient, only autograd knows.
            every_class = self._one_by_one if rules.hooked else self._quickly
            gradients = every_class(captured.end, x, every, vectorized)
        maps = self._maps(gradients, as_float(x.detach()))
        return captured.logits, Maps.made(maps.detach())

    def _quickly(self, logits: Tensor, x: Tensor, classes: Sequence[int], vectorized: bool) -> Tensor:
        """∂logit_k/∂x of the classes, (B, K, *shape of one input)."""
        last = None if self.guided else final_linear(logits, x)
        if last is None or len(classes) <= last[0].shape[1]:
            return self._in_pieces(logits, x, classes, vectorized)
        # Fewer features than classes: the chain rule's last factor is the classifier's weights.
        features, weight = last
        of_features = self._in_pieces(features, x, range(features.shape[1]), vectorized)
        if not isinstance(classes, range):
            weight = weight[
                list(classes)
            ]  # all of them stay where they are: a GPU would have to wait for a list
        weight = weight.to(of_features.dtype)
        return (weight @ of_features.flatten(2)).unflatten(2, x.shape[1:])

    def _in_pieces(self, outputs: Tensor, x: Tensor, columns: Sequence[int], vectorized: bool) -> Tensor:
        with suppress(Unsupported):
            return Jacobian(outputs, x, self.guided)(columns, self.chunk_size)
        return self._one_by_one(outputs, x, columns, vectorized)

    def _one_by_one(self, outputs: Tensor, x: Tensor, columns: Sequence[int], vectorized: bool) -> Tensor:
        gradients = as_float(x.detach()).new_empty(x.shape[0], len(columns), *x.shape[1:])
        done = 0
        for chunk in class_gradients(outputs, x, columns, chunk_size=self.chunk_size, vectorized=vectorized):
            gradients[:, done : done + len(chunk)] = chunk.movedim(0, 1)
            done += len(chunk)
        return gradients

    def _maps(self, gradients: Tensor, x: Tensor) -> Tensor:
        return gradients


class GradInput(Grad):
    """x · ∂logit_k/∂x (Shrikumar et al., 2017)."""

    def _maps(self, gradients: Tensor, x: Tensor) -> Tensor:
        return gradients * x[:, None]


class GuidedBackprop(Grad):
    """∂logit_k/∂x with only positive gradients passed back through ReLUs (Springenberg et al., 2015)."""

    guided = True


def _check(x: Tensor) -> None:
    if not x.is_floating_point():
        raise InputError(
            f"input of dtype {x.dtype} has no gradient: convert it to float, or use saliency='grad-cam'"
        )
