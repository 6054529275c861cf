import pytest

from selftaught.methods.ce import CrossEntropy
from selftaught.methods.le import LearningWithExplanations
from selftaught.training import cost
from tests.training import quick


@pytest.fixture
def calls(monkeypatch):
    """The methods in the order in which they took a step, and whether LE was past its warm-up."""
    seen = []
    for cls in (CrossEntropy, LearningWithExplanations):

        def spy(self, x, y, index, view, original=cls.forward):
            seen.append(
                (self.key, getattr(getattr(self, "criterion", None), "warmup", False), x.sum().item())
            )
            return original(self, x, y, index, view)

        monkeypatch.setattr(cls, "forward", spy)
    return seen


def test_methods_take_turns_past_their_warm_up_on_the_same_fresh_batches(calls):
    costs = cost.measure([quick.config("ce"), quick.config("le", warmup=2)], steps=4)
    rounds = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert len(rounds) == 4 + cost.WARM_UP_STEPS
    for turn in rounds:
        assert sorted(key for key, _, _ in turn) == ["ce", "le"]
        assert not any(warming for _, warming, _ in turn)
        assert len({total for _, _, total in turn}) == 1
    assert len({turn[0][2] for turn in rounds}) == len(rounds)
    # Each begins a round in its turn, so that following someone favours nobody.
    assert [turn[0][0] for turn in rounds[cost.WARM_UP_STEPS :]] == ["ce", "le", "ce", "le"]
    assert [c.method for c in costs] == ["ce", "le"]
    assert costs[0].relative == 1.0
    assert all(c.seconds > 0 and c.relative > 0 for c in costs)


def test_the_ratio_is_the_median_over_neighbours_in_time(monkeypatch):
    # A machine that slows down tenfold half-way: ratios of medians would be wrong, medians of ratios are not.
    slow = iter([1] * 6 + [1] * 8 + [10] * 6)
    monkeypatch.setattr(
        cost.Runner, "step", lambda self: next(slow) * (1 if self.session.config.method == "ce" else 2)
    )
    [ls] = cost.measure([quick.config("ls")], steps=7)
    assert ls.relative == 2.0


def test_memory_beside_plain_training():
    configs = [quick.config("dml"), quick.config("ce"), quick.config("le", refresh=0.5)]
    times = cost.measure(configs, steps=1)
    assert {c.memory for c in times} == {c.relative_memory for c in times} == {None}
    dml, ce, le = cost.with_memory(times, configs)
    assert [c.seconds for c in (dml, ce, le)] == [c.seconds for c in times]
    assert ce.relative_memory == 1.0
    assert dml.memory > 1.5 * ce.memory
    assert 0.9 < le.relative_memory < 1.2
    assert le.memory == pytest.approx(le.relative_memory * ce.memory)
