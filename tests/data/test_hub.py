"""The Hub's path, with real `datasets` objects in place of the download."""

import pickle

import datasets
import pytest
from PIL import Image

from selftaught.data import hub
from selftaught.data.sources import open_source
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet

NAMES = ["airplane", "bird", "cat"]
LABELS = {"train": [0, 1, 2, 1, 0, 2], "test": [2, 0, 1], "validation": [1, 0, 2]}
ARRAYS = {part: random_pictures(len(labels), seed=len(part)) for part, labels in LABELS.items()}
BLOBS = {part: [encode(array) for array in arrays] for part, arrays in ARRAYS.items()}


def split(part, labels=None, kind=None, picture="img", label="label"):
    """A split that holds PNGs; `kind` is the feature of its labels."""
    features = datasets.Features({picture: datasets.Image(), label: kind or datasets.ClassLabel(names=NAMES)})
    rows = {picture: [Image.fromarray(array) for array in ARRAYS[part]], label: labels or LABELS[part]}
    return datasets.Dataset.from_dict(rows, features)


def splits(*parts, **options):
    return datasets.DatasetDict({part: split(part, **options) for part in parts or ("train", "test")})


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SELFTAUGHT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def answer(monkeypatch):
    """Decides what the Hub gives, and tells what it was asked for."""

    def decide(given):
        asked = []

        def load_dataset(*args, **kwargs):
            asked.append((args, kwargs))
            if isinstance(given, Exception):
                raise given
            return given

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return decide


def read(part):
    return [part.pictures.read(i) for i in range(len(part.pictures))]


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("mnist", "ylecun/mnist"),
        ("fashion-mnist", "zalando-datasets/fashion_mnist"),
        ("cifar10", "uoft-cs/cifar10"),
        ("cifar100", "uoft-cs/cifar100"),
        ("uoft-cs/cifar10", "uoft-cs/cifar10"),
        ("someone/something", "someone/something"),
        ("hub:someone/something", "someone/something"),
        ("hub:beans", "beans"),
    ],
)
def test_what_is_asked_for_is_what_comes(answer, name, hub_id):
    asked = answer(splits())
    found = open_source(name)
    assert asked == [((hub_id,), {})]  # And no code of the data set is trusted.
    assert (found.classes, found.notes, found.size) == (tuple(NAMES), (), None)
    for part in ("train", "test"):
        assert getattr(found, part).labels.tolist() == LABELS[part]
        assert read(getattr(found, part)) == BLOBS[part]
    assert found.test.pictures.name(2) == f"{hub_id} on the Hub, split 'test', row 2"


def test_nothing_is_decoded(answer, monkeypatch):
    answer(splits())
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_: pytest.fail("decoded"))
    assert read(open_source("a/b").train) == BLOBS["train"]


@pytest.mark.parametrize(
    ("parts", "tested", "note"),
    [
        (("train", "validation"), "validation", "validation part serves as the test part"),
        (("train", "test", "validation"), "test", "validation part"),
        (("train",), None, None),
    ],
)
def test_splits(answer, parts, tested, note):
    answer(splits(*parts))
    found = open_source("a/b")
    assert read(found.train) == BLOBS["train"]
    assert (read(found.test) if found.test else None) == BLOBS.get(tested)
    assert [note in line for line in found.notes] == ([True] if note else [])


def test_other_splits_are_told_to_be_unused(answer):
    answer(datasets.DatasetDict(train=split("train"), test=split("test"), extra=split("validation")))
    assert open_source("a/b").notes == ("the split 'extra' of a/b on the Hub is not used",)


def test_a_single_split_is_everything_whatever_its_name(answer):
    answer(datasets.DatasetDict(full=split("train")))
    found = open_source("a/b")
    assert (read(found.train), found.test) == (BLOBS["train"], None)


def test_several_splits_without_a_usual_name_are_refused(answer):
    answer(datasets.DatasetDict(left=split("train"), right=split("test")))
    with pytest.raises(InputError, match=r"a/b on the Hub has no split 'train' \(it has left, right\)"):
        open_source("a/b")


def test_names_as_labels_become_sorted_classes(answer):
    words = {part: [NAMES[label] for label in reversed(LABELS[part])] for part in ("train", "test")}
    kind = datasets.Value("string")
    answer(datasets.DatasetDict({part: split(part, words[part], kind) for part in words}))
    found = open_source("a/b")
    assert found.classes == tuple(NAMES)
    assert found.train.labels.tolist() == LABELS["train"][::-1]


def test_whole_numbers_as_labels(answer):
    answer(splits(kind=datasets.Value("int32")))
    assert open_source("a/b").classes == ("0", "1", "2")


def test_columns_are_found_by_their_features(answer):
    answer(splits(picture="photo", label="species"))
    assert read(open_source("a/b").train) == BLOBS["train"]
    answer(splits(label="fine_label"))
    assert open_source("a/b").train.labels.tolist() == LABELS["train"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"kind": datasets.Value("timestamp[s]")},
            "split 'train': column 'label' must hold whole numbers or names",
        ),
        (
            {"label": "width", "kind": datasets.Value("int64")},
            "split 'train': no column of labels .*found img, width",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(answer, options, complaint):
    answer(splits(**options))
    with pytest.raises(InputError, match=complaint):
        open_source("a/b")


def test_withheld_labels(answer):
    """As in ImageNet: the test part has -1 throughout."""
    given = splits("train", "test", "validation")
    given["test"] = split("test", [-1, -1, -1])
    answer(given)
    found = open_source("a/b")
    assert read(found.test) == BLOBS["validation"]
    assert any("test part" in note and "no labels" in note for note in found.notes)


def linked(paths):
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
    cells = [{"bytes": None, "path": str(path)} for path in paths]
    return datasets.DatasetDict(
        train=datasets.Dataset.from_dict({"img": cells, "label": LABELS["train"]}, features)
    )


def test_rows_that_name_a_file(answer, monkeypatch, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", kept)
    for number, blob in enumerate(BLOBS["train"]):
        (kept / f"{number}.png").write_bytes(blob)
    answer(linked([kept / f"{number}.png" for number in range(6)]))
    pictures = open_source("a/b").train.pictures
    assert [pictures.read(i) for i in range(6)] == BLOBS["train"]
    (kept / "3.png").unlink()
    with pytest.raises(InputError, match=r"a/b on the Hub.*row 3: .*3.png' cannot be read"):
        pictures.read(3)


def test_rows_that_name_a_file_of_the_users_are_refused(answer, tmp_path):
    (tmp_path / "private.png").write_bytes(BLOBS["test"][0])
    answer(linked([tmp_path / "private.png"] * 6))
    with pytest.raises(InputError, match=r"row 0: '.*private.png' cannot leave"):
        open_source("a/b").train.pictures.read(0)


def test_a_row_without_a_picture_is_named(answer):
    given = splits()
    features = given["train"].features
    cells = [{"bytes": blob, "path": None} for blob in BLOBS["train"]]
    cells[4] = None
    given["train"] = datasets.Dataset.from_dict({"img": cells, "label": LABELS["train"]}, features)
    answer(given)
    pictures = open_source("a/b").train.pictures
    with pytest.raises(InputError, match="row 4: no picture"):
        pictures.read(4)


def test_rows_that_were_shuffled(answer):
    given = datasets.DatasetDict(train=split("train").select([5, 0, 3, 2, 4, 1]))
    answer(given)
    found = hub.collect("a/b")
    assert read(found.train) == [BLOBS["train"][i] for i in (5, 0, 3, 2, 4, 1)]
    assert found.train.labels.tolist() == [LABELS["train"][i] for i in (5, 0, 3, 2, 4, 1)]


def test_the_key_follows_the_data(answer):
    keys = []
    reverse = LABELS["train"][::-1]
    for given in (
        splits(),
        splits("train"),
        datasets.DatasetDict(train=split("train", reverse), test=split("test")),
    ):
        answer(given)
        assert open_source("a/b").key == open_source("a/b").key
        keys.append(open_source("a/b").key)
    assert len(set(keys)) == 3


@pytest.mark.parametrize("on_disk", [False, True])
def test_pictures_can_be_pickled(answer, tmp_path, on_disk):
    given = splits()
    if on_disk:
        given.save_to_disk(tmp_path / "saved")
        given = datasets.load_from_disk(tmp_path / "saved")
    answer(given)
    again = pickle.loads(pickle.dumps(open_source("a/b").train.pictures))
    assert [again.read(i) for i in range(len(again))] == BLOBS["train"]


@pytest.mark.parametrize("error", [ConnectionError("Couldn't reach it\nat all"), RuntimeError()])
def test_without_folder_and_network_it_says_what_to_do(answer, error):
    answer(error)
    pattern = (
        f"'mnist' not found: SELFTAUGHT_DATA is not set.*{type(error).__name__}.*set SELFTAUGHT_DATA.*online"
    )
    with pytest.raises(InputError, match=pattern) as caught:
        open_source("mnist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "here"), [("a/b", True), ("hub:a/b", False)])
def test_an_id_that_the_hub_does_not_give(answer, name, here):
    answer(datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset.\nAuthenticate."))
    with pytest.raises(InputError, match=r"a/b did not come from the Hub.*gated.*online.*log in") as caught:
        open_source(name)
    assert "\n" not in str(caught.value)
    assert ("no folder a/b here" in str(caught.value)) == here


def test_a_copy_in_the_folder_comes_first(answer, monkeypatch, tmp_path):
    asked = answer(ConnectionError("offline"))
    for part in ("train", "test"):
        path = tmp_path / "cifar10" / "data" / f"{part}-00000-of-00001.parquet"
        write_parquet(path, BLOBS[part], LABELS[part], NAMES, picture="img")
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))
    for name in ("cifar10", "uoft-cs/cifar10", "hub:uoft-cs/cifar10"):
        assert read(open_source(name).test) == BLOBS["test"]
    assert not asked


def test_a_copy_without_test_part_is_incomplete(monkeypatch, tmp_path):
    """Numbers on a home-made test part would not be those of a published data set."""
    write_parquet(tmp_path / "cifar10" / "train-0.parquet", BLOBS["train"], LABELS["train"], NAMES)
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"cifar10 has no test-\*.parquet.*complete"):
        open_source("cifar10")


def test_a_folder_without_the_data_is_named(answer, monkeypatch, tmp_path):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path))
    answer(ConnectionError("offline"))
    with pytest.raises(InputError, match=f"no mnist/train-\\*.parquet in {tmp_path}.*ylecun/mnist.*offline"):
        open_source("mnist")


def test_a_variable_that_names_no_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SELFTAUGHT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"SELFTAUGHT_DATA is .*nowhere, which is not a folder"):
        open_source("mnist")
