import functools
import hashlib
import json
import multiprocessing
import pickle

import pytest
import torch
from safetensors.numpy import load_file

import selftaught
from selftaught.errors import ExplanationError, InputError, SelftaughtError
from selftaught.files import claiming, record
from selftaught.methods import Step
from selftaught.methods.ce import CrossEntropy
from selftaught.training import environment, metrics, presets
from selftaught.training.run import Stopped, train
from selftaught.training.session import start
from tests.training import quick


def metrics_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a held-out part."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    config = quick.config(train_size=50, val_fraction=0.2)
    result = train(config, directory)
    return directory, config, result


def test_a_run_leaves_its_record(finished):
    directory, config, result = finished
    assert {path.name for path in directory.iterdir() if path.name != ".lock"} == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "predictions.safetensors",
        "examples.safetensors",
        "result.json",
    }
    run = record.read(directory)
    assert run.config == config
    assert run.result == result
    assert run.result.trial_id == config.trial_id
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"lr", "loss", "loss_ce", "train_accuracy", "val_accuracy", "val_nll", "val_ece"} <= set(lines[0])
    assert lines[-1]["seconds"] == result.seconds
    assert result.soft_labels is None


def test_the_result_is_that_of_the_stored_predictions(finished):
    directory, _, result = finished
    stored = load_file(directory / "predictions.safetensors")
    logits, labels = stored["logits"], stored["labels"]
    assert result.accuracy == (logits.argmax(1) == labels).mean()
    log_p = torch.tensor(logits).log_softmax(1)[torch.arange(len(labels)), torch.tensor(labels)]
    assert result.nll == pytest.approx(-log_p.mean().item(), rel=1e-5)


# Augmented and held-out: random streams and the evaluation in between must not matter either.
STREAMS = {"padding": 1, "flip": True, "train_size": 50, "val_fraction": 0.2, "milestones": [2]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a method's run leaves that nobody interrupts."""

    @functools.cache
    def of(method):
        directory = tmp_path_factory.mktemp("whole")
        train(quick.config(method, **STREAMS), directory)
        return quick.fingerprint(directory)

    return of


@pytest.mark.parametrize(
    ("method", "stops"),
    [("dropout", [7, 2]), ("le", [1]), ("le", [14]), ("le-permut", [5]), ("le-permut", [7, 2])],
)
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, uninterrupted, method, stops):
    config = quick.config(method, **STREAMS)
    for steps in stops:
        with pytest.raises(Stopped):
            train(config, tmp_path / "parts", should_stop=quick.stop_after(steps))
        assert not record.is_finished(tmp_path / "parts")
    events = []
    train(config, tmp_path / "parts", on_progress=events.append)
    # Stopping is noticed within an epoch, at the end of one only in the next.
    assert events[0].resumed_at >= sum(stops)
    assert quick.fingerprint(tmp_path / "parts") == uninterrupted(method)


@pytest.mark.parametrize("refresh", [1.0, 0.3])
def test_a_record_says_what_the_soft_labels_of_the_last_epoch_said(tmp_path, monkeypatch, refresh):
    made, soften = [], selftaught.IntrospectiveLoss.soften

    def kept(self, similarity, labels):
        made.append((soften(self, similarity, labels), labels))
        return made[-1][0]

    monkeypatch.setattr(selftaught.IntrospectiveLoss, "soften", kept)
    result = train(quick.config("le", warmup=1, refresh=refresh), tmp_path)
    last = made[-quick.STEPS_PER_EPOCH :]
    moved = torch.cat([metrics.moved(q, labels) for q, labels in last]).mean().item() / 0.1
    spread = torch.cat([metrics.spread(q, labels) for q, labels in last]).mean().item()
    assert result.soft_labels.moved == pytest.approx(moved, rel=1e-5)
    assert result.soft_labels.classes == pytest.approx(spread, rel=1e-5)
    assert record.read(tmp_path).result == result
    first, *others = metrics_of(tmp_path)
    assert not [name for name in first if name.startswith("soft_")], "of the warm-up nothing is made"
    assert all({"soft_opposite", "soft_moved", "soft_classes"} <= set(line) for line in others)
    assert others[-1]["soft_opposite"] == result.soft_labels.opposite


def test_a_record_says_what_every_session_ran_on(tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(3))
    first = environment.describe(torch.device("cpu"))
    monkeypatch.setattr(environment, "code", lambda: "another")
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(3))
    result = train(quick.config(), tmp_path)
    assert result.environment == first | {"code": f"{first['code']}; another"}


def test_lines_written_after_the_checkpoint_are_dropped(tmp_path):
    """Killed between the two writes at the end of an epoch; the checkpoint has the lines as well."""
    config = quick.config()
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "parts", should_stop=quick.stop_after(quick.STEPS_PER_EPOCH + 1))
    with open(tmp_path / "parts" / "metrics.jsonl", "a") as metrics:
        metrics.write('{"epoch": 2}\n{"epo')
    (tmp_path / "parts" / ".checkpoint.pt.123.tmp").write_bytes(b"half")
    train(config, tmp_path / "parts")
    assert quick.fingerprint(tmp_path / "parts") == quick.fingerprint(tmp_path / "whole")
    assert not list((tmp_path / "parts").glob(".*.tmp"))


def test_two_processes_that_begin_at_once_do_not_clean_up_after_one_another(tmp_path, monkeypatch):
    """What a kill left is removed by whoever has the lock: a configuration is not written without it."""
    write, refused = record.write, []

    def looked_at(path, content):
        with (
            pytest.raises(InputError, match="is being trained by another process"),
            claiming.locked(tmp_path),
        ):
            pass
        refused.append(path.name)
        write(path, content)

    monkeypatch.setattr(claiming, "write", looked_at)
    claiming.claim(tmp_path, quick.config())
    assert refused == [record.CONFIG]
    monkeypatch.setattr(claiming, "write", write)
    monkeypatch.setattr(claiming, "CLAIM_SECONDS", 0.0)
    first = [None]
    read = record.read_config
    monkeypatch.setattr(claiming, "read_config", lambda path: first.pop() if first else read(path))
    with pytest.raises(
        InputError, match="holds another run"
    ):  # which came while this one waited for the lock
        claiming.claim(tmp_path, quick.config(seed=7))
    (tmp_path / record.CONFIG).unlink()
    with claiming.locked(tmp_path), pytest.raises(InputError, match="is being trained by another process"):
        claiming.claim(tmp_path, quick.config())


def _begin(directory, connection):
    try:
        train(quick.config(), directory)
    except InputError as error:
        connection.send(str(error))


def test_two_processes_do_not_train_in_one_directory(tmp_path):
    config = quick.config()
    refused = []

    def meanwhile() -> bool:
        if not refused:
            context = multiprocessing.get_context("fork")  # it is refused before it comes to PyTorch
            ours, theirs = context.Pipe()
            other = context.Process(target=_begin, args=(tmp_path / "run", theirs))
            other.start()
            theirs.close()
            refused.append(ours.recv())
            other.join()
        return False

    result = train(config, tmp_path / "run", should_stop=meanwhile)
    assert "is being trained by another process" in refused[0]
    assert train(config, tmp_path / "run") == result


def test_a_finished_run_is_not_repeated(finished):
    directory, config, result = finished
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert train(config, directory, on_progress=lambda p: pytest.fail("it trained again")) == result
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_another_configuration_is_refused_with_the_difference(finished):
    directory, config, _ = finished
    with pytest.raises(InputError, match=r"holds another run \(epochs: 3 -> 4\)"):
        train(config.model_copy(update={"epochs": 4}), directory)


def test_foreign_directories_are_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        train(quick.config(), tmp_path / "file")
    with pytest.raises(InputError, match=r"is a file|Not a directory"):
        train(quick.config(), tmp_path / "file" / "run")
    with pytest.raises(InputError, match=r"not a run.*chapter1"):
        train(quick.config(), tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_trials_of_one_seed_are_paired_over_methods():
    images = presets.data_of(quick.config())
    sessions = [
        start(quick.config(method, padding=1, flip=True), images) for method in ("ce", "ls", "dropout", "le")
    ]
    first, *others = sessions
    for other in others:
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), name
        for (x, y), (other_x, other_y) in zip(first.batches.epoch(2), other.batches.epoch(2), strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)


def test_seeds_differ_in_initial_weights_and_order():
    images = presets.data_of(quick.config())
    a, b = (start(quick.config(seed=seed), images) for seed in (0, 1))
    assert not torch.equal(next(a.model.parameters()), next(b.model.parameters()))
    assert not torch.equal(next(iter(a.batches.epoch(0)))[1], next(iter(b.batches.epoch(0)))[1])


def test_every_step_is_taken_in_train_mode(tmp_path, monkeypatch):
    modes = []
    original = CrossEntropy.forward

    def spy(self: CrossEntropy, x: torch.Tensor, y: torch.Tensor, *others) -> Step:
        modes.extend(module.training for module in self.model.modules())
        return original(self, x, y)

    monkeypatch.setattr(CrossEntropy, "forward", spy)
    train(quick.config(train_size=50, val_fraction=0.2), tmp_path)
    assert modes
    assert all(modes)


def test_the_method_hears_which_epoch_begins(tmp_path):
    """Through an interruption as well: the soft labels come after the warm-up, in every later epoch."""
    config = quick.config("le", epochs=4, warmup=2)
    with pytest.raises(Stopped):
        train(config, tmp_path, should_stop=quick.stop_after(quick.STEPS_PER_EPOCH + 2))
    train(config, tmp_path)
    assert ["loss_soft" in line for line in metrics_of(tmp_path)] == [False, False, True, True]


def test_the_learning_rate_falls_at_the_milestones(tmp_path):
    train(quick.config(milestones=[1, 2], lr=0.1), tmp_path)
    lines = metrics_of(tmp_path)
    assert [line["lr"] for line in lines] == pytest.approx([0.1, 0.01, 0.001])


def test_the_callers_random_state_and_threads_come_back(tmp_path):
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    config = quick.config("dropout", model="mlp", epochs=1, train_size=16, test_size=16, threads=threads + 1)
    train(config, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ce", r"the loss became (nan|inf) in epoch 1, step \d+: try a lower --lr"),
        ("le", r"maps are not finite, .*lower the learning rate.* \(in epoch 1, step \d+\)"),
    ],
)
def test_a_diverging_run_says_where(tmp_path, method, message):
    with pytest.raises(SelftaughtError, match=message):
        train(quick.config(method, lr=1e20, warmup=0), tmp_path)


def test_divergence_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    original, steps = CrossEntropy.forward, []

    def break_in_epoch_2(self: CrossEntropy, x: torch.Tensor, y: torch.Tensor, *others) -> Step:
        steps.append(1)
        step = original(self, x, y)
        return (
            step if len(steps) <= quick.STEPS_PER_EPOCH + 2 else Step(step.loss * torch.nan, step.logits, {})
        )

    monkeypatch.setattr(CrossEntropy, "forward", break_in_epoch_2)
    with pytest.raises(SelftaughtError, match="epoch 2, step 3"):
        train(quick.config(), tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["position"]["epoch"] == 1
    assert all(value.isfinite().all() for value in state["parts"]["model"].values())


def test_an_explanation_that_fails_names_its_step(tmp_path, monkeypatch):
    def refuse(self: CrossEntropy, x: torch.Tensor, y: torch.Tensor, *others) -> Step:
        raise ExplanationError("every map is zero")

    monkeypatch.setattr(CrossEntropy, "forward", refuse)
    with pytest.raises(ExplanationError, match=r"every map is zero \(in epoch 1, step 1\)"):
        train(quick.config(), tmp_path)


class Exploit:
    """What a malicious pickle holds."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_a_malicious_checkpoint_runs_no_code(tmp_path):
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path / "run", should_stop=quick.stop_after(2))
    exploit = Exploit(str(tmp_path / "owned"))
    torch.save({"position": exploit}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(InputError, match="is damaged"):
        train(quick.config(), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(pickle.dumps(exploit, protocol=2))
    with pytest.raises(InputError, match="is damaged"):
        train(quick.config(), tmp_path / "run")
    assert not (tmp_path / "owned").exists()


def test_a_damaged_checkpoint_is_refused_not_ignored(tmp_path):
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(2))
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        InputError, match=r"checkpoint\.pt is damaged \(.*\): remove it to start from the beginning"
    ):
        train(quick.config(), tmp_path)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(2))
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"checkpoint\.pt is damaged \(.*\): remove it to start from the beginning"
    ):
        train(quick.config(), tmp_path)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path, monkeypatch):
    """The loss of a step is finite, and the update that follows it is not."""
    monkeypatch.setenv("SELFTAUGHT_SAVE_SECONDS", "0")
    original, steps = CrossEntropy.forward, []

    def spoil(self: CrossEntropy, x: torch.Tensor, y: torch.Tensor, *others) -> Step:
        steps.append(1)
        step = original(self, x, y)
        # The gradient of a square root at zero times infinity: the loss itself stays what it was.
        poison = sum((p * 0).sum() for p in self.model.parameters()).square().sqrt()
        return Step(step.loss + poison, step.logits, step.terms) if len(steps) == 4 else step

    monkeypatch.setattr(CrossEntropy, "forward", spoil)
    with pytest.raises(SelftaughtError, match=r"(weights|loss) became .* in epoch 1, step [45]: try a lower"):
        train(quick.config(), tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["position"]["step"] <= 3
    assert all(value.isfinite().all() for value in state["parts"]["model"].values())


def test_a_run_says_what_calibration_is_worth(finished):
    directory, _, result = finished
    stored = load_file(directory / "predictions.safetensors")
    assert stored["val_logits"].shape == (10, 10)
    labels = torch.tensor(stored["labels"])
    scaled = torch.tensor(stored["logits"]) / result.temperature
    assert result.ece_scaled == pytest.approx(metrics.ece(scaled, labels))
    assert result.nll_scaled == pytest.approx(metrics.nll(scaled, labels))
    # No other temperature fits the held-out images better.
    val, val_labels = torch.tensor(stored["val_logits"]).double(), torch.tensor(stored["val_labels"])
    best = metrics.nll(val / result.temperature, val_labels)
    assert all(
        metrics.nll(val / t, val_labels) >= best - 1e-6 for t in torch.logspace(-1.3, 1.3, 200).tolist()
    )
    right = stored["logits"].argmax(1) == stored["labels"]
    for label, accuracy in enumerate(result.per_class_accuracy):
        assert accuracy == pytest.approx(right[stored["labels"] == label].mean())


def test_every_file_has_its_digest(finished):
    directory, _, result = finished
    assert {*result.sha256, "result.json", ".lock"} == {path.name for path in directory.iterdir()}
    for name, digest in result.sha256.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest


def test_load_gives_the_model_that_made_the_predictions(finished):
    directory, config, _ = finished
    model = selftaught.load(directory)
    images = presets.data_of(config).test_images
    logits = load_file(directory / "predictions.safetensors")["logits"]
    with torch.no_grad():
        assert torch.allclose(model(images), torch.tensor(logits), atol=1e-4)
        assert torch.allclose(model(images.float() / 255), torch.tensor(logits), atol=1e-4)
    assert not model.training
    assert model.classes == tuple("0123456789")
    assert model.config == config


def test_load_refuses_what_it_cannot_serve(finished, tmp_path):
    directory, _, _ = finished
    with pytest.raises(InputError, match=r"expected images of shape \(B, 1, 8, 8\)"):
        selftaught.load(directory)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="not a run directory"):
        selftaught.load(tmp_path)
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(1))
    with pytest.raises(InputError, match="not finished"):
        selftaught.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model": 1')
    with pytest.raises(InputError, match="damaged"):
        selftaught.load(tmp_path)


def test_bfloat16_runs_resume_too(tmp_path):
    config = quick.config("le", precision="bf16-mixed", epochs=2)
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "parts", should_stop=quick.stop_after(3))
    train(config, tmp_path / "parts")
    assert quick.fingerprint(tmp_path / "parts") == quick.fingerprint(tmp_path / "whole")


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    with pytest.raises(Stopped):
        train(quick.config(), tmp_path, should_stop=quick.stop_after(2))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["model"] = state.pop("parts")["model"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="an earlier version of selftaught wrote it"):
        train(quick.config(), tmp_path)
