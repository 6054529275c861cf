"""Every number of the results comes from the records that lie beside it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from selftaught import recipes
from selftaught.files import evidence, record
from selftaught.files.config import RunConfig
from selftaught.report import build
from selftaught.report.study import read
from selftaught.study import finishing
from selftaught.study.reproduce import prepare
from selftaught.training import cost, presets
from tests.data import made_up

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
REPRODUCED = sorted(path.with_suffix("") for path in RESULTS.glob("*/*.json") if path.stem in recipes.names())
COMPARED = sorted(path.parent for path in RESULTS.glob("*/comparison.json"))
PAGES = [ROOT / "README.md", RESULTS / "README.md", ROOT / "docs" / "open-points.md"]


def test_there_are_results():
    assert REPRODUCED
    assert COMPARED
    assert all((path.parent / "trials").is_dir() for path in REPRODUCED)


def _configs() -> Iterator[RunConfig]:
    return (record.read_config(path.parent) for path in sorted(RESULTS.glob("*/trials/*/config.json")))


@pytest.fixture(scope="module")
def recorded() -> dict[tuple, RunConfig]:
    """A run of each division of each data that trials were trained on."""
    return {made_up.division(config): config for config in _configs()}


@pytest.mark.slow
def test_the_records_are_those_of_the_real_data(recorded, real_data):
    """Decoded by today's code it has the fingerprints that are part of the trials' names."""
    assert {config.data for config in recorded.values()} >= {"digits", "mnist", "cifar10"}
    for config in recorded.values():
        assert presets.data_of(config).fingerprint == config.data_fingerprint


def test_the_records_are_those_of_the_digits(recorded):
    [config] = [config for config in recorded.values() if config.data == "digits"]
    assert presets.data_of(config).fingerprint == config.data_fingerprint


@pytest.mark.parametrize("table", REPRODUCED, ids=lambda path: path.name)
def test_a_table_of_the_paper_is_what_its_records_say(table, tmp_path, recorded, monkeypatch):
    """The data is known by its fingerprints alone: decoding it takes most of a minute."""
    fingerprints = {division: config.data_fingerprint for division, config in recorded.items()}

    def data_of_options(config, preparation=None, on_activity=None):
        return SimpleNamespace(fingerprint=fingerprints.get(made_up.division(config), "not recorded"))

    monkeypatch.setattr(presets, "data_of_options", data_of_options)
    timed = []
    monkeypatch.setattr(cost, "measure", lambda configs, **_: timed.extend(configs) or [])
    shutil.copytree(table.parent, tmp_path / "study")
    told = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    run = next((table.parent / "trials").iterdir())
    options = {name: getattr(record.read(run).config, name) for name in ("device", "precision")}
    options["trials"] = max(cell["trials"] + len(cell["missing"]) for cell in told["cells"])
    asked = [cell for cell in told["cells"] if cell["trials"] or cell["missing"]]
    parts = [
        [] if some == every else list(some)
        for some, every in (
            (dict.fromkeys(cell[part] for cell in cells) for cells in (asked, told["cells"]))
            for part in ("variant", "group")
        )
    ]
    study = prepare([table.name], told["budget"], tmp_path / "study", options, (), *parts)
    finishing.finish(study, lambda line: None, lambda: False, {})
    assert not timed, "costs.json must have the step times of all methods"
    for end in (".md", ".csv", ".json"):
        made = (tmp_path / "study" / table.name).with_suffix(end)
        assert made.read_bytes() == table.with_suffix(end).read_bytes(), f"{made.name} is another one"


@pytest.mark.parametrize("study", sorted(path.parent.name for path in RESULTS.glob("*/trials")))
def test_networks_of_a_seed_are_the_same_until_their_methods_differ(study):
    """Plain training is the first stage of LE and its controls; another machine's would be another network."""
    stages: dict[tuple[str, int, int], set[tuple[float, ...]]] = {}
    for path in sorted((RESULTS / study / "trials").iterdir()):
        run = record.read(path)
        config, losses = run.config, evidence.metrics(run)["loss"]
        if config.method in ("ce", "le", "le-uniform", "le-permut", "le-teacher"):
            epochs = config.settings.get("warmup", config.epochs // 5)
            place = config.shared().canonical(), config.seed, epochs
            stages.setdefault(place, set()).add(tuple(losses[:epochs]))
    assert stages
    assert [place for place, found in stages.items() if len(found) > 1] == []


@pytest.mark.parametrize("directory", COMPARED, ids=lambda path: path.name)
def test_a_comparison_is_what_its_records_say(directory):
    found = read([directory])
    table = build.comparison(found.records, found.methods, found.costs, found.notes)
    assert build.markdown(table) == (directory / "table.md").read_text(encoding="utf-8")


def test_nothing_large_and_nothing_secret_is_kept():
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 2**20 for path in files)
    assert not [path for path in files if path.name in (record.WEIGHTS, record.CHECKPOINT)]
    texts = [path for path in files if path.suffix in (".json", ".jsonl", ".md", ".csv")]
    assert not [
        path for path in texts if re.search(r"/(work|home|root|tmp)/", path.read_text(encoding="utf-8"))
    ]


NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


def _recorded(page: Path) -> set[str]:
    """The numbers of what a page links to, printed values included, of single runs, and of what recipes prescribe."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    places = [place for link in links if (place := (page.parent / link).resolve()).is_relative_to(RESULTS)]
    folders = {place if place.is_dir() else place.parent for place in places} - {RESULTS}
    files = {file for place in folders for file in place.glob("*.md")} | {
        p for p in places if p.suffix == ".md"
    }
    texts = [path.read_text(encoding="utf-8") for path in files - set(PAGES)]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "src/selftaught/recipes").glob("*.yaml")]
    found = {number for text in texts for number in NUMBER.findall(text)}
    for path in folders:
        if (path / record.RESULT).is_file():
            result = record.read(path).result
            found |= {f"{100 * result.accuracy:.2f}", f"{100 * result.ece:.2f}", f"{result.nll:.3f}"}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_number_on_a_page_is_one_of_the_records_that_it_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    numbers = set(NUMBER.findall(text.replace("Apache-2.0", "").replace("Python ≥ 3.10", "")))
    assert sorted(numbers - _recorded(page)) == []


def _tables(text: str) -> list[tuple[str, str, list[str]]]:
    """Of every table of a page the words before it, its titles and its lines."""
    found = []
    for block in re.finditer(r"((?:^\|.*\n?)+)", text, flags=re.MULTILINE):
        titles, _, *lines = block[0].splitlines()
        before = text[: block.start()].strip().splitlines()
        found.append((before[-1] if before else "", titles, lines))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_table_of_measurements_stands_so_in_the_records(page):
    """With its titles, and under the name of its networks: a number of another line or column is recorded as well."""
    recorded = [
        (before.lower(), titles, lines)
        for path in RESULTS.rglob("*.md")
        if path not in PAGES
        for before, titles, lines in _tables(path.read_text(encoding="utf-8"))
    ]
    shown = [one for one in _tables(page.read_text(encoding="utf-8")) if any("±" in line for line in one[2])]
    for before, titles, lines in shown:
        theirs = [one for one in recorded if one[1] == titles and set(lines) <= set(one[2])]
        assert theirs, f"{before} {titles}: not in the records"
        model = re.match(r"\*\*(resnet8|mlp)", before.lower())
        assert model is None or any(model[1] in their_words for their_words, _, _ in theirs), before


def test_as_many_trials_were_run_as_the_page_says():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[[^\]]+\]\(([\w-]+)\) \|.*\| (?:all )?(\d+)(?: of \d+)? \|$", text, flags=re.MULTILINE
    )
    assert {name for name, _ in rows} == {path.name for path in RESULTS.iterdir() if path.is_dir()}
    for name, trials in rows:
        assert int(trials) == len(list((RESULTS / name).rglob(record.RESULT))), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
