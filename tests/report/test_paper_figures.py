"""Figures 1 to 3: what is drawn where, what is said about it, and that text stays legible."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from selftaught.files.trace import Snapshot
from selftaught.report import drawing, paper_figures, paper_orders
from selftaught.report.numbers import signed
from selftaught.report.paper_figures import (
    EXPECTED,
    PAPER_ORDER,
    Explained,
    Panel,
    Student,
    figure1,
    figure2,
    figure3,
)

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = tuple(f"$\\frac{{{k}}}$ a long <name>\n& {k}" for k in range(10))


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that are turned into PNGs."""
    kept, png = [], drawing.png
    for module in (paper_figures, paper_orders):
        monkeypatch.setattr(module, "png", lambda figure: kept.append(figure) or png(figure))
    return kept


def snapshot(seed=0, classes=10, kept=range(10), labels=(0, 3, 6, 9), shape=(3, 32, 32), side=8):
    rng = np.random.default_rng(seed)
    n, k = len(labels), len(kept)
    images = np.random.default_rng(9).integers(0, 256, (n, *shape), dtype=np.uint8)
    return Snapshot(
        images=images,
        index=np.arange(n),
        labels=np.array(labels),
        probabilities=rng.dirichlet(np.ones(classes), n).astype(np.float32),
        classes=np.array(kept),
        maps=rng.normal(size=(n, k, side, side)).astype(np.float32),
        similarity=rng.uniform(-1, 1, (n, k)).astype(np.float32),
    )


def overlaps(figure, gap=0.0):
    """Texts that leave the figure or touch another one, in pixels of the PNG."""
    figure.set_dpi(drawing.DPI)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * drawing.DPI
    texts = []
    for axis in figure.findobj(lambda artist: hasattr(artist, "get_xticklabels")):
        texts += [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        texts += [*axis.get_xticklabels(), *axis.get_yticklabels()] if axis.axison else []
    boxes = [
        (t.get_text(), t.get_window_extent())
        for t in dict.fromkeys(texts)
        if t.get_text() and t.get_visible()
    ]
    outside = [t for t, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > width + 1 or b.y1 > height + 1]
    touching = [
        (a, b)
        for i, (a, first) in enumerate(boxes)
        for b, second in boxes[:i]
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    ]
    return outside + touching


def size(drawn):
    image = Image.open(io.BytesIO(drawn.png))
    image.load()
    return image.size


def test_figure1_has_a_row_per_image_and_epoch(figures):
    snapshots = {10: snapshot(1), 1: snapshot(0)}
    drawn = figure1("CIFAR-10", snapshots, CIFAR, warmup=3)
    [figure] = figures
    assert size(drawn)[0] == 1200
    axes = figure.axes[:-1]
    assert len(axes) == 4 * 2 * 11
    rows = [axes[i : i + 11] for i in range(0, len(axes), 11)]
    assert [row[0].get_ylabel() for row in rows] == ["epoch 1", "epoch 10"] * 4
    titled = [["input", *(drawing.short(name, 11) for name in CIFAR)], [""] * 11]
    assert [[axis.get_title() for axis in row] for row in rows] == titled * 4
    for place, row in enumerate(rows):
        i, seen = place // 2, snapshots[(1, 10)[place % 2]]
        assert (np.asarray(row[0].images[0].get_array()) == seen.images[i].transpose(1, 2, 0)).all()
        assert [axis.get_xlabel() for axis in row[1:]] == [signed(score) for score in seen.similarity[i]]
        for axis, values in zip(row[1:], seen.maps[i], strict=True):
            assert np.asarray(axis.images[0].get_array()) == pytest.approx(values)
            assert axis.images[0].norm.vmax == -axis.images[0].norm.vmin == drawing.strength(seen.maps[i])
        framed = [axis.spines["top"].get_linewidth() > 1 for axis in row]
        assert framed == [k - 1 == seen.labels[i] for k in range(11)]
        best = seen.probabilities[i].argmax()
        chance = f"{100 * seen.probabilities[i, best]:.0f} %"
        expected = f"✓ {chance}" if best == seen.labels[i] else f"✗ {drawing.short(CIFAR[best], 6)}, {chance}"
        assert row[0].get_xlabel() == expected
    assert "after epoch 1, 10" in drawn.caption[0]
    assert any("Up to epoch 3" in line for line in drawn.caption)


def test_figure1_tells_the_same_as_a_table():
    snapshots = {1: snapshot(0), 10: snapshot(1)}
    drawn = figure1("CIFAR-10", snapshots, CIFAR)
    assert not any("warm-up" in line for line in drawn.caption)
    assert len(drawn.rows) == 8
    assert all(len(row) == len(drawn.headers) for row in drawn.rows)
    seen = snapshots[10]
    others = [k for k in np.argsort(-seen.similarity[2]) if k != 6]
    best = seen.probabilities[2].argmax()
    said = (CIFAR[best], f"{100 * seen.probabilities[2, best]:.0f} %")
    nearest = (CIFAR[others[0]], signed(seen.similarity[2, others[0]]))
    assert drawn.rows[5] == ("3: frog", "10", *said, *nearest)


def test_figure1_of_chosen_classes(figures):
    names = [f"class {k}" for k in range(50)]
    seen = snapshot(classes=50, kept=[2, 7, 49], labels=(7, 49), shape=(1, 20, 30))
    drawn = figure1("mine", {1: seen}, names)
    titles = [axis.get_title() for axis in figures[0].axes[:4]]
    assert titles == ["input", "class 2", "class 7", "class 49"]
    assert "3 of the 50 classes are shown." in drawn.caption
    assert overlaps(figures[0]) == []


@pytest.mark.parametrize("names", [CIFAR, HOSTILE], ids=["cifar", "hostile"])
@pytest.mark.parametrize("epochs", [(1,), (80, 160)])
def test_text_of_figure1_is_legible(figures, names, epochs):
    figure1("title", {epoch: snapshot(epoch) for epoch in epochs}, names)
    assert overlaps(figures[0]) == []


def matrix(seed=0, count=10):
    values = np.random.default_rng(seed).uniform(-0.4, 0.6, (count, count))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1)
    return values


def test_figure2_shows_every_value_and_frames_the_papers_pairs(figures):
    values = matrix()
    drawn = figure2([Panel("CIFAR-10", CIFAR, values, EXPECTED["cifar10"], "9 images")])
    axis = figures[0].axes[0]
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert len(texts) == 100
    for (row, column), value in np.ndenumerate(values):
        text = texts[(column, row)]
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.0051)
    corners = {tuple(patch.get_xy()) for patch in axis.patches}
    assert corners == {(0.5, 8.5), (8.5, 0.5), (2.5, 4.5), (4.5, 2.5)}
    assert [label.get_text() for label in axis.get_yticklabels()] == list(CIFAR)
    norm = axis.images[0].norm
    off_diagonal = np.abs(values[~np.eye(10, dtype=bool)]).max()
    assert norm.vmax == -norm.vmin >= off_diagonal > norm.vmax - 0.1
    assert size(drawn)[0] == 1200


def test_figure2_ranks_pairs():
    values = matrix()
    values[1, 9] = values[9, 1] = 0.9  # automobile, truck
    values[3, 5] = values[5, 3] = -0.99  # cat, dog
    values[0, 8] = values[8, 0] = 0.95
    drawn = figure2([Panel("CIFAR-10", CIFAR, values, EXPECTED["cifar10"], "9 images")])
    assert (
        "CIFAR-10 (9 images): most alike are airplane–ship +0.95, automobile–truck +0.90, "
        in drawn.caption[1]
    )
    assert drawn.caption[2] == (
        "Of the pairs that the paper expects, automobile–truck is number 2, cat–dog is number 45 of 45; 1 of 2 are "
        "among the first 5 (by chance 0.2 would be)."
    )
    assert drawn.rows[0] == ("CIFAR-10", "airplane–ship", "+0.95", "1 of 45", "no")
    assert drawn.rows[1] == ("CIFAR-10", "automobile–truck", "+0.90", "2 of 45", "yes")
    assert drawn.rows[-1] == ("CIFAR-10", "cat–dog", "−0.99", "45 of 45", "yes")
    assert len(drawn.rows) == 6
    unknown = figure2([Panel("mine", [f"c{k}" for k in range(10)], values, EXPECTED["cifar10"])])
    assert len(unknown.caption) == 2


@pytest.mark.parametrize("names", [CIFAR, HOSTILE, tuple("0123456789")], ids=["cifar", "hostile", "digits"])
@pytest.mark.parametrize("count", [1, 3])
def test_text_of_figure2_is_legible(figures, names, count):
    figure2([Panel("$a title", names, matrix(k)) for k in range(count)])
    assert overlaps(figures[0]) == []


@pytest.mark.parametrize("count", [2, 30, 100])
def test_figure2_of_few_and_many_classes(figures, count):
    drawn = figure2([Panel("p", [f"class {k}" for k in range(count)], matrix(0, count))] * 2)
    assert overlaps(figures[0]) == []
    assert len(drawn.rows) == 2 * min(5, count * (count - 1) // 2)


def explained(means, spread=0.001, n=5, sign=1):
    """Accuracies with these means, and discriminativeness in the reverse order."""
    noises = [spread * np.roll(np.linspace(-1, 1, n), i) for i in range(len(means))]
    return {
        key: Explained(0.9 + 0.01 * mean + noise, 0.5 - 0.1 * sign * mean + noise, -0.1 * mean + noise)
        for key, mean, noise in zip(PAPER_ORDER, means, noises, strict=True)
    }


def words(found, name="ResNet8"):
    return " ".join(figure3([Student(name, found)]).caption)


def test_figure3_agrees_where_it_does():
    said = words(explained([0, 1, 2, 3]))
    order = "Grad*Input < GuidedBP < Grad < Grad-CAM"
    assert said.count(f"{order}; this agrees with the paper's order {order}.") == 3
    assert said.count("All neighbours differ clearly (t-test over seeds, corrected after Holm).") == 3
    assert said.count("Kendall's tau +1.00 over 4 methods, the same order") == 2


def test_figure3_disagrees_where_it_does():
    said = words(explained([0, 2, 1, 3], sign=-1))
    assert (
        "by accuracy of LE: Grad*Input < Grad < GuidedBP < Grad-CAM; this does not agree with the paper's"
        in said
    )
    assert "by maps on CE networks: Grad-CAM < GuidedBP < Grad < Grad*Input; this does not agree" in said
    assert (
        "maps on CE networks against accuracy: Kendall's tau −1.00 over 4 methods, not the same order" in said
    )
    assert "maps on LE networks against accuracy: Kendall's tau +1.00 over 4 methods, the same order" in said


def test_figure3_knows_noise():
    found = explained([0, 1, 2, 3])
    found["grad"] = Explained([0.90, 0.95], [0.3], [])
    said = words(found)
    assert (
        "The order is within noise: no clear difference between GuidedBP and Grad, between Grad and Grad-CAM ("
        in said
    )
    assert "One network only for Grad: nothing is known of the noise, so the order may be chance." in said
    assert "as far as there are numbers (none for Grad)" in said
    assert "One network only: nothing is known" in words(explained([0, 1, 2, 3], n=1))


@pytest.mark.parametrize("times", [0.999, 1.001])
@pytest.mark.parametrize("paired", [True, False])
def test_neighbours_are_tested_by_students_t(times, paired):
    """Overlapping intervals say little, and those of runs with the same seeds nothing."""
    values, noise = np.array([1.0, 2.3, 0.8, 1.2]), np.array([0.1, -0.1, 0.2, -0.2])
    if paired:
        error, freedom = stats.sem(noise), 3
    else:
        noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0])
        parts = np.array([values.var(ddof=1) / 4, noise.var(ddof=1) / 5])
        error, freedom = np.sqrt(parts.sum()), parts.sum() ** 2 / (parts**2 / [3, 4]).sum()
    shift = times * stats.t.ppf(0.975, freedom) * error
    other = values + noise + shift if paired else values.mean() + noise + shift
    seeds = range(len(values)), range(len(other))
    found = {
        key: Explained(of, (), (), own)
        for key, of, own in zip(("grad", "grad-cam"), (values, other), seeds, strict=True)
    }
    assert ("All neighbours differ clearly" in words(found)) == (times > 1)


def test_networks_of_other_seeds_are_no_pairs():
    values = np.array([0.80, 0.85, 0.90, 0.95])
    for seeds, clear in ((range(4), True), (range(1, 5), False)):
        found = {
            "grad": Explained(values, (), (), range(4)),
            "grad-cam": Explained(values + np.array([0.01, 0.011, 0.01, 0.011]), (), (), seeds),
        }
        assert ("All neighbours differ clearly" in words(found)) == clear


@pytest.mark.parametrize("more", [[], [0.9]])
def test_without_any_spread_nothing_is_known_of_the_noise(more):
    found = {"grad": Explained([0.9, 0.9]), "grad-cam": Explained([0.95, 0.95, *more])}
    assert "The order is within noise" in words(found)


def test_figure3_with_ties_and_little_to_say():
    tied = words(explained([1, 1, 1, 1]))
    assert "Grad*Input = GuidedBP = Grad = Grad-CAM; this does not agree" in tied
    assert "has no rank correlation with the accuracies" in tied
    nothing = figure3([Student("ResNet8", {"grad": Explained([0.5])})])
    assert sum("too few methods have numbers for an order" in line for line in nothing.caption) == 3
    assert nothing.rows[0] == ("ResNet8", "Grad*Input", "none", "none", "none")
    assert nothing.rows[2] == ("ResNet8", "Grad", "50.00 (1)", "none", "none")


def test_figure3_shows_every_network_and_the_means(figures):
    found = explained([0, 1, 2, 3])
    del found["grad"]
    drawn = figure3([Student("ResNet14", explained([0, 1, 2, 3])), Student("ResNet8", found)])
    axes = figures[0].axes
    assert [axis.get_title() for axis in axes[:2]] == [
        "ResNet14: accuracy of LE",
        "ResNet14: maps on CE networks",
    ]
    assert size(drawn)[0] == 1200
    for axis in axes:
        assert [label.get_text() for label in axis.get_xticklabels()] == list(PAPER_ORDER.values())
    dots = [
        collection.get_offsets()[:, 1]
        for collection in axes[3].collections
        if len(collection.get_offsets()) == 5
    ]
    expected = [100 * np.asarray(found[key].accuracy) for key in PAPER_ORDER if key in found]
    assert [dot.tolist() for dot in dots] == [pytest.approx(values) for values in expected]
    assert [text.get_text() for text in axes[3].texts] == ["none"]
    values = 100 * np.asarray(found["grad-cam"].accuracy)
    assert drawn.rows[7][:3] == ("ResNet8", "Grad-CAM", f"{values.mean():.2f} ± {values.std(ddof=1):.2f} (5)")
    assert overlaps(figures[0]) == []


@pytest.mark.parametrize(("n", "spread"), [(1, 0), (2, 1e-9), (5, 0.05)])
def test_text_of_figure3_is_legible(figures, n, spread):
    figure3(
        [Student(name, explained([0, 3, 1, 2], spread, n)) for name in ("ResNet14", "ResNet8", "CNN $x^")]
    )
    assert overlaps(figures[0]) == []


def test_drawing_needs_no_torch():
    code = "import sys, selftaught.report.paper_figures; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
