"""What `selftaught ls` lists."""

from selftaught import data, errors, models, objectives

_KINDS = {"methods": objectives, "models": models, "datasets": data}


def listing(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Names and their one-line descriptions, by kind; of one kind if given.

    >>> list(listing("methods")["methods"])[:2]
    ['ce', 'dropout']
    """
    if kind is not None and kind not in _KINDS:
        raise errors.unknown("kind", kind, _KINDS)
    return {
        title: {name: module.summary(name) for name in module.names()}
        for title, module in _KINDS.items()
        if kind in (None, title)
    }
