"""Which data sets there are by name, and where each is looked for."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from selftaught.data import digits, hub, parquet
from selftaught.data.dataset import Decoded
from selftaught.errors import InputError


class Source(Protocol):
    """Where a data set comes from."""

    @property
    def summary(self) -> str:
        """One line about the data set."""
        ...

    def read(self, image_size: tuple[int, int] | None) -> Decoded:
        """The decoded data set, resized to `image_size` (height, width) where one is given."""
        ...


@dataclass(frozen=True)
class Embedded:
    """The digits that come with scikit-learn."""

    summary: str

    def read(self, image_size: tuple[int, int] | None) -> Decoded:
        """See `selftaught.data.digits.read`."""
        return digits.read(image_size)


@dataclass(frozen=True)
class Published:
    """A data set of the Hub, of which there may be a copy in ``$SELFTAUGHT_DATA/NAME``."""

    name: str
    hub_id: str
    summary: str

    def read(self, image_size: tuple[int, int] | None) -> Decoded:
        """From the copy if there is one, else from the Hub; InputError where neither has it."""
        home = os.environ.get("SELFTAUGHT_DATA")
        if home and not Path(home).is_dir():
            raise InputError(
                f"SELFTAUGHT_DATA is {home}, which is not a folder: correct it, or unset it to use the Hub"
            )
        files = parquet.find(Path(home) / self.name) if home else None
        if files:
            return parquet.read(files, image_size)
        try:
            return hub.read(self.hub_id, image_size)
        except hub.HubError as error:
            place = f"no {self.name}/train-*.parquet in {home}" if home else "SELFTAUGHT_DATA is not set"
            raise InputError(
                f"data {self.name!r} not found: {place}, and {self.hub_id} did not come from the Hub ({error}); "
                f"set SELFTAUGHT_DATA to a folder with {self.name}/train-*.parquet and test-*.parquet, or get online"
            ) from error


SOURCES: dict[str, Source] = {
    "digits": Embedded(
        "1,797 handwritten digits bundled with scikit-learn, grey 16x16, 10 classes; no download"
    ),
    "mnist": Published("mnist", "ylecun/mnist", "70,000 handwritten digits, grey 28x28, 10 classes"),
    "cifar10": Published("cifar10", "uoft-cs/cifar10", "60,000 photographs, RGB 32x32, 10 classes"),
}
