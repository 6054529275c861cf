"""The names of the files of runs and studies, and of what a configuration names by a path."""

import re
from pathlib import PurePath

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
PREDICTIONS = "predictions.safetensors"
ANSWERS = "answers.safetensors"
MODEL = "model.json"
EXAMPLES = "examples.safetensors"
TRACE = "trace.safetensors"
RESULT = "result.json"
COMMANDS = "command.json"
SOURCE = "network.py"
LOCK = ".lock"

OF_THE_NETWORK = (WEIGHTS, MODEL, SOURCE)
"""What only a network is built from: whoever builds it verifies it, a table does without."""

ARCHIVED = (CONFIG, METRICS, ANSWERS)
"""What an archive keeps of what has a digest."""

TRIALS = "trials"
"""The folder of a study, whose folders are called as their trials."""

STUDY = "study.json"
GRAPH = "graph.json"
COSTS = "costs.json"
MANIFEST = "files.json"

_SCHEMES = ("hf:", "hub:")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""An owner and a name: paths are recorded as absolute ones."""


def called(name: str) -> str:
    """Data or a model as people call it: of a path the last part, everything else as it is.

    >>> called("digits"), called("/home/me/photos/"), called("me/photos"), called("/home/me/mine.py:build")
    ('digits', 'photos', 'me/photos', 'mine.py:build')
    >>> called("hf:/home/me/vit"), called("hf:google/vit-base")
    ('hf:vit', 'hf:google/vit-base')
    """
    scheme = next((scheme for scheme in _SCHEMES if name.startswith(scheme)), "")
    rest = name[len(scheme) :]
    return name if _HUB_ID.fullmatch(rest) else scheme + (PurePath(rest).name or rest)
