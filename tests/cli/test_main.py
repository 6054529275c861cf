"""What the command line promises: exit codes, one line per mistake, nothing but JSON on stdout with --json."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import selftaught
from selftaught import cli
from selftaught.cli import announcement
from selftaught.cli.options import parse_milestones
from selftaught.files import record
from selftaught.report import facts
from selftaught.training import cost
from tests.report import factory

QUICK = ["--image-size", "8", "--train-size", "40", "--batch-size", "8", "--epochs", "2", "--quiet"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure = cost.measure
    monkeypatch.setattr(cost, "measure", lambda configs, **_: measure(configs, steps=5))


@pytest.fixture
def run(capsys):
    """Runs a command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


def test_help_and_version_do_not_import_torch():
    script = (
        "import sys\nfrom selftaught.cli import main\n"
        "for flags in (['--help'], ['--version'], ['compare', '--help']):\n"
        "    try: main(flags)\n"
        "    except SystemExit as end: assert end.code == 0, end.code\n"
        "    assert not {'torch', 'numpy'} & set(sys.modules), flags"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(run):
    assert run("--version") == (0, selftaught.__version__ + "\n", "")


@pytest.mark.parametrize("command", ["compare", "train"])
def test_both_commands_have_every_shared_flag(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    flags = """--model --method --saliency --similarity --alpha --weight --warmup --epochs --batch-size --lr --momentum
    --weight-decay --milestones --image-size --train-size --val-fraction --seed --threads --precision --device --out
    --json --quiet --strength --drop-rate --layer --relu --upsample"""
    for flag in flags.split():
        assert flag in out, flag
    assert f"Example: selftaught {command} digits" in out


def test_ls_puts_a_name_at_the_start_of_each_line(run):
    code, out, _ = run("ls", "methods")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][:4] == ["ce", "dropout", "ls", "cp"]
    _, everything, _ = run("ls")
    names = {line.split()[0] for line in everything.splitlines()}
    assert {"le-uniform", "resnet14", "digits"} <= names
    assert "ce" in json.loads(run("ls", "methods", "--json")[1])["methods"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train digits --lerning-rate 0.1", "--lerning-rate"),
        ("train digits --epoch 3", "--epochs"),
        ("trian digits", "train"),
        ("train", "DATA"),
        ("train", "(see selftaught train --help)"),
        ("predict", "(see selftaught predict --help)"),
        ("train digits --method CE", "did you mean 'ce'"),
        ("train digits --model ResNet8", "did you mean 'resnet8'"),
        ("train digits --model file.py", "for example file.py:build"),
        ("train digits --epochs many", "--epochs"),
        ("train digits --epochs 0", "epochs is 0 but should be greater than or equal to 1"),
        ("train digits --milestones 3,x", "write them as 80,120, or none"),
        ("train digits --milestones 9,3", "milestones 9,3 must increase"),
        ("train digit", "did you mean 'digits'"),
        ("train digits --method lee", "did you mean 'le'"),
        ("train digits --model resnet-8", "did you mean 'resnet8'"),
        ("train digits --method ce --alpha 0.5", "--alpha is not a setting of ce"),
        ("train digits --model mlp --saliency grad-cam", "use --saliency grad"),
        ("train digits --precision 16", "32-true"),
        ("train digits --device tpu", "tpu"),
        ("compare digits --methods ce,ce", "given twice"),
        ("compare digits --methods ,", "no method given"),
        ("compare digits --trials 0", "trials is 0"),
        ("compare digits --jobs 0", "jobs is 0"),
        ("bench digits --methods ce,xx", "unknown method 'xx'"),
        ("ls method", "did you mean 'methods'"),
        ("train digits --out file", "file is a file"),
        ("compare digits --out file", "file is a file"),
        ("train digits --out thesis", "not empty and not a run"),
        ("compare digits --out thesis", "not empty and not a comparison"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, arguments, message):
    Path("file").write_text("")
    Path("thesis").mkdir()
    Path("thesis/chapter1.tex").write_text("mine")
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("selftaught: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not Path("runs").exists() or not list(Path("runs").rglob("*.json"))


def test_train_writes_and_reuses_a_run(run):
    code, out, err = run("train", "digits", "--method", "ls", "--alpha", "0.8", *QUICK)
    assert (code, err) == (0, "")
    [directory] = Path("runs").iterdir()
    run_record = record.read(directory)
    assert directory.name == f"digits-resnet8-ls-s0-{run_record.config.trial_id}"
    assert run_record.config.settings == {"alpha": 0.8}
    assert f"{100 * run_record.result.accuracy:.2f} %" in out
    before = (directory / "result.json").stat().st_mtime_ns
    assert run("train", "digits", "--method", "ls", "--alpha", "0.8", *QUICK)[:2] == (0, out)
    assert (directory / "result.json").stat().st_mtime_ns == before


def test_train_says_what_soft_labels_carry_where_that_is_too_little(run, monkeypatch):
    arguments = [
        "train",
        "digits",
        "--method",
        "le",
        "--warmup",
        "0",
        "--centre",
        "--out",
        "mine",
        *QUICK[:-1],
    ]
    monkeypatch.setattr(facts, "MOSTLY_OPPOSITE", 2.0)
    monkeypatch.setattr(facts, "NEARLY_EVEN", 2.0)
    code, _, err = run(*arguments)
    assert code == 0
    assert record.read_config(Path("mine")).settings["centre"] is True
    assert "le's soft labels of the last epoch put " in err
    monkeypatch.setattr(facts, "NEARLY_EVEN", 0.0)
    assert "soft labels" not in run(*arguments)[2]


def test_train_refuses_another_runs_directory_with_the_difference(run):
    assert run("train", "digits", "--method", "ce", "--out", "mine", *QUICK)[0] == 0
    code, _, err = run("train", "digits", "--method", "ce", "--out", "mine", "--lr", "0.5", *QUICK)
    assert code == 2
    assert "lr: 0.1 -> 0.5" in err


def test_a_run_that_diverges_is_refused_with_the_remedy(run):
    code, out, err = run("train", "digits", "--method", "ce", "--lr", "1e20", "--out", "hot", *QUICK)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "hot failed: the loss became" in err


def test_a_mistake_in_the_code_is_exit_code_1_and_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr("selftaught.training.finishing.predict", lambda *_: 1 / 0)
    code, out, err = run("train", "digits", "--method", "ce", "--out", "here", *QUICK)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "ZeroDivisionError" in err
    assert "in finish" in Path("here/error.txt").read_text()


def test_compare_with_json_prints_nothing_else_on_stdout(run):
    flags = ["--methods", "ce, ls", "--trials", "2", "--jobs", "1", "--json"]
    code, out, err = run("compare", "digits", *flags, *QUICK)
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed["directory"].startswith("runs/compare-digits-resnet8-")
    assert [row["method"] for row in printed["rows"]] == ["ce", "ls"]
    assert len(printed["trials"]) == 4


def test_compare_says_what_it_will_do_and_ends_with_the_table(run):
    flags = ["--methods", "ce,ls", "--trials", "1", "--jobs", "1", "--out", "here", *QUICK[:-1]]
    code, out, err = run("compare", "digits", *flags)
    assert code == 0
    assert "comparing ce, ls on digits (40 training and 359 test images" in err
    assert "2 trials of 2 epochs (resnet8, 1 per method), 1 at a time on cpu, in here" in err
    assert "ls seed 0: " in err
    assert "difference to ce" in out
    assert "one seed: no verdict" in out


def test_a_failed_trial_is_named_and_exit_code_1(run):
    flags = ["--methods", "ce,ls", "--trials", "1", "--jobs", "1", "--out", "here", *QUICK]
    run("compare", "digits", *flags)
    [broken] = [d for d in Path("here/trials").iterdir() if record.read(d).config.method == "ls"]
    for path in broken.iterdir():
        path.unlink()
    (broken / "note.txt").write_text("mine")
    code, out, err = run("compare", "digits", *flags)
    assert code == 1
    assert "ce" in out
    assert f"ls seed 0 ({broken}) failed: " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["ls"], ["--help"]])
def test_output_that_is_closed_is_one_line(arguments):
    script = f"exec {sys.executable} -m selftaught {' '.join(arguments)} >&-"
    done = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("selftaught: error: Bad file descriptor: ")


def test_messages_that_nobody_hears_do_not_get_into_the_output():
    script = f"exec {sys.executable} -m selftaught train 2>&-"
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("module", ["typer", "selftaught.cli.app", "selftaught.cli.listing"])
def test_ctrl_c_while_modules_are_imported_is_130(module):
    script = (
        "import sys\n"
        "from selftaught.cli import main\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == '{module}': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "main(['ls'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(13, "Permission denied", "a/b"),
            "cannot use a/b (Permission denied): make it acc",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "a/b"),
            "a/b (No such file or directory): check",
        ),
        (IsADirectoryError(21, "Is a directory", "a/b"), "a/b (Is a directory): name a file"),
        (NotADirectoryError(20, "Not a directory", "a/b"), "a/b (Not a directory): check its path"),
        (OSError(28, "No space left on device", "a/b"), "a/b (No space left on device): make room"),
        (OSError(28, "No space left on device"), "No space left on device: make room"),
    ],
)
def test_files_are_the_users_to_mend(run, monkeypatch, error, message):
    def fail(_kind):
        raise error

    monkeypatch.setattr("selftaught.cli.listing.listing", fail)
    found, out, err = run("ls")
    assert (found, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_milestones():
    assert parse_milestones("none") == []
    assert parse_milestones("30, 60") == parse_milestones("30,60") == [30, 60]


def test_two_classes_are_told_that_le_is_label_smoothing(monkeypatch):
    class Two:
        num_classes = 2
        notes = ("images of two sizes",)
        train_labels, classes = torch.tensor([0, 1]), ("cat", "dog")

    monkeypatch.setattr(announcement, "data_of", lambda config: Two)
    config = factory.config("ce", 0, model="resnet8")
    about_data, about_method = announcement.notes(config, ["ce", "le", "le-uniform"])
    assert about_data == "images of two sizes"
    assert "with two classes le equals label smoothing" in about_method
    assert announcement.notes(config, ["ce", "ls"]) == ["images of two sizes"]


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (3, "class 0 2, class 1 1, class 2 3"),
        (100, "class 98 0, class 99 0"),
        (101, "class 29 0, and 71 more classes with 0 images each"),
    ],
)
def test_the_classes_are_named_with_their_counts(monkeypatch, count, end):
    labels = [torch.tensor(part) for part in ([0, 0, 1], [2], [2, 2])]
    data = SimpleNamespace(
        classes=[f"class {k}" for k in range(count)],
        num_classes=count,
        train_labels=labels[0],
        val_labels=labels[1],
        test_labels=labels[2],
    )
    monkeypatch.setattr(announcement, "data_of", lambda config: data)
    assert announcement.classes(None).endswith(end)


def test_a_familiar_name_is_no_pretrained_network(monkeypatch):
    data = SimpleNamespace(num_classes=3, notes=(), train_labels=torch.arange(3), classes="abc")
    monkeypatch.setattr(announcement, "data_of", lambda config: data)
    [note] = announcement.notes(factory.config("ce", 0, model="resnet50"), ["ce"])
    assert "trained from scratch" in note
    assert "--model timm:NAME, torchvision:NAME and hf:" in note


def test_a_run_says_what_it_is_about_to_do_and_is_not_repeated(run):
    command = ["train", "digits", "--method", "ce", *QUICK[:-1], "--out", "here"]
    code, first, err = run(*command)
    assert code == 0
    assert "training resnet8 with ce on digits (40 training and 359 test images, 10 classes)" in err
    assert "2 epochs on cpu, seed 0, in here" in err
    code, again, err = run(*command)
    assert code == 0
    assert again == first
    done, *remarks = err.splitlines()
    assert done == "here is finished already: nothing to train"
    assert all("accuracy alone hides that" in line for line in remarks)
    assert json.loads(Path("here/command.json").read_text())["commands"][0][0] == "selftaught"


@pytest.mark.parametrize(
    "command",
    ["compare --methods ce,ls --trials 1 --jobs 1 --out here", "train --method ce", "bench --methods ce"],
)
def test_json_is_json_whatever_a_network_prints(run, command):
    Path("net.py").write_text(
        "from torch import nn\nprint('imported')\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('forward')\n"
        "        return super().forward(x)\n"
        "def build(num_classes):\n"
        "    print('built')\n"
        "    return Net(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    name, *rest = command.split()
    flags = [flag for flag in QUICK if flag != "--quiet"]
    code, out, _ = run(name, "digits", *rest, *flags, "--model", "net.py:build", "--json")
    assert code == 0
    assert json.loads(out)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(run):
    code, out, err = run("compare", "digits", "--methods", "ce,le", *QUICK[:-1], "--dry-run", "--trials", "2")
    assert (code, err) == (0, "")
    assert "comparing ce, le on digits (40 training and 359 test images, 10 classes)" in out
    counts = re.search(r"classes, with how many images each has: (.*)", out)[1].split(", ")
    assert [count.split()[0] for count in counts] == list("0123456789")
    assert sum(int(count.split()[1]) for count in counts) == 40 + 359
    assert "4 trials of 2 epochs" in out
    assert re.search(r"about \d+ seconds of training; memory: about", out)
    assert "Grad-CAM explains le: features (linear head; its 2x2 positions are coarse" in out
    assert not Path("runs").exists()


def test_a_dry_run_as_json_is_a_plan(run):
    wanted = ["compare", "digits", "--methods", "ce,le", *QUICK, "--trials", "2", "--dry-run", "--json"]
    code, out, err = run(*wanted)
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert [trial["name"] for trial in plan["trials"]] == [
        f"{m} seed {s}" for s in (0, 1) for m in ("ce", "le")
    ]
    assert all(trial["open"] for trial in plan["trials"])
    assert plan["classes"] == list("0123456789")
    assert [plan[part] for part in ("train", "held_out", "test")] == [40, 0, 359]
    assert plan["seconds"] > 0 < plan["memory"]
    assert not Path("runs").exists()


def test_output_that_nobody_reads_is_no_error(tmp_path):
    command = f"{sys.executable} -m selftaught ls --json | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_does_not_fit_is_one_line():
    command = [sys.executable, "-m", "selftaught", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    "command", ["compare", "train", "bench", "explain", "predict", "export", "report", "ls"]
)
def test_every_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: selftaught {command}" in out


@pytest.mark.parametrize(
    "command", ["compare", "train", "bench", "explain", "predict", "export", "report", "ls"]
)
def test_arguments_are_in_capitals(run, command):
    _, out, _ = run(command, "--help")
    arguments = out.partition("[OPTIONS]")[2].partition("\n")[0]
    assert arguments.strip()
    assert arguments == arguments.upper()


def test_ctrl_c_saves_what_the_same_command_goes_on_from(tmp_path):
    """The whole process group is interrupted, as a terminal does it."""
    command = [sys.executable, "-c", "from selftaught.cli import main; main()", "compare", "digits"]
    command += ["--methods", "ce", "--trials", "1", *QUICK[:6], "--out", "here"]
    command += ["--epochs", "2000", "--milestones", "none"]
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(tmp_path.rglob("checkpoint.pt")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "0 of 1 trials are finished and kept; the same command goes on from here" in err
    [checkpoint] = tmp_path.rglob("checkpoint.pt")
    position = torch.load(checkpoint, weights_only=True)["position"]
    assert position["epoch"] + position["step"] > 0
    assert "Traceback" not in err
