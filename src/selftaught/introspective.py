"""The method in a user's own loop: one forward pass, a loss that learns from the model's own explanation."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import losses, targets
from selftaught import similarity as similarities
from selftaught._inputs import as_float, check_labels
from selftaught.amortised import Amortised
from selftaught.errors import InputError
from selftaught.files.settings import METHOD_SETTINGS
from selftaught.saliency import Explainer
from selftaught.saliency.capture import as_logits
from selftaught.saliency.plan import Plan
from selftaught.saliency.preserve import refuse_foreign, unwrap


def explaining(
    saliency: str,
    layer: nn.Module | str | None,
    similarity: str,
    relu: bool,
    refresh: float,
    upsample: bool,
    centre: bool,
) -> tuple[Explainer, Callable[[Tensor, Tensor], Tensor]]:
    """What makes a batch's maps, and what compares them.

    Raises:
        InputError: an unknown name, a value out of range, or options that do not go together.
    """
    METHOD_SETTINGS["refresh"].check(refresh)
    METHOD_SETTINGS["upsample"].check(upsample)
    explainer = Explainer(saliency, layer, relu, centre=centre)
    if upsample and saliency != "grad-cam":
        raise InputError(f"upsample= belongs to saliency='grad-cam', not to {saliency!r}")
    return explainer, similarities.get(similarity)


class IntrospectiveLoss(nn.Module):
    """Algorithm 1 of Gu, Wu and Tresp (ACCV 2020): L(p, q) + weight · L(p, y).

    q are soft labels from the model's own explanation of the batch (Eq. 6): alpha on the true class, the rest
    shared by how alike each class's saliency map is to the true class's. They are constants: no gradient flows
    through them. The loss makes the forward pass, so the loop changes in two lines::

        criterion = selftaught.IntrospectiveLoss(model)     # was: nn.CrossEntropyLoss()
        loss = criterion(x, y)                              # was: criterion(model(x), y)

    Algorithm 1 first trains with one-hot labels: set `criterion.warmup = True` for the first epochs (the paper
    uses 10 of 50), since the maps of an untrained network say little.

    Args:
        model: a classifier from (B, ...) to logits (B, C); also compiled, or wrapped in DDP or by Fabric.
        saliency: `"grad-cam"` (costs almost nothing), `"grad"`, `"grad-input"` or `"guided-backprop"`.
        layer: for Grad-CAM, a module of the model or its dotted name; by default the output of the last block.
        alpha: probability of the true class in q, in (0, 1].
        weight: λ, the weight of the one-hot cross-entropy.
        similarity: `"cosine"` (the paper's), `"multiscale-mse"` or `"wasserstein"`.
        relu: for Grad-CAM, keep only the positive part of the maps.
        upsample: for Grad-CAM, enlarge the maps bilinearly to the size of the input before they are compared.
        refresh: r in [0.01, 1], the share of the batches that are explained; 1 explains all of them. With less, the
            others take the similarities that their samples were given last: they cost a plain forward pass, and the
            soft labels are on average 1/r - 1 epochs old. Past the warm-up, call number t (from 0) is explained if
            floor((t + 1) · r) > floor(t · r), or if one of its samples never was. The samples' ids are then needed as
            `index`, and the batches must be shuffled: in a fixed order the same ones would be explained for ever.
        centre: take the mean map over the classes off each map, before `relu`, `upsample` and the comparison.

    Attributes:
        warmup: while true, the loss is the plain cross-entropy, stage 1 of Algorithm 1.
        logits: (B, C), detached, of the last call.
        targets: (B, C), detached, of the last call: q, or the one-hot labels while warming up.
        similarities: (B, C), detached, of the last call: what q was made of; None while warming up.
        cross_entropy: scalar, detached, of the last call: L(p, y), before `weight`.

    With `refresh` below 1 the similarities, float32 (N, C), and the number of calls are part of the `state_dict`; else
    the criterion has no state of its own.

    Raises:
        InputError: an option out of range or of an unknown name, or a model that is none.
        ExplanationError: a model in `nn.DataParallel` over several devices, in FSDP, in TorchScript or of torch.export.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    >>> criterion = IntrospectiveLoss(model)
    >>> x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    >>> criterion(x, y).backward()
    >>> bool(criterion.targets.sum(1).allclose(torch.ones(2))), criterion.targets[0, 0]
    (True, tensor(0.9000))
    """

    model: nn.Module
    logits: Tensor
    targets: Tensor
    similarities: Tensor | None
    cross_entropy: Tensor

    def __init__(
        self,
        model: nn.Module,
        saliency: str = "grad-cam",
        layer: nn.Module | str | None = None,
        alpha: float = 0.9,
        weight: float = 0.1,
        similarity: str = "cosine",
        relu: bool = False,
        refresh: float = 1.0,
        upsample: bool = False,
        centre: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        refuse_foreign(unwrap(model))  # what cannot be explained is refused now, not after the warm-up
        METHOD_SETTINGS["alpha"].check(alpha)
        METHOD_SETTINGS["weight"].check(weight)
        # Not registered as a part: the criterion has no parameters or mode of its own.
        self.__dict__["model"] = model
        self.alpha, self.weight, self.upsample = alpha, weight, upsample
        self.explainer, self.similarity = explaining(
            saliency, layer, similarity, relu, refresh, upsample, centre
        )
        self._reread = partial(Explainer, saliency, relu=relu, centre=centre)
        self.amortised = Amortised(refresh) if refresh < 1 else None
        self.warmup = False

    def forward(self, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        """The scalar loss of a batch x (B, ...) with labels y (B,), from one forward pass of the model.

        Args:
            x: (B, ...), the batch.
            y: int64 (B,).
            index: int64 (B,), the samples' ids, counted from 0: needed, and looked at, with `refresh` below 1 only.
                Best on the CPU, as a loader gives them.

        Raises:
            ExplanationError: the model cannot be explained, or every map is zero or one is not finite; of maps on CUDA
                the next call that explains says it (of calls that a CUDA graph of your own replays,
                `criterion.explainer.settle()`).
            InputError: labels or ids that are none, or no ids where they are needed.
        """
        if self.warmup:
            logits = as_logits(self.model(x))
            check_labels(y, *logits.shape)
            self.logits, self.targets = logits.detach(), F.one_hot(y, logits.shape[1]).to(logits.dtype)
            self.similarities = None
            loss = F.cross_entropy(logits, y)
            self.cross_entropy = loss.detach()
            return loss
        logits, similarity = self._exact(x, y) if self.amortised is None else self._amortised(x, y, index)
        if not (torch.is_grad_enabled() and self._learns(x)):
            logits = logits.detach()  # the graph was the explanation's own: there is nothing to be learned
        self.logits, self.similarities = logits.detach(), similarity
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            self.targets = self.soften(similarity, y)
        cross_entropy = F.cross_entropy(logits, y)
        self.cross_entropy = cross_entropy.detach()
        return losses.soft_cross_entropy(logits, self.targets) + self.weight * cross_entropy

    def read_as(self, plan: Plan) -> None:
        """Have Grad-CAM read the model as an earlier criterion's `explainer.plan` says, without a probe."""
        self.explainer = self._reread(plan=plan)

    def _learns(self, x: Tensor) -> bool:
        return x.requires_grad or any(parameter.requires_grad for parameter in self.model.parameters())

    def _exact(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits with their graph and similarities, both (B, C), of the model as it is now."""
        if not self.upsample:
            return self.explainer.compare(self.model, x, y, self.similarity)
        size = x.shape[-2], x.shape[-1]
        return self.explainer.compare(
            self.model, x, y, lambda maps, labels: self.similarity(similarities.upsampled(maps, size), labels)
        )

    def _amortised(self, x: Tensor, y: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same, but the similarities may be what these samples were given before."""
        if index is None or self.amortised is None:
            raise InputError(
                "refresh below 1 needs to know the samples: call criterion(x, y, index) with their ids, int64 (batch,)"
            )
        if isinstance(index, Tensor) and index.dim() == 1 and len(index) != len(y):
            raise InputError(f"index must have an id for each of {len(y)} samples, not {len(index)}")
        known = self.amortised.recall(index, y.device)
        if known is None:
            logits, similarity = self._exact(x, y)
            self.amortised.table.write(index, similarity)
            return logits, similarity
        logits = as_logits(self.model(x))
        if logits.shape[1] != known.shape[1]:
            raise InputError(
                f"what is kept of the samples are similarities to {known.shape[1]} classes, but the model has "
                f"{logits.shape[1]}: make a new criterion"
            )
        return logits, known.to(as_float(logits).dtype)

    def soften(self, similarity: Tensor, labels: Tensor) -> Tensor:
        """The targets q (B, C) made of similarities (B, C): Eq. 6."""
        return targets.introspective(similarity, labels, self.alpha)

    def extra_repr(self) -> str:
        """The settings, as they are printed."""
        refresh = f", refresh={self.amortised.share}" if self.amortised else ""
        return f"saliency={self.explainer.saliency!r}, alpha={self.alpha}, weight={self.weight}{refresh}"
