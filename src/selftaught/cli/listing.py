"""What `selftaught ls` lists."""

from selftaught import data, errors, models, recipes
from selftaught.methods import registry

_KINDS = {"methods": registry, "models": models, "datasets": data, "recipes": recipes}

_YOURS = {
    "models": {
        "hf:FOLDER_OR_ID": "any image classifier of transformers, pretrained, with a new head",
        "timm:NAME": "any image classifier of timm, pretrained, with a new head",
        "torchvision:NAME": "any image classifier of torchvision, pretrained, with a new head",
        "FILE.py:FUNCTION": "your own: the module that the function returns",
    },
    "datasets": {
        "FOLDER": "your own: one sub-folder of images per class, or Parquet files",
        "FILE.csv": "your own: a table of image files and labels",
        "OWNER/NAME": "a data set of the Hugging Face Hub",
    },
    "recipes": {"FILE.yaml": "your own"},
}
"""What stands for names that cannot be listed."""


def listing(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Names and their one-line descriptions, by kind; of one kind if given.

    >>> list(listing("methods")["methods"])[:2]
    ['ce', 'dropout']
    """
    if kind is not None and kind not in _KINDS:
        raise errors.unknown("kind", kind, _KINDS)
    return {
        title: {name: module.summary(name) for name in module.names()} | _YOURS.get(title, {})
        for title, module in _KINDS.items()
        if kind in (None, title)
    }
