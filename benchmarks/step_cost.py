"""What a training step of every method costs beside one of plain cross-entropy.

    python -m benchmarks.step_cost [--device cuda] [--smoke]

Each method trains a network of its own, from equal initial weights, with the library's own methods and plain SGD
(momentum, weight decay); a step is forward, loss, backward and update, on a batch of random images that is new in every
step and made outside of the measured time. Everyone has the same memory format (channels_last), threads and precision.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import harness, networks
from selftaught.errors import InputError
from selftaught.methods import registry

INTRO = """A step of every method beside a step of plain cross-entropy (ce) on the same network: forward, loss,
backward, update by SGD with momentum and weight decay. All begin with equal weights and take steps in turn in one
process, each on a fresh batch of random images that is made before its time begins; same memory format
(channels_last), threads and precision (float32). Methods of two stages are in their second. Teachers are untrained:
they cost what trained ones cost, and training them is not counted.

- **ms**: median of a step. **× ce**: median over rounds of its time over ce's in the same round; **low**, **high**:
  the quartiles. For `refresh=r` a turn is 1/r steps, one of them with an explanation, all soft labels being known.
- **floor × ce**: the plain way to do what the method is about and nothing else, measured in the same rounds: a ce step
  and a backward pass per class to the images (gradient saliencies; BatchNorm's statistics held constant), or a ce step
  and the teacher's forward pass. For `refresh=r` it is calculated: one of 1/r steps has the former. None: ce itself.
- **MB**: the most that torch had allocated for a network's training, with weights, momentum and teacher; **MB × ce**:
  its ratio to ce's."""

COLUMNS = ["method", "ms", "× ce", "low", "high", "floor × ce", "MB", "MB × ce"]
GRADIENT_SALIENCIES = ("grad", "grad-input", "guided-backprop")


@dataclass(frozen=True)
class Variant:
    """A method with settings, under the name that it has in the table."""

    label: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Steps until it has done everything once."""
        return round(1 / self.settings.get("refresh", 1.0))


@dataclass(frozen=True)
class Setting:
    """A network, its data's shape, and who is measured on it; `others` are the networks that are learnt from."""

    model: str
    batch: int
    classes: int
    variants: tuple[Variant, ...]
    channels: int = 3
    size: int = 32
    others: tuple[tuple[str, str], ...] = (("teacher", "resnet26"), ("assistant", "resnet20"))
    addition: str = ""

    @property
    def heading(self) -> str:
        shape = f"{self.channels}×{self.size}×{self.size}"
        return f"{self.model}, {shape}, batch {self.batch}, {self.classes} classes{self.addition}"

    def other(self, role: str) -> str:
        """The network in this role for the student; a twin is the student's own."""
        return {"twin": self.model, **dict(self.others)}[role]


def explained(*saliencies: str, refresh: Iterable[float] = ()) -> list[Variant]:
    """LE by its maps, and with a share of gradient explanations."""
    exact = [Variant(f"le ({saliency})", "le", {"saliency": saliency}) for saliency in saliencies]
    return exact + [
        Variant(f"le (grad, refresh={share})", "le", {"saliency": "grad", "refresh": share})
        for share in refresh
    ]


def everyone(spatial: bool) -> tuple[Variant, ...]:
    """All methods; LE by all the maps that the network has."""
    rest = [Variant(name, name) for name in registry.names() if name not in ("le", "le-permut")]
    maps = ("grad-cam", *GRADIENT_SALIENCIES) if spatial else GRADIENT_SALIENCIES
    permuted = Variant(f"le-permut ({maps[0]})", "le-permut", {"saliency": maps[0]})
    return (*rest[:4], *explained(*maps, refresh=(0.25, 0.1)), permuted, *rest[4:])


def some(*methods: str, saliencies: Sequence[str] = ("grad-cam",)) -> tuple[Variant, ...]:
    """These methods and LE."""
    return (*(Variant(method, method) for method in methods), *explained(*saliencies))


def mlp(batch: int, classes: int, variants: tuple[Variant, ...]) -> Setting:
    """The paper's perceptron on images of MNIST's shape; it learns from its like."""
    others = (("teacher", "mlp"), ("assistant", "mlp"))
    return Setting("mlp", batch, classes, variants, channels=1, size=28, others=others)


def settings(smoke: bool) -> list[Setting]:
    """What is measured, in the order of the page."""
    if smoke:
        few = (*some("ce", "kd"), *explained("grad", refresh=(0.5,)))
        return [
            mlp(4, 3, some("ce", "hint", saliencies=["grad"])),
            Setting("resnet8", 4, 3, few, size=8),
        ]
    small = (("teacher", "resnet26"), ("assistant", "resnet14"))
    wide = some("ce", "ls", "kd", "dml", saliencies=["grad-cam", "grad"])
    many = some("ce", "ls", "kd")
    return [
        mlp(16, 10, everyone(spatial=False)),
        mlp(128, 10, everyone(spatial=False)),
        Setting("resnet8", 128, 10, everyone(spatial=True), others=small),
        Setting("resnet14", 128, 10, everyone(spatial=True)),
        # Few contestants, many rounds: differences of a percent.
        Setting("resnet14", 128, 10, some("ce", "ls", "le-uniform"), addition=", more rounds"),
        Setting("resnet18", 16, 10, wide, others=(("teacher", "resnet34"),)),
        *(
            Setting(model, 128, classes, many)
            for model in ("resnet14", "resnet26")
            for classes in (100, 1000)
        ),
    ]


PROFILED = "mlp, 1×28×28, batch 128, 10 classes", "resnet14, 3×32×32, batch 128, 10 classes"
"""The settings of which the operators are shown."""


class Trainer:
    """A network that learns by one method.

    Raises:
        InputError: the method cannot be used with the networks of the setting.
    """

    def __init__(self, setting: Setting, variant: Variant, device: torch.device) -> None:
        torch.manual_seed(0)
        self.setting, self.device, self.window = setting, device, variant.window
        cls = registry.find(variant.method)
        chosen = registry.settings(variant.method) | variant.settings
        options = registry.model_options(variant.method, chosen)
        self.student, *peers = (self.network(setting.model, **options) for _ in range(1 + cls.peers))
        self.teacher = self.network(setting.other(cls.learns_from)) if cls.learns_from else None
        example = self.batch()[0][:2]
        self.method = registry.create(
            variant.method, self.student, self.teacher, peers, example, **variant.settings
        ).to(device)
        self.optimizer = torch.optim.SGD(self.method.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
        # The same numbers in every step: past the first each sample has been explained, as in any later epoch.
        self.index = torch.arange(setting.batch)

    def network(self, name: str, **options: Any) -> nn.Module:
        """A network for the setting's data, with random weights."""
        setting = self.setting
        return self._placed(networks.create(name, setting.classes, setting.channels, setting.size, **options))

    def _placed(self, module: nn.Module) -> nn.Module:
        layout = torch.contiguous_format if self.device.type == "cuda" else torch.channels_last
        return module.to(self.device, memory_format=layout).train()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Random images and labels."""
        setting = self.setting
        x = torch.randn(setting.batch, setting.channels, setting.size, setting.size, device=self.device)
        y = torch.randint(setting.classes, (setting.batch,), device=self.device)
        return x.contiguous(memory_format=torch.channels_last), y

    def turn(self) -> float:
        """The mean seconds of a step, over as many as it takes to do everything once."""
        return sum(self._timed(self.step) for _ in range(self.window)) / self.window

    def step(self, x: Tensor, y: Tensor) -> None:
        """One training step."""
        self.optimizer.zero_grad()
        self.method(x, y, self.index).loss.backward()
        self.optimizer.step()

    def and_vjps(self) -> float:
        """The seconds of a step and of a plain backward pass to the images for every class."""
        seconds = self._timed(self.step)
        x, _ = self.batch()
        # Statistics held constant, as the maps have them: cheaper than the backward pass through a batch's statistics.
        logits = self.student.eval()(x.requires_grad_())
        self.student.train()
        totals = logits.sum(0)

        def vjps() -> None:
            for total in totals:
                torch.autograd.grad(total, x, retain_graph=True)

        return seconds + harness.timed(vjps)

    def and_forward(self, network: nn.Module) -> Callable[[], float]:
        """The seconds of a step and of a forward pass of `network`, which learns nothing."""
        network.eval().requires_grad_(False)
        return lambda: self._timed(self.step) + self._timed(lambda x, _: network(x))

    def _timed(self, call: Callable[[Tensor, Tensor], object]) -> float:
        batch = self.batch()
        return harness.timed(lambda: call(*batch))


def floor_of(variant: Variant) -> str | None:
    """The name of the floor's contestant."""
    if variant.settings.get("saliency") in GRADIENT_SALIENCIES:
        return "floor: vjps"
    role = registry.find(variant.method).learns_from
    return f"floor: {role}" if role else None


def floors(
    setting: Setting, variants: Sequence[Variant], device: torch.device
) -> dict[str, Callable[[], float]]:
    """The contestants that do nothing but what cannot be avoided, by name."""
    found: dict[str, Callable[[], float]] = {}
    for variant in variants:
        name = floor_of(variant)
        if name is None or name in found:
            continue
        plain = Trainer(setting, Variant("ce", "ce"), device)
        role = registry.find(variant.method).learns_from
        found[name] = plain.and_forward(plain.network(setting.other(role))) if role else plain.and_vjps
    return found


def peak(setting: Setting, variant: Variant, device: torch.device) -> int:
    """Bytes that training takes at its peak, the network itself included."""
    trainers: list[Trainer] = []

    def prepare() -> None:
        trainers.append(Trainer(setting, variant, device))
        trainers[0].turn()  # gradients and momentum are there from now on

    found = harness.peak_memory(lambda: trainers[0].turn(), device, prepare)
    trainers.clear()
    return found


def measure(page: harness.Page, setting: Setting, device: torch.device, rounds: int, seconds: float) -> None:
    """Add the table of a setting."""
    trainers: dict[str, Trainer] = {}
    refused: list[str] = []
    for variant in setting.variants:
        try:
            trainers[variant.label] = Trainer(setting, variant, device)
        except InputError:
            refused.append(variant.label)
    variants = [variant for variant in setting.variants if variant.label in trainers]
    turns = {label: trainer.turn for label, trainer in trainers.items()} | floors(setting, variants, device)
    found = harness.alternate(turns, "ce", rounds, seconds, warm_up=1)
    del trainers, turns
    peaks = {variant.label: peak(setting, variant, device) / 2**20 for variant in variants}
    rows = []
    for variant in variants:
        timing, megabytes = found[variant.label], peaks[variant.label]
        times = [1000 * timing.seconds, timing.ratio, timing.low, timing.high, floor(variant, found)]
        rows.append([variant.label, *times, megabytes, megabytes / peaks["ce"]])
    page.table(setting.heading, COLUMNS, rows, _note(setting, variants, refused, found["ce"].rounds))


def _note(setting: Setting, variants: Sequence[Variant], refused: Sequence[str], rounds: int) -> str:
    roles = {registry.find(variant.method).learns_from for variant in variants} - {""}
    sentences = [f"Medians of {rounds} rounds."]
    if roles:
        sentences.append(
            f"{', '.join(f'{role}: {setting.other(role)}' for role in sorted(roles))}.".capitalize()
        )
    if refused:
        sentences.append(f"Not for this network, which has no blocks to compare: {', '.join(refused)}.")
    return " ".join(sentences)


def floor(variant: Variant, found: harness.Comparison) -> float | None:
    """The ratio of what a method is about alone; None where that is the step of ce."""
    name = floor_of(variant)
    return None if name is None else 1 + (found[name].ratio - 1) / variant.window


def profiled(
    page: harness.Page, setting: Setting, variant: Variant, device: torch.device, steps: int
) -> None:
    """Add a table of the operators that take most of a step's time."""
    trainer = Trainer(setting, variant, device)
    trainer.turn()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as recorded:
        for _ in range(steps):
            trainer.turn()
    kind = "device" if device.type == "cuda" else "cpu"
    events = [(getattr(e, f"self_{kind}_time_total"), e.count, e.key) for e in recorded.key_averages()]
    total = sum(time for time, _, _ in events)
    top = sorted(events, reverse=True)[:8]
    # The profiler counts microseconds.
    rows = [[key, time / steps / 1000, count / steps, time / total] for time, count, key in top]
    heading = f"Where the time of {variant.label} goes: {setting.heading}"
    columns = ["operator", "ms per step", "calls per step", "share of time"]
    page.table(heading, columns, rows, f"torch.profiler, time of the operators themselves, {steps} steps.")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure everything and write the page."""
    parser = harness.arguments(__doc__, seconds=20)
    harness.add_device(parser)
    args = parser.parse_args(argv)
    device = args.device
    rounds, seconds = (2, 0.0) if args.smoke else (200, args.seconds)
    page = harness.Page(harness.page_name("step_cost", device), "What a step costs", INTRO)
    chosen = settings(args.smoke)
    for setting in chosen:
        measure(page, setting, device, rounds, seconds)
        page.write(args.out)  # what has been measured is kept, whatever comes
    [by_gradient] = explained("grad")
    for setting in chosen:
        if args.smoke or setting.heading in PROFILED:
            profiled(page, setting, by_gradient, device, steps=1 if args.smoke else 5)
    page.write(args.out)


if __name__ == "__main__":
    main()
