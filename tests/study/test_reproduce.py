import json
from pathlib import Path

import pytest

from selftaught.errors import InputError
from selftaught.files import record
from selftaught.files import study_folder as folder
from selftaught.files.evidence import metrics
from selftaught.report.selection import select
from selftaught.study import finishing, outlook, reproduce
from selftaught.study.executor import in_this_process
from selftaught.training import cost
from selftaught.training.estimate import Estimate
from selftaught.training.loop import Stopped
from tests.commands import call
from tests.study.reproduced import RECIPE, lend
from tests.training import quick


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(autouse=True)
def _costs_nothing(monkeypatch):
    """Timing steps is tested where it is done."""
    told = [cost.StepCost("", 1.0, 1.25)]
    monkeypatch.setattr(outlook, "estimate", lambda config: Estimate(60.0, 2**30, None))
    monkeypatch.setattr(cost, "measure", lambda configs, **_: told * len(configs))


def files(directory: Path) -> dict[str, bytes]:
    """What must not depend on interruptions; the page has the date and the time it took."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in (".md", ".csv")}


def test_a_recipe_becomes_a_table_beside_the_papers_numbers(tmp_path, recipe, trained_study, capsys):
    out = tmp_path / "out"
    lend(trained_study, out, without=("resnet14 ce", "resnet8 kd"))
    assert call("reproduce", recipe, "--budget", "smoke", "--out", out, "--json", "--jobs", "1") == 0
    said = json.loads(capsys.readouterr().out)
    cells = {cell["variant"]: cell for cell in said["tables"][0]["cells"]}
    assert list(cells) == ["CE", "KD", "LE-Uniform", "LE"]
    assert [cell["extra"] for cell in cells.values()] == [0, 1, 0, 0]
    assert {cell["trials"] for cell in cells.values()} == {2}
    assert cells["LE"]["paper_verdict"] == "not comparable"
    assert said["tables"][0]["paper_protocol"] is False
    trials = [record.read(path) for path in sorted((out / "trials").iterdir())]
    assert sorted(run.config.method for run in trials) == sorted(["ce"] * 3 + ["kd", "le-uniform", "le"] * 2)
    runs = [run for run in trials if run.config.method == "kd"]
    assert abs(sum(run.result.accuracy for run in runs) / 2 - cells["KD"]["mean"]) < 1e-9
    page = (out / "mine.html").read_text()
    assert "&lt;digits&gt;" in page
    assert "<digits>" not in page
    assert "smoke budget" in page
    assert call("status", out) == 0
    told = capsys.readouterr().out
    assert "9 trials: 9 done" in told


def test_an_interrupted_reproduction_goes_on_to_the_same_table(tmp_path, recipe, trained_study):
    lend(trained_study, tmp_path / "whole")
    whole = reproduce.prepare([recipe], "smoke", tmp_path / "whole", {})
    parts = reproduce.prepare([recipe], "smoke", tmp_path / "parts", {})
    assert parts.run(in_this_process, lambda event: None, quick.stop_after(30))
    left = len(parts.pending())
    assert 0 < left < 9
    asked = ("reproduce", recipe, "--budget", "smoke", "--quiet")
    assert call(*asked, "--jobs", "1", "--out", tmp_path / "parts") == 0
    assert call(*asked, "--jobs", "1", "--out", tmp_path / "whole") == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    for trial in whole.trials():
        other = tmp_path / "parts" / "trials" / trial.config.trial_id
        assert quick.fingerprint(other) == quick.fingerprint(trial.directory)


def test_a_failed_trial_is_named_and_the_table_made_of_the_others(tmp_path, recipe, trained_study, capsys):
    out = tmp_path / "out"
    lend(trained_study, out, without=("resnet14 ce", "resnet8 kd"))
    study = reproduce.prepare([recipe], "smoke", out, {})
    teacher = study.trials()[0]
    assert teacher.config.model == "resnet14"
    teacher.directory.mkdir(parents=True)
    (teacher.directory / "thesis.tex").write_text("mine")
    assert call("reproduce", recipe, "--budget", "smoke", "--out", out, "--jobs", "1") == 1
    captured = capsys.readouterr()
    assert "thesis.tex" in captured.err
    assert "Traceback" not in captured.err
    assert "its teacher (ce resnet14 seed 10000) failed" in (out / "mine.md").read_text()
    errors = {node.name: node.error for node in folder.read_graph(out).nodes if node.error}
    assert len(errors) == 3
    assert all(accuracy for accuracy in _accuracies(out, "CE"))
    (teacher.directory / "thesis.tex").unlink()
    assert call("reproduce", recipe, "--budget", "smoke", "--out", out, "--jobs", "1") == 0
    assert "failed" not in (out / "mine.md").read_text()


def _accuracies(out, variant):
    table = json.loads((out / "mine.json").read_text())
    return [cell["mean"] for cell in table["cells"] if cell["variant"] == variant]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "unknown recipe 'table9': did you mean"),
        (["table2", "--budget", "quik"], "unknown budget 'quik': did you mean 'quick'?"),
        (["table2", "--executor", "slurm"], "unknown executor 'slurm'"),
        (["missing.yaml"], "missing.yaml"),
        (["table2", "--jobs", "0"], "jobs is 0"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call("reproduce", *arguments) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_no_trial_is_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="trials is 0"):
        reproduce.prepare([recipe], "smoke", tmp_path / "out", {"trials": 0}).cells()


def test_budgets_do_not_mix_in_a_directory(tmp_path, recipe):
    study = reproduce.prepare([recipe], "smoke", tmp_path / "out", {})
    study.run(in_this_process, lambda event: None, lambda: True)
    with pytest.raises(InputError, match="holds runs at budget smoke: choose another --out"):
        reproduce.prepare([recipe], "quick", tmp_path / "out", {})
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty and not a comparison"):
        reproduce.prepare([recipe], "smoke", tmp_path, {})


@pytest.mark.parametrize("name", ["graph", "table2"])
def test_a_recipe_of_ones_own_replaces_nothing(tmp_path, recipe, name):
    path = tmp_path / "own.yaml"
    path.write_text(RECIPE.replace("name: mine", f"name: {name}"))
    for options in ({}, {"groups": ["ResNet8"]}):
        for names in ([str(path)], ["all", str(path)], ["table2", recipe, str(path)]):
            with pytest.raises(InputError, match=f"the name '{name}' of a recipe is taken"):
                reproduce.prepare(names, "smoke", tmp_path / "out", {}, **options)


def test_a_damaged_graph_is_written_again(tmp_path, recipe):
    (tmp_path / "out" / "trials").mkdir(parents=True)
    (tmp_path / "out" / folder.GRAPH).write_text("{")
    study = reproduce.prepare([recipe], "smoke", tmp_path / "out", {})
    study.run(in_this_process, lambda event: None, lambda: True)
    assert len(folder.read_graph(tmp_path / "out").nodes) == 9


def test_what_cannot_be_shown_costs_nothing_else(tmp_path, recipe, trained_study, capsys):
    out = tmp_path / "out"
    lend(trained_study, out)
    other = tmp_path / "other.yaml"
    other.write_text(
        RECIPE.replace("name: mine", "name: other")
        .replace("epochs: 2", "epochs: 1")
        .replace("milestones: [0.5]", "milestones: []")
        .replace("  - {label: KD, method: kd, settings: {temperature: 4, weight: 0.1}}\n", "")
        .replace("  - {label: LE-Uniform, method: le-uniform, settings: {alpha: 0.9, weight: 0.1}}\n", "")
    )
    arguments = (
        "reproduce",
        recipe,
        other,
        "--budget",
        "smoke",
        "--trials",
        "1",
        "--out",
        out,
        "--jobs",
        "1",
        "-q",
    )
    assert call(*arguments) == 0
    study = reproduce.prepare([recipe], "smoke", out, {"trials": 1})
    first = study.trial(study.cells()["mine"][0].configs[0])
    (first / record.PREDICTIONS).write_bytes(b"damaged")
    (out / "other.md").unlink()
    assert call(*arguments) == 1
    assert "mine is not complete:" in capsys.readouterr().err
    assert (out / "other.md").exists()
    assert "mine is not complete" in (out / "report.html").read_text()


def test_dry_run_says_what_would_be_done(tmp_path, recipe, capsys, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    assert call("reproduce", recipe, "--budget", "smoke", "--out", tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "9 trials, 2 at a time on cpu, in " in said
    assert "expected, from a few measured steps: about 4 minutes of training; memory: about 1.0 GiB" in said
    assert not (tmp_path / "out").exists()
    assert (
        call("reproduce", recipe, "--budget", "smoke", "--out", tmp_path / "out", "--dry-run", "--json") == 0
    )
    planned = json.loads(capsys.readouterr().out)
    assert [trial["open"] for trial in planned["trials"]] == [True] * 9
    assert planned["seconds"] == 9 * 60.0 / planned["jobs"]


def test_what_waits_for_a_search_takes_what_was_selected_on_held_out_images(tmp_path, stand_ins):
    study = reproduce.prepare(["table3"], "smoke", tmp_path, {"trials": 1})
    assert [recipe.name for recipe in study.recipes] == ["table3", "search-cp", "search-dropout", "search-ls"]
    first = study.cells()
    assert "table3" not in first
    assert {cell.group.label for cells in first.values() for cell in cells} == {"MNIST MLP"}
    assert not study.run(in_this_process, lambda event: None, lambda: False)
    search = study.recipes[1]
    accuracies = {
        config.settings["strength"]: metrics(record.read(study.trial(config)))["val_accuracy"][-1]
        for cell in first["search-cp"]
        for config in cell.configs
    }
    cells = {cell.variant.label: cell for cell in study.cells()["table3"]}
    chosen = cells["CP"].configs[0]
    assert accuracies[chosen.settings["strength"]] == max(accuracies.values())
    assert chosen.val_fraction == 0
    records = {(c.group.label, c.variant.label): study.records(c) for c in first["search-cp"]}
    assert select(search, records)["search-cp", "MNIST MLP"] == chosen.settings["strength"]


def test_a_figure_of_the_paper_at_the_smallest_budget(tmp_path, stand_ins):
    small = ("--budget", "smoke", "--trials", "1", "--jobs", "1")
    assert call("reproduce", "figure1", "figure2", *small, "--out", tmp_path, "-q") == 0
    made = {path.name for path in tmp_path.glob("*.png")}
    assert made == {"figure1-1.png", "figure1-2.png", "figure2.png"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 3


def _trials(arguments, capsys):
    assert call("reproduce", *arguments, "--budget", "smoke", "--dry-run", "--json") == 0
    return [trial["name"] for trial in json.loads(capsys.readouterr().out)["trials"]]


def test_trials_come_by_seed_so_that_what_is_not_finished_can_be_compared(recipe, capsys):
    first = ["ce resnet14 seed 10000"]
    seeds = [
        [f"{name} resnet8 seed {seed}" for name in ("ce", "kd", "le-uniform", "le")] for seed in range(3)
    ]
    assert _trials([recipe, "--trials", "3"], capsys) == first + seeds[0] + seeds[1] + seeds[2]


def test_some_variants_alone(tmp_path, recipe, capsys):
    only = [recipe, "--variant", "LE", "--variant", "CE", "--trials", "1"]
    assert _trials(only, capsys) == ["ce seed 0", "le seed 0"]
    out = ["--out", tmp_path / "out", "--json", "--jobs", "1"]
    assert call("reproduce", *only, "--budget", "smoke", *out) == 0
    [table] = json.loads(capsys.readouterr().out)["tables"]
    assert {cell["variant"]: cell["trials"] for cell in table["cells"]} == {
        "CE": 1,
        "KD": 0,
        "LE-Uniform": 0,
        "LE": 1,
    }
    assert "Not asked for, and not run: KD; LE-Uniform." in table["caption"]


def test_only_who_trains_needs_the_device(tmp_path, recipe, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked = [recipe, "--budget", "smoke", "--device", "cuda", "--out", tmp_path / "out"]
    assert call("reproduce", *asked, "--dry-run") == 0
    assert call("reproduce", *asked) == 2
    assert "use --device cpu" in capsys.readouterr().err
    assert call("reproduce", *asked[:-3], "tpu", "--dry-run") == 2


def test_tables_of_what_is_there_need_no_training(tmp_path, recipe, capsys):
    asked = [recipe, "--budget", "smoke", "--variant", "CE", "--out", tmp_path / "out", "--jobs", "1"]
    assert call("reproduce", *asked, "--trials", "1") == 0
    assert call("reproduce", *asked, "--trials", "2", "--tables-only") == 0
    assert len(list((tmp_path / "out" / "trials").iterdir())) == 1
    text = (tmp_path / "out" / "mine.md").read_text()
    assert "(1 of 2)" in text
    assert "Missing: ResNet8, CE: seed 1: not finished" in text


@pytest.mark.parametrize(("option", "value"), [("precision", "bf16-mixed"), ("threads", "2")])
def test_trials_of_another_machine_are_not_mixed_in(tmp_path, recipe, capsys, option, value):
    """Their lines would leave the table without a word."""
    asked = [recipe, "--budget", "smoke", "--variant", "CE", "--out", tmp_path / "out", "--jobs", "1"]
    assert call("reproduce", *asked, "--trials", "1") == 0
    assert call("reproduce", *asked, f"--{option}", value) == 2
    message = capsys.readouterr().err
    assert f"holds trials with {option}" in message
    assert "or choose another --out" in message


def test_some_groups_alone(stand_ins, capsys):
    only = ["table2", "--group", "ResNet8", "--trials", "1"]
    assert _trials([*only, "--variant", "CE"], capsys) == ["ce seed 0"]
    assert len(_trials(only, capsys)) == 6
    study = reproduce.prepare(["table2"], "paper", "nowhere", {}, groups=["ResNet8"])
    assert [group.label for group in study.whole["table2"].groups] == ["ResNet14", "ResNet8"]


def test_all_with_a_group_is_every_table_that_has_it_and_the_searches_it_needs(stand_ins):
    study = reproduce.prepare(["all"], "smoke", "nowhere", {}, groups=["MNIST MLP"])
    tables = [recipe for recipe in study.recipes if recipe.search is None]
    assert {"table3", "table6"} <= {recipe.name for recipe in tables}
    assert "table1" not in {recipe.name for recipe in tables}
    assert {group.label for recipe in study.recipes for group in recipe.groups} == {"MNIST MLP"}
    assert {recipe.name for recipe in study.recipes} - {recipe.name for recipe in tables} == {
        "search-cp",
        "search-dropout",
        "search-ls",
    }
    named = reproduce.prepare(["all", "search-ban"], "smoke", "nowhere", {}, groups=["MNIST MLP"])
    assert {recipe.name for recipe in named.recipes} == {recipe.name for recipe in study.recipes} | {
        "search-ban"
    }
    with pytest.raises(InputError, match="table1 has none of these groups: leave it out"):
        reproduce.prepare(["all", "table1"], "smoke", "nowhere", {}, groups=["MNIST MLP"])
    with pytest.raises(InputError, match="no recipe has any of these variants in these groups"):
        reproduce.prepare(["all"], "smoke", "nowhere", {}, variants=["CWTM"], groups=["ResNet8"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "LEE"], "unknown variant 'LEE': did you mean 'LE'?"),
        (
            ["table1", "--variant", "LE"],
            "table1 has none of these variants: leave it out, or name one of its own",
        ),
        (["--group", "ResNet9"], "unknown group 'ResNet9': did you mean 'ResNet8'?"),
        (["table1", "--group", "ResNet8"], "table1 has none of these groups: leave it out"),
        (
            ["table6", "--group", "MNIST MLP", "--variant", "LE (Grad-CAM)"],
            "mine has none of these variants in these groups",
        ),
        (
            ["all", "--variant", "CWTM", "--group", "MNIST MLP"],
            "mine has none of these variants in these groups",
        ),
    ],
)
def test_unknown_variants_and_groups_are_refused(recipe, capsys, arguments, message):
    assert call("reproduce", recipe, *arguments, "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_an_alternative_brings_what_it_is_instead_of_and_searches_stay_whole(stand_ins, capsys):
    names = _trials(["open-points", "--variant", "α 0.6", "--trials", "1"], capsys)
    assert names == ["le seed 0 (alpha 0.9)", "le seed 0 (alpha 0.6)"]
    assert len(_trials(["search-ls", "open-points", "--variant", "CE"], capsys)) == 4 * 3 + 2 * 2


@pytest.mark.parametrize("after", [0, 1])
def test_what_comes_after_the_training_can_be_interrupted(tmp_path, recipe, trained_study, after):
    lend(trained_study, tmp_path / "out")
    study = reproduce.prepare([recipe], "smoke", tmp_path / "out", {"trials": 1})
    asked = iter([False] * after + [True] * 9)
    with pytest.raises(Stopped):
        finishing.finish(study, lambda line: None, lambda: next(asked), {})
    assert not list((tmp_path / "out").glob("mine.*"))


def test_steps_that_cannot_be_timed_leave_their_cell_empty_and_it_is_said(
    tmp_path, recipe, trained_study, monkeypatch
):
    original = cost.measure

    def not_kd(configs, **options):
        if any(config.method == "kd" for config in configs):
            raise RuntimeError("not enough memory")
        return original(configs, **options)

    lend(trained_study, tmp_path / "out")
    study = reproduce.prepare([recipe], "smoke", tmp_path / "out", {"trials": 1})
    monkeypatch.setattr(cost, "measure", not_kd)
    told = []
    [table] = finishing.finish(study, told.append, lambda: False, {}).tables
    assert [line for line in told if "not timed" in line] == [
        "The steps of kd are not timed (RuntimeError: not enough memory)."
    ]
    costs = {cell.variant: cell.cost for cell in table.cells.values()}
    assert costs == {"CE": 1.25, "KD": None, "LE-Uniform": 1.25, "LE": 1.25}


def test_a_search_runs_in_whole(capsys):
    assert call("reproduce", "search-ls", "--group", "ResNet8", "--dry-run") == 2
    assert "leave out --variant and --group" in capsys.readouterr().err
