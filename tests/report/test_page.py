import base64
import csv
import io
import re
import shlex
import tracemalloc
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from selftaught.errors import InputError
from selftaught.files import record
from selftaught.report import sentences
from selftaught.report.markdown import markdown
from selftaught.report.table import comparison
from tests.report import factory

METHODS = ["ce", "ls", "le"]
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title>'",
    "a" * 400,
    "قطة\u202e",
    "🐕‍🦺 dog",
    "nul\x00\x1b",
    "{{ 7 * 7 }}{% raw %}",
    "a|b\nc",
    "</svg>",
)


class Page(HTMLParser):
    """The elements of a page, its headings and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open[-1:]):
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def html(records):
    command = ["selftaught", "compare", "my data", "--methods", "ce,ls,le"]
    return factory.html(records, METHODS, {"ce": 1.0, "le": 1.07}, [command])


def test_it_is_one_file_that_asks_for_nothing_else(html):
    assert html.startswith("<!doctype html>")
    found = Page(html)
    assert {"script", "iframe", "object", "base", "form"} & {tag for tag, _ in found.elements} == set()
    for tag, attrs in found.elements:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)) == []
    assert re.findall(r"url\((?!data:image/)", html) == []
    [policy] = [attrs["content"] for attrs in found.all("meta") if "http-equiv" in attrs]
    assert "default-src 'none'" in policy


def test_the_table_and_its_downloads_say_what_the_table_says(html, records):
    found, table = Page(html), comparison(records, METHODS, {"ce": 1.0, "le": 1.07})
    body = html.partition('<table class="comparison">')[2].partition("<tbody>")[2].partition("</table>")[0]
    shown = [
        re.findall(r"<t[hd][^>]*>(?:<bdi>)?(.*?)(?:</bdi>)?</t[hd]>", row) for row in body.split("</tr>")[:-1]
    ]
    assert shown == [factory.texts(row, table, page=True) for row in table.rows]
    for line in sentences.caption(table):
        assert line in found.words
    links = {attrs["download"]: attrs["href"] for attrs in found.all("a") if "download" in attrs}
    files = {name: base64.b64decode(href.partition("base64,")[2]).decode() for name, href in links.items()}
    assert files["selftaught-table.md"] == markdown(table)
    rows = list(csv.DictReader(io.StringIO(files["selftaught-table.csv"])))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([row.accuracy for row in table.rows])


def test_every_section_has_its_evidence(html, records):
    found = Page(html)
    assert len(found.all("h1")) == 1
    labels = " ".join(attrs["aria-label"] for attrs in found.all("svg") if attrs.get("role") == "img")
    for part in (
        "Test accuracy in % of each seed",
        "95 % intervals",
        "Reliability of le",
        "Accuracy in % of 10 classes",
    ):
        assert part in labels
    for part in (
        "accuracy %, training images",
        "accuracy %, held-out images",
        "NLL",
        "ECE %, held-out",
        "loss",
    ):
        assert part in labels
    assert "selftaught compare 'my data' --methods ce,ls,le" in found.text
    assert shlex.split("selftaught compare 'my data'")[2] == "my data"
    for run in records:
        assert run.result.trial_id in found.text
    matrices = [attrs for attrs in found.all("table") if attrs.get("class") == "matrix"]
    assert len(matrices) == 3
    maps = [attrs for attrs in found.all("img") if attrs["alt"].startswith("Map of")]
    assert len(maps) == 3 * 8 * 10
    assert "Introspective Learning by Distilling Knowledge" in found.text


def test_the_numbers_of_the_confusion_matrix_are_percentages_of_the_true_class(records):
    [first] = [run for run in records if run.config.method == "ce" and run.config.seed == 0]
    logits, labels = np.eye(10, dtype=np.float32)[np.arange(500) % 10] * 5, np.arange(500) % 10
    logits[:10:10] = np.eye(10, dtype=np.float32)[3] * 5  # one of fifty airplanes is taken for a cat
    kept = load_file(first.directory / record.PREDICTIONS) | {"logits": logits, "labels": labels}
    save_file(kept, first.directory / record.PREDICTIONS)
    html = factory.html([first])
    rows = re.findall(r"<tr>(.*?)</tr>", html.partition('<table class="matrix">')[2].partition("</table>")[0])
    airplane = re.findall(r'<td class="(\w+)" style="--v:(\d+)%">([\d.]*)</td>', rows[1])
    assert [text for *_, text in airplane] == ["98", "", "", "2.0", *[""] * 6]
    assert airplane[3][:2] == ("wrong", "100")
    assert airplane[0][:2] == ("right", "98")


def test_names_are_text_wherever_they_stand(tmp_path):
    records = [
        factory.write_run(
            tmp_path, method, seed, EVIL, data=EVIL[0] + "/" + EVIL[1], model=f"{EVIL[2]}:build"
        )
        for method in METHODS
        for seed in range(2)
    ]
    html = factory.html(records, METHODS, commands=[["selftaught", *EVIL]], notes=[EVIL[1]])
    found = Page(html)
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "b"})
    assert not [attrs for attrs in found.all("img") if "onerror" in attrs]
    assert html.count("</style>") == 1
    assert html.count("</title>") == 1 + len(re.findall(r"<title>", html.partition("</style>")[2]))
    assert "{{ 7 * 7 }}{% raw %}" in found.text
    assert EVIL[0] in found.text
    assert EVIL[3] in found.text
    assert not re.search(r"[\x00-\x08\x1b]", html)
    html.encode()


def test_a_most_frequent_class_that_is_always_named_is_told_and_counted(tmp_path):
    frequent, rare = EVIL[0], EVIL[1]
    records = []
    for method, seed in (("ce", 0), ("ce", 1), ("le", 0)):
        run = factory.write_run(tmp_path, method, seed, (frequent, "dog", rare))
        labels = np.repeat([0, 1, 2], [450, 30, 20])
        logits = np.tile(np.float32([9, 0, 0]), (500, 1))
        kept = load_file(run.directory / record.PREDICTIONS) | {"logits": logits, "labels": labels}
        save_file(kept, run.directory / record.PREDICTIONS)
        older = {"balanced_accuracy": None, "per_class_images": (), "per_class_accuracy": ()}
        result = run.result.model_copy(update={"accuracy": 0.9, **older})
        records.append(record.Record(run.directory, run.config, result))
    html = factory.html(records)
    assert frequent not in html
    caution = f"No method is clearly better than always naming '{frequent}', which would score 90.00 %"
    fact = f"from 20 ({rare}) to 450 ({frequent})"
    words = Page(html).words
    assert caution in words
    assert "test images per class" in words
    assert fact in words
    for run in records[:2]:
        (run.directory / record.PREDICTIONS).unlink()
    assert caution in Page(factory.html(records)).words  # le's test images are ce's
    (records[2].directory / record.PREDICTIONS).unlink()
    words = Page(factory.html(records)).words
    assert "always naming" not in words
    assert "test images per class" not in words


def test_classes_of_the_same_size_are_not_counted(html):
    assert "test images per class" not in Page(html).words


def test_a_command_with_bytes_that_are_no_text_can_be_written(tmp_path):
    run = factory.write_run(tmp_path / "trials")
    html = factory.html([run], commands=[["selftaught", "compare", "photos-\udcff"]])
    assert "photos-�" in html.encode().decode()


def test_many_classes_are_shown_as_the_hardest_and_the_most_confused(tmp_path):
    records = [
        factory.write_run(tmp_path, method, 0, factory.names(100), images=1500) for method in ("ce", "le")
    ]
    html = factory.html(records)
    found = Page(html)
    assert "The 20 hardest of 100 classes" in found.words
    assert 'class="matrix"' not in html
    assert len([attrs for attrs in found.all("img") if attrs["alt"].startswith("Confusion matrix of")]) == 2
    assert len(html) < 2_000_000


def test_what_the_runs_did_not_keep_is_said(tmp_path):
    records = [factory.write_run(tmp_path, method, 0, val=0) for method in ("ce", "le")]
    words = Page(factory.html(records)).words
    assert "Nothing was held out" in words
    assert "held-out images" not in words.partition("Calibration")[0].partition("Training")[2]
    assert "One seed" not in words
    assert "No verdict on le against ce" in words
    for run in records:
        for name in (record.PREDICTIONS, record.METRICS, record.EXAMPLES):
            (run.directory / name).unlink()
    words = Page(factory.html(records)).words
    assert "kept no test predictions" in words
    assert "kept no record of their epochs" in words
    assert "kept no explained test images" in words


def test_methods_of_which_only_some_kept_something(records):
    for run in records:
        if run.config.method == "ls":
            (run.directory / record.PREDICTIONS).unlink()
            (run.directory / record.METRICS).unlink()
    words = Page(factory.html(records, METHODS)).words
    assert "without stored predictions (ls)" in words


def test_a_large_map_does_not_make_a_large_page(tmp_path):
    run = factory.write_run(tmp_path, "le", 0, size=224)
    path = run.directory / record.EXAMPLES
    noise = np.random.default_rng(0)
    maps = noise.normal(size=(8, 10, 224, 224)).astype(np.float32)
    images = noise.integers(0, 256, (8, 3, 224, 224), dtype=np.uint8)
    save_file(load_file(path) | {"maps": maps, "images": images}, path)
    assert len(factory.html([run])) < 1_000_000


def test_the_same_records_give_the_same_page(records):
    assert factory.html(records, METHODS) == factory.html(list(reversed(records)), METHODS)


def test_one_run_is_a_report_too(tmp_path):
    run = factory.write_run(tmp_path, "le", 3)
    words = Page(factory.html([run])).words
    assert "one method, nothing to compare" in words
    assert "seed 3" in words


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished trial"):
        factory.html([])
    records = [
        factory.write_run(tmp_path, "ce", 0),
        factory.write_run(tmp_path, "ce", 1, data_fingerprint="other"),
    ]
    with pytest.raises(InputError, match="different data"):
        factory.html(records)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e308", "1e308", "0"])
def test_results_that_cannot_be_true_do_not_break_the_page(tmp_path, number):
    names = ("accuracy", "nll", "ece", "ece_scaled", "seconds", "images_per_second")
    records = []
    for method, seed in (("ce", 0), ("ce", 1), ("le", 0)):
        run = factory.write_run(tmp_path, method, seed)
        result = run.result.model_copy(
            update=dict.fromkeys(names, float(number))
        )  # past the checks of reading
        records.append(record.Record(run.directory, run.config, result))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "Test accuracy in % of each seed" in factory.html(records, costs={"ce": float(number)})


def test_very_many_classes_take_no_matrix_and_no_long_page(tmp_path):
    names = factory.names(4000)
    run = factory.write_run(tmp_path, "ce", 0, names, images=100, val=0)
    logits = np.zeros((100, 4000), np.float32)
    logits[:, 7] = 9.0  # whatever it is shown, it says class 7
    save_file(
        {"logits": logits, "labels": np.r_[np.full(60, 11), np.full(40, 7)]},
        run.directory / record.PREDICTIONS,
    )
    tracemalloc.start()
    html = factory.html([run])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 4000  # a byte for each pair of classes
    assert len(html) < 1_000_000
    assert "<img" not in html.partition('id="classes"')[2].partition("</section>")[0]
    found = Page(html)
    assert "The 2 hardest of 4000 classes" in found.words  # the others have no test images
    assert (
        "class 11class 760100.0" in found.words
    )  # a row of the most frequent mistakes: 60 images, all of the class
    assert "the 1000 hardest of 4000" in found.words


def test_paths_are_told_by_their_last_part_until_how_it_was_made(tmp_path):
    data, model = "/home/somebody/secret/photos", "hf:/home/somebody/models/vit"
    records = [factory.write_run(tmp_path, m, 0, data=data, model=model) for m in ("ce", "le")]
    above, _, making = factory.html(records).partition('id="making"')
    assert "<title>ce, le on photos with hf:vit</title>" in above
    assert "photos with hf:vit: 2,000 training images" in above
    assert "somebody" not in above
    assert data in making
    assert model in making
    table = markdown(comparison(records, ["ce", "le"], {}))
    assert "photos with hf:vit: 2,000 training images" in table
    assert "somebody" not in table


def test_notes_stand_above_the_verdict_and_in_the_tables_that_can_be_downloaded(records):
    note = "1 of 9 trials failed"
    html = factory.html(records, METHODS, notes=[note])
    verdict = html.partition('id="verdict"')[2].partition("</section>")[0]
    assert note in verdict
    assert html.count(note) == 1
    [file] = [a["href"] for a in Page(html).all("a") if a.get("download") == "selftaught-table.md"]
    assert note in base64.b64decode(file.partition("base64,")[2]).decode()


def test_lists_without_bullets_are_still_lists(html):
    """Safari's screen reader takes a list whose style is none for no list."""
    lists = [attrs for attrs in Page(html).all("ul") if attrs["class"] in ("legend", "examples", "maps")]
    assert len(lists) > 3
    assert {attrs.get("role") for attrs in lists} == {"list"}


def test_maps_have_the_proportions_of_their_pictures(tmp_path):
    """Also those of a grid of tokens, which lies over all of a photograph whatever its sides."""
    run = factory.write_run(tmp_path, "le")
    kept = load_file(run.directory / record.EXAMPLES)
    count, classes = kept["classes"].shape
    rng = np.random.default_rng(0)
    kept["images"] = rng.integers(0, 256, (count, 3, 64, 96), dtype=np.uint8)
    kept["maps"] = rng.normal(size=(count, classes, 4, 6)).astype(np.float32)
    save_file(kept, run.directory / record.EXAMPLES)
    found = Page(factory.html([run]))
    examples = [attrs for attrs in found.all("li") if attrs.get("class") == "example"]
    assert len(examples) == count
    assert all("--shape:96/64" in attrs["style"] for attrs in examples)
    assert found.all("div").count({"class": "over"}) == count * min(classes, 10)
    pictures = [a["src"] for a in found.all("img") if a.get("alt", "").startswith("Map of")]
    files = [io.BytesIO(base64.b64decode(uri.partition(",")[2])) for uri in pictures]
    assert {Image.open(file).size for file in files} == {(6, 4)}
