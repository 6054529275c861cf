"""Parquet against the bytes and labels that it was written from, and against pyarrow on the real data sets."""

import json
import os
import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.data import parquet, parquet_column, parquet_files
from selftaught.data.sources import open_source
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet

BLOBS = [f"picture {number}".encode() for number in range(12)]


def collect(folder):
    return parquet.collect(parquet_files.find(folder), str(folder))


def refusal(folder):
    with pytest.raises(InputError) as caught:
        collect(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(part):
    return [part.pictures.read(i) for i in range(len(part.pictures))]


class Peak:
    """The most memory that arrays take at the times when some are looked at."""

    def __init__(self, monkeypatch):
        weight, self._seen = parquet_column.weight, [0]

        def noting(array):
            self._seen.append(pa.total_allocated_bytes())
            return weight(array)

        monkeypatch.setattr(parquet_column, "weight", noting)

    def most(self):
        return max(self._seen)


@pytest.fixture
def shards(tmp_path):
    """Two training files and one test file."""
    for name, rows, labels in (
        ("train-0", (0, 4), [0, 1, 0, 1]),
        ("train-1", (4, 6), [1, 0]),
        ("test-0", (6, 9), [0, 1, 0]),
    ):
        write_parquet(tmp_path / f"{name}.parquet", BLOBS[slice(*rows)], labels)
    return tmp_path


def test_files_are_read_in_order(shards):
    found = collect(shards)
    assert (found.classes, found.size, found.notes) == (("ant", "bee"), None, ())
    assert (read(found.train), found.train.labels.tolist()) == (BLOBS[:6], [0, 1, 0, 1, 1, 0])
    assert (read(found.test), found.test.labels.tolist()) == (BLOBS[6:9], [0, 1, 0])
    assert found.train.pictures.name(5) == f"{shards / 'train-1.parquet'}, row 1"
    assert found.train.pictures.name(4) == f"{shards / 'train-1.parquet'}, row 0"
    assert [found.train.pictures.read(i) for i in (5, 0, 3, 4)] == [BLOBS[i] for i in (5, 0, 3, 4)]


@pytest.mark.parametrize(
    ("names", "train", "test", "note"),
    [
        (["train-0", "test-0"], ["train-0"], ["test-0"], None),
        (["train", "test"], ["train"], ["test"], None),
        (["data/train-00000-of-00001", "data/test-00000-of-00001"], ["data/train"], ["data/test"], None),
        (["train-1", "train-0", "val-0"], ["train-0", "train-1"], ["val-0"], "validation part serves"),
        (["train-0", "test-0", "validation-0"], ["train-0"], ["test-0"], "validation part .* not used"),
        (["train-0", "test-0", "extra"], ["train-0"], ["test-0"], "not used.*extra.parquet"),
        (["train-0"], ["train-0"], None, None),
        (["b", "a"], ["a", "b"], None, "2 files are read as one data set, .* no parts: a.parquet, b.parquet"),
        (["b-0", "b-1"], ["b-0", "b-1"], None, None),
        (["pets_train", "pets_test"], ["pets_train"], ["pets_test"], None),
        (["my_train-00000-of-00001", "my_val-0"], ["my_train"], ["my_val"], "validation part serves"),
        (["data/my_train-00000-of-00001", "data/my_test-0"], ["data/my_train"], ["data/my_test"], None),
        (["Pets.TRAIN", "Pets.TEST"], ["Pets.TRAIN"], ["Pets.TEST"], None),
        (["train/0000", "test/0000"], ["train/0"], ["test/0"], None),
        (["train/0000", "train/0001", "test/0000"], ["train/0000", "train/0001"], ["test/0000"], None),
        (
            ["train_data/a", "validation-data/a"],
            ["train_data"],
            ["validation-data"],
            "validation part serves",
        ),
        (["default/train/0", "default/test/0"], ["default/train"], ["default/test"], None),
        (
            ["testing_ground/train", "testing_ground/test"],
            ["testing_ground/train"],
            ["testing_ground/test"],
            None,
        ),
        (["train", "extra/train"], ["train"], None, "because of another data set: .*extra/train.parquet"),
        (
            ["cat_train", "dog_train", "test"],
            ["cat_train", "dog_train"],
            ["test"],
            "2 files .* train part: cat_tr",
        ),
        (["train", "seg_pred"], ["train"], None, "without labels by their names: seg_pred.parquet"),
        (["train_test_split"], ["train_test"], None, None),
        (["train-0", "._train-0", ".hidden"], ["train-0"], None, None),
    ],
)
def test_names_of_files(tmp_path, names, train, test, note):
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", [name.encode()] * 4, [0, 1, 0, 1])
    found = open_source(str(tmp_path))
    for part, expected in ((found.train, train), (found.test, test)):
        read_names = list(dict.fromkeys(blob.decode() for blob in read(part))) if part else []
        assert all(got.startswith(name) for got, name in zip(read_names, expected or [], strict=True))
    assert len(found.notes) == bool(note)
    assert re.search(note or "", " ".join(found.notes))


def test_files_that_the_datasets_library_writes(tmp_path):
    arrays = random_pictures(4, channels=1)
    features = datasets.Features(img=datasets.Image(), fine_label=datasets.ClassLabel(names=["a", "b", "c"]))
    rows = {"img": [Image.fromarray(p) for p in arrays], "fine_label": [2, 0, 1, 2]}
    for part in ("train", "test"):
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / f"{part}-0.parquet")
    found = collect(tmp_path)
    assert found.classes == ("a", "b", "c")
    assert found.train.labels.tolist() == [2, 0, 1, 2]
    assert read(found.test) == [encode(array) for array in arrays]


@pytest.mark.parametrize(
    ("train", "test", "classes", "codes"),
    [
        ([0, 2, 1], [0, 2, 1], ("0", "1", "2"), [0, 2, 1]),
        ([5, 10, 7], [10, 5, 7], ("5", "7", "10"), [0, 2, 1]),
        (["cow", "ape", "bat"], ["ape", "bat", "cow"], ("ape", "bat", "cow"), [2, 0, 1]),
    ],
)
def test_without_names_in_the_schema_labels_name_the_classes(tmp_path, train, test, classes, codes):
    write_parquet(tmp_path / "train-0.parquet", BLOBS[:3], train, classes=None)
    write_parquet(tmp_path / "test-0.parquet", BLOBS[:3], test, classes=None)
    found = collect(tmp_path)
    assert found.classes == classes
    assert found.train.labels.tolist() == codes


@pytest.mark.parametrize(
    ("labels", "classes", "names", "codes"),
    [
        (pa.array([True, False, False, True]), None, ("False", "True"), [1, 0, 0, 1]),
        (pa.array([True, False, False, True]), ("ant", "bee"), ("ant", "bee"), [1, 0, 0, 1]),
        (pa.array([3.0, 0.0, 3.0, 10.0]), None, ("0", "3", "10"), [1, 0, 1, 2]),
        (pa.array([1.0, 0.0, 1.0, 0.0], pa.float16()), None, ("0", "1"), [1, 0, 1, 0]),
        (pa.array([1, 0, 1, 0], pa.uint8()), ("ant", "bee"), ("ant", "bee"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"], pa.string_view()), None, ("a", "b"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"], pa.large_string()), None, ("a", "b"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), None, ("a", "b"), [1, 0, 1, 0]),
        (pa.array([7, 5, 7, 5]).dictionary_encode(), None, ("5", "7"), [1, 0, 1, 0]),
        (pa.array(["10", "9", "10", "9"]), None, ("9", "10"), [1, 0, 1, 0]),
        (pa.DictionaryArray.from_arrays([2, 0, 2, 0], ["a", "x", "b"]), None, ("a", "b"), [1, 0, 1, 0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("at_once", [0, 2**28])
def test_types_of_labels(tmp_path, monkeypatch, labels, classes, names, codes, at_once):
    monkeypatch.setattr(parquet_column, "AT_ONCE", at_once)
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], labels, classes=classes)
    if len(names) == 3:
        write_parquet(tmp_path / "test.parquet", BLOBS[:4], labels, classes=classes)
        (tmp_path / "all.parquet").rename(tmp_path / "train.parquet")
    found = collect(tmp_path)
    assert (found.classes, found.train.labels.tolist()) == (names, codes)


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize(
    "column",
    [
        pa.array(BLOBS[:4], pa.binary()),
        pa.array(BLOBS[:4], pa.large_binary()),
        pa.array(BLOBS[:4], pa.binary_view()),
        pa.array(BLOBS[:4], pa.binary(9)),
        pa.array(BLOBS[:4]).dictionary_encode(),
        *(
            pa.StructArray.from_arrays(
                [pa.array(BLOBS[:4], kind), pa.array([None] * 4, text)], names=["bytes", "path"]
            )
            for kind, text in [
                (pa.binary_view(), pa.string_view()),
                (pa.large_binary(), pa.large_string()),
                (pa.binary(), pa.null()),
            ]
        ),
        pa.StructArray.from_arrays([pa.array(BLOBS[:4]).dictionary_encode()], names=["bytes"]),
    ],
    ids=lambda array: str(array.type),
)
@pytest.mark.parametrize("at_once", [0, 2**28])
def test_types_of_pictures(tmp_path, monkeypatch, column, limit, at_once):
    monkeypatch.setattr(parquet_column, "AT_ONCE", at_once)
    monkeypatch.setattr(parquet, "_IN_MEMORY", limit)
    pq.write_table(pa.table({"a.picture": column, "label": [0, 1, 1, 0]}), tmp_path / "all.parquet")
    assert read(collect(tmp_path).train) == BLOBS[:4]


def test_a_column_of_bytes_is_told_by_its_name(tmp_path):
    def write(**columns):
        pq.write_table(pa.table({**columns, "label": [0, 1, 1, 0]}), tmp_path / "all.parquet")

    write(mask=BLOBS[4:8], Image=BLOBS[:4])
    assert read(collect(tmp_path).train) == BLOBS[:4]
    write(left=BLOBS[4:8], right=BLOBS[:4])
    assert "any of the columns left, right may be that of the pictures: call it 'image'" in refusal(tmp_path)
    write(image=["1.png"] * 4)
    assert "no column of pictures" in refusal(tmp_path)


def write_column(path, **column):
    """Six pictures whose labels take turns, and a column more."""
    write_parquet(path, BLOBS[:6], [0, 1] * 3)
    table = pq.read_table(path)
    for name, values in column.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split", ["test", "test", "train", "train", "train", "train"]),
        ("origin", ["Test", "test", "train", "train", "train", "train"]),
        ("is_test", [True, True, False, False, False, False]),
        ("is_train", [0, 0, 1, 1, 1, 1]),
    ],
)
def test_a_column_divides_the_rows(tmp_path, name, values):
    write_column(tmp_path / "all.parquet", **{name: values})
    found = collect(tmp_path)
    assert (read(found.train), found.train.labels.tolist()) == (BLOBS[2:6], [0, 1, 0, 1])
    assert (read(found.test), found.test.labels.tolist()) == (BLOBS[:2], [0, 1])
    assert found.train.pictures.name(0) == f"{tmp_path / 'all.parquet'}, row 2"
    assert found.notes == (() if name == "split" else (f"the column {name!r} divides the images",))
    assert [pickle.loads(pickle.dumps(found.test.pictures)).read(i) for i in range(2)] == BLOBS[:2]


def test_columns_that_do_not_divide_the_rows_are_told(tmp_path):
    write_column(tmp_path / "all.parquet", fold=[0, 1, 2, 0, 1, 2], caption=["train", "bus", None] * 2)
    [note] = collect(tmp_path).notes
    assert note == "the column 'fold' does not divide the images: its values (0, 1, 2) name no parts"
    write_column(tmp_path / "all.parquet", split=["train", "test", None, "train", "train", "train"])
    assert "all.parquet: column 'split', row 2: unknown '': write train, test or val" in refusal(tmp_path)
    (tmp_path / "all.parquet").unlink()
    for part in ("train", "test"):
        write_column(tmp_path / f"{part}.parquet", split=[part] * 6)
    found = collect(tmp_path)
    assert (read(found.train), read(found.test)) == (BLOBS[:6], BLOBS[:6])
    assert found.notes == ("the column 'split' does not divide the images: each part has files of its own",)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], "train-00001-of-00003"),
        (["train-00000-of-00003", "train-00001-of-00003"], "train-00002-of-00003"),
        (["train-1-of-2", "test-0-of-1"], "train-0-of-2"),
        (["data/train-2-of-3", "data/train-3-of-3"], "data/train-1-of-3"),
        (["pets_train_1of3-00000-of-999999999"], "pets_train_1of3-00001-of-999999999"),
        (["train-00001-of-00002", "train-00002-of-00002"], None),
        (["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"], None),
    ],
)
def test_a_missing_file_of_several_is_named(tmp_path, there, missing):
    for name in there:
        write_parquet(tmp_path / f"{name}.parquet", BLOBS[:4], [0, 1, 0, 1])
    if missing is None:
        collect(tmp_path)
    else:
        assert refusal(tmp_path).startswith(f"{tmp_path / missing}.parquet is missing, of ")


def test_further_columns_of_pictures_and_labels_are_told(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", BLOBS[:6], [0, 1] * 3, label="fine_label")
    write_parquet(tmp_path / "test-0.parquet", BLOBS[6:8], [0, 1], label="fine_label")
    for path in tmp_path.glob("*.parquet"):
        columns = pq.read_table(path)
        columns = columns.append_column("mask", columns["image"])
        columns = columns.append_column("coarse_label", pa.array(["a"] * len(columns)))
        pq.write_table(columns.append_column("hash", pa.array([b"1"] * len(columns))), path)
    assert collect(tmp_path).notes == (
        "the pictures are those of the column 'image', not of 'mask'",
        "the labels are those of the column 'fine_label', not of 'coarse_label'",
    )


def test_several_data_sets_in_one_folder_are_refused(tmp_path):
    for name in ("plain/train", "plain/test", "bent/train"):
        write_parquet(tmp_path / f"{name}.parquet", BLOBS[:4], [0, 1, 0, 1])
    assert "holds several data sets (bent, plain): give the folder of one as DATA" in refusal(tmp_path)


def test_folders_of_images_beside_parquet_are_told(tmp_path):
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], [0, 1, 0, 1])
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").touch()
    [note] = collect(tmp_path).notes
    assert note == (
        f"images beside the Parquet files are not used unless those name them: the ones in {tmp_path / 'cat'}"
    )


@pytest.mark.parametrize(
    ("image", "features"),
    [
        ("cat/1.png", "cat/x"),
        ("cat/1.png", "embeddings/x"),
        ("train/cat/1.png", "more/train/x"),
        ("1.png", "more/x"),
    ],
)
def test_features_below_a_folder_of_images_are_no_data_set(tmp_path, image, features):
    write_parquet(tmp_path / f"{features}.parquet", BLOBS[:4], [0, 1, 0, 1])
    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / image).touch()
    assert parquet_files.find(tmp_path) is None


def test_a_class_without_images_is_told(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", BLOBS[:4], [0, 1, 0, 1], classes=("ant", "bee", "cow"))
    write_parquet(tmp_path / "test-0.parquet", BLOBS[:4], [0, 2, 2, 0], classes=("ant", "bee", "cow"))
    notes = collect(tmp_path).notes
    assert [note.split(": ")[1] for note in notes] == [
        "class 'cow' has no images in the training part",
        "class 'bee' has no images in the test part",
    ]


@pytest.mark.parametrize("withheld", [[-1, -1, -1], [None, None, None]])
def test_a_test_part_without_labels_is_not_used(shards, withheld):
    write_parquet(shards / "test-0.parquet", BLOBS[:3], withheld)
    found = collect(shards)
    assert found.test is None
    assert "test part" in found.notes[0]
    assert "no labels" in found.notes[0]
    write_parquet(shards / "validation-0.parquet", BLOBS[9:11], [1, 0])
    assert read(collect(shards).test) == BLOBS[9:11]


def test_a_picture_may_lie_beside_the_file(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"beside")
    (tmp_path.parent / "secret.png").write_bytes(b"secret")
    os.mkfifo(tmp_path / "images" / "3.png")
    secret = str(tmp_path.parent / "secret.png")
    paths = ["images/1.png", "../secret.png", secret, "images/2.png", "a\0b", "images/3.png"]
    write_parquet(tmp_path / "train-0.parquet", [None] * 6, [0, 1, 0, 1, 0, 1], paths=paths)
    pictures = collect(tmp_path).train.pictures
    assert pictures.read(0) == b"beside"
    for row, complaint in (
        (1, "cannot leave"),
        (2, "cannot leave"),
        (3, "cannot be read"),
        (4, "cannot be read"),
        (5, "cannot be read"),
    ):
        with pytest.raises(InputError, match=f"train-0.parquet, row {row}: .*{complaint}") as caught:
            pictures.read(row)
        assert "\n" not in str(caught.value)


def test_names_of_classes_are_shown_as_a_terminal_may_show_them(tmp_path):
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], [0, 1, 0, 1], classes=("\ud800", "a\x1b[31m"))
    assert collect(tmp_path).classes == ("\ufffd", "a\ufffd[31m")
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], ["a\x1b", "b", "a\x1b", "b"], classes=None)
    assert collect(tmp_path).classes == ("a\ufffd", "b")


def test_a_row_without_a_picture_is_named(shards):
    write_parquet(shards / "train-1.parquet", [BLOBS[0], None], [0, 1])
    pictures = collect(shards).train.pictures
    with pytest.raises(InputError, match=r"train-1.parquet, row 1: no picture"):
        pictures.read(5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"labels": [0, 2, 1]}, "train-0.parquet: column 'label', row 1: label 2 is out of range (0..1)"),
        (
            {"labels": [0, 1, -1], "part": "test-0"},
            "test-0.parquet: column 'label', row 2: label -1 is out of range",
        ),
        ({"labels": [None, 1, 0]}, "row 0: label None is out of range"),
        ({"labels": [0, -3, 0], "classes": None}, "row 1: label -3 is out of range (0 or more)"),
        ({"labels": ["a", None, "b"], "classes": None}, "row 1: no label"),
        ({"labels": ["a", "", "b"], "classes": None}, "row 1: no label"),
        ({"labels": [0.0, 1.5, 1.0]}, "column 'label', row 1: label 1.5 is no whole number"),
        ({"labels": [0.0, 1.0, float("nan")]}, "column 'label', row 2: label nan is no whole number"),
        ({"labels": [0.0, -1.0, 1.0]}, "column 'label', row 1: label -1.0 is out of range (0..1)"),
        (
            {"labels": pa.array([0, 2**64 - 1, 1], pa.uint64()), "classes": None},
            f"row 1: label {2**64 - 1} is out of range (0 or more)",
        ),
        (
            {"labels": ["a", "b" * 1001, "a"], "classes": None},
            "row 1: a label of more than 1,000 characters (bbb",
        ),
        ({"labels": [[0], [1], [1]]}, "column 'label' must hold whole numbers or names, it holds list"),
        ({"label": "species", "classes": None}, "no column of labels (looked for label"),
        ({"classes": ("wasp", "bee"), "part": "test-0"}, "do not name the same classes"),
        ({"classes": None, "labels": ["a", "b", "a"]}, "do not name the same classes"),
        ({"classes": ("bee",), "labels": [0, 0, 0], "part": "all"}, "one class only ('bee')"),
        ({"labels": [0, 0, 1], "part": "alone"}, "'bee'"),
    ],
)
def test_bad_labels_are_named(tmp_path, change, complaint):
    folder = tmp_path / "data"
    labels, part = change.pop("labels", [0, 1, 1]), change.pop("part", "train-0")
    parts = {"all": ["train-0", "test-0"], "alone": ["all"]}.get(part, [part])
    if part != "alone":
        for name in ("train-0", "test-0"):
            write_parquet(folder / f"{name}.parquet", BLOBS[:3], [0, 1, 1])
    for name in parts:
        write_parquet(folder / f"{name}.parquet", BLOBS[:3], labels, **change)
    assert complaint in refusal(folder)


def test_a_declared_column_of_labels_may_have_any_name(tmp_path):
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], [0, 1, 1, 0], label="species")
    assert collect(tmp_path).train.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("names", [5, {"a": 1}, None])
def test_names_that_are_no_list_are_not_names(tmp_path, names):
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], [0, 1, 1, 0])
    table = pq.read_table(tmp_path / "all.parquet")
    features = {
        "label": {"_type": "ClassLabel", "names": names},
        "image": {"_type": ["Image"]},
        "other": [{}],
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "all.parquet")
    assert collect(tmp_path).classes == ("0", "1")


def test_a_file_without_rows_is_named(shards):
    pq.write_table(pq.read_table(shards / "test-0.parquet").slice(0, 0), shards / "test-0.parquet")
    write_parquet(shards / "train-1.parquet", [], [])
    assert re.search(r"train-1.parquet.*no rows", refusal(shards))


@pytest.mark.parametrize(
    ("column", "kind"),
    [("bytes", pa.int64()), ("bytes", pa.string()), ("path", pa.int64()), ("path", pa.list_(pa.string()))],
)
def test_pictures_are_bytes_and_names_of_files(shards, column, kind):
    path = shards / "train-0.parquet"
    table = pq.read_table(path)
    types = {"bytes": pa.binary(), "path": pa.string()} | {column: kind}
    cells = pa.array([{}] * len(table), pa.struct(list(types.items())))
    pq.write_table(table.set_column(table.schema.names.index("image"), "image", cells), path)
    assert re.search(r"train-0.parquet: no column of pictures \(a struct of 'bytes', binary", refusal(shards))


@pytest.mark.parametrize("labels", [[[0], [1], [1]], [{"a": 1}] * 3, [b"a", b"b", b"a"]])
def test_a_test_part_whose_labels_are_of_no_use_is_refused_as_well(shards, labels):
    path = shards / "test-0.parquet"
    table = pq.read_table(path)
    column = table.schema.names.index("label")
    pq.write_table(table.set_column(column, "label", pa.array(labels[: len(table)])), path)
    assert re.search(r"test-0.parquet: column 'label' must hold whole numbers or names", refusal(shards))


def test_a_file_without_pictures_is_named(shards):
    path = shards / "train-0.parquet"
    pq.write_table(pq.read_table(path).select(["label"]).replace_schema_metadata(), path)
    assert re.search(r"train-0.parquet: no column of pictures.*found label", refusal(shards))


@pytest.mark.parametrize(
    "metadata", ["{", "[]", '{"info": 3}', '{"info": {"features": []}}', b"\xff", "[" * 100_000]
)
def test_metadata_that_cannot_be_read_is_named(shards, metadata):
    path = shards / "train-0.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": metadata}), path)
    assert re.search(r"train-0.parquet.*metadata", refusal(shards))


def test_pipes_and_links_are_not_opened(shards, tmp_path_factory):
    path = shards / "train-2.parquet"
    os.mkfifo(path)
    assert f"{path} is not a regular file: remove it" in refusal(shards)
    path.unlink()
    outside = tmp_path_factory.mktemp("outside") / "x.parquet"
    (shards / "train-1.parquet").rename(outside)
    path.symlink_to(outside)
    assert f"{path} is a link that leaves the folder {shards}: put a copy in its place" in refusal(shards)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "is a link that leaves" in refusal(shards)


def test_a_snapshot_of_the_hub_is_made_of_links(shards):
    home = shards / "datasets--a--b"
    snapshot = home / "snapshots" / "abc"
    (home / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(shards.glob("*.parquet")):
        path.rename(home / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert read(collect(snapshot).train) == BLOBS[:6]
    assert parquet_files.find(home / "blobs") is None


def test_the_users_own_data_may_be_links(shards, monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "mnist").mkdir()
    for path in shards.glob("*.parquet"):
        (home / "mnist" / path.name).symlink_to(path)
    monkeypatch.setenv("SELFTAUGHT_DATA", str(home))
    assert read(open_source("mnist").train) == BLOBS[:6]


MIB = 2**20
BOMBS = {
    "one picture for all rows": lambda: pa.DictionaryArray.from_arrays([0] * 270, [b"x" * 10 * MIB]),
    "one picture for all rows, in structs": lambda: pa.StructArray.from_arrays(
        [pa.DictionaryArray.from_arrays([0] * 270, [b"x" * 10 * MIB])], names=["bytes"]
    ),
    "pictures that compress": lambda: pa.array([bytes([number]) * 10 * MIB for number in range(8)]),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("limit", [0, 10**9])
def test_what_unpacks_to_far_more_than_the_file_is_refused(tmp_path, monkeypatch, bomb, limit):
    monkeypatch.setattr(parquet, "_IN_MEMORY", limit)
    pictures = BOMBS[bomb]()
    table = pa.table({"image": pictures, "label": [number % 2 for number in range(len(pictures))]})
    pq.write_table(
        table,
        tmp_path / "all.parquet",
        compression="zstd",
        dictionary_pagesize_limit=2**30,
        store_schema=False,  # so that nothing tells a reader that it is a dictionary
    )
    assert (tmp_path / "all.parquet").stat().st_size < 10_000
    del table, pictures
    before = pa.total_allocated_bytes()
    peak = Peak(monkeypatch)
    with pytest.raises(InputError, match=r"all.parquet has .* bytes, but unpacks to more than 6\d MiB"):
        collect(tmp_path).train.pictures.read(0)
    assert peak.most() - before < 200 * MIB


def test_rows_without_end_are_refused(tmp_path):
    labels = pa.array(np.zeros(5_000_000, dtype=np.int64))
    table = pa.table({"image": pa.nulls(len(labels), pa.binary()), "label": labels})
    pq.write_table(table, tmp_path / "all.parquet", compression="zstd")
    assert (tmp_path / "all.parquet").stat().st_size < 100_000
    assert "unpacks to more than" in refusal(tmp_path)


def test_labels_without_end_are_refused(tmp_path):
    labels = pa.array(["x" * MIB, "y" * MIB]).take(pa.array([0, 1] * 50))
    pq.write_table(pa.table({"image": [b"x"] * 100, "label": labels}), tmp_path / "all.parquet")
    assert "unpacks to more than" in refusal(tmp_path)


@pytest.mark.parametrize("old", [b"label", b"image", b"bytes"])
def test_a_footer_that_is_not_utf_8_is_named(shards, old):
    path = shards / "train-1.parquet"
    path.write_bytes(path.read_bytes().replace(old, b"\xff\xfe\xfd\xfc\xfb"))
    message = refusal(shards)
    assert "train-1.parquet" in message
    assert message.isprintable()


def test_labels_that_are_not_utf_8_are_named(tmp_path):
    write_parquet(tmp_path / "all.parquet", BLOBS[:4], ["ant00", "bee", "ant00", "bee"], classes=None)
    path = tmp_path / "all.parquet"
    path.write_bytes(path.read_bytes().replace(b"ant00", b"\xff\xfe\xfd\xfc\xfb"))
    assert "UTF-8" in refusal(tmp_path)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files_are_refused_in_one_line_or_read(shards, seed):
    """Bits turned over anywhere, most of them in the footer, where pyarrow is not to be asked everything."""
    rng, path = random.Random(seed), shards / "train-0.parquet"
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 3, 10])):
        content[-rng.randrange(1, len(content) if seed % 3 == 0 else 400)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    try:
        found = collect(shards)
        read(found.train)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize("limit", [0, 10**9])
@pytest.mark.parametrize("left", [0, 1])
def test_pictures_that_are_fewer_than_the_labels_are_refused(shards, monkeypatch, limit, left):
    """As in files with a damaged footer."""
    monkeypatch.setattr(parquet, "_IN_MEMORY", limit)
    pictures, pieces = collect(shards).train.pictures, parquet_column.pieces
    monkeypatch.setattr(parquet_column, "pieces", lambda *where: [p[:left] for p in pieces(*where)][:left])
    with pytest.raises(InputError, match=r"train-0.parquet is damaged"):
        pictures.read(0)


def test_what_is_no_parquet_is_named(shards):
    (shards / "test-0.parquet").write_bytes(b"hello")
    assert re.search(r"test-0.parquet cannot be read as Parquet", refusal(shards))


def test_a_file_that_is_cut_off_is_named(shards):
    path = shards / "train-1.parquet"
    pictures = collect(shards).train.pictures
    path.write_bytes(path.read_bytes()[:-20])
    assert "train-1.parquet cannot be read as Parquet" in refusal(shards)
    with pytest.raises(InputError, match=r"train-1.parquet cannot be read as Parquet"):
        pictures.read(5)


def test_a_folder_with_only_a_test_part_is_incomplete(shards):
    for path in shards.glob("train-*"):
        path.unlink()
    assert f"{shards} has no training part" in refusal(shards)


def test_a_folder_without_parquet_has_nothing(tmp_path):
    assert parquet_files.find(tmp_path) is None
    assert parquet_files.find(tmp_path / "nowhere") is None


def test_the_key_follows_every_change(shards):
    def keys():
        return [collect(shards).key for _ in range(2)]

    seen = [keys()]
    write_parquet(shards / "train-1.parquet", BLOBS[4:6], [0, 1])
    seen.append(keys())
    path = shards / "train-0.parquet"
    times = path.stat()
    write_parquet(path, BLOBS[1:5], [0, 1, 0, 1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    seen.append(keys())
    (shards / "train-1.parquet").rename(shards / "train-2.parquet")
    seen.append(keys())
    (shards / "train-2.parquet").unlink()
    seen.append(keys())
    (shards / "test-0.parquet").rename(shards / "validation-0.parquet")
    seen.append(keys())
    assert all(one == other for one, other in seen)
    assert len({key for key, _ in seen}) == len(seen)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_pictures_can_be_pickled(shards, monkeypatch, limit):
    monkeypatch.setattr(parquet, "_IN_MEMORY", limit)
    pictures = collect(shards).train.pictures
    fresh = pickle.dumps(pictures)
    pictures.read(0)
    assert pickle.dumps(pictures) == fresh  # What was read stays behind.
    again = pickle.loads(fresh)
    assert [again.read(i) for i in range(6)] == BLOBS[:6]


def test_a_large_part_is_unpacked_once(shards, monkeypatch, cache_folder):
    monkeypatch.setattr(parquet, "_IN_MEMORY", 0)
    monkeypatch.setattr(parquet_column, "_ROWS", 3)
    found = collect(shards)
    assert not list(cache_folder.glob("*.arrow"))
    assert (read(found.train), read(found.test)) == (BLOBS[:6], BLOBS[6:9])
    copies = sorted(cache_folder.glob("*.arrow"))
    assert len(copies) == 3
    monkeypatch.setattr(parquet, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert read(collect(shards).train) == BLOBS[:6]
    monkeypatch.undo()
    monkeypatch.setattr(parquet, "_IN_MEMORY", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder.parent))
    write_parquet(shards / "train-0.parquet", BLOBS[8:12], [0, 1, 0, 1])
    assert read(collect(shards).train) == [*BLOBS[8:12], *BLOBS[4:6]]


def test_readers_at_once_unpack_once(shards, monkeypatch):
    monkeypatch.setattr(parquet, "_IN_MEMORY", 0)
    unpack, made = parquet._unpack, []
    monkeypatch.setattr(parquet, "_unpack", lambda *args: (made.append(args), unpack(*args)))
    with ThreadPoolExecutor(4) as pool:
        blobs = list(pool.map(lambda _: collect(shards).train.pictures.read(0), range(8)))
    assert blobs == BLOBS[:1] * 8
    assert len(made) == 1


def test_a_writer_that_fails_leaves_no_half_copy(shards, monkeypatch, cache_folder):
    monkeypatch.setattr(parquet, "_IN_MEMORY", 0)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        pictures = collect(shards).train.pictures
        with pytest.raises(
            InputError, match=r"train-0.parquet cannot be unpacked into .*No space left.*free space"
        ):
            pictures.read(0)
    assert not list(cache_folder.glob("*.tmp"))
    assert not list(cache_folder.glob("*.arrow"))
    assert pictures.read(0) == BLOBS[0]


@pytest.mark.parametrize(("name", "column"), [("mnist", "image"), ("cifar10", "img")])
def test_rows_of_the_real_data_are_what_pyarrow_says(real_data, name, column):
    found = open_source(name)
    for part, prefix, count in (
        (found.train, "train", {"mnist": 60_000, "cifar10": 50_000}[name]),
        (found.test, "test", 10_000),
    ):
        last = pq.read_table(sorted((real_data / name).glob(f"{prefix}-*.parquet"))[-1]).slice(1000, 200)
        start = count - (
            pq.read_metadata(sorted((real_data / name).glob(f"{prefix}-*.parquet"))[-1]).num_rows - 1000
        )
        assert len(part.pictures) == len(part.labels) == count
        assert part.labels[start : start + 200].tolist() == last["label"].to_pylist()
        expected = [cell["bytes"] for cell in last[column].to_pylist()]
        assert [part.pictures.read(i) for i in range(start, start + 200)] == expected
