"""What a finished run came to: its result, and the record that this makes with its configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from selftaught.files.config import RunConfig

TEMPERATURES = (0.05, 20.0)
"""Where the temperature of temperature scaling is searched for."""

OPPOSITE = -0.8
"""From this similarity down two classes' maps are nearly opposite: of s + 1, by which Eq. 6 shares, little is left."""

OWN_TEST_PART = "the source's own"
"""What `test_part` says where the data come with a test part that is used whole: the same images for every seed."""


_Side = Annotated[int, Field(ge=1, le=2048)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Fraction = Annotated[float, Field(ge=0, le=1 + 1e-9)]


class DataSummary(BaseModel):
    """What the model was trained on and how its input is prepared: images in [0, 1], minus mean, over std.

    `crop`, `resample`, `stretch` and `levels` are those of `selftaught.data.preparation.Preparation`. `test_part` says
    in a few words where the test images come from, `duplicates` how many of them are also among the training images.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    classes: tuple[str, ...] = Field(min_length=2)
    channels: Annotated[int, Field(ge=1, le=4)]
    image_size: tuple[_Side, _Side]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    train: _Count
    val: _Count
    test: _Count
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    resample: Annotated[str, Field(pattern="^(nearest|box|bilinear|hamming|bicubic|lanczos)$")] = "bilinear"
    stretch: bool = False
    levels: tuple[float, float] | None = None
    test_part: str = OWN_TEST_PART
    duplicates: _Count = 0

    @model_validator(mode="after")
    def _consistent(self) -> "DataSummary":
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std must have one value per channel")
        if self.levels and not self.levels[0] < self.levels[1]:
            raise ValueError("levels must be the lower and the higher value")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must have different names")
        return self


class SoftLabels(BaseModel):
    """What the soft labels of explanations said in the last epoch: means over its training images.

    `opposite` is the share of the wrong classes whose similarity is `OPPOSITE` or less, `moved` how much of what the
    wrong classes have in all lies elsewhere than in even shares (total variation), `classes` among how many of them it
    would be shared if evenly (inverse Simpson index, 1 to C - 1).
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    opposite: _Fraction
    moved: _Fraction
    classes: Annotated[float, Field(ge=1 - 1e-6)]


class LearningPoint(BaseModel):
    """How well the linear probe does on the test images when it is fitted on so many training images.

    Accuracies are fractions; `seconds` is the time of the fit.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    images: Annotated[int, Field(ge=1, le=2**53)]
    accuracy: _Fraction
    balanced_accuracy: _Fraction | None = None
    seconds: Annotated[float, Field(ge=0)]


class Result(BaseModel):
    """What a finished run came to: the last epoch's model on the test images.

    `accuracy` and `ece` (15 bins) are fractions, `nll` is in nats per image, `seconds` counts training only,
    over all sessions of an interrupted run. `temperature` was fitted on the held-out training images; `nll_scaled`
    and `ece_scaled` are those of the test logits divided by it. They are None where nothing was held out.
    `balanced_accuracy`, `macro_f1` and `top5_accuracy` are fractions; they are None in older records, and the last one
    for fewer than 20 classes. `per_class_accuracy` has a value per class, None for one without test images,
    `per_class_images` how many it has (empty in older records), `peer_accuracy` one for each other network that was
    trained at the same time (DML). `soft_labels` is None for methods without explanations, and in older records. The
    linear probe alone has `learning`, from few training images to all of them, whose accuracy is the run's own, and
    `strength`, the C that was chosen (the inverse of the regularisation's strength). `sha256` are the digests of the
    run's files, by name, and `digest` that of the result itself (`selftaught.files.sealing`), which older versions did
    not write.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    trial_id: str
    accuracy: _Fraction
    nll: float
    ece: _Fraction
    balanced_accuracy: _Fraction | None = None
    macro_f1: _Fraction | None = None
    top5_accuracy: _Fraction | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    nll_scaled: float | None = None
    ece_scaled: _Fraction | None = None
    per_class_accuracy: tuple[_Fraction | None, ...] = ()
    per_class_images: tuple[_Count, ...] = ()
    peer_accuracy: tuple[_Fraction, ...] = ()
    soft_labels: SoftLabels | None = None
    learning: tuple[LearningPoint, ...] = ()
    strength: Annotated[float, Field(gt=0)] | None = None
    epochs: int
    seconds: float
    images_per_second: float
    data: DataSummary
    environment: dict[str, str | int]
    sha256: dict[str, str] = {}
    digest: str | None = None


@dataclass(frozen=True)
class Record:
    """A finished run as it lies on disk."""

    directory: Path
    config: RunConfig
    result: Result
