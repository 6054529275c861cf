"""What one run needs in memory: model, objective, optimiser, schedule and batches, on their device."""

import logging
import math
import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from selftaught import models, objectives
from selftaught.data import ImageData
from selftaught.data.batches import Batches
from selftaught.data.streaming import Images
from selftaught.errors import DegenerateMapsError, InputError
from selftaught.objectives import Objective, Step
from selftaught.objectives.base import Casting
from selftaught.training import environment, seeds, teachers
from selftaught.training.config import RunConfig
from selftaught.training.presets import data_of
from selftaught.training.recording import SWITCH, Recorder
from selftaught.training.teaching import lineage

if TYPE_CHECKING:
    from lightning_fabric import Fabric


OPTIMIZERS: dict[str, Callable[[Any, RunConfig], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, config: torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=_fused(parameters, config),
    ),
    "adamw": lambda parameters, config: torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, fused=_fused(parameters, config)
    ),
}


def memory_format(config: RunConfig) -> torch.memory_format:
    """How networks and batches lie in memory: as it suits the convolutions.

    Channels last they are a quarter to a third faster on CPUs, and in half precision twice as fast on GPUs, which in
    float32 are 1.5 times as fast without (a step of ResNet8 on an H200).
    """
    plain = config.device == "cuda" and config.precision == "32-true"
    return torch.contiguous_format if plain else torch.channels_last


def _fused(parameters: list[nn.Parameter], config: RunConfig) -> bool | None:
    """Whether an update is one pass over the memory, which on a CPU is what it costs; None where torch decides.

    Torch's fused CPU kernels walk through a parameter and its gradient side by side in memory without a look at their
    strides. Autograd lays a gradient out as its parameter if that has no gaps: these layouts are known to have none.
    """
    layouts = (torch.contiguous_format, torch.channels_last)
    dense = all(
        p.is_floating_point() and any(p.is_contiguous(memory_format=layout) for layout in layouts)
        for p in parameters
    )
    return True if config.device == "cpu" and dense else None


@dataclass
class Session:
    """The parts of a run; `model` and `optimizer` are wrapped by Fabric for the device and the precision.

    `source` is the user's own code that made the network, as it was then. `companions` are trained with the model by
    the same optimiser. `recorder` is there where steps are recorded and replayed.
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
    recorder: Recorder | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._begin_recording()

    def _begin_recording(self) -> None:
        if _records(self.config):
            self.recorder = Recorder(self._parameters(), self.fabric.device)

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
        return step

    def _with_gradients(self, x: torch.Tensor, y: torch.Tensor) -> Step:
        """The step of a batch; its gradients are in the parameters, in place of those before."""
        self.optimizer.zero_grad()
        step = self.objective.step(x, y)
        self.fabric.backward(step.loss)
        return replace(step, loss=step.loss.detach())

    def _parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        modules = (self.model, *self.companions.values())
        return [parameter for module in modules for parameter in module.parameters()]

    @property
    def network(self) -> nn.Module:
        """The model without its wrapper."""
        module: Any = self.model.module
        return module

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

    def evaluation_batches(self, images: Images, labels: torch.Tensor) -> Batches:
        """Images in their order, normalised as in training."""
        # As many as in training: a batch that fits with its gradients fits without.
        size = max(self.config.batch_size, 64)
        mean, std = self.images.mean, self.images.std
        return Batches(
            images, labels, size, mean, std, self.fabric.device, memory_format=memory_format(self.config)
        )

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
    from lightning_fabric import Fabric

    source = models.source(config.model)
    if models.fingerprint(config.model) != config.model_fingerprint:
        raise InputError(f"the files of model {config.model!r} have changed: start a new run")
    objective = objectives.create(config.method, **config.settings)
    seeds.seed_all(seeds.derive(config.seed, "init"))
    model = _network(config, images, objective)
    companions = _companions(config, images, objective, model, teacher)
    trained = [parameter for module in (model, *companions.values()) for parameter in module.parameters()]
    optimizer = OPTIMIZERS[config.optimizer](trained, config)
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
        optimizer, lambda step: lr_factor(config, step, len(batches))
    )
    seeds.seed_all(seeds.derive(config.seed, "method"))
    return Session(
        config, fabric, objective, wrapped, optimizer, schedule, batches, images, source, companions
    )


def _records(config: RunConfig) -> bool:
    """Whether steps are recorded and replayed: on a GPU, with methods and networks that are known to be fit for it.

    Someone else's network may look at its tensors' values, and is seldom so small that it matters. With
    ``SELFTAUGHT_CUDA_GRAPHS=0`` no step is.
    """
    ours = all(not of.model_fingerprint for of in lineage(config)) and objectives.recordable(config.method)
    return config.device == "cuda" and ours and os.environ.get(SWITCH, "1") != "0"


def _network(config: RunConfig, images: ImageData, objective: Objective) -> nn.Module:
    options = objective.model_options()
    model = models.create(config.model, images.num_classes, images.channels, images.image_size, **options)
    return model.to(memory_format=memory_format(config))  # type: ignore[call-overload]


def _companions(
    config: RunConfig, images: ImageData, objective: Objective, model: nn.Module, teacher: nn.Module | None
) -> dict[str, nn.Module]:
    """What the method trains beside the model; its randomness is a stream of its own."""
    seeds.seed_all(seeds.derive(config.seed, "companions"))
    few = Batches(
        images.train_images[:2], images.train_labels[:2], 2, images.mean, images.std, torch.device("cpu")
    )
    with closing(few.epoch(0)) as batches:
        example, _ = next(iter(batches))
    casting = Casting(lambda: _network(config, images, objective), example)
    return objective.companions(model, teacher, casting)


def _numpy_state() -> tuple[Any, ...]:
    """As plain values, since a checkpoint is read without unpickling arrays."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return str(kind), list(map(int, keys)), position, has_gauss, gauss


def lr_factor(config: RunConfig, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in optimiser step `step` (from 0), `steps` making an epoch."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(step / (config.epochs * steps), 1.0)))
    return 0.1 ** sum(step >= milestone * steps for milestone in config.milestones)


def rehearse(config: RunConfig) -> None:
    """Take the method's first step on a few images, so that a wrong option is refused before anything is written.

    Raises:
        InputError: a layer or a saliency that the model does not have, images too small for it, ...
    """
    images = data_of(config)
    with seeds.contained(config.threads):
        session = start(config, images, teachers.untrained(config, images))
        session.objective.start_epoch(config.warmup)
        x, y = next(
            iter(session.evaluation_batches(images.train_images[:8], images.train_labels[:8]).epoch(0))
        )
        session.objective.start_step(torch.arange(len(y)))
        # Eight images and an untrained model prove nothing about the maps' values; the run will tell.
        with suppress(DegenerateMapsError):
            session.objective.step(x, y)
