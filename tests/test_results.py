"""Every number of the results comes from the records that lie beside it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from selftaught import recipes
from selftaught.report import render
from selftaught.report.study import read
from selftaught.report.tables import tabulate
from selftaught.study import paper_results
from selftaught.study.reproduce import prepare
from selftaught.training import cost, record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
REPRODUCED = sorted(path.with_suffix("") for path in RESULTS.glob("*/*.json") if path.stem in recipes.names())
COMPARED = sorted(path.parent for path in RESULTS.glob("*/comparison.json"))
PAGES = [ROOT / "README.md", RESULTS / "README.md", ROOT / "docs" / "open-points.md"]


def test_there_are_results():
    assert REPRODUCED
    assert COMPARED
    assert all((path.parent / "trials").is_dir() for path in REPRODUCED)


@pytest.mark.parametrize("table", REPRODUCED, ids=lambda path: path.name)
def test_a_table_of_the_paper_is_what_its_records_say(table, tmp_path, real_data, monkeypatch):
    def measured(*_, **__):
        raise AssertionError("costs.json must have the step times of all methods")

    monkeypatch.setattr(cost, "measure", measured)
    shutil.copytree(table.parent, tmp_path / "study")
    told = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    options = {"trials": max(cell["trials"] + len(cell["missing"]) for cell in told["cells"])}
    whole = {variant.label for variant in recipes.load(table.name).variants}
    shown = list(dict.fromkeys(cell["variant"] for cell in told["cells"]))
    variants = [] if whole == set(shown) else shown
    study = prepare([table.name], told["budget"], tmp_path / "study", options, (), variants)
    paper_results.make(study, lambda line: None, lambda: False, {})
    for end in (".md", ".csv", ".json"):
        made = (tmp_path / "study" / table.name).with_suffix(end)
        assert made.read_bytes() == table.with_suffix(end).read_bytes(), f"{made.name} is another one"


@pytest.mark.parametrize("directory", COMPARED, ids=lambda path: path.name)
def test_a_comparison_is_what_its_records_say(directory):
    found = read([directory])
    table = tabulate(found.records, found.methods, found.costs, found.notes)
    assert render.markdown(table) == (directory / "table.md").read_text(encoding="utf-8")


def test_nothing_large_and_nothing_secret_is_kept():
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 2**20 for path in files)
    assert not [path for path in files if path.name in (record.WEIGHTS, record.CHECKPOINT)]
    texts = [path for path in files if path.suffix in (".json", ".jsonl", ".md", ".csv")]
    assert not [
        path for path in texts if re.search(r"/(work|home|root|tmp)/", path.read_text(encoding="utf-8"))
    ]


NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


def _tables() -> list[Path]:
    return [path for path in RESULTS.rglob("*.md") if path not in PAGES]


def _recorded() -> set[str]:
    """The numbers of all tables, printed and quoted values included, of single runs, and of what recipes prescribe."""
    texts = [path.read_text(encoding="utf-8") for path in _tables()]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "src/selftaught/recipes").glob("*.yaml")]
    found = {number for text in texts for number in NUMBER.findall(text)}
    for path in RESULTS.glob("*/result.json"):
        result = record.read(path.parent).result
        found |= {f"{100 * result.accuracy:.2f}", f"{100 * result.ece:.2f}", f"{result.nll:.3f}"}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_number_on_a_page_is_one_of_the_records(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert sorted(set(NUMBER.findall(text)) - _recorded()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_line_of_measurements_stands_so_in_a_recorded_table(page):
    """A number of another line or column would be one of the records as well."""
    lines = {line for path in _tables() for line in path.read_text(encoding="utf-8").splitlines()}
    shown = [
        line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|") and "±" in line
    ]
    assert [line for line in shown if line not in lines] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
