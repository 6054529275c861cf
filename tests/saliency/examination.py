"""Each random network explained by the library and by the definition of Grad-CAM, before and after a change.

    python -m tests.saliency.examination FIRST LAST

prints what was found of the seeds from FIRST up to, not including, LAST.
"""

import collections
import copy
import random
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selftaught import IntrospectiveLoss
from selftaught.errors import ExplanationError
from selftaught.saliency import Explainer, Explanation, explain
from selftaught.saliency.plan import Plan
from tests.oracles import targets as oracle
from tests.oracles.naive_gradcam import Naive, difference, logits_of, naive_grad_cam, seed_everything
from tests.oracles.similarity import cosine
from tests.saliency.random_networks import Case, create, redraw

#: Relative to each map's own scale, sum |A| · mean |gradient|: float32 rounds each product and sum to 6e-8 of it, and
#: what the layers between make of that is a few dozen times as much.
TOLERANCE = 1e-5


@dataclass
class Finding:
    """What became of one seed.

    Attributes:
        seed: of the network.
        design: what it is made of.
        faults: what is wrong, in words; empty where all is as it should be.
        notes: where a better layer could have been taken.
        refused: the messages of refusals.
        forms: the layer, run and head of each plan seen.
        worst: the largest difference of maps.
    """

    seed: int
    design: str
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    worst: float = 0.0


def examine(seed: int) -> Finding:
    """Explain a seed's network in every way, and compare all that is said with the definition."""
    case = create(seed)
    finding = Finding(seed, case.design)
    draw = random.Random(seed)
    some = sorted(draw.sample(range(case.classes), k=min(2, case.classes)), reverse=True)
    ways = {
        "explain": lambda x, y: explain(case.model, x),
        "explain classes=": lambda x, y: explain(case.model, x, classes=some),
        "Explainer": lambda x, y: explainer(case.model, x.clone()),
        "IntrospectiveLoss": lambda x, y: _learn(criterion, x.clone(), y),
    }
    explainer, criterion = Explainer(), IntrospectiveLoss(case.model)
    for when, (x, y) in zip(("first", "second"), case.batches, strict=True):
        if when == "second":
            case.change(lambda: _loss(case).backward())
        examination = Examination(case, finding, copy.deepcopy(case.model), x, y, some)
        given = draw.choice(examination.layers())
        ways["explain layer="] = lambda x, y, given=given: explain(case.model, x, layer=given)
        for name, way in ways.items():
            # Each way begins with the same statistics and power iterations, so that one reference serves all.
            case.model.load_state_dict(examination.before.state_dict())
            try:
                examination.compare(way, f"{when} {name}")
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
                finding.faults.append(f"{when} {name}: {type(error).__name__} at {place}: {str(error)[:150]}")
    return finding


def _learn(criterion: IntrospectiveLoss, x: Tensor, y: Tensor) -> Any:
    criterion(x, y)
    return criterion


def _loss(case: Case) -> Tensor:
    """A loss of the first batch that asks nothing of the library."""
    x, y = case.batches[0]
    loss = torch.nn.functional.cross_entropy(logits_of(case.model(x.clone())), y)
    return loss if loss.requires_grad else loss + 0 * torch.zeros((), requires_grad=True)


@dataclass
class Examination:
    """One batch, explained in several ways that are compared with one reference."""

    case: Case
    finding: Finding
    before: nn.Module
    x: Tensor
    y: Tensor
    some: list[int]
    references: dict[tuple[str, int, bool], Naive] = field(default_factory=dict)
    pictures: bool = True

    def compare(self, way: Any, name: str) -> None:
        """One way to explain the batch, against the definition."""
        given = name.endswith("layer=")
        seed_everything(self.case.seed)
        x = self.x.clone()
        try:
            found = way(x, self.y)
        except ExplanationError as error:
            if not given:
                self._refused(name, str(error))
            return
        if "explain" in name and not torch.equal(x, self.x):
            self.fault(name, "the caller's x was changed")
        explained = isinstance(found, Explanation)
        plan = found.plan if explained else found.explainer.plan
        said = f"{plan.layer}[{plan.run}] {plan.head}"
        if said not in self.finding.forms:
            self.finding.forms.append(said)
        if not given and not self._may_be_taken(plan, name):
            return
        if explained:
            self.pictures = (
                found.maps.dim() - 2 == len(self.case.grid or ()) and found.maps.shape[2:] == self.case.grid
            )
        naive = self._reference(plan.layer, plan.run)
        if name.endswith("classes="):
            maps, scale = naive.maps[:, self.some], naive.scale[:, self.some]
            naive = replace(naive, maps=maps, scale=scale)
        if explained:
            gap = difference(found.maps, naive)
            self.finding.worst = max(self.finding.worst, gap)
            if not gap <= TOLERANCE:
                self.fault(name, f"maps differ by {gap:.1e} at {said}")
            if not name.endswith("classes=") and (why := _useless(naive)):
                self._judge_useless(plan, name, f"{why} at {said}")
        else:
            self._judge_targets(found, naive, name, said)
        if not torch.allclose(found.logits.detach(), naive.logits, rtol=1e-4, atol=1e-5):
            self.fault(name, "the logits differ")

    def layers(self) -> list[str]:
        """The names of parts that one might ask for: those that run where they are good, but for attention's own."""
        good = {module for module, inside in _good_calls(self.before, self.x) if inside}
        return [
            name
            for name, module in self.before.named_modules()
            if module in good and not hasattr(module, "never") and not hasattr(module, "unclear")
        ]

    def fault(self, name: str, what: str) -> None:
        self.finding.faults.append(f"{name}: {what}")

    def note(self, what: str) -> None:
        self.finding.notes.append(what)

    def _refused(self, name: str, message: str) -> None:
        self.finding.refused.append(f"{name}: {message}")
        if self._could_be_explained():
            self.fault(name, f"refused, though a layer would do: {message}")
        if "\n" in message:
            self.fault(name, "refused in more than one line")

    def _judge_useless(self, plan: Plan, name: str, why: str) -> None:
        """A plan is judged when it is made, and by what the network is: not by a chance of its weights."""
        others = []
        for _ in range(2):
            other = copy.deepcopy(self.before)
            redraw(other)
            others.append(self._definition(other, plan.layer, plan.run))
        by_construction = name.startswith("first") and all(_useless(naive) for naive in others)
        self.fault(name, why) if by_construction else self.note(why)

    def _could_be_explained(self) -> bool:
        """Whether the last of the parts that are good by construction has maps to learn from."""
        calls = [module for module, _ in _good_calls(self.before, self.x)]
        last = next(module for module in reversed(calls) if hasattr(module, "good"))
        name = next(name for name, module in self.before.named_modules() if module is last)
        run = max(
            0, calls.count(last) - 1 - (name == "relu")
        )  # the one ReLU's last run is after a linear layer
        return not _useless(self._reference(name, run))

    def _reference(self, layer: str, run: int) -> Naive:
        key = layer, run, self.pictures
        if key not in self.references:
            self.references[key] = self._definition(self.before, layer, run)
        return self.references[key]

    def _definition(self, model: nn.Module, layer: str, run: int) -> Naive:
        dim = _channel_dim(model, layer)
        picture = self.pictures and dim == -1 and self.case.grid is not None
        tokens = (self.case.leave_out, self.case.grid) if picture else (0, None)
        return naive_grad_cam(model, self.x, layer, run, dim, self.case.seed, *tokens)

    def _may_be_taken(self, plan: Plan, name: str) -> bool:
        layer = self.before.get_submodule(plan.layer)
        if hasattr(layer, "never"):
            self.fault(name, f"{plan.layer} was taken, {layer.never}")
            return False
        good = [inside for module, inside in _good_calls(self.before, self.x) if module is layer]
        if not good[plan.run]:
            self.note(f"{plan.layer}[{plan.run}] is not where the last good part ends")
        return True

    def _judge_targets(self, criterion: IntrospectiveLoss, naive: Naive, name: str, said: str) -> None:
        """Soft labels, where rounding does not decide them.

        A cosine is known as well as the two maps are, relative to their length; a share as well as the cosines,
        relative to the sum of all that is shared.
        """
        maps = naive.maps.double().flatten(2)
        pairs = zip(maps.numpy(), self.y, strict=True)
        cosines = np.array([[cosine(one, sample[label]) for one in sample] for sample, label in pairs])
        expected = oracle.introspective(cosines, self.y, criterion.alpha)
        doubt = TOLERANCE * naive.scale.double() * maps.shape[2] ** 0.5 / maps.norm(dim=2)
        doubt = doubt.nan_to_num(0, posinf=1e9)
        doubt = (doubt + doubt.gather(1, self.y[:, None])).numpy()
        shared = (cosines + 1).sum(1) - 2
        allowed = (1 - criterion.alpha) * doubt.max(1) * 2 / np.maximum(shared, 1e-9) + 1e-6
        gap = np.abs(criterion.targets.double().numpy() - expected).max(1)
        wrong = np.flatnonzero((gap > allowed) & (allowed < 1e-2))
        if wrong.size:
            worst = wrong[gap[wrong].argmax()]
            said = f"by up to {gap[worst]:.1e} (allowed {allowed[worst]:.1e}) at {said}"
            self.fault(name, f"targets of {wrong.size} of {len(gap)} samples differ {said}")


def _useless(naive: Naive) -> str:
    """Why nothing can be learned from such maps, which are to be refused; nothing if something can be."""
    size = naive.maps.abs().flatten(2).amax(2)
    if bool((size <= 100 * torch.finfo(size.dtype).eps * naive.scale).all()):
        return "the maps are nothing but rounding"
    if size.shape[1] == 2:
        return ""  # the soft labels of two classes are the same whatever their maps
    unit = torch.nn.functional.normalize(naive.maps.double().flatten(2), dim=2)
    cosines = (unit @ unit.mT).abs()
    alike = (cosines > 1 - 1e-6) | (cosines == 0)
    return "every class's map is the same up to a factor" if bool(alike.all()) else ""


def _channel_dim(model: nn.Module, name: str) -> int:
    """Where the output of a part keeps its channels: what was said of it, or of the nearest part that holds it."""
    while name:
        own = vars(model.get_submodule(name)).get("channel_dim")
        if own is not None:
            return own
        name = name.rpartition(".")[0]
    return 1


def _good_calls(model: nn.Module, x: Tensor) -> list[tuple[nn.Module, bool]]:
    """Modules as their calls end, each with whether it ends within a part that is marked as good."""
    twin, calls, depth = copy.deepcopy(model), [], 0
    theirs = dict(zip(twin.modules(), model.modules(), strict=True))

    def enter(module, *_):
        nonlocal depth
        depth += hasattr(module, "good")

    def leave(module, *_):
        nonlocal depth
        calls.append((theirs[module], depth > 0 or hasattr(module, "returns_good")))
        depth -= hasattr(module, "good")

    for module in twin.modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    with torch.no_grad():
        twin(x.clone())
    return calls


def main(first: int, last: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begun, kinds = time.perf_counter(), collections.Counter()
    for seed in range(first, last):
        finding = examine(seed)
        kinds["faulty" if finding.faults else "refused" if finding.refused else "equal"] += 1
        for note in sorted(set(finding.notes)):
            print(f"{seed}: note: {note} ({finding.design})", flush=True)
        if finding.faults:
            print(f"{seed}: {finding.design}\n      plans: {finding.forms}, worst {finding.worst:.1e}")
            for fault in finding.faults:
                print(f"    - {fault}")
    print(dict(kinds), f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
