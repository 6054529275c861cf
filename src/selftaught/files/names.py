"""What the files of runs and studies are called."""

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
