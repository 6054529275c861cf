import base64
import io
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from selftaught import recipes
from selftaught.report import sentences
from selftaught.report.page import About, Figure
from selftaught.report.page import html as html_of
from selftaught.report.table import CellRuns, tabulate
from selftaught.statistics import verdicts
from selftaught.statistics.paired import paired_test
from tests.report import cells as factory
from tests.report.test_page import Page
from tests.report.test_page_in_browser import CONTRAST, OVERFLOW, visit  # noqa: F401 (a fixture)
from tests.report.test_table import accuracy, make_recipe

EVIL = '"><script>alert(1)</script>{{ 7 * 7 }}\u0001'


@pytest.fixture(autouse=True, scope="module")
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "paired_test", partial(paired_test, resamples=500))
        yield


def tables(parent, budget):
    third, search = recipes.load("table3"), recipes.load("search-ls")
    failed = {("One", "LS"): ("seed 2 failed: " + EVIL,)}
    trials = 1 if budget == "smoke" else 3
    first = make_recipe()
    cells = factory.cells(first, parent, accuracy, trials, missing=failed if trials > 1 else {})
    return [
        tabulate(first, cells, budget, [EVIL]),
        tabulate(third, factory.cells(third, parent, lambda g, v, s: 98 + 0.25 * s, trials), budget),
        tabulate(search, factory.cells(search, parent, lambda g, v, s: 80.0 + s, trials), budget),
    ]


def figures():
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 300, 3), np.uint8)
    Image.fromarray(noise).save(picture, "png")
    return [
        Figure("figure2", "Maps", ("Said below.", EVIL), "noise " + EVIL, picture.getvalue(), ("a", EVIL)),
        Figure("figure3", "Figure 3: Bars", (), "bars", picture.getvalue(), ("a", "b"), (("x", EVIL),)),
    ]


@pytest.fixture(scope="module", params=["smoke", "quick", "paper"])
def budget(request):
    return request.param


@pytest.fixture(scope="module")
def written(tmp_path_factory, budget):
    folder = tmp_path_factory.mktemp(budget)
    about = About(budget, (("selftaught", "reproduce", EVIL),), (("wall time", "3 minutes"),), (EVIL,))
    page = folder / "page.html"
    page.write_text(html_of(tables(folder, budget), figures(), about))
    return page


@pytest.fixture(scope="module")
def html(written):
    return written.read_text()


def test_it_is_one_file_that_asks_for_nothing_else(html):
    found = Page(html)
    assert {"script", "iframe", "object", "base", "form"} & {tag for tag, _ in found.elements} == set()
    for tag, attrs in found.elements:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)) == []
    [policy] = [attrs["content"] for attrs in found.all("meta") if "http-equiv" in attrs]
    assert "default-src 'none'" in policy


def test_hostile_texts_are_shown_as_they_are(html):
    shown = EVIL.replace("\u0001", "\ufffd")
    words = Page(html).words
    assert words.count(shown) >= 5  # a note, a failed trial, a table's note, a caption, a command, a cell
    assert "49" not in re.findall(r"script>(\d+)", words)


def test_contents_lead_to_every_table_and_figure(html):
    found = Page(html)
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for attrs in found.all("a") if attrs["href"].startswith("#")]
    assert set(links) <= set(ids)
    assert {"t0", "t1", "t2", "f0", "f1", "verdict", "making"} <= set(links)
    for title in ("Table 2: A table", "Table 3: MLPs", "Figure 2: Maps", "Figure 3: Bars"):
        assert title in found.words
    assert "Figure 3: Figure 3" not in found.words


def test_a_reduced_budget_is_said_everywhere(html, budget):
    found = Page(html)
    title = re.search(r"<title>(.*?)</title>", html).group(1)
    reduced = budget != "paper"
    assert ("not the paper" in title) == reduced
    assert found.words.count(f"({budget} budget)") == (3 if reduced else 0)
    assert found.words.count("NOT the paper's protocol") == (3 if reduced else 0)
    assert ("Nothing on this page can be compared with the paper" in found.words) == reduced


def test_the_summary_says_what_agrees_and_whether_le_helps(html, budget):
    words = Page(html).words
    if budget == "paper":
        assert "1 of 3 printed values that can be compared agree with ours." in words
    assert ("printed values agrees; 2 are better here than printed (One LE, Two LE)" in words) == (
        budget == "paper"
    )
    assert words.count("can be compared") == (1 if budget != "paper" else 2)
    assert ("correction LE is clearly better than CE in" in words) == (budget != "smoke")
    assert "Selected on held-out training images: MNIST MLP: alpha 0.6" in words
    assert ("no verdict against CE, one seed" in words) == (budget == "smoke")


def test_a_printed_value_that_two_tables_show_counts_once(tmp_path):
    recipe = make_recipe()
    table = tabulate(recipe, factory.cells(recipe, tmp_path, accuracy, 3), "paper")
    once, twice = (sentences.lead(shown, "paper") for shown in ([table], [table, table]))
    assert once == twice == "1 of 3 printed values that can be compared agree with ours."


@pytest.mark.parametrize(
    ("trials", "gain", "said"),
    [
        (5, 8.0, "CE, weight decay 5e-4 is better than CE (ResNet8)."),
        (5, 0.0, "No clear difference in any comparison."),
        (1, 8.0, "Nothing can be said yet: a verdict needs two seeds or more of what is compared."),
    ],
)
def test_the_summary_of_a_table_without_le_is_not_empty(tmp_path, trials, gain, said):
    recipe = recipes.load("weight-decay")
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: 80.0 + gain * (v != "CE") + 0.25 * s, trials)
    page = html_of([tabulate(recipe, cells, "quick")], [], About("quick"))
    assert Page(page).words.count(said) == 1


def test_downloads_are_the_tables(html):
    links = [attrs for attrs in Page(html).all("a") if "download" in attrs]
    assert [link["download"].rpartition(".")[2] for link in links] == ["md", "csv"] * 3
    text = base64.b64decode(links[1]["href"].partition("base64,")[2]).decode()
    assert text.startswith("recipe,budget,")


def test_trials_and_environment_are_counted(html, budget):
    words = Page(html).words
    ran = words.partition("What was run")[2]
    if budget == "quick":
        assert re.search(r"Table 2\W*quick\W*23\W*1\W*23\.6", ran)
    assert re.search(r"wall time\W*3 minutes", ran)
    assert re.search(r"torch\W*2\.13\.0", ran)


def test_nothing_run_is_still_a_page():
    table = tabulate(make_recipe(), [CellRuns("One", "CE", (), None, 0, ("not finished",))], "paper")
    words = Page(html_of([table], [], About("paper"))).words
    assert "No printed value can be compared with ours yet." in words
    assert "none of 1 finished" in words
    assert "Is it as in the paper?" in Page(html_of([], [], About("smoke"))).words


def test_tables_that_wait_for_a_search_say_so():
    waiting = [
        tabulate(recipes.load(name), [], "smoke", ["Not run yet."]) for name in ("table3", "search-ls")
    ]
    words = Page(html_of(waiting, [], About("smoke"))).words
    assert words.count("Not run yet.") == 2
    assert "In detail" not in words
    assert "Selected on" not in words


def test_several_drawings_of_one_figure_and_its_numbers_have_names_of_their_own(tmp_path):
    recipe = recipes.load("figure3")
    cells = factory.cells(recipe, tmp_path, lambda g, v, s: 90 + s / 4, trials=2)
    drawings = [Figure("figure1", title, (), "x", b"") for title in "AB"]
    drawings.append(Figure("figure3", "C", (), "x", b""))
    found = Page(html_of([tabulate(recipe, cells, "quick")], drawings, About("quick")))
    contents = found.words.partition("Summary")[2].partition("How it was made")[0]
    assert re.sub(r"\W+(?=Figure)", "|", contents).strip() == (
        "|Figure 3 in numbers|Figure 1a|Figure 1b|Figure 3"
    )
    for title in ("Figure 3 in numbers: ", "Figure 1a: A", "Figure 1b: B", "Figure 3: C"):
        assert title in found.words


def check_fits(opened, width):
    """With everything unfolded, nothing on an opened page is wider than its place."""
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.evaluate(OVERFLOW) == []


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_overflows(visit, written, width):  # noqa: F811
    check_fits(visit(written, width), width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit, written, scheme):  # noqa: F811
    opened = visit(written, scheme=scheme)
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = opened.evaluate(CONTRAST)
    assert len(found) > 150
    assert [pair for pair in found if pair[0] < 4.5] == []


def test_what_is_named_stays_in_sight_on_a_telephone(visit, written):  # noqa: F811
    opened = visit(written, 360)
    region = opened.get_by_role("region", name="Details of Table 2")
    region.evaluate("e => e.scrollLeft = e.scrollWidth")
    name = region.locator("tbody th[scope=row]").first
    assert name.bounding_box()["x"] >= 0
    assert name.bounding_box()["width"] <= 130
    assert opened.locator("img.drawing").first.evaluate("i => i.complete && i.naturalWidth") == 300


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """The page of a recipe with many alternatives."""
    folder, recipe = tmp_path_factory.mktemp("points"), recipes.load("open-points")
    cells = factory.cells(recipe, folder, lambda g, v, s: 60 + len(v) / 9 + 0.25 * s)
    path = folder / "page.html"
    path.write_text(html_of([tabulate(recipe, cells, "quick")], [], About("quick")))
    return path


def test_alternatives_are_shown_beside_what_they_are_based_on(points):
    words = Page(points.read_text()).words
    for group, bases in {"ResNet8": ("CE", "LE"), "MNIST MLP": ("CE", "LE-Uniform", "LE")}.items():
        for base in bases:
            assert re.search(rf"{group}\W*: difference to\W*{base}\W*with its 95 % interval", words), base
    assert "to LE: +" in words
    assert "to CE: +" in words
    assert "Δ to its reference" in words
    assert "over the table's 30 comparisons" in words
    assert "Held-out accuracy in %" in words


@pytest.mark.parametrize("width", [360, 1200])
def test_many_alternatives_fit(visit, points, width):  # noqa: F811
    check_fits(visit(points, width), width)
