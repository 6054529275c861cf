"""Finished runs and studies that nobody trained, with the digests that they have today."""

import json
from collections.abc import Sequence
from pathlib import Path

from selftaught.files import manifest, record
from selftaught.files import study_folder as folder
from selftaught.files.sealing import sha256
from tests.report import factory


def run(parent: Path, method: str = "ce", seed: int = 0, **options) -> record.Record:
    """A finished run with everything but a network, small pictures and few images."""
    made = factory.write_run(parent, method, seed, **{"images": 60, "val": 20, "size": 8, **options})
    (made.directory / record.WEIGHTS).write_bytes(weights())
    seal(made)
    return record.read(made.directory)


def seal(made: record.Record) -> None:
    """Write the result anew, with the digests of what lies beside it."""
    files = {path.name: path.read_bytes() for path in made.directory.iterdir() if path.name != record.RESULT}
    digests = {name: sha256(content, name) for name, content in files.items()}
    record.write_result(made.directory, made.result.model_copy(update={"sha256": digests}))


def weights(header: dict | None = None, content: bytes = b"\0" * 16) -> bytes:
    """A safetensors file of four numbers, or with another header."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    text = json.dumps({"w": entry} if header is None else header).encode()
    return len(text).to_bytes(8, "little") + text + content


def study(directory: Path, methods: tuple[str, ...] = ("ce", "le"), seeds: int = 2) -> list[record.Record]:
    """A comparison with its files; returns its runs."""
    runs = [run(directory / folder.TRIALS, method, seed) for method in methods for seed in range(seeds)]
    describe(directory, runs)
    return runs


def describe(directory: Path, runs: Sequence[record.Record]) -> None:
    """What a comparison writes beside its runs."""
    ids = [made.config.trial_id for made in runs]
    nodes = [
        folder.Node(
            trial_id=made.config.trial_id,
            name=f"{made.config.method} seed {made.config.seed}",
            model=made.config.model,
            method=made.config.method,
            seed=made.config.seed,
            epochs=made.config.epochs,
        )
        for made in runs
    ]
    folder.write_graph(directory, folder.Graph(title="a study", nodes=tuple(nodes)))
    command = ("selftaught", "compare")
    methods = tuple(dict.fromkeys(made.config.method for made in runs))
    described = folder.StudyFile(methods=methods, trials=tuple(ids), command=command)
    folder.write_study(directory, described)
    folder.write_costs(directory, {ids[0]: 1.0, ids[-1]: 1.25})
    manifest.write(directory, {"table.md": b"| a table |\n", "figure.png": b"\x89PNG"})
