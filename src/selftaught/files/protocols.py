"""How networks are trained unless somebody says otherwise: named protocols, as data.

A protocol holds settings of `selftaught.files.config.RunConfig` by name; those that it leaves out have their defaults
there. `milestones` and `warmup` are fractions of the epochs, and `augment`, `val_fraction` and `least_steps` are what
`selftaught.training.presets.resolve` takes. A recipe refers to one by name (``like: cifar``).
"""

from collections.abc import Mapping
from typing import Any

Protocol = Mapping[str, Any]

CIFAR: Protocol = {
    "epochs": 160,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "milestones": (0.5, 0.75),
    "warmup": 0.2,
    "augment": "crop",
}
"""Section 5 of the paper. Its `warmup`, stage 1 of Algorithm 1, is that of MNIST, where the paper says 10 of 50."""

PLAIN_CNN: Protocol = {**CIFAR, "lr": 0.01, "milestones": ()}
"""Section 3 of the paper, Table 1: at the ResNets' rate the plain CNNs do not learn."""

MNIST: Protocol = {
    "epochs": 50,
    "batch_size": 16,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "milestones": (),
    "warmup": 0.2,
    "augment": "none",
}
"""Section 5.1 of the paper, Table 3."""

DIGITS: Protocol = {**CIFAR, "epochs": 15, "batch_size": 64, "augment": "none", "val_fraction": 0.1}

OWN_DATA: Protocol = {**CIFAR, "val_fraction": 0.1}
"""The user's own data: the paper's recipe, with a part held out to watch and to calibrate on."""

NAMED = {"cifar": CIFAR, "plain-cnn": PLAIN_CNN, "mnist": MNIST, "digits": DIGITS}
"""What a recipe may refer to."""

BY_DATA = {
    "digits": ("resnet8", DIGITS),
    "mnist": ("mlp", MNIST),
    "fashion-mnist": ("resnet14", CIFAR),
    "cifar10": ("resnet14", CIFAR),
    "cifar100": ("resnet14", CIFAR),
}
"""By dataset, which model is trained how; other data is `OWN_DATA`, with the model of CIFAR-10."""

BY_MODEL = dict.fromkeys(("cnn6", "cnn8", "cnn10"), PLAIN_CNN)
"""Models that the protocol of CIFAR-10 does not fit."""

FINE_TUNE: Protocol = {
    "epochs": 5,
    "least_steps": 120,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 1e-3,
    "momentum": 0.0,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "milestones": (),
    "head": "probe",
    "backbone_factor": 0.4,
    "batch_norm": "frozen",
    "ramp": 0.1,
    "decay_norms": False,
    "blend": 0.7,
}
"""What a pretrained network is trained with, whatever the data; how it was chosen: docs/benchmarks/fine_tuning.md."""

OTHER_OPTIMIZER: dict[str, Protocol] = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "adamw": {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.01},
}
"""Defaults of an optimiser that is not the protocol's."""

_PHOTO = {"padding": 0, "flip": True, "min_scale": 0.25, "policy": "none", "erasing": 0.0}

AUGMENT: dict[str, Protocol] = {
    "none": {"padding": 0, "flip": False, "min_scale": None, "policy": "none", "erasing": 0.0},
    "crop": {"padding": 4, "flip": True, "min_scale": None, "policy": "none", "erasing": 0.0},
    "photo": _PHOTO,
    "trivial": {**_PHOTO, "policy": "trivial", "erasing": 0.1},
    "rand": {**_PHOTO, "policy": "rand", "erasing": 0.1},
}
"""Augmentations by name: the paper's crops of the padded image, and crops of any size and shape for photographs.

With a policy's operations on top, see `selftaught.data.policies`, and a tenth of the images with a rectangle erased.
"""
