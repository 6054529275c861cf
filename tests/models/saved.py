"""Small image classifiers of transformers, saved as a user's folder would be."""

import json
from pathlib import Path

import transformers as hf

from tests.saliency import architectures


def save(folder: Path, name: str = "vit", **preprocessor) -> str:
    """A randomly initialised network of 64x64 RGB images into 5 classes, in `folder`; the name to create it by."""
    bars = hf.utils.logging.is_progress_bar_enabled()
    hf.utils.logging.disable_progress_bar()
    architectures.create(name).save_pretrained(folder)
    if bars:
        hf.utils.logging.enable_progress_bar()
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return f"hf:{folder}"
