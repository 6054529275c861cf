"""What a run tells the outside while it trains."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """A moment of a run: `epoch` and `step` count what is done, `loss` and `accuracy` are means over the epoch so far.

    `seconds` of training are those of this session, which began after `resumed_at` steps. `metrics` is the line of
    metrics.jsonl at the end of an epoch and empty in between.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds: float
    resumed_at: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Steps done over all epochs."""
        return self.epoch * self.steps + self.step

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps

    @property
    def seconds_left(self) -> float:
        """Training time still to come at this session's speed."""
        return self.seconds * (self.total - self.done) / max(self.done - self.resumed_at, 1)
