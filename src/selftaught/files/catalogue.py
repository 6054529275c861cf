"""The training methods by name: what is said of them where torch is not needed.

How one trains, and which of `selftaught.files.settings.MethodSettings` it has, says its class in `selftaught.methods`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from selftaught import errors


@dataclass(frozen=True)
class Known:
    """A method in one line, and whether it trains nothing but the head of a pretrained network."""

    summary: str
    head_only: bool = False


METHODS = {
    "ce": Known("cross-entropy with one-hot labels: plain training"),
    "dropout": Known("cross-entropy with dropout at the end of each block stage"),
    "ls": Known("label smoothing: alpha on the true class, the rest even"),
    "cp": Known("confidence penalty: cross-entropy minus strength times the entropy"),
    "le": Known("learning with explanations: soft labels from the model's own saliency maps"),
    "le-permut": Known("LE with each sample's other soft labels shuffled: similarity destroyed (ablation)"),
    "le-uniform": Known("LE with even soft labels: the control that isolates the explanations"),
    "le-teacher": Known(
        "LE with a bigger network's responses for explanations: similarity from outside (control)"
    ),
    "kd": Known("knowledge distillation: a bigger network's softened outputs, and the label"),
    "cwtm": Known("the label, each sample weighted by the teacher's confidence"),
    "cwtm-permut": Known("CWTM with the confidences shuffled among the samples of a batch"),
    "cwtm-random": Known("CWTM with random confidences from [beta, 1): no teacher"),
    "dkpp": Known("knowledge distillation with the teacher's other outputs shuffled: similarity destroyed"),
    "ban": Known("born-again network: the outputs of a twin trained before, no label"),
    "ban+l": Known("born-again network, and the label"),
    "dml": Known("deep mutual learning: two networks at the same time, each learns from the other too"),
    "hint": Known("FitNets: first the teacher's features of one block, then knowledge distillation"),
    "at": Known("attention transfer: where the teacher looks, at every block, and knowledge distillation"),
    "fsp": Known("first the teacher's flows between blocks (Gram matrices), then knowledge distillation"),
    "takd": Known("knowledge distillation in two steps: teacher to assistant, assistant to student"),
    "probe": Known(
        "linear probe: logistic regression on a pretrained network's frozen features", head_only=True
    ),
}
"""By name, baselines first."""

PROBE = next(name for name, method in METHODS.items() if method.head_only)
"""The method of a run that trains no network: a linear classifier on the features of a pretrained one."""


def check_names(methods: Iterable[str]) -> None:
    """Refuse the name of no method.

    Raises:
        InputError: naming it, and the nearest one.
    """
    for name in methods:
        if name not in METHODS:
            raise errors.unknown("method", name, METHODS)
