"""The files of a transformers model: in a folder of the user's, or fetched from the Hugging Face Hub."""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from selftaught.errors import InputError
from selftaught.models import digest
from selftaught.models.wrapped import reason

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def find(source: str) -> Path:
    """The folder of the model that `source` names: the folder itself, or the Hub model's copy in the Hub's cache.

    Raises:
        InputError: there is no such model, or it is none of transformers.
    """
    folder = Path(source).expanduser()
    if folder.is_file():
        raise InputError(f"hf:{source} is a file: name the folder that holds {CONFIG} and {_WEIGHTS}")
    if not folder.is_dir():
        folder = _from_hub(source)
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"hf:{source} is no transformers model, it has no {CONFIG}: write one with save_pretrained()"
        )
    return folder


@lru_cache
def _from_hub(source: str) -> Path:
    # Imported late: it takes a second, and a local folder does without.
    from huggingface_hub import errors, snapshot_download

    wanted = [CONFIG, *PREPROCESSORS, _WEIGHTS, _INDEX, "model-*.safetensors"]
    nothing = f"model hf:{source}: there is no such folder, and"
    try:
        with quiet_hub():
            return Path(snapshot_download(source, allow_patterns=wanted))
    except errors.HFValidationError:
        raise InputError(f"{nothing} no model of the Hub can be called so: check the path") from None
    except errors.GatedRepoError:
        raise InputError(
            f"model hf:{source} asks to accept its terms: do so on its page at huggingface.co, then hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{nothing} the Hub has no such model: check the name") from None
    except errors.LocalEntryNotFoundError:
        raise InputError(
            f"{nothing} the Hub cannot be reached: check the path or the network, or name a downloaded folder"
        ) from None
    except Exception as error:  # whatever the network stack raises
        raise InputError(f"{nothing} the Hub did not give it ({reason(error)}): try again") from None


@contextmanager
def quiet_hub() -> Iterator[None]:
    """While inside, huggingface_hub says nothing but, on a terminal, how far a download has come."""
    from huggingface_hub import utils

    # Its advice about tokens and its retries are not for our user; a large download's progress is.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    hidden = utils.are_progress_bars_disabled()
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            utils.enable_progress_bars()


def weights(source: str, folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights.

    Raises:
        InputError: there are none, or not all of them.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        pickled = next((path.name for path in folder.glob("*.bin")), None)
        why = f"only {pickled}, a pickle, which may run code" if pickled else "no weights"
        raise InputError(
            f"hf:{source} holds {why}: load the model where you trust it and write {_WEIGHTS} with save_pretrained()"
        )
    try:
        shards = sorted(set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values()))
        # A path into another folder is nothing that save_pretrained() wrote.
        missing = [name for name in shards if Path(name).name != name or not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"hf:{source}: its {_INDEX} is damaged: download the model again") from None
    if missing:
        raise InputError(f"hf:{source}: {missing[0]} is missing from it: download the model again")
    return [folder / name for name in shards]


def fingerprint(source: str) -> str:
    """SHA-256 over all files that are read of the model."""
    folder = find(source)
    files = [folder / CONFIG, *(folder / name for name in PREPROCESSORS), *weights(source, folder)]
    whole = hashlib.sha256()
    for path in files:
        if path.is_file():
            whole.update(f"{path.name} {digest.of_file(path)}\n".encode())
    return whole.hexdigest()
