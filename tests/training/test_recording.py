"""Steps that are recorded and replayed, held to the same steps without: on a GPU only; the bookkeeping everywhere."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from selftaught.errors import DegenerateMapsError, ExplanationError, SelftaughtError, ShortcutError
from selftaught.files import record
from selftaught.methods import Method, Step, registry
from selftaught.methods.ce import CrossEntropy
from selftaught.methods.le import LearningWithExplanations
from selftaught.saliency.watch import Trust, Watch
from selftaught.training import recording, seeds, teachers
from selftaught.training.loop import Autosave
from selftaught.training.presets import data_of
from selftaught.training.recording import UNRECORDED, Recorder
from selftaught.training.run import Stopped, train
from selftaught.training.session import start
from tests.training import quick

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to record steps on")

SALIENCY = [("le", {"saliency": s}) for s in ("grad", "grad-input", "guided-backprop")]
METHODS = [(key, {}) for key in registry.names()] + SALIENCY + [("le", {"similarity": "wasserstein"})]


def trained(monkeypatch, method: str, graphs: bool, epochs: int = 4, **options) -> tuple[list, dict]:
    """The steps of a few epochs, whose last batch is smaller, and the weights that they lead to."""
    monkeypatch.setenv("SELFTAUGHT_CUDA_GRAPHS", "1" if graphs else "0")
    if "warmup" in registry.settings(method):
        options["warmup"] = 2
    config = quick.config(method, device="cuda", epochs=epochs, train_size=44, image_size=16, **options)
    images, steps = data_of(config), []
    with seeds.contained(1):
        session = start(config, images, teachers.untrained(config, images))
        assert (session.recorder is not None) == graphs
        session.train_mode()
        for epoch in range(epochs):
            session.method.start_epoch(epoch)
            samples = session.batches.samples(epoch)
            with session.stepping():
                for (x, y), chosen in zip(session.batches.epoch(epoch), samples, strict=True):
                    steps.append(session.step(x, y, chosen))
                    session.schedule.step()
        torch.cuda.synchronize()
    return steps, {name: value.cpu() for name, value in session.network.state_dict().items()}


@gpu
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_replayed_step_is_the_step(monkeypatch, method, options):
    """Losses, terms and weights over two stages and two sizes of batches, whatever the method draws."""
    plain, plain_weights = trained(monkeypatch, method, graphs=False, **options)
    replayed, weights = trained(monkeypatch, method, graphs=True, **options)
    for ours, theirs in zip(replayed, plain, strict=True):
        assert ours.terms.keys() == theirs.terms.keys()
        for value, expected in [
            (ours.loss, theirs.loss),
            *((ours.terms[n], theirs.terms[n]) for n in ours.terms),
        ]:
            torch.testing.assert_close(value, expected.float(), rtol=2e-4, atol=1e-5)
    expected = {name: plain_weights[name] for name in weights}
    torch.testing.assert_close(weights, expected, rtol=2e-3, atol=1e-4)


@gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_in_half_precision_too(monkeypatch, precision):
    plain, _ = trained(monkeypatch, "le", graphs=False, precision=precision)
    replayed, _ = trained(monkeypatch, "le", graphs=True, precision=precision)
    for ours, theirs in zip(replayed, plain, strict=True):
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=0.05, atol=0.02)


@gpu
@pytest.mark.parametrize("method", ["dropout", "le"])
def test_an_interrupted_run_ends_as_another(tmp_path, method):
    config = quick.config(method, device="cuda", epochs=4)
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "resumed", should_stop=quick.stop_after(13))
    resumed = train(config, tmp_path / "resumed")
    assert resumed.nll == pytest.approx(whole.nll, rel=1e-3)


@gpu
@pytest.mark.parametrize("worst", [0.0, float("nan"), float("inf")])
def test_degenerate_maps_among_replayed_batches_are_noticed(worst):
    watch = Watch("grad-cam")
    peak, graph = torch.ones((), device="cuda"), torch.cuda.CUDAGraph()
    watch.look(peak)
    with torch.cuda.graph(graph):
        watch.look(peak)
    watch.settle()
    for value in (1.0, worst, 2.0):
        peak.fill_(value)
        graph.replay()
    with pytest.raises(DegenerateMapsError):
        watch.settle()
    watch.settle()  # what was said once is not said again
    peak.fill_(3.0)
    graph.replay()
    watch.settle()


@gpu
def test_steps_are_not_overwritten_by_the_next(monkeypatch):
    steps, _ = trained(monkeypatch, "ce", graphs=True)
    assert len({step.loss.item() for step in steps}) == len(steps)


@gpu
def test_the_network_of_someone_else_is_not_recorded(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    config = quick.config(device="cuda", model=f"{tmp_path / 'net.py'}:build")
    assert start(config, data_of(config)).recorder is None


def test_a_method_is_recorded_only_if_it_says_that_it_may_be(monkeypatch):
    """Another's may depend on what changes from epoch to epoch, unseen by a recording."""
    assert all(registry.find(key).recordable for key in registry.names())

    class Scheduled(CrossEntropy):
        recordable = Method.recordable

    config, network = quick.config().model_copy(update={"device": "cuda"}), nn.Linear(2, 2)
    assert recording.is_on(config, CrossEntropy(network))
    assert not recording.is_on(config, Scheduled(network))
    assert recording.is_on(config, LearningWithExplanations(network))
    # Whether a step explains depends on its batch.
    assert not recording.is_on(config, LearningWithExplanations(network, refresh=0.5))
    monkeypatch.setenv("SELFTAUGHT_CUDA_GRAPHS", "0")
    assert not recording.is_on(config, CrossEntropy(network))


class FakeGraph:
    """A CUDA graph for the CPU: what is noted while it is recorded is done at each replay."""

    recording = None

    def __init__(self):
        self.noted = []

    def replay(self):
        for act in self.noted:
            act()


@pytest.fixture
def fake_gpu(monkeypatch):
    @contextmanager
    def graph(recorded, **_):
        FakeGraph.recording = recorded
        try:
            yield
        finally:
            FakeGraph.recording = None

    stream = SimpleNamespace(device="cpu", wait_stream=lambda other: None, synchronize=lambda: None)
    fakes = {"Stream": lambda device: stream, "current_stream": lambda device: stream}
    fakes |= {"stream": lambda stream: nullcontext(), "CUDAGraph": FakeGraph, "graph": graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)


def doubling(weight: nn.Parameter, ran: list[str]):
    """A step whose loss is the sum of the batch and whose gradient is twice that."""

    def compute(x, y):
        loss, logits, gradient = torch.zeros(()), torch.zeros(len(x), 1), torch.zeros(1)
        alike = torch.zeros(len(x), 2)

        def act():
            loss.copy_(x.sum())
            logits.copy_(x.sum(1, keepdim=True) + y[:, None])
            gradient.copy_(2 * x.sum())
            alike.copy_(3 * x)

        ran.append("recorded" if FakeGraph.recording else "run")
        if FakeGraph.recording:
            FakeGraph.recording.noted.append(act)
        else:
            act()
        weight.grad = gradient
        return Step(loss, logits, {"sum": loss}, alike)

    return compute


def test_each_kind_of_step_is_rehearsed_recorded_and_replayed(fake_gpu):
    weight, ran = nn.Parameter(torch.zeros(1)), []
    recorder, step_of = Recorder([weight], torch.device("cpu")), doubling(weight, ran)
    steps = []
    for number in range(UNRECORDED + 4):
        for size, warming_up in ((3, True), (2, True), (3, False)):
            x, y = torch.full((size, 2), float(number)), torch.arange(size)
            with recorder.stream():
                steps.append((recorder(step_of, x, y, warming_up), x, y))
            assert weight.grad.item() == 2 * x.sum()
    assert ran == ["run"] * 3 * UNRECORDED + ["recorded"] * 3
    for step, x, y in steps:  # all of them once more: later steps must not have changed them
        assert step.loss.item() == step.terms["sum"].item() == x.sum()
        assert torch.equal(step.logits, x.sum(1, keepdim=True) + y[:, None])
        assert torch.equal(step.similarities, 3 * x)


def test_gradients_are_there_whoever_removed_them(fake_gpu):
    weight = nn.Parameter(torch.zeros(1))
    recorder, step_of = Recorder([weight], torch.device("cpu")), doubling(weight, [])
    for _ in range(UNRECORDED + 3):
        weight.grad = None
        recorder(step_of, torch.ones(2, 2), torch.arange(2), False)
        assert weight.grad.item() == 8


def test_no_memory_to_record_in_comes_with_a_remedy(fake_gpu):
    def compute(x, y):
        if FakeGraph.recording:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Step(torch.zeros(()), torch.zeros(len(x), 1), {})

    recorder = Recorder([], torch.device("cpu"))
    batch = torch.ones(2, 2), torch.arange(2)
    for _ in range(UNRECORDED):
        recorder(compute, *batch, False)
    with pytest.raises(SelftaughtError, match="SELFTAUGHT_CUDA_GRAPHS=0 or lower --batch-size"):
        recorder(compute, *batch, False)


def test_gradients_are_right_where_steps_are_run_in_between(fake_gpu):
    weight = nn.Parameter(torch.zeros(1))
    recorder, step_of = Recorder([weight], torch.device("cpu")), doubling(weight, [])
    for number in range(3 * UNRECORDED):
        x = torch.full((2, 2), float(number))
        recorder(step_of, x, torch.arange(2), number % 2 == 0)
        assert weight.grad.item() == 2 * x.sum()


def test_what_explanations_say_late_is_heard_before_the_run_is_saved(tmp_path, monkeypatch):
    """On a GPU it is known only when asked for."""

    def settle(self):
        raise ExplanationError("every map is zero")

    monkeypatch.setenv("SELFTAUGHT_SAVE_SECONDS", "0")
    monkeypatch.setattr(CrossEntropy, "settle", settle)
    with pytest.raises(ExplanationError, match=r"every map is zero \(by epoch 1, step 1\)"):
        train(quick.config(), tmp_path)
    assert not (tmp_path / record.CHECKPOINT).exists()


def test_steps_with_a_shortcut_that_does_not_hold_are_taken_again(monkeypatch, tmp_path):
    """As a GPU would find out when it has replayed them: from the last checkpoint, with the next form."""
    config = quick.config("le", model="resnet8", image_size=16, warmup=1)
    train(config, tmp_path / "undisturbed")
    forms, doubted = [], []
    step, settle = LearningWithExplanations.forward, Trust.settle

    def watched(method, *batch):
        found = step(method, *batch)
        forms.append(None if method.warming_up else method.criterion.explainer.plan.head)
        return found

    def doubtful(trust):
        if forms[-1] == "linear" and not doubted:
            doubted.append(trust)
            raise ShortcutError("it did not hold")
        settle(trust)

    # Else a slow machine asks more often.
    monkeypatch.setattr(Autosave, "is_due", lambda _: False)
    monkeypatch.setattr("selftaught.training.loop.REPORT_SECONDS", float("inf"))
    monkeypatch.setattr(LearningWithExplanations, "forward", watched)
    monkeypatch.setattr(Trust, "settle", doubtful)
    train(config, tmp_path / "again")
    per_epoch = quick.STEPS_PER_EPOCH
    assert forms == [None] * per_epoch + ["linear"] * per_epoch + ["channel-wise"] * 2 * per_epoch
    ours, theirs = (record.read(tmp_path / name).result for name in ("again", "undisturbed"))
    assert ours.nll == pytest.approx(theirs.nll, rel=1e-4)
    assert len((tmp_path / "again" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(("error", "holds"), [(0.5, True), (2.0, False), (float("nan"), False)])
def test_a_shortcut_holds_within_the_tolerance(error, holds):
    assert Trust().holds(torch.tensor(error), 1.0) is holds
