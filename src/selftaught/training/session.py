"""What one run needs in memory: method, networks, optimiser, schedule and batches, on their device."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from selftaught import models
from selftaught.activities import OnActivity, activity, nobody
from selftaught.data import ImageData
from selftaught.data.batches import Batches
from selftaught.data.streaming import Images
from selftaught.errors import DegenerateMapsError, InputError
from selftaught.files.config import RunConfig
from selftaught.methods import Method, Step, View, registry
from selftaught.training import classifiers, environment, optimising, recording, seeds, teachers
from selftaught.training.averaging import Average
from selftaught.training.class_weights import ClassWeights
from selftaught.training.presets import data_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def memory_format(config: RunConfig) -> torch.memory_format:
    """How networks and batches lie in memory: as it suits the convolutions.

    Channels last they are a quarter to a third faster on CPUs, and in half precision twice as fast on GPUs, which in
    float32 are 1.5 times as fast without (a step of ResNet8 on an H200).
    """
    plain = config.device == "cuda" and config.precision == "32-true"
    return torch.contiguous_format if plain else torch.channels_last


@dataclass
class Session:
    """The parts of a run.

    Attributes:
        config: what is trained.
        fabric: device and precision.
        method: from a batch to its loss; its networks are wrapped by Fabric.
        optimizer: what trains all of the method's parameters, wrapped as well.
        schedule: its learning rate.
        batches: the training images.
        images: all of the data.
        source: the user's own code that made the network, as it was then.
        networks: the model and its peers, without their wrappers.
        wrapped: the same in their wrappers.
        classifiers: the last layer of each network, where it is trained in a way of its own.
        recorded: whether steps are recorded and replayed where they can be.
        recorder: there where steps are recorded and replayed.
        average: there where weights are averaged.
    """

    config: RunConfig
    fabric: "Fabric"
    method: Method
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    batches: Batches
    images: ImageData
    source: bytes | None
    networks: list[nn.Module]
    wrapped: list[nn.Module]
    classifiers: dict[nn.Module, nn.Linear] = field(default_factory=dict)
    on_activity: OnActivity = nobody
    recorded: bool = True
    recorder: recording.Recorder | None = field(default=None, init=False)
    average: Average | None = field(default=None, init=False)
    _class_weights: ClassWeights | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._begin_recording()
        self.begin_average()
        if self.config.class_weights == "balanced":
            labels, classes = self.images.train_labels, self.images.num_classes
            self._class_weights = ClassWeights(labels.to(self.fabric.device), classes, self.networks)

    def begin_average(self) -> None:
        """Begin the average of the weights, where there is one, with what they are now."""
        if self.config.ema or self.config.blend < 1:
            self.average = Average(self.network, self.config.ema, self.config.blend)

    def _begin_recording(self) -> None:
        if self.recorded and recording.is_on(self.config, self.method):
            self.recorder = recording.Recorder(list(self.method.parameters()), self.fabric.device)

    def adopt_average(self) -> None:
        """Make the average of the weights the network, with statistics of batch normalisation that fit it.

        They are those of the training images as they would be augmented in a further epoch.
        """
        if self.average is None:
            return
        self.average.adopt()
        if self.config.batch_norm == "train":
            self.train_mode()
            with closing(self.batches.epoch(self.config.epochs)) as batches:
                update_bn((x for x, _ in batches), self.model)

    def stepping(self) -> AbstractContextManager[None]:
        """Where steps have to be taken, and the batches made that they take."""
        return nullcontext() if self.recorder is None else self.recorder.stream()

    def step(self, x: Tensor, y: Tensor, index: Tensor, view: View | None = None) -> Step:
        """One optimiser step on a batch, see `Method.forward`.

        The learning rate stays as it is. What is returned has no graph, and is not overwritten by the next step.

        Raises:
            ExplanationError: there is nothing to explain.
        """
        compute = partial(self.with_gradients, index=index, view=view)
        step = self.recorder(compute, x, y, self.method.warming_up) if self.recorder else compute(x, y)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return step

    def with_gradients(
        self, x: Tensor, y: Tensor, index: Tensor | None = None, view: View | None = None
    ) -> Step:
        """The step of a batch; its gradients are in the parameters, in place of those before."""
        self.optimizer.zero_grad()
        step: Step = self.method(x, y, index, view)
        with self._class_weights.of(y) if self._class_weights else nullcontext():
            self.fabric.backward(step.loss)
        return replace(step, loss=step.loss.detach())

    @property
    def model(self) -> nn.Module:
        """The model in its wrapper."""
        return self.wrapped[0]

    @property
    def network(self) -> nn.Module:
        """The model without its wrapper."""
        return self.networks[0]

    def state(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors and plain values."""
        return {
            # By parts: a wrapper of Fabric saves and loads what it wraps, but not as a part of another module.
            "parts": {name: part.state_dict() for name, part in self.method.named_children()},
            "own": dict(self._own_tensors()),
            "found": self.method.get_extra_state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "average": self.average.state() if self.average else None,
            "buffers": self._unsaved_buffers(),
            **seeds.state(self.fabric.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        for name, part in self.method.named_children():
            part.load_state_dict(state["parts"][name])
        with torch.no_grad():
            for name, tensor in self._own_tensors():
                tensor.copy_(state["own"][name])
        self.method.set_extra_state(state["found"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.average:
            self.average.restore(state["average"])
        for name, buffer in self._unsaved_buffers().items():
            buffer.copy_(state["buffers"][name])
        seeds.restore(state, self.fabric.device)
        # What was recorded may write to what the method has left behind.
        self._begin_recording()

    def _own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers of the method itself, in none of its parts."""
        yield from self.method.named_parameters(recurse=False)
        yield from self.method.named_buffers(recurse=False)

    def _unsaved_buffers(self) -> dict[str, Tensor]:
        """Those of the method and its parts that a state dict leaves out (``persistent=False``)."""
        return {
            f"{path}.{name}": buffer
            for path, module in self.method.named_modules()
            for name, buffer in module.named_buffers(recurse=False)
            if name in module._non_persistent_buffers_set
        }

    def train_mode(self) -> None:
        """The model and what is trained with it learn; a teacher never does."""
        self.method.train()
        if self.config.batch_norm == "frozen":
            for network in self.networks:
                freeze_statistics(network)

    def evaluation_batches(self, images: Images, labels: Tensor) -> Batches:
        """Images in their order, normalised as in training."""
        mean, std, size = self.images.mean, self.images.std, self.evaluation_size
        return Batches(
            images, labels, size, mean, std, self.fabric.device, memory_format=memory_format(self.config)
        )

    @property
    def evaluation_size(self) -> int:
        """Images per batch; as many as in training fit, since they did with their gradients."""
        return max(self.config.batch_size, 64)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return bool(torch.stack([p.isfinite().all() for p in self.method.parameters()]).all())


def start(
    config: RunConfig,
    images: ImageData,
    teacher: nn.Module | None = None,
    on_activity: OnActivity = nobody,
    recorded: bool = True,
) -> Session:
    """A session at step 0. Sets the global RNG.

    Trials with one seed are paired over methods: the initial weights and the order and augmentation of the
    batches depend on the seed alone. What a method itself draws comes from the global RNG, seeded last.

    Args:
        config: what to train.
        images: its data.
        teacher: the network that the method learns from, see `selftaught.training.teachers`; None where there is none.
        on_activity: hears what takes long, now and while the session is used.
        recorded: whether steps are recorded and replayed where they can be.

    Raises:
        InputError: the model's files are not those that the run was configured with, or there is no such device.
    """
    environment.check_device(config.device)
    source = models.source(config.model)
    if models.fingerprint(config.model, config.weights) != config.model_fingerprint:
        raise InputError(f"the files of model {config.model!r} have changed: start a new run")
    fabric = _fabric(config, on_activity)
    example = classifiers.example(images)
    networks = _networks(config, images)
    of_networks = classifiers.found(config, networks, example)
    # Each by itself and not the method as a whole, so that losses are computed in full precision.
    wrapped: list[nn.Module] = [fabric.setup_module(network) for network in networks]
    if teacher is not None:
        teacher = fabric.setup_module(teacher.to(memory_format=memory_format(config)))  # type: ignore[call-overload]
    method = registry.create(config.method, wrapped[0], teacher, wrapped[1:], example, **config.settings).to(
        fabric.device
    )
    trained = optimising.optimizer(config, method, classifiers.below(of_networks))
    optimizer: Any = fabric.setup_optimizers(trained)
    batches = _batches(config, images, fabric.device)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: optimising.lr_factor(config, step, len(batches))
    )
    seeds.seed_all(seeds.derive(config.seed, "method"))
    return Session(
        config,
        fabric,
        method,
        optimizer,
        schedule,
        batches,
        images,
        source,
        networks,
        wrapped,
        of_networks,
        on_activity,
        recorded,
    )


def _fabric(config: RunConfig, on_activity: OnActivity) -> "Fabric":
    # Imported late: it takes seconds, which whoever only reads a run, or is refused, need not wait for.
    with activity(on_activity, "loading Lightning Fabric"):
        from lightning_fabric import Fabric
    # Fabric announces the precision at every start; the record says it once.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator=config.device, devices=1, precision=config.precision)


def _networks(config: RunConfig, images: ImageData) -> list[nn.Module]:
    """The model, and as many peers as the method trains beside it, from streams of randomness of their own."""
    options = {**registry.model_options(config.method, config.settings), "weights": config.weights}

    def network() -> nn.Module:
        made = models.create(config.model, *_shapes(images), **options)
        return made.to(memory_format=memory_format(config))  # type: ignore[call-overload]

    seeds.seed_all(seeds.derive(config.seed, "init"))
    model = network()
    seeds.seed_all(seeds.derive(config.seed, "companions"))
    return [model, *(network() for _ in range(registry.find(config.method).peers))]


def _batches(config: RunConfig, images: ImageData, device: torch.device) -> Batches:
    return Batches(
        images.train_images,
        images.train_labels,
        config.batch_size,
        images.mean,
        images.std,
        device=device,
        seed=seeds.derive(config.seed, "batches"),
        padding=config.padding,
        flip=config.flip,
        min_scale=config.min_scale,
        memory_format=memory_format(config),
        originals=images.originals,
        policy=config.policy,
        erasing=config.erasing,
        sampling=config.sampling,
    )


def freeze_statistics(network: nn.Module) -> None:
    """Let batch normalisation use the statistics that it has, and leave them as they are; its weights still learn."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.eval()


def _shapes(images: ImageData) -> tuple[int, int, tuple[int, int]]:
    return images.num_classes, images.channels, images.image_size


def try_step(config: RunConfig, on_activity: OnActivity = nobody) -> None:
    """Take the method's first step on a few images, so that a wrong option is refused before anything is written.

    Raises:
        InputError: a layer or a saliency that the model does not have, images too small for it, ...
    """
    images = data_of(config, on_activity=on_activity)
    with seeds.contained(config.threads):
        seeds.seed_all(seeds.derive(config.seed, "init"))  # as a run does, which then need not build it again
        models.check_start(config.model, *_shapes(images))
        session = start(config, images, teachers.untrained(config, images), on_activity)
        session.method.start_epoch(config.warmup)
        x, y = next(
            iter(session.evaluation_batches(images.train_images[:8], images.train_labels[:8]).epoch(0))
        )
        # Eight images and an untrained model prove nothing about the maps' values; the run will tell.
        with suppress(DegenerateMapsError):
            session.method(x, y, torch.arange(len(y)))
