"""Every trial ends once, no student before its teacher, and nothing is tried for ever."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.errors import InputError
from selftaught.events import Again, Event, Finished, Outcome, Waits
from selftaught.files.config import RunConfig
from selftaught.study.queue import Queue
from selftaught.study.trials import Trial

CONFIG = RunConfig(
    data="digits", data_fingerprint="", model="mlp", method="ce",
    epochs=1, batch_size=2, lr=0.1, momentum=0, weight_decay=0
)  # fmt: skip
DONE, STOPPED = Outcome(result=object()), Outcome(stopped=True)  # type: ignore[arg-type]


def bad(error: str = "no room") -> Outcome:
    return Outcome(error=error)


def make(*teachers: int | None) -> list[Trial]:
    """Trials with seeds 0, 1, ...; each learns from the one with the number given."""
    return [
        Trial(
            CONFIG.model_copy(update={"seed": index}),
            Path(f"trials/{index}"),
            None if teacher is None else Path(f"trials/{teacher}"),
        )
        for index, teacher in enumerate(teachers)
    ]


def start(*teachers: int | None) -> tuple[Queue, list[Event]]:
    events: list[Event] = []
    return Queue(make(*teachers), events.append), events


def drain(queue: Queue) -> list[int]:
    taken = []
    while (index := queue.take()) is not None:
        taken.append(index)
    return taken


def test_a_chain_goes_from_teacher_to_assistant_to_student():
    queue, events = start(2, None, 1)
    assert events == [Waits(0, 2), Waits(2, 1)]
    for expected in (1, 2, 0):
        assert drain(queue) == [expected]
        queue.end(expected, DONE)
    assert drain(queue) == []
    assert queue.outcomes == [DONE] * 3
    assert not queue.waiting


def test_a_failed_trial_comes_again_after_the_others_and_then_counts_as_failed():
    queue, events = start(None, None, None)
    assert queue.take() == 0
    queue.end(0, bad())
    assert events == [Again(0, "failed: no room; trying once more")]
    assert drain(queue) == [1, 2, 0]
    queue.end(0, bad("still no room"))
    assert events[1:] == [Finished(0, bad("still no room"))]
    assert drain(queue) == []
    assert queue.outcomes[0] == bad("still no room")


def test_the_second_try_counts():
    queue, _ = start(None, 0)
    for outcome in (bad(), DONE):
        assert drain(queue) == [0]
        queue.end(0, outcome)
    assert queue.outcomes[0] == DONE
    assert drain(queue) == [1]


def test_students_come_before_what_failed_once():
    queue, _ = start(None, None, 1)
    assert (queue.take(), queue.take()) == (0, 1)
    queue.end(0, bad())
    queue.end(1, DONE)
    assert drain(queue) == [2, 0]


def test_with_the_teacher_all_who_learn_from_it_have_failed():
    queue, events = start(None, 0, 1, None)
    assert queue.take() == 0
    for _ in range(2):
        queue.end(0, bad())
    errors = {event.index: event.outcome.error for event in events if isinstance(event, Finished)}
    assert errors == {
        0: "no room",
        1: "its teacher (ce seed 0) failed",
        2: "its teacher (ce seed 1) failed",
    }
    assert [outcome.error for outcome in queue.outcomes[:3]] == list(errors.values())
    assert queue.outcomes[1].foreseen
    assert drain(queue) == [3, 0]


def test_a_teacher_from_elsewhere_is_not_waited_for():
    trials = [Trial(CONFIG, Path("trials/0"), Path("elsewhere/teacher"))]
    assert Queue(trials, lambda event: None).take() == 0


def test_one_directory_may_be_written_in_two_ways():
    [teacher, student] = make(None, 0)
    teacher = Trial(teacher.config, teacher.directory.absolute())
    assert drain(Queue([student, teacher], lambda event: None)) == [1]


def test_after_a_stop_nothing_is_handed_out_or_tried_again():
    queue, events = start(None, None, 1, None)
    assert (queue.take(), queue.take()) == (0, 1)
    queue.stop()
    assert queue.take() is None
    queue.end(0, bad())
    queue.end(1, DONE)
    assert queue.take() is None
    assert [event.outcome for event in events if isinstance(event, Finished)] == [bad(), DONE]
    assert queue.outcomes == [bad(), DONE, STOPPED, STOPPED]


def test_a_trial_that_was_to_be_tried_again_when_it_stopped_has_failed():
    queue, _ = start(None, 0)
    queue.take()
    queue.end(0, bad())
    queue.stop()
    assert queue.outcomes == [bad(), STOPPED]


def test_a_stopped_trial_is_not_tried_again():
    queue, events = start(None, 0)
    queue.take()
    queue.end(0, STOPPED)
    assert events[-1] == Finished(0, STOPPED)
    assert drain(queue) == []
    assert queue.outcomes == [STOPPED, STOPPED]


def test_what_was_put_back_comes_next_and_has_not_failed():
    queue, events = start(None, None)
    assert queue.take() == 0
    queue.put_back(0, "its machine was lost")
    assert events == [Again(0, "its machine was lost")]
    assert queue.take() == 0
    queue.end(0, bad())
    assert drain(queue) == [1, 0]
    queue.stop()
    queue.put_back(1, "its machine was lost")
    assert len(events) == 2
    assert queue.take() is None


@pytest.mark.parametrize("teachers", [(0,), (None, 2, 1), (1, 2, 3, 1)])
def test_trials_that_wait_for_each_other_are_refused(teachers):
    with pytest.raises(InputError, match=r"ce seed \d would learn from itself: give it another teacher"):
        start(*teachers)


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[int | None], list[int], int, int]:
    """Who learns from whom in any order, how often each trial fails, how many run at once, and a seed for chance."""
    count = draw(st.integers(0, 12))
    teachers = [draw(st.none() | st.integers(0, index - 1)) if index else None for index in range(count)]
    order = draw(st.permutations(range(count)))
    shuffled: list[int | None] = [None] * count
    for index, teacher in enumerate(teachers):
        shuffled[order[index]] = None if teacher is None else order[teacher]
    failures = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 9]), min_size=count, max_size=count))
    return shuffled, failures, draw(st.integers(1, 4)), draw(st.integers(0, 2**16))


@given(studies())
def test_whoever_learns_from_whom_and_whatever_fails_every_trial_ends_once(study):
    teachers, failures, jobs, seed = study
    chance = random.Random(seed)
    queue, events = start(*teachers)
    running: list[int] = []
    ran: Counter[int] = Counter()
    while True:
        while len(running) < jobs and (index := queue.take()) is not None:
            teacher = teachers[index]
            assert teacher is None or queue.outcomes[teacher] == DONE
            assert index not in running
            ran[index] += 1
            running.append(index)
        if not running:
            break
        index = running.pop(chance.randrange(len(running)))
        queue.end(index, bad() if ran[index] <= failures[index] else DONE)

    def succeeds(index: int) -> bool:
        teacher = teachers[index]
        return failures[index] < 2 and (teacher is None or succeeds(teacher))

    for index, teacher in enumerate(teachers):
        tried = teacher is None or succeeds(teacher)
        assert ran[index] == (min(failures[index] + 1, 2) if tried else 0)
        assert (queue.outcomes[index] == DONE) == succeeds(index)
        own = [event for event in events if event.index == index]
        ends = [event.outcome for event in own if isinstance(event, Finished)]
        assert ends == [queue.outcomes[index]]
        assert sum(isinstance(event, Again) for event in own) == max(ran[index] - 1, 0)
