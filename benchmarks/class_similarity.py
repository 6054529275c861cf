"""Which classes explanations find alike (Figure 2), in networks that were trained with and without LE.

    python -m benchmarks.class_similarity STUDY... -o results/class-similarity

Networks of the studies that were trained with CE, LE-Uniform or LE, with the library's settings, explain test images in
eval mode, after their last epoch. Of the cosine between the maps of every two classes, averaged over the images and
over the networks that were trained alike, OUT.md and OUT.json tell

place: where the pairs that the paper names stand among all pairs, 1 the most alike; in brackets: in single networks;
spread: the standard deviation of the cosine over the pairs, how much it tells them apart.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.soft_labels import alike, asked, each_once, usual
from selftaught import models
from selftaught.files.results import Record
from selftaught.report import paper_figures
from selftaught.study.measures import Measuring, class_similarity


@dataclass(frozen=True)
class Found:
    """What one network says: `matrix` (C, C) has the mean cosine between the maps of every two classes."""

    networks: str
    data: str
    classes: tuple[str, ...]
    trial_id: str
    images: int
    matrix: np.ndarray

    @property
    def expected(self) -> list[tuple[int, int]]:
        """The pairs that the paper names, by position."""
        pairs = paper_figures.EXPECTED.get(self.data, ())
        return [(self.classes.index(a), self.classes.index(b)) for a, b in pairs]


def look(run: Record, images: int) -> Found:
    """One network about the first test images, going through the classes in turn."""
    config, data = run.config, run.result.data
    saliency = models.default_saliency(config.model)
    return Found(
        alike(run),
        config.data,
        tuple(data.classes),
        config.trial_id,
        min(images, data.test),
        class_similarity(run.directory, saliency, Measuring(images=images)),
    )


def places(matrix: np.ndarray, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The place of some pairs among all, 1 for the most similar."""
    ranks = paper_figures.ranks_of(paper_figures.Panel("", [""] * len(matrix), matrix))
    return [ranks[min(pair), max(pair)] for pair in pairs]


def spread(matrix: np.ndarray) -> float:
    """The standard deviation over all pairs of different classes."""
    return float(matrix[np.triu_indices(len(matrix), 1)].std())


def page(groups: dict[str, list[Found]], image: str) -> str:
    """What was found, in Markdown: a table for each data set."""
    told = (__doc__ or "").split("\n\n", 2)[2].replace("OUT.md and OUT.json tell", "this page tells")
    lines = ["# Which classes explanations find alike", "", told.strip(), ""]
    for data in dict.fromkeys(group[0].data for group in groups.values()):
        of_data = {name: group for name, group in groups.items() if group[0].data == data}
        first = next(iter(of_data.values()))[0]
        named = [f"{first.classes[i]}–{first.classes[j]}" for i, j in first.expected]
        pairs = len(first.classes) * (len(first.classes) - 1) // 2
        lines += [
            f"**{data}**, {first.images:,} test images, {pairs} pairs:",
            "",
            f"| networks | trials | place of {' | '.join(named)} | spread |",
            f"|---|---:|{'---:|' * (1 + len(named))}",
        ]
        lines += [_line(name, group) for name, group in of_data.items()]
        lines.append("")
    return "\n".join(
        [*lines, f"![Heatmaps of the cosine between the maps of every two classes]({image})", ""]
    )


def _line(name: str, group: Sequence[Found]) -> str:
    mean, pairs = np.mean([one.matrix for one in group], axis=0), group[0].expected
    each = np.array([places(one.matrix, pairs) for one in group])
    cells = [
        f"{place} ({low}–{high})" if low < high else str(place)
        for place, low, high in zip(places(mean, pairs), each.min(0), each.max(0), strict=True)
    ]
    return f"| {name} | {len(group)} | {' | '.join(cells)} | {spread(mean):.3f} |"


def picture(groups: dict[str, list[Found]]) -> bytes:
    """A heatmap for all networks that were trained alike, as a PNG."""
    panels = [
        paper_figures.Panel(
            f"{name.rpartition(' ')[2]}: {name.partition(',')[0]}",
            group[0].classes,
            np.mean([one.matrix for one in group], axis=0),
            paper_figures.EXPECTED.get(group[0].data, ()),
        )
        for name, group in groups.items()
    ]
    return paper_figures.figure2(panels).png


def main() -> None:
    """Look at the networks, write what they say."""
    arguments = asked(__doc__, images=2000)
    torch.set_num_threads(1)
    groups: dict[str, list[Found]] = defaultdict(list)
    for found in [look(run, arguments.images) for run in each_once(arguments.studies) if usual(run)]:
        groups[found.networks].append(found)
    groups = dict(sorted(groups.items()))
    out = arguments.out
    out.with_suffix(".png").write_bytes(picture(groups))
    out.with_suffix(".md").write_text(page(groups, out.with_suffix(".png").name), encoding="utf-8")
    told = [
        {**vars(one), "matrix": np.round(one.matrix, 6).tolist()}
        for group in groups.values()
        for one in group
    ]
    out.with_suffix(".json").write_text(json.dumps(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
