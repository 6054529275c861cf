"""Parquet against the arrays it was written from, and against Pillow on rows of the real data sets."""

import io
import re

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.data import parquet
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet


def test_files_are_read_in_order(small):
    folder, images, labels = small
    decoded = parquet.read(parquet.find(folder))
    assert decoded.classes == ("ant", "bee")
    np.testing.assert_array_equal(decoded.train_images.numpy(), images[:6])
    np.testing.assert_array_equal(decoded.train_labels.numpy(), labels[:6])
    np.testing.assert_array_equal(decoded.test_images.numpy(), images[6:])
    np.testing.assert_array_equal(decoded.test_labels.numpy(), labels[6:])


def test_files_that_the_datasets_library_writes(tmp_path):
    pictures = random_pictures(4, channels=1)
    features = datasets.Features(img=datasets.Image(), fine_label=datasets.ClassLabel(names=["a", "b", "c"]))
    rows = {"img": [Image.fromarray(p) for p in pictures], "fine_label": [2, 0, 1, 2]}
    for part in ("train", "test"):
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / f"{part}-0.parquet")
    decoded = parquet.read(parquet.find(tmp_path))
    assert decoded.classes == ("a", "b", "c")
    assert decoded.train_labels.tolist() == [2, 0, 1, 2]
    np.testing.assert_array_equal(decoded.test_images[:, 0].numpy(), np.stack(pictures))


def test_without_names_the_classes_are_numbers(tmp_path):
    blobs = [encode(p) for p in random_pictures(3)]
    write_parquet(tmp_path / "train-0.parquet", blobs, [0, 2, 1], classes=None)
    write_parquet(tmp_path / "test-0.parquet", blobs, [0, 3, 1], classes=None)
    assert parquet.read(parquet.find(tmp_path)).classes == ("0", "1", "2", "3")


def test_sizes_that_differ_need_an_image_size(small):
    folder, images, _ = small
    odd = [encode(p) for p in random_pictures(1, (9, 9))]
    write_parquet(folder / "train-00002.parquet", odd, [0])
    with pytest.raises(InputError, match=r"train-00002.*row 0.*9x9.*6x5.*--image-size"):
        parquet.read(parquet.find(folder))
    decoded = parquet.read(parquet.find(folder), (6, 5))
    assert decoded.train_images.shape == (7, 3, 6, 5)
    np.testing.assert_array_equal(decoded.train_images[:6].numpy(), images[:6])


def test_grey_among_colour_becomes_rgb(small):
    folder, _, _ = small
    grey = random_pictures(1, channels=1)[0]
    write_parquet(folder / "test-00001.parquet", [encode(grey)], [0])
    decoded = parquet.read(parquet.find(folder))
    assert decoded.train_images.shape[1] == decoded.test_images.shape[1] == 3
    np.testing.assert_array_equal(decoded.test_images[-1].numpy(), np.stack([grey] * 3))


def _bad_file(tmp_path, blobs=None, labels=(0, 1, 1), part="train", **options):
    good = [encode(p) for p in random_pictures(3)]
    write_parquet(tmp_path / "train-0.parquet", good, [0, 1, 1])
    write_parquet(tmp_path / "test-0.parquet", good, [0, 1, 1])
    write_parquet(tmp_path / f"{part}-0.parquet", good if blobs is None else blobs(good), labels, **options)
    return parquet.find(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"blobs": lambda good: [*good[:2], good[2][:50]]}, "train-0.parquet, row 2: .*cannot be decoded"),
        ({"blobs": lambda good: [good[0], b"?", good[2]]}, "train-0.parquet, row 1: .*cannot be decoded"),
        ({"blobs": lambda good: [good[0], None, good[2]]}, "train-0.parquet, row 1: no picture"),
        ({"labels": [0, 2, 1]}, "train-0.parquet: column 'label', row 1: label 2 is out of range \\(0..1\\)"),
        ({"labels": [0, 1, -1], "part": "test"}, "test-0.parquet.*row 2: label -1 is out of range"),
        ({"labels": [None, 1, 0]}, "row 0: label None is out of range"),
        ({"labels": [0, -3, 0], "classes": None}, "row 1: label -3 is out of range \\(0 or more\\)"),
        ({"labels": [0.0, 1.0, 1.0]}, "column 'label' must hold whole numbers, it holds double"),
        ({"label": "species"}, "no column of labels.*found image, species"),
        ({"classes": ("wasp", "bee"), "part": "test"}, "test-0.*train-0.*same classes"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, complaint):
    files = _bad_file(tmp_path, **change)
    with pytest.raises(InputError, match=complaint) as caught:
        parquet.read(files)
    assert "\n" not in str(caught.value)


def test_rows_are_counted_across_row_groups(tmp_path):
    files = _bad_file(tmp_path, lambda good: [*good[:2], b"?"])
    pq.write_table(pq.read_table(files.train[0]), files.train[0], row_group_size=1)
    with pytest.raises(InputError, match=r"train-0.parquet, row 2"):
        parquet.read(files)


def test_a_file_without_rows_is_named(tmp_path):
    files = _bad_file(tmp_path)
    pq.write_table(pq.read_table(files.test[0]).slice(0, 0), files.test[0])
    with pytest.raises(InputError, match=r"test-0.parquet.*no rows"):
        parquet.read(files)


def test_a_file_without_pictures_is_named(tmp_path):
    files = _bad_file(tmp_path)
    pq.write_table(pq.read_table(files.train[0]).select(["label"]).replace_schema_metadata(), files.train[0])
    with pytest.raises(InputError, match=r"train-0.parquet: no column of pictures.*found label"):
        parquet.read(files)


@pytest.mark.parametrize("metadata", ["{", '{"info": {"features": {"label": {"_type": "NoSuch"}}}}'])
def test_metadata_that_cannot_be_read_is_named(tmp_path, metadata):
    files = _bad_file(tmp_path)
    table = pq.read_table(files.train[0]).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, files.train[0])
    with pytest.raises(InputError, match=r"train-0.parquet cannot be read"):
        parquet.read(files)


def test_what_is_no_parquet_is_named(tmp_path):
    files = _bad_file(tmp_path)
    files.test[0].write_bytes(b"hello")
    with pytest.raises(InputError, match=r"test-0.parquet cannot be read as Parquet"):
        parquet.read(files)


def test_a_folder_with_one_part_is_incomplete(small):
    folder, _, _ = small
    (folder / "test-00000.parquet").unlink()
    with pytest.raises(InputError, match=f"{re.escape(str(folder))} has no test-\\*.parquet"):
        parquet.find(folder)


def test_a_folder_without_parquet_has_nothing(tmp_path):
    assert parquet.find(tmp_path) is None
    assert parquet.find(tmp_path / "nowhere") is None


@pytest.mark.parametrize(("name", "column"), [("mnist", "image"), ("cifar10", "img")])
def test_rows_of_the_real_data_are_what_pillow_says(real_data, tmp_path, name, column):
    source = parquet.find(real_data / name)
    expected = {}
    for part, path in (("train", source.train[-1]), ("test", source.test[0])):
        rows = pq.read_table(path).slice(1000, 200)
        pq.write_table(rows, tmp_path / f"{part}-0.parquet")
        pictures = [Image.open(io.BytesIO(cell["bytes"])) for cell in rows[column].to_pylist()]
        expected[part] = np.stack([np.asarray(picture) for picture in pictures]), rows["label"].to_numpy()
    decoded = parquet.read(parquet.find(tmp_path))
    for part, images in (("train", decoded.train_images), ("test", decoded.test_images)):
        layout = images.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(layout.reshape(expected[part][0].shape), expected[part][0])
    assert decoded.train_labels.tolist() == expected["train"][1].tolist()
    assert decoded.test_labels.tolist() == expected["test"][1].tolist()
