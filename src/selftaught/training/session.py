"""What one run needs in memory: model, objective, optimiser, schedule and batches, on their device."""

import logging
import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from selftaught import models
from selftaught.activities import activity
from selftaught.data import ImageData
from selftaught.data.batches import Batches
from selftaught.data.streaming import Images
from selftaught.errors import DegenerateMapsError, InputError
from selftaught.files.config import RunConfig
from selftaught.methods import Objective, Step, registry
from selftaught.methods.base import Casting
from selftaught.models import classifier_layer
from selftaught.training import environment, optimising, seeds, teachers
from selftaught.training.averaging import Average
from selftaught.training.presets import data_of
from selftaught.training.recording import SWITCH, Recorder
from selftaught.training.teaching import lineage

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
    """The parts of a run; `model` and `optimizer` are wrapped by Fabric for the device and the precision.

    `source` is the user's own code that made the network, as it was then. `companions` are trained with the model by
    the same optimiser. `classifiers` are the last layers of the model and its peers, by the network, where they are
    trained in a way of their own. `recorder` is there where steps are recorded and replayed, `average` where the
    weights are averaged.
    """

    config: RunConfig
    fabric: "Fabric"
    objective: Objective
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    batches: Batches
    images: ImageData
    source: bytes | None
    companions: dict[str, nn.Module] = field(default_factory=dict)
    classifiers: dict[nn.Module, nn.Linear] = field(default_factory=dict)
    recorder: Recorder | None = field(default=None, init=False)
    average: Average | None = field(default=None, init=False)
    _class_weights: Tensor = field(init=False)
    _weights: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._begin_recording()
        self.begin_average()
        if self.config.class_weights == "balanced":
            self._class_weights = balanced(self.images.train_labels, self.images.num_classes).to(
                self.fabric.device
            )
            for network in self.networks:
                network.register_forward_hook(self._weigh)

    def begin_average(self) -> None:
        """Begin the average of the weights, where there is one, with what they are now."""
        if self.config.ema or self.config.blend < 1:
            self.average = Average(self.network, self.config.ema, self.config.blend)

    def _begin_recording(self) -> None:
        if _records(self.config):
            self.recorder = Recorder(self._parameters(), self.fabric.device)

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

    def step(self, x: torch.Tensor, y: torch.Tensor, samples: torch.Tensor) -> Step:
        """One optimiser step on a batch: x (B, K, H, W), labels y (B,) and the numbers of its images, int64 (B,).

        The learning rate stays as it is. What is returned has no graph, and is not overwritten by the next step.

        Raises:
            ExplanationError: there is nothing to explain.
        """
        self.objective.start_step(samples)
        compute, recorder = self._with_gradients, self.recorder
        step = recorder(compute, x, y, self.objective.phase()) if recorder else compute(x, y)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return step

    def _with_gradients(self, x: torch.Tensor, y: torch.Tensor) -> Step:
        """The step of a batch; its gradients are in the parameters, in place of those before."""
        self.optimizer.zero_grad()
        step = self.objective.step(x, y)
        with self._weighing(y):
            self.fabric.backward(step.loss)
        return replace(step, loss=step.loss.detach())

    @contextmanager
    def _weighing(self, y: torch.Tensor) -> Iterator[None]:
        """While inside, each image's gradient counts as its class does."""
        if self.config.class_weights == "balanced":
            self._weights = self._class_weights[y]
        try:
            yield
        finally:
            self._weights = None

    def _weigh(self, _network: nn.Module, _inputs: Any, logits: torch.Tensor) -> None:
        """Multiply what flows back into each image's logits by the image's weight, in the loss's own backward only.

        A method's loss is a mean over the images of the batch: with its gradient weighted like this it is the gradient
        of the weighted mean, for all that is computed from the logits. What is computed from features (at, the first
        stage of hint and fsp) is not weighted. Explanations, which flow back through the logits too, stay as they are.
        """
        if logits.requires_grad:
            logits.register_hook(
                lambda flow: flow if self._weights is None else flow * self._weights[:, None]
            )

    def _parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        modules = (self.model, *self.companions.values())
        return [parameter for module in modules for parameter in module.parameters()]

    @property
    def network(self) -> nn.Module:
        """The model without its wrapper."""
        module: Any = self.model.module
        return module

    @property
    def networks(self) -> list[nn.Module]:
        """The model and its peers, without their wrappers."""
        peers: list[Any] = [*self.companions.values()] if self.objective.peers else []
        return [self.network, *(peer.module for peer in peers)]

    def state(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors and plain values."""
        cuda = self.fabric.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "companions": {name: module.state_dict() for name, module in self.companions.items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "objective": self.objective.state(),
            "average": self.average.state() if self.average else None,
            "buffers": self._unsaved_buffers(),
            "rng": torch.get_rng_state(),
            "python_rng": random.getstate(),
            "numpy_rng": _numpy_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.fabric.device) if cuda else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.model.load_state_dict(state["model"])
        for name, module in self.companions.items():
            module.load_state_dict(state["companions"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.objective.restore(state["objective"])
        if self.average:
            self.average.restore(state["average"])
        for name, buffer in self._unsaved_buffers().items():
            buffer.copy_(state["buffers"][name])
        version, numbers, gauss = state["python_rng"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(state["numpy_rng"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.fabric.device)
        # What was recorded may write to what the objective has left behind.
        self._begin_recording()

    def _unsaved_buffers(self) -> dict[str, torch.Tensor]:
        """Those that a state dict leaves out (``persistent=False``)."""
        networks = {"": self.network} | {f"{name}/": module for name, module in self.companions.items()}
        saved = {prefix: network.state_dict().keys() for prefix, network in networks.items()}
        return {
            prefix + name: buffer
            for prefix, network in networks.items()
            for name, buffer in network.named_buffers()
            if name not in saved[prefix]
        }

    def train_mode(self) -> None:
        """The model and its companions learn; a teacher never does."""
        for module in (self.model, *self.companions.values()):
            module.train()
        if self.config.batch_norm == "frozen":
            for network in self.networks:
                freeze_statistics(network)

    def evaluation_batches(self, images: Images, labels: torch.Tensor) -> Batches:
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
        return bool(torch.stack([parameter.isfinite().all() for parameter in self._parameters()]).all())


def start(config: RunConfig, images: ImageData, teacher: nn.Module | None = None) -> Session:
    """A session at step 0. Sets the global RNG.

    Trials with one seed are paired over methods: the initial weights and the order and augmentation of the
    batches depend on the seed alone. What a method itself draws comes from the global RNG, seeded last.

    Args:
        config: what to train.
        images: its data.
        teacher: whom the method learns from, see `selftaught.training.teachers`; None where it learns from nobody.

    Raises:
        InputError: the model's files are not those that the run was configured with, or there is no such device.
    """
    environment.check_device(config.device)
    # Imported late: it takes seconds, which whoever only reads a run, or is refused, need not wait for.
    with activity("loading Lightning Fabric"):
        from lightning_fabric import Fabric

    source = models.source(config.model)
    if models.fingerprint(config.model, config.weights) != config.model_fingerprint:
        raise InputError(f"the files of model {config.model!r} have changed: start a new run")
    objective = registry.create(config.method, **config.settings)
    seeds.seed_all(seeds.derive(config.seed, "init"))
    model = _network(config, images, objective)
    companions = _companions(config, images, objective, model, teacher)
    peers = list(companions.values()) if objective.peers else []
    classifiers = _classifiers(config, images, [model, *peers])
    below = _below(classifiers)
    optimizer = optimising.optimizer(config, [model, *companions.values()], below)
    # Fabric announces the precision at every start; the record says it once.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator=config.device, devices=1, precision=config.precision)
    wrapped, optimizer = fabric.setup(model, optimizer)
    companions = {name: fabric.setup_module(module) for name, module in companions.items()}
    if teacher is not None:
        teacher = fabric.setup_module(teacher.to(memory_format=memory_format(config)))  # type: ignore[call-overload]
    objective.bind(wrapped, teacher, companions)
    batches = Batches(
        images.train_images,
        images.train_labels,
        config.batch_size,
        images.mean,
        images.std,
        device=fabric.device,
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
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: optimising.lr_factor(config, step, len(batches))
    )
    seeds.seed_all(seeds.derive(config.seed, "method"))
    return Session(
        config,
        fabric,
        objective,
        wrapped,
        optimizer,
        schedule,
        batches,
        images,
        source,
        companions,
        classifiers,
    )


def _classifiers(
    config: RunConfig, images: ImageData, networks: list[nn.Module]
) -> dict[nn.Module, nn.Linear]:
    """The last layer of each network, where it begins with the probe's solution or has a rate of its own."""
    if config.head == "new" and config.backbone_factor == 1:
        return {}
    example = _example(images)
    remedy = "use --head new" if config.head == "probe" else "use --backbone-factor 1"
    return {network: classifier_layer.find(network, example, remedy)[1] for network in networks}


def _below(classifiers: dict[nn.Module, nn.Linear]) -> list[nn.Parameter]:
    """The parameters below the classifiers."""
    own = {id(parameter) for layer in classifiers.values() for parameter in layer.parameters()}
    return [p for network in classifiers for p in network.parameters() if id(p) not in own]


def _example(images: ImageData) -> torch.Tensor:
    """Two training images as the networks take them, on the CPU."""
    few = Batches(
        images.train_images[:2], images.train_labels[:2], 2, images.mean, images.std, torch.device("cpu")
    )
    with closing(few.epoch(0)) as batches:
        example, _ = next(iter(batches))
    return example


def balanced(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The weight of an image of each class, N / (C · its images), float32 (C,); 0 for classes without images."""
    counts = torch.bincount(labels.cpu(), minlength=classes).float()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0)


def freeze_statistics(network: nn.Module) -> None:
    """Let batch normalisation use the statistics that it has, and leave them as they are; its weights still learn."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.eval()


def _records(config: RunConfig) -> bool:
    """Whether steps are recorded and replayed: on a GPU, with methods and networks that are known to be fit for it.

    Someone else's network may look at its tensors' values, and is seldom so small that it matters. With
    ``SELFTAUGHT_CUDA_GRAPHS=0`` no step is.
    """
    ours = all(not of.model_fingerprint for of in lineage(config)) and registry.find(config.method).recordable
    ours = ours and config.class_weights == "none"  # whose weights are other tensors in every step
    return config.device == "cuda" and ours and os.environ.get(SWITCH, "1") != "0"


def _network(config: RunConfig, images: ImageData, objective: Objective) -> nn.Module:
    model = models.create(config.model, *_shapes(images), **_model_options(config, objective))
    return model.to(memory_format=memory_format(config))  # type: ignore[call-overload]


def _shapes(images: ImageData) -> tuple[int, int, tuple[int, int]]:
    return images.num_classes, images.channels, images.image_size


def _model_options(config: RunConfig, objective: Objective) -> dict[str, Any]:
    return {**objective.model_options(), "weights": config.weights}


def _companions(
    config: RunConfig, images: ImageData, objective: Objective, model: nn.Module, teacher: nn.Module | None
) -> dict[str, nn.Module]:
    """What the method trains beside the model; its randomness is a stream of its own."""
    seeds.seed_all(seeds.derive(config.seed, "companions"))
    casting = Casting(lambda: _network(config, images, objective), _example(images))
    return objective.companions(model, teacher, casting)


def _numpy_state() -> tuple[Any, ...]:
    """As plain values, since a checkpoint is read without unpickling arrays."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return str(kind), list(map(int, keys)), position, has_gauss, gauss


def rehearse(config: RunConfig) -> None:
    """Take the method's first step on a few images, so that a wrong option is refused before anything is written.

    Raises:
        InputError: a layer or a saliency that the model does not have, images too small for it, ...
    """
    images = data_of(config)
    with seeds.contained(config.threads):
        seeds.seed_all(seeds.derive(config.seed, "init"))  # as a run does, which then need not build it again
        models.check_start(config.model, *_shapes(images))
        session = start(config, images, teachers.untrained(config, images))
        session.objective.start_epoch(config.warmup)
        x, y = next(
            iter(session.evaluation_batches(images.train_images[:8], images.train_labels[:8]).epoch(0))
        )
        session.objective.start_step(torch.arange(len(y)))
        # Eight images and an untrained model prove nothing about the maps' values; the run will tell.
        with suppress(DegenerateMapsError):
            session.objective.step(x, y)
