"""The configurations that the flags of a command ask for."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

from selftaught import errors, models
from selftaught.activities import OnActivity, activity, nobody
from selftaught.errors import InputError
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.study.demands import check_trials
from selftaught.training import teaching
from selftaught.training.presets import method_settings, preset_for, resolve
from selftaught.training.session import try_step
from selftaught.training.teaching import lineage


def plan(
    data: str,
    methods: Sequence[str],
    trials: int = 5,
    seed: int = 0,
    on_activity: OnActivity = nobody,
    **options: Any,
) -> list[RunConfig]:
    """One configuration per method and seed (``seed, seed + 1, ...``), all seeds of a method together.

    Args:
        data: as of `resolve`.
        methods: their keys.
        trials: seeds per method.
        seed: the first of them.
        on_activity: hears of the reading of the data.
        **options: those of `resolve`; each method takes the settings that it has.

    Raises:
        InputError: an unknown or repeated method, no trial, a value out of range, or a setting that none of
            the methods has.
    """
    check_trials(trials)
    check_methods(methods)
    check_used(methods, (name for name, value in options.items() if value is not None))
    # Seed by seed: each may have images of its own, and those of one run are kept in memory for the next.
    by_seed = [
        [resolve(data, method, seed=seed + offset, on_activity=on_activity, **options) for method in methods]
        for offset in range(trials)
    ]
    return [config for of_method in zip(*by_seed, strict=True) for config in of_method]


def with_probe(data: str, methods: Sequence[str], **options: Any) -> list[str]:
    """The methods, and last the linear probe where the network is pretrained: what costs nothing has to be beaten."""
    model = options.get("model")
    pretrained = model is not None and models.is_pretrained(model)
    fitted = pretrained and (options.get("head") or preset_for(data, model)[1]["head"]) == "probe"
    return [*methods, "probe"] if fitted and "probe" not in methods else list(methods)


def plan_possible(
    data: str, on_activity: OnActivity = nobody, **options: Any
) -> tuple[list[RunConfig], dict[str, str]]:
    """One configuration per method that can be used with this network, and by method why the others cannot.

    Left out is what lacks something that none of `options` is about: a teacher, stages to compare, a place for dropout.

    Args:
        data: as of `plan`.
        on_activity: hears what takes long.
        options: those of `resolve`.

    Raises:
        InputError: what is wrong for every method, a value out of range, or a teacher that teaches none.
    """
    check_used(registry.names(), (name for name, value in options.items() if value is not None))
    configs: list[RunConfig] = []
    impossible: dict[str, InputError] = {}
    for method in registry.names():
        if registry.find(method).head_only:  # it has no steps
            continue
        settings = registry.settings(method).keys() & options.keys()
        registry.check(method, {name: options[name] for name in settings})
        try:
            config = resolve(data, method, on_activity=on_activity, **options)
            try_steps([config], taught(options), on_activity)
            configs.append(config)
        except InputError as error:
            # What is wrong with data or network is so for ce, which comes first; what a flag asked for is not left out.
            if not configs or (settings and not registry.find(method).learns_from):
                raise
            impossible[method] = error
    used = {registry.find(config.method).learns_from for config in configs}
    for role in ("teacher", "assistant"):
        if options.get(role) is not None and role not in used:
            raise next(
                error for method, error in impossible.items() if registry.find(method).learns_from == role
            )
    return configs, {method: str(error) for method, error in impossible.items()}


def try_steps(
    configs: Iterable[RunConfig], ready: Container[str] = (), on_activity: OnActivity = nobody
) -> None:
    """Take a first step of each method, and of all that it learns from: what cannot be trained is found in seconds.

    Args:
        configs: trials, of which the first of each method is tried.
        ready: the teachers that are trained already: their data may have moved since.
        on_activity: hears how far it has come.

    Raises:
        InputError: a method cannot be used with this network or these data.
    """
    first = {config.method: config for config in reversed(list(configs))}
    runs = {run.trial_id: run for config in reversed(first.values()) for run in lineage(config)}
    untaught = [run for trial_id, run in runs.items() if trial_id not in ready]
    with activity(on_activity, "trying a first step of each method", len(untaught)) as doing:
        for done, run in enumerate(untaught, 1):
            with activity(doing, run.method) as inside:
                try_step(run, inside)
            doing.advance(done)


def taught(options: dict[str, Any]) -> set[str]:
    """The trials of a teacher that is trained already, and of its teachers."""
    ready = options.get("teacher")
    return {run.trial_id for run in lineage(ready)} if isinstance(ready, RunConfig) else set()


def check_methods(methods: Sequence[str]) -> None:
    """Refuse an empty list, an unknown key and a key given twice."""
    if not methods:
        raise InputError(f"no method given: name some of {', '.join(registry.names())}")
    for index, method in enumerate(methods):
        if method not in registry.names():
            raise errors.unknown("method", method, registry.names())
        if method in methods[:index]:
            raise InputError(f"method {method!r} is given twice: name each method once")


def check_used(methods: Sequence[str], options: Iterable[str]) -> None:
    """Refuse a method's setting that would change nothing, because none of `methods` has it."""
    options = list(options)
    for name in teaching.OPTIONS.keys() & set(options):
        takers = [m for m in registry.names() if registry.find(m).learns_from in teaching.OPTIONS[name]]
        if not set(takers) & set(methods):
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"{flag} is of no use to {', '.join(methods)}: it belongs to {', '.join(takers)}"
            )
    had = {name for method in methods for name in registry.settings(method)}
    for name in options:
        if name in method_settings() - had:
            owners = [method for method in registry.names() if name in registry.settings(method)]
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"{flag} is not a setting of {', '.join(methods)}: it belongs to {', '.join(owners)}"
            )
