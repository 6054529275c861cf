"""Parquet against the bytes and labels that it was written from, and against pyarrow on the real data sets."""

import json
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.data import parquet
from selftaught.data.sources import open_source
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet

BLOBS = [f"picture {number}".encode() for number in range(12)]


def collect(folder):
    return parquet.collect(parquet.find(folder), str(folder))


def refusal(folder):
    with pytest.raises(InputError) as caught:
        collect(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(part):
    return [part.pictures.read(i) for i in range(len(part.pictures))]


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
        (["b", "a"], ["a", "b"], None, None),
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
    paths = ["images/1.png", "../secret.png", str(tmp_path.parent / "secret.png"), "images/2.png", "a\0b"]
    write_parquet(tmp_path / "train-0.parquet", [None] * 5, [0, 1, 0, 1, 0], paths=paths)
    pictures = collect(tmp_path).train.pictures
    assert pictures.read(0) == b"beside"
    for row, complaint in (
        (1, "cannot leave"),
        (2, "cannot leave"),
        (3, "cannot be read"),
        (4, "cannot be read"),
    ):
        with pytest.raises(InputError, match=f"train-0.parquet, row {row}: .*{complaint}") as caught:
            pictures.read(row)
        assert "\n" not in str(caught.value)


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
        ({"labels": [0.0, 1.0, 1.0]}, "column 'label' must hold whole numbers or names, it holds double"),
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
    assert parquet.find(tmp_path) == {}
    assert parquet.find(tmp_path / "nowhere") == {}


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
    monkeypatch.setattr(parquet, "_ROWS_PER_BATCH", 3)
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
