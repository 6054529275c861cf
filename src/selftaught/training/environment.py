"""What a run ran on, for its record."""

import functools
import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

import joblib
import torch

import selftaught
from selftaught.errors import InputError


def describe(device: torch.device) -> dict[str, str | int]:
    """Versions and hardware; nothing that names the machine or its user."""
    return {
        "selftaught": selftaught.__version__,
        "code": code(),
        "torch": str(torch.__version__),  # as a class of torch's own no checkpoint would load it
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "none",
        "threads": torch.get_num_threads(),
    }


def joined(before: Mapping[str, str | int], now: Mapping[str, str | int]) -> dict[str, str | int]:
    """What several sessions of a run ran on: values that differ stand beside each other, in their order.

    >>> joined({"torch": "2.12.0", "threads": 1}, {"torch": "2.13.0", "threads": 1})
    {'torch': '2.12.0; 2.13.0', 'threads': 1}
    """
    return {
        name: value
        if str(before.get(name, value)) == str(value)
        else "; ".join(dict.fromkeys([*str(before[name]).split("; "), str(value)]))
        for name, value in now.items()
    }


@functools.cache
def code() -> str:
    """A digest of the package's Python files: a version has many states while it is being worked on.

    Asked for the first time where a run begins, lest it be that of files that were edited meanwhile.
    """
    package = Path(selftaught.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def check_device(name: str) -> None:
    """Refuse "cuda" where there is no GPU; only who trains asks, since a GPU's records can be looked at anywhere.

    Raises:
        InputError: torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for but torch finds no GPU: use --device cpu")


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and its container's quota."""
    return joblib.cpu_count()
