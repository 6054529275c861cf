"""The report in headless Chromium: nothing is loaded, nothing overflows, everything can be read and reached."""

import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from tests.report import factory
from tests.report.test_page import EVIL, METHODS

CONTRAST = """
() => {
  const channels = text => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith('color(') ? parts.map((v, i) => i < 3 ? 255 * v : v) : parts;
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(channels(element.closest('svg') ? style.fill : style.color)), luminance(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), texts.currentNode.data.trim()]);
  }
  return found;
}
"""
OVERFLOW = """
() => {
  const kept = e => {  // by an element around it that scrolls or cuts off
    for (let p = e.parentElement; p !== document.body; p = p.parentElement)
      if (getComputedStyle(p).overflowX !== 'visible') return true;
  };
  return [...document.querySelectorAll('body *')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .filter(e => !kept(e)).map(e => e.outerHTML.slice(0, 120));
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with ten classes whose names are hostile, three methods and two seeds."""
    folder = tmp_path_factory.mktemp("report")
    records = [factory.write_run(folder / "trials", m, seed, EVIL) for m in METHODS for seed in range(2)]
    text = factory.html(records, METHODS, {"ce": 1.0}, [["selftaught", "compare", "x" * 300]])
    (folder / "report.html").write_text(text)
    return folder / "report.html"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A report with a hundred classes, photographs, nothing held out and one seed."""
    folder = tmp_path_factory.mktemp("photographs")
    options = {"classes": factory.names(100), "images": 1200, "val": 0, "size": 96}
    records = [factory.write_run(folder / "trials", method, 0, **options) for method in METHODS]
    (folder / "report.html").write_text(factory.html(records, METHODS))
    return folder / "report.html"


@pytest.fixture
def visit(browser):
    """Opens a file; afterwards there must have been no message, no error and no request but for the file."""
    contexts, troubles = [], []

    def visit(path, width=1280, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        context.on("request", lambda request: request.url != path.as_uri() and asked(request))
        opened = context.new_page()
        opened.on("console", lambda message: troubles.append(message.text))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("dialog", lambda dialog: troubles.append(dialog.message))
        opened.goto(path.as_uri())
        return opened

    def asked(request):
        if not request.url.startswith("data:"):
            troubles.append(request.url)

    yield visit
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(params=["report", "photographs"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows(visit, path, width):
    opened = visit(path, width)
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    for radio in opened.locator("input[type=radio]").all():
        radio.check()
        assert opened.evaluate(OVERFLOW) == []
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate(OVERFLOW) == []
    assert opened.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_beyond_the_edge_has_a_shadow_there(visit, report, scheme):
    """The verdict's column is beyond the edge of a telephone."""
    opened = visit(report, 360, scheme)
    region = opened.get_by_role("region", name="Comparison table")

    def edges():
        picture = np.asarray(Image.open(io.BytesIO(region.screenshot())).convert("L")).astype(float)
        lines = picture[4:8]  # above the letters
        return abs(lines[:, 1] - lines[:, 180]).mean(), abs(lines[:, -2] - lines[:, 180]).mean()

    left, right = edges()
    assert left < 3
    assert right > 15
    region.evaluate("e => e.scrollLeft = e.scrollWidth")
    left, right = edges()
    assert left > 15
    assert right < 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit, path, scheme):
    opened = visit(path, scheme=scheme)
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = opened.evaluate(CONTRAST)
    assert len(found) > 300
    assert [pair for pair in found if pair[0] < 4.5] == []


def test_the_schemes_differ(visit, report):
    grounds = [
        visit(report, scheme=scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds[0] != grounds[1]


def test_methods_stand_out_from_the_ground_and_from_each_other(visit, report):
    for scheme in ("light", "dark"):
        opened = visit(report, scheme=scheme)
        colours = opened.evaluate(
            """() => [...document.querySelectorAll('.legend .key path.mark')].slice(0, 3)
                 .map(e => getComputedStyle(e).fill)"""
        )
        shapes = opened.evaluate(
            "() => [...document.querySelectorAll('.legend .key path.mark')].slice(0, 3).map(e => e.getAttribute('d'))"
        )
        assert len(set(colours)) == len(set(shapes)) == 3


def test_images_have_alternatives_and_load(visit, path):
    opened = visit(path)
    pictures = opened.evaluate("[...document.images].map(i => [i.alt, i.complete && i.naturalWidth])")
    assert len(pictures) > 100
    assert all(alt and width for alt, width in pictures)
    charts = opened.evaluate(
        "[...document.querySelectorAll('svg:not([aria-hidden])')].map(s => [s.getAttribute('role'), s.ariaLabel])"
    )
    assert len(charts) >= 8
    assert all(role == "img" and len(label) > 20 for role, label in charts)


def test_headings_landmarks_and_names(visit, path):
    opened = visit(path)
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert opened.evaluate("document.documentElement.lang") == "en"
    ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    targets = opened.evaluate(
        "[...document.querySelectorAll('nav a, .skip')].map(a => a.getAttribute('href').slice(1))"
    )
    assert set(targets) <= set(ids)
    unnamed = opened.evaluate(
        """[...document.querySelectorAll('section, nav, [role=region], fieldset')]
           .filter(e => !e.ariaLabel && !e.hasAttribute('aria-labelledby') && !e.querySelector('legend'))
           .length"""
    )
    assert unnamed == 0


def test_the_keyboard_reaches_the_content_and_the_choices(visit, report):
    opened = visit(report)
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    assert opened.locator(".skip").bounding_box()["x"] >= 0
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "content"
    opened.locator("input[name=curve]").first.focus()
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("document.activeElement.value") == "1"


def test_choices_show_one_panel_without_scripts(visit, report):
    opened = visit(report, scripts=False)
    curves = opened.locator("#curves .panel")
    assert [curves.nth(i).is_visible() for i in range(curves.count())] == [True, False, False, False]
    opened.get_by_label("ECE", exact=True).check()
    assert [curves.nth(i).is_visible() for i in range(curves.count())] == [False, False, False, True]
    examples = opened.locator("#explanations .panel")
    opened.locator("#explanations").get_by_label("le", exact=True).check()
    assert [examples.nth(i).is_visible() for i in range(examples.count())] == [False, False, True]


def test_print_shows_every_panel(visit, report):
    opened = visit(report)
    opened.emulate_media(media="print")
    panels = opened.locator(".panel")
    assert panels.count() == 7
    assert all(panels.nth(i).is_visible() for i in range(7))
    assert not opened.locator("nav").is_visible()


def test_hostile_names_are_shown_as_they_are(visit, report):
    opened = visit(report)
    text = opened.evaluate("document.querySelector('#making').innerText")
    for name in (EVIL[0], EVIL[1], EVIL[2], EVIL[5], EVIL[7]):
        assert name in text
    assert opened.evaluate("document.querySelectorAll('script, b').length") == 0


def test_downloads_hold_the_table(visit, report):
    opened = visit(report)
    with opened.expect_download() as download:
        opened.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "selftaught-table.csv"
    assert re.match(r"method,trials,", download.value.path().read_text())
