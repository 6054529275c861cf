"""Which trial may run next: students wait for their teachers, and what failed is tried once more.

This decides and tells; it runs nothing. All executors hand out their trials with it.
"""

from collections import deque
from collections.abc import Sequence
from functools import cached_property

from selftaught.errors import InputError
from selftaught.events import Again, Finished, OnEvent, Outcome, Started, Waits
from selftaught.study.naming import names
from selftaught.study.trials import Trial


class Queue:
    """The trials of a study, handed out one by one; it hears how they end and tells what follows from it.

    A trial whose `teacher` is the directory of another one waits until that one has a result. If the teacher
    failed, so has the student, without having run. A trial that failed is tried once more, after those that are
    ready by then: what went wrong (memory, a disk that was full) is likelier to have passed, and no other trial
    is kept waiting. Trials come in the order given wherever nothing speaks against it.

    Args:
        trials: each with a directory of its own.
        on_event: hears of waiting, starts, second tries and ends; the rest comes from where the trial runs.
        again: whether what failed is tried once more.

    Raises:
        InputError: trials that wait for each other.
    """

    def __init__(self, trials: Sequence[Trial], on_event: OnEvent, again: bool = True) -> None:
        self.trials, self.on_event, self.again = trials, on_event, again
        self.outcomes = [Outcome(stopped=True)] * len(trials)
        self.students: dict[int, list[int]] = {}
        self.ready: deque[int] = deque()
        self.waiting: set[int] = set()
        self.failed_once: set[int] = set()
        self.stopped = False
        number = {trial.directory.absolute(): index for index, trial in enumerate(trials)}
        for index, trial in enumerate(trials):
            teacher = number.get(trial.teacher.absolute()) if trial.teacher is not None else None
            if teacher is None:
                self.ready.append(index)
            else:
                self.waiting.add(index)
                self.students.setdefault(teacher, []).append(index)
        self._check_that_all_can_start()
        for teacher, students in self.students.items():
            for index in students:
                on_event(Waits(index, teacher))

    def take(self) -> int | None:
        """The number of a trial to run now; None if there is none, or none before another one ends."""
        return self.ready.popleft() if self.ready else None

    def begin(self, index: int) -> None:
        """Trial number `index` starts."""
        self.on_event(Started(index, self._names[index]))

    @cached_property
    def _names(self) -> list[str]:
        return names(self.trials)

    def end(self, index: int, outcome: Outcome) -> None:
        """Trial number `index` ended so: its students may start, or it is tried again, or all of them have failed."""
        self.outcomes[index] = outcome
        if outcome.error is not None and self.again and index not in self.failed_once and not self.stopped:
            self.failed_once.add(index)
            self.ready.append(index)
            self.on_event(Again(index, f"failed: {outcome.error}; trying once more"))
            return
        self.on_event(Finished(index, outcome))
        if outcome.result is not None and not self.stopped:
            self._admit(self.students.get(index, []))
        elif outcome.error is not None and not self.stopped:
            self._refuse_students(index)

    def put_back(self, index: int, reason: str) -> None:
        """Trial number `index` broke off through no fault of its own: it comes next, and this counts as no failure."""
        if not self.stopped:
            self.ready.appendleft(index)
            self.on_event(Again(index, reason))

    def stop(self) -> None:
        """Hand out nothing any more. What has not started counts as stopped; what had failed once, as failed."""
        self.stopped = True
        self.ready.clear()
        self.waiting.clear()

    def _admit(self, students: Sequence[int]) -> None:
        """Into the line in the order of the trials, but before those that are there for the second time."""
        self.waiting.difference_update(students)
        first = sorted({*students, *(index for index in self.ready if index not in self.failed_once)})
        self.ready = deque([*first, *(index for index in self.ready if index in self.failed_once)])

    def _refuse_students(self, teacher: int) -> None:
        """Those who learn from a trial that failed, and those who learn from them."""
        refused = [(teacher, student) for student in self.students.get(teacher, [])]
        for of, index in refused:
            self.waiting.discard(index)
            self.outcomes[index] = Outcome(error=f"its teacher ({self._names[of]}) failed", foreseen=True)
            self.on_event(Finished(index, self.outcomes[index]))
            refused.extend((index, student) for student in self.students.get(index, []))

    def _check_that_all_can_start(self) -> None:
        reached = list(self.ready)
        for index in reached:
            reached.extend(self.students.get(index, []))
        never = self.waiting.difference(reached)
        if never:
            raise InputError(f"{self._names[min(never)]} would learn from itself: give it another teacher")
