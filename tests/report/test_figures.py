"""Figure 1: what is drawn where."""

import numpy as np
import pytest
from PIL import Image

from selftaught.files.trace import ExplainedImage
from selftaught.report.figures import explanation_grid, is_photograph, overlaid
from selftaught.report.numbers import signed

DIGITS = [str(k) for k in range(10)]


def explained(name="a.png", classes=range(10), shape=(16, 16), truth=3, reference=3, prediction=3):
    rng = np.random.default_rng(0)
    kept = np.array(classes)
    probabilities = np.full(max(10, kept.max() + 1), 0.01, dtype=np.float32)
    probabilities[prediction] = 0.9
    return ExplainedImage(
        name=name,
        image=rng.integers(0, 256, shape, dtype=np.uint8),
        classes=kept,
        maps=rng.normal(size=(len(kept), 4, 4)).astype(np.float32),
        similarity=np.linspace(-1, 1, len(kept), dtype=np.float32),
        probabilities=probabilities,
        reference=reference,
        truth=truth,
    )


def grid(figure, rows):
    """The figure's axes by row, without the key."""
    figure.draw_without_rendering()
    axes = figure.axes[:-1]
    return [axes[i : i + len(axes) // rows] for i in range(0, len(axes), len(axes) // rows)]


def test_a_row_per_image_and_a_column_per_class():
    items = [explained("my/folder/a.png"), explained("b.png", prediction=5), explained("c.png", truth=None)]
    figure = explanation_grid(items, DIGITS)
    rows = grid(figure, 3)
    assert [axis.get_title() for axis in rows[0]] == ["input", *DIGITS]
    assert not any(axis.get_title() for axis in rows[1])
    assert [row[0].get_ylabel() for row in rows] == ["folder/a.png", "b.png", "c.png"]
    assert [row[0].get_xlabel() for row in rows] == ["✓ 3, 90 %", "✗ 5, 90 %", "3, 90 %"]
    assert [axis.get_xlabel() for axis in rows[0][1:]] == [signed(s) for s in np.linspace(-1, 1, 10)]
    framed = [[axis.spines["top"].get_linewidth() > 1 for axis in row] for row in rows]
    assert framed == [[column == 4 for column in range(11)]] * 3
    for axis, values in zip(rows[0][1:], items[0].maps, strict=True):
        assert np.asarray(axis.images[0].get_array()) == pytest.approx(values)
    assert "against the class" in [tick.get_text() for tick in figure.axes[-1].get_xticklabels()]


def test_rows_of_different_classes_have_their_own_titles():
    names = [f"class {k}" for k in range(100)]
    items = [explained(classes=[3, 70, 8]), explained(classes=[9, 3, 99])]
    titles = [[axis.get_title() for axis in row] for row in grid(explanation_grid(items, names), 2)]
    assert titles == [
        ["input", "class 3", "class 70", "class 8"],
        ["input", "class 9", "class 3", "class 99"],
    ]


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("shape", [(16, 16), (96, 128, 3)])
def test_text_stays_inside_and_off_other_text(classes, shape):
    names = [f"a rather long class name {k}" for k in range(classes)]
    kept = range(min(classes, 10))
    items = [explained(f"a long name of a file {i}.jpeg", kept, shape, 1, 1, 1) for i in range(3)]
    figure = explanation_grid(items, names)
    rows = grid(figure, 3)
    width, height = figure.get_size_inches() * figure.dpi
    texts = [t for row in rows for a in row for t in (a.title, a.xaxis.label, a.yaxis.label) if t.get_text()]
    boxes = [text.get_window_extent() for text in (*texts, figure.axes[-1].xaxis.label)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not overlaps


def test_names_of_classes_and_files_are_text_and_not_markup():
    names = [r"$\frac{$", "a very long name of a class", *DIGITS[2:]]
    figure = explanation_grid([explained(r"$\frac{$.png", prediction=0)], names)
    [row] = grid(figure, 1)
    assert [axis.get_title() for axis in row[:3]] == ["input", r"$\frac{$", "a very long…"]
    assert row[0].get_ylabel() == r"$\frac{$.png"


def test_maps_of_zeros_are_white():
    item = explained()
    item.maps[:] = 0
    [row] = grid(explanation_grid([item], DIGITS), 1)
    assert np.ptp(row[1].images[0].make_image(None, unsampled=True)[0][..., :3]) <= 1


def test_photographs_are_overlaid_unless_told_otherwise():
    photo, small = explained(shape=(64, 80, 3)), explained(shape=(63, 80, 3))
    assert is_photograph(photo.image)
    assert not is_photograph(small.image)
    assert not is_photograph(explained(shape=(80, 80)).image)

    def shape_of_map(*arguments):
        [row] = grid(explanation_grid(*arguments), 1)
        return row[1].images[0].get_array().shape

    assert shape_of_map([photo], DIGITS) == (64, 80, 3)
    assert shape_of_map([photo], DIGITS, False) == (4, 4)
    assert shape_of_map([small], DIGITS) == (4, 4)
    assert shape_of_map([small], DIGITS, True) == (63, 80, 3)


def test_an_overlay_shows_the_picture_where_the_map_is_weak_and_the_map_where_it_is_strong():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    values = np.zeros((2, 3), dtype=np.float32)
    values[0, 0], values[1, 2] = 5, -1
    picture = overlaid(image, values)
    assert picture.shape == (40, 60, 3)
    assert 0 <= picture.min() <= picture.max() <= 1
    red, blue = picture[:10, :10].mean((0, 1)), picture[-10:, -10:].mean((0, 1))
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]
    weak = picture[30:, :10]
    assert np.ptp(weak, axis=2).max() < 1e-6
    grey = np.asarray(Image.fromarray(image).convert("L"))[30:, :10].flatten()
    assert np.corrcoef(weak[..., 0].flatten(), grey)[0, 1] > 0.999


def test_an_overlay_is_the_map_scaled_up_bilinearly():
    values = np.random.default_rng(1).uniform(0, 1, (4, 5)).astype(np.float32)
    picture = overlaid(np.full((32, 40), 255, dtype=np.uint8), values)
    expected = np.asarray(Image.fromarray(values).resize((40, 32), Image.Resampling.BILINEAR))
    green = picture[..., 1]  # falls in proportion to the map's strength on a plain background
    assert np.corrcoef(green.flatten(), expected.flatten())[0, 1] < -0.9999


def test_series_of_long_file_names_can_be_told_apart():
    items = [explained(f"holiday/photograph-of-the-garden-{i}.jpeg") for i in range(3)]
    rows = grid(explanation_grid(items, DIGITS), 3)
    assert len({row[0].get_ylabel() for row in rows}) == 3
