"""Which trials a comparison consists of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftaught import errors, models
from selftaught.activities import activity
from selftaught.errors import InputError
from selftaught.files.config import RunConfig
from selftaught.methods import registry
from selftaught.study.demands import check_trials
from selftaught.training import teaching
from selftaught.training.presets import method_settings, preset_for, resolve
from selftaught.training.session import rehearse
from selftaught.training.teaching import lineage


@dataclass(frozen=True)
class Trial:
    """One run of a study and where it goes; `teacher` is the run directory of the network that it learns from.

    `keep_checkpoint` says whether its checkpoint stays when it is finished.
    """

    config: RunConfig
    directory: Path
    teacher: Path | None = None
    keep_checkpoint: bool = False


def plan(
    data: str,
    methods: Sequence[str],
    trials: int = 5,
    seed: int = 0,
    on_resolved: Callable[[list[RunConfig]], object] = lambda configs: None,
    **options: Any,
) -> list[RunConfig]:
    """One configuration per method and seed (``seed, seed + 1, ...``), all seeds of a method together.

    Args:
        data: as of `resolve`.
        methods: their keys.
        trials: seeds per method.
        seed: the first of them.
        on_resolved: hears the configurations before a first step of each method is tried, which takes long: whoever
            finds a reason to refuse them raises it there.
        **options: those of `resolve`; each method takes the settings that it has.

    Raises:
        InputError: an unknown or repeated method, no trial, a value out of range, or a setting that none of
            the methods has.
    """
    check_trials(trials)
    check_methods(methods)
    check_used(methods, (name for name, value in options.items() if value is not None))
    # Seed by seed: each may have images of its own, and those of one run are kept in memory for the next.
    by_seed = [[resolve(data, m, seed=seed + offset, **options) for m in methods] for offset in range(trials)]
    configs = [config for of_method in zip(*by_seed, strict=True) for config in of_method]
    on_resolved(configs)
    _rehearse(configs[::trials], options)
    return configs


def with_probe(data: str, methods: Sequence[str], **options: Any) -> list[str]:
    """The methods, and last the linear probe where the network is pretrained: what costs nothing has to be beaten."""
    model = options.get("model")
    pretrained = model is not None and models.is_pretrained(model)
    fitted = pretrained and (options.get("head") or preset_for(data, model).head) == "probe"
    return [*methods, "probe"] if fitted and "probe" not in methods else list(methods)


def plan_possible(data: str, **options: Any) -> tuple[list[RunConfig], dict[str, str]]:
    """One configuration per method that can be used with this network, and by method why the others cannot.

    Left out is what lacks something that none of `options` is about: a teacher, stages to compare, a place for dropout.

    Args:
        data: as of `plan`.
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
        registry.create(method, **{name: options[name] for name in settings})
        try:
            config = resolve(data, method, **options)
            _rehearse([config], options)
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


def _rehearse(configs: Sequence[RunConfig], options: dict[str, Any]) -> None:
    """Take a first step of each and of all that they learn from, but for a teacher that is trained already."""
    ready = options.get("teacher")
    taught = {run.trial_id for run in lineage(ready)} if isinstance(ready, RunConfig) else set()
    runs = _different([run for config in configs for run in lineage(config)])
    untaught = [run for run in runs if run.trial_id not in taught]  # the others' data may have moved since
    with activity("trying a first step of each method", len(untaught)) as advance:
        for done, run in enumerate(untaught, 1):
            with activity(run.method):
                rehearse(run)
            advance(done)


def _different(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """One of each trial."""
    return list({config.trial_id: config for config in configs}.values())


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
