"""What trials are called on screen."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.files.config import NEUTRAL, RunConfig
from selftaught.methods import registry
from selftaught.study.trials import Trial

_SAID = {
    "method",
    "model",
    "seed",
    "settings",
    "teacher",
    "data_fingerprint",
    "model_fingerprint",
    "split_seed",
    "subset_seed",
}
"""Fields of a configuration that a name has anyway, or that would tell people nothing."""


def names(trials: Sequence[Trial]) -> list[str]:
    """Method and seed of each trial, where several models are trained the model, and what sets it apart.

    Of what varies among the trials of a method on a model, a name has what most of them do not have.
    """
    configs = [trial.config for trial in trials]
    several = len({config.model for config in configs}) > 1
    facts_of = [_facts(config) for config in configs]
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for config, facts in zip(configs, facts_of, strict=True):
        alike[config.method, config.model].append(facts)
    usual = {key: _usual(facts) for key, facts in alike.items()}
    called = []
    for config, facts in zip(configs, facts_of, strict=True):
        apart = usual[config.method, config.model]
        own = [f"{name} {_told(facts.get(name))}" for name in apart if apart[name] != repr(facts.get(name))]
        what = f"{config.method} {config.model}" if several else config.method
        called.append(f"{what} seed {config.seed}" + (f" ({', '.join(own)})" if own else ""))
    return called


def _facts(config: RunConfig) -> dict[str, Any]:
    """What a trial may differ in from another one of its method, model and seed."""
    fields = config.model_dump(exclude=_SAID)
    own = registry.settings(config.method)
    left_out = {name: value for name, value in NEUTRAL.items() if name in own}
    return {**left_out, **config.settings, **fields, "teacher": config.teacher and config.teacher.model}


def _usual(facts: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """What varies among trials, and which value more than half of them have; None where there is no such."""
    found: dict[str, str | None] = {}
    for name in dict.fromkeys(name for own in facts for name in own):
        (first, count), *others = Counter(repr(own.get(name)) for own in facts).most_common(2)
        if others:
            found[name] = first if 2 * count > len(facts) else None
    return found


def _told(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
