"""Draws method.png: `python docs/images/method.py RUN`, RUN a run of LE on CIFAR-10."""

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import selftaught
from selftaught import similarity, targets
from selftaught.report.figures import overlaid
from selftaught.training.presets import data_of

LABEL, NUMBER = 3, 2
"""Which test image: the third cat that is recognised with some doubt."""


def main(run: str) -> None:
    """Find a picture, explain it, draw."""
    model = selftaught.load(run)
    data = data_of(model.config)
    cats = torch.nonzero(data.test_labels == LABEL).flatten()[:200]
    with torch.no_grad():
        sure = model(data.test_images[cats]).softmax(1)[:, LABEL]
    chosen = cats[torch.nonzero((sure > 0.5) & (sure < 0.9)).flatten()[NUMBER]]
    images, label = data.test_images[chosen[None]], data.test_labels[chosen[None]]
    maps = selftaught.explain(model, images.float() / 255).maps
    alike = similarity.cosine(maps, label)
    soft = targets.introspective(alike, label)
    draw(images[0], maps[0], alike[0], soft[0], model.classes)


def draw(image, maps, alike, soft, classes) -> None:
    """The picture on the left, a column per class with map, cosine and soft label."""
    picture = image.permute(1, 2, 0).numpy()
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(classes) + 1, height_ratios=[3, 2])
    axes[0, 0].imshow(picture)
    axes[0, 0].set_title("input", fontsize=8)
    axes[1, 0].text(0.95, 0.5, "soft\nlabel", ha="right", va="center", fontsize=8)
    scale = maps.abs().max()
    for k, name in enumerate(classes):
        axis, bar = axes[0, k + 1], axes[1, k + 1]
        axis.imshow(overlaid(picture, (maps[k] / scale).numpy()))
        axis.set_title(name, fontsize=8, fontweight="bold" if k == LABEL else None)
        axis.set_xlabel(f"cos {alike[k]:+.2f}", fontsize=8)
        # The true class's bar would dwarf the others: it is cut, and says so.
        height, note = (0.036, "\n(bar cut)") if k == LABEL else (float(soft[k]), "")
        bar.bar([0], [height], color="#b2182b" if k == LABEL else "#555555")
        bar.set(ylim=(0, 0.045), xlim=(-0.8, 0.8))
        bar.text(0, height + 0.001, f"{soft[k]:.3f}{note}", ha="center", fontsize=7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis in axes[1]:
        axis.spines[:].set_visible(False)
    axes[0, 0].spines[:].set_visible(False)
    figure.savefig(Path(__file__).with_name("method.png"), dpi=150)


if __name__ == "__main__":
    main(sys.argv[1])
