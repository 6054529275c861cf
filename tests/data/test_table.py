"""Tables of labels. A file's content is its own name: nothing here decodes it."""

import os
import pickle

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from selftaught.data import table
from selftaught.data.sources import open_source
from selftaught.errors import InputError
from tests.data.test_folder import contents, fill

IMAGES = ["1.png", "2.png", "3.jpg", "4.jpg"]
LINES = ["file,label", "1.png,cat", "2.png,dog", "3.jpg,cat", "4.jpg,dog"]
LABELLED = [("1.png", 0), ("2.png", 1), ("3.jpg", 0), ("4.jpg", 1)]


def write(path, lines=LINES, encoding="utf-8", end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding, errors="surrogateescape"))
    return path


def refusal(data):
    with pytest.raises(InputError) as caught:
        open_source(str(data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_beside_its_images(tmp_path):
    fill(tmp_path, [*IMAGES, "5.png"])
    found = open_source(str(write(tmp_path / "labels.csv")))
    assert (found.classes, found.test, found.notes) == (("cat", "dog"), None, ())
    assert contents(found.train) == LABELLED
    assert found.train.pictures.name(2) == str(tmp_path / "3.jpg")


@pytest.mark.parametrize(
    ("places", "where", "data"),
    [
        ("", "labels.csv", ""),
        ("", "metadata.tsv", ""),
        ("images/", "labels.csv", ""),
        ("images/", "images.csv", "images"),
        ("images/", "images.csv", "images.csv"),
        ("images/", "other.csv", "other.csv"),
        ("deep/images/", "deep/images.csv", "deep"),
    ],
)
def test_where_a_table_and_its_images_may_lie(tmp_path, places, where, data):
    fill(tmp_path, [places + name for name in IMAGES])
    write(tmp_path / where, [line.replace(",", "\t") for line in LINES] if where.endswith("tsv") else LINES)
    found = open_source(str(tmp_path / data))
    assert contents(found.train) == [(places + name, label) for name, label in LABELLED]


def test_a_table_beside_a_folder_that_is_named_from_within(tmp_path, monkeypatch):
    fill(tmp_path / "images", IMAGES)
    write(tmp_path / "images.csv")
    monkeypatch.chdir(tmp_path)
    assert contents(open_source("images").train) == LABELLED
    assert contents(open_source("./images/").train) == LABELLED


def test_names_relative_to_the_table_win(tmp_path):
    fill(tmp_path, [*IMAGES, *(f"labels/{name}" for name in IMAGES)])
    assert contents(open_source(str(write(tmp_path / "labels.csv"))).train) == LABELLED


@pytest.mark.parametrize(
    "name", ["File", "filename", "file name", "File_Name", "image", "path", "ID", " image-id "]
)
@pytest.mark.parametrize("label", ["label", "Class", "category", "target"])
def test_columns_have_usual_names(tmp_path, name, label):
    fill(tmp_path, IMAGES)
    lines = [f"width,{label},{name}", *(f"7,{b},{a}" for a, b in (line.split(",") for line in LINES[1:]))]
    assert contents(open_source(str(write(tmp_path / "labels.csv", lines))).train) == LABELLED


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects(tmp_path, delimiter, encoding, end):
    fill(tmp_path, IMAGES)
    lines = [line.replace(",", delimiter) for line in LINES]
    found = open_source(str(write(tmp_path / "labels.csv", [*lines, ""], encoding, end)))
    assert contents(found.train) == LABELLED


def test_quotes_and_spaces(tmp_path):
    fill(tmp_path, ["a, b.png", *IMAGES])
    lines = ["file,label", '"a, b.png", "big cat"', "1.png, big cat ", " 2.png,dog", "3.jpg,dog"]
    found = open_source(str(write(tmp_path / "labels.csv", lines)))
    assert contents(found.train)[0] == ("a, b.png", 0)
    assert (found.classes, found.train.labels.tolist()) == (("big cat", "dog"), [0, 0, 1, 1])


@pytest.mark.parametrize("name", ["dataset", "Train/Test", "group"])
def test_a_column_of_nothing_but_parts_divides_whatever_its_name(tmp_path, name):
    fill(tmp_path, IMAGES)
    column = [name, "train", "Train", "test", "Test"]
    lines = [f"{a},{b}" for a, b in zip(LINES, column, strict=True)]
    found = open_source(str(write(tmp_path / "a.csv", lines)))
    assert (contents(found.train), contents(found.test)) == (LABELLED[:2], LABELLED[2:])
    assert f"the column {name!r} divides the images" in found.notes


@pytest.mark.parametrize(
    ("column", "note"),
    [
        (["group", "train", "train", "bus", "test"], None),
        (["group", "train", "train", "train", "train"], None),
        (["group", "test", "val", "test", "val"], "none of its values (test, val) is train"),
        (["test", "0", "1", "0", "1"], "call it is_test if it should"),
        (["ill", "0", "1", "0", "1"], None),
    ],
)
def test_another_column_does_not(tmp_path, column, note):
    fill(tmp_path, IMAGES)
    lines = [f"{a},{b}" for a, b in zip(LINES, column, strict=True)]
    found = open_source(str(write(tmp_path / "a.csv", lines)))
    assert (contents(found.train), found.test) == (LABELLED, None)
    expected = note and (f"the column {column[0]!r} does not divide the images: {note}",)
    assert found.notes == (expected or ())


def test_of_two_columns_of_parts_one_divides(tmp_path):
    fill(tmp_path, IMAGES)
    column = ["group,split", "train,train", "test,train", "train,test", "test,test"]
    lines = [f"{a},{b}" for a, b in zip(LINES, column, strict=True)]
    found = open_source(str(write(tmp_path / "a.csv", lines)))
    assert contents(found.test) == LABELLED[2:]
    assert found.notes == ("the column 'group' does not divide the images: 'split' does",)


def test_the_split_column_divides(tmp_path):
    fill(tmp_path, IMAGES)
    parts = ["Split", "train", "train", "TEST", "test"]
    found = open_source(
        str(write(tmp_path / "a.csv", [f"{a},{b}" for a, b in zip(LINES, parts, strict=True)]))
    )
    assert contents(found.train) == LABELLED[:2]
    assert contents(found.test) == LABELLED[2:]


def test_validation_serves_as_test(tmp_path):
    fill(tmp_path, IMAGES)
    parts = ["split", "train", "train", "val", "val"]
    found = open_source(
        str(write(tmp_path / "a.csv", [f"{a},{b}" for a, b in zip(LINES, parts, strict=True)]))
    )
    assert contents(found.test) == LABELLED[2:]
    assert any("validation part serves" in note for note in found.notes)


def test_a_suffix_may_be_missing(tmp_path):
    fill(tmp_path, [f"images/{name}" for name in ("000.a.jpg", "1.png", "2.png", "3.jpg")])
    lines = ["id,breed,label", "000.a,x,cat", "1,x,cat", "2,x,dog", "3,x,dog"]
    found = open_source(str(write(tmp_path / "labels.csv", lines)))
    assert [name for name, _ in contents(found.train)] == [
        "images/000.a.jpg",
        "images/1.png",
        "images/2.png",
        "images/3.jpg",
    ]


def test_names_written_on_windows(tmp_path):
    fill(tmp_path, [f"images/{name}" for name in IMAGES])
    lines = [LINES[0], *(f"images\\{line}" for line in LINES[1:])]
    found = open_source(str(write(tmp_path / "labels.csv", lines)))
    assert contents(found.train)[0] == ("images/1.png", 0)


def test_images_without_a_label_are_told(tmp_path):
    fill(tmp_path, [*IMAGES, "5.png", "6.png", "notes.txt"])
    write(tmp_path / "labels.csv")
    notes = " ".join(open_source(str(tmp_path)).notes)
    assert "2 images" in notes
    assert "labels.csv" in notes


def test_a_table_beside_class_folders(tmp_path):
    """One that says what is what decides; any other is told to be unused."""
    fill(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    write(tmp_path / "sizes.csv", ["file,width", "a/1.png,3"])
    found = open_source(str(tmp_path))
    assert found.classes == ("a", "b")
    assert any("sizes.csv" in note for note in found.notes)
    write(tmp_path / "sizes.csv", ["file,label", "a/1.png,x", "b/1.png,x", "a/2.png,y", "b/2.png,y"])
    assert open_source(str(tmp_path)).classes == ("x", "y")


def divided(tmp_path, column, values, label="label"):
    """The collection of a table with another column."""
    fill(tmp_path, IMAGES)
    lines = [f"{a},{b}" for a, b in zip([f"file,{label}", *LINES[1:]], [column, *values], strict=True)]
    return open_source(str(write(tmp_path / "a.csv", lines)))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("split", ["training", "training", "testing", "testing"]),
        ("Split", ["train_set", "train_set", "test_set", "test_set"]),
        ("set", ["train", "train", "test", "test"]),
        ("subset", ["Train", "Train", "Val", "Val"]),
        ("partition", ["train", "train", "valid", "valid"]),
        ("phase", ["train", "train", "dev", "dev"]),
        ("fold", ["train", "train", "test", "test"]),
        ("is_test", ["0", "0", "1", "1"]),
        ("is test", ["False", "False", "True", "TRUE"]),
        ("isTest", ["no", "no", "yes", "yes"]),
        ("is_train", ["1", "True", "0", "false"]),
        ("is_valid", ["False", "False", "True", "True"]),
    ],
)
def test_columns_that_divide(tmp_path, column, values):
    found = divided(tmp_path, column, values)
    assert contents(found.train) == LABELLED[:2]
    assert contents(found.test) == LABELLED[2:]
    told = f"the column {column!r} divides the images" in found.notes
    assert told == (column.lower() != "split")


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("fold", ["0", "1", "0", "1"], "0, 1"),
        ("set", ["winter", "summer", "winter", "summer"], "summer, winter"),
        ("partition", ["0", "0", "1", "2"], "0, 1, 2"),
        ("is_test", ["?", "?", "?", "?"], "?"),
    ],
)
def test_columns_that_might_divide_and_do_not_are_told(tmp_path, column, values, said):
    found = divided(tmp_path, column, values)
    assert (contents(found.train), found.test) == (LABELLED, None)
    assert found.notes == (
        f"the column {column!r} does not divide the images: its values ({said}) name no parts",
    )


def test_one_column_divides_and_the_others_are_told(tmp_path):
    found = divided(
        tmp_path, "is_test,split,fold", ["1,train,0", "0,train,1", "0,test,0", "1,test,1"], label="Class"
    )
    assert contents(found.train) == LABELLED[:2]
    assert found.notes == (
        "the column 'fold' does not divide the images: its values (0, 1) name no parts",
        "the column 'is_test' does not divide the images: 'split' does",
    )


def test_another_column_of_labels_is_told(tmp_path):
    found = divided(tmp_path, "Class", ["1", "2", "1", "2"])
    assert (found.classes, found.notes) == (
        ("cat", "dog"),
        ("the labels are those of the column 'label', not of 'Class'",),
    )


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("set", ["train", "train", "test", "later"], "line 5: unknown set 'later': write train, test or val"),
        ("is_test", ["0", "0", "1", "2"], "line 5: unknown is_test '2': write yes or no"),
        ("set", ["train", "train", "test", ""], "line 5: no set: add it"),
        ("split", ["1", "1", "2", "2"], "line 2: unknown split '1'"),
        ("split", ["train_a", "train_b", "test_a", "test_b"], "line 2: unknown split 'train_a'"),
        ("set", ["test", "test", "test", "test"], "no training part"),
    ],
)
def test_columns_that_divide_by_half_are_refused(tmp_path, column, values, words):
    with pytest.raises(InputError) as caught:
        divided(tmp_path, column, values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name", ["labels.csv", "Labels.CSV", "label.tsv", "labels.txt", "annotations.txt", "labels"]
)
@pytest.mark.parametrize("asked", ["", "NAME"])
def test_names_of_tables(tmp_path, name, asked):
    fill(tmp_path / "images", IMAGES)
    lines = [line.replace(",", "\t" if name.endswith("tsv") else ",") for line in LINES]
    write(tmp_path / name, [lines[0].replace("label", "labels"), *lines[1:]])
    found = open_source(str(tmp_path / asked.replace("NAME", name)))
    assert contents(found.train) == [(name, label) for name, label in LABELLED]


def test_a_text_file_with_spaces_between_its_columns(tmp_path):
    fill(tmp_path, IMAGES)
    write(tmp_path / "labels.txt", [line.replace(",", " ") for line in LINES])
    assert contents(open_source(str(tmp_path)).train) == LABELLED


def test_a_list_of_classes_is_no_table(tmp_path):
    fill(tmp_path, ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"])
    write(tmp_path / "labels.txt", ["cat", "dog"])
    found = open_source(str(tmp_path))
    assert found.classes == ("cat", "dog")
    assert found.notes == ("not used, because outside the classes' folders: labels.txt",)


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("000.JPG", "000.jpg"),
        ("000.jpg", "000.JPG"),
        ("IMG_000", "img_000.jpg"),
        ("Images/000.JPG", "images/000.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("ABSOLUTE/000.jpg", "000.jpg"),
        ("ABSOLUTE/images/000.jpg", "images/000.jpg"),
        ("REAL/images/000.JPG", "images/000.jpg"),
        ("./images//000.jpg", "images/000.jpg"),
    ],
)
def test_however_names_are_written(tmp_path, monkeypatch, written, on_disk):
    root = tmp_path / "data"
    fill(root, [*IMAGES, on_disk])
    (tmp_path / "link").symlink_to("data")
    written = written.replace("ABSOLUTE", str(tmp_path / "link")).replace("REAL", str(root))
    write(root / "labels.csv", [*LINES, f"{written},cat"])
    found = open_source(str(tmp_path / "link"))
    assert contents(found.train) == [*LABELLED, (on_disk, 0)]
    monkeypatch.chdir(tmp_path)
    assert contents(open_source("link").train) == [*LABELLED, (on_disk, 0)]


def test_capitals_decide_where_two_names_differ_by_nothing_else(tmp_path):
    fill(tmp_path, ["a.png", "A.png", "b.png", "c.png"])
    lines = ["file,label", "a.png,cat", "A,cat", "b.png,dog", "c.png,dog"]
    assert [n for n, _ in contents(open_source(str(write(tmp_path / "l.csv", lines))).train)][:2] == [
        "a.png",
        "A.png",
    ]
    write(tmp_path / "l.csv", [*lines, "A.PNG,cat"])
    assert "line 6: 'A.PNG' may be any of A.png, a.png" in refusal(tmp_path / "l.csv")


@pytest.mark.parametrize(
    "places", [("train", "test"), ("train_images", "test_images"), ("images/train", "images/test"), ("", "")]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_tables_of_a_contest(tmp_path, places, labelled):
    """The training table counts, and the test table if it has labels; made-up answers never do."""
    learned, tested = (f"{place}/".lstrip("/") for place in places)
    others = ["11.png", "12.png"]
    fill(tmp_path, [*(learned + name for name in IMAGES), *(tested + name for name in others)])
    write(tmp_path / "train.csv")
    test = [f"{name},{label}" for name, label in zip(others, ["cat", "dog"], strict=True)]
    write(tmp_path / "test.csv", ["id,label", *test] if labelled else ["id", *others])
    write(tmp_path / "sample_submission.csv", ["id,label", *(f"{name},cat" for name in others)])
    found = open_source(str(tmp_path))
    assert contents(found.train) == [(learned + name, label) for name, label in LABELLED]
    notes = " ".join(found.notes)
    if labelled:
        assert contents(found.test) == [(tested + "11.png", 0), (tested + "12.png", 1)]
        assert "without labels of images: sample_submission.csv" in notes
    else:
        assert found.test is None
        assert "without labels of images: sample_submission.csv, test.csv" in notes
        assert "2 images in" in notes


def test_names_that_both_parts_of_a_contest_have(tmp_path):
    fill(tmp_path, [f"{place}/{name}" for place in ("train_images", "test_images") for name in IMAGES])
    write(tmp_path / "train.csv")
    assert contents(open_source(str(tmp_path)).train) == [
        (f"train_images/{n}", label) for n, label in LABELLED
    ]
    write(tmp_path / "labels.csv")
    (tmp_path / "train.csv").unlink()
    assert "may be any of" in refusal(tmp_path)


def test_the_part_of_a_line_tells_which_of_two_files_is_meant(tmp_path):
    fill(tmp_path, [f"images/{place}/{name}" for place in ("train", "test") for name in IMAGES[:2]])
    lines = [f"{name},{part}" for part in ("train", "test") for name in ("1.png,cat", "2.png,dog")]
    found = open_source(str(write(tmp_path / "labels.csv", ["file,label,split", *lines])))
    assert contents(found.train) == [("images/train/1.png", 0), ("images/train/2.png", 1)]
    assert contents(found.test) == [("images/test/1.png", 0), ("images/test/2.png", 1)]


def test_made_up_answers_are_no_labels(tmp_path):
    fill(tmp_path, [f"train/{label}/{n}.png" for label in ("cat", "dog") for n in "12"])
    fill(tmp_path, ["test/8.png", "test/9.png"])
    write(tmp_path / "sample_submission.csv", ["file,label", "8.png,cat", "9.png,cat"])
    found = open_source(str(tmp_path))
    assert (found.classes, len(found.train.labels), found.test) == (("cat", "dog"), 4, None)


def test_labels_of_the_test_part_alone_are_no_training_data(tmp_path):
    fill(tmp_path, [f"train/{label}/{n}.png" for label in ("cat", "dog") for n in "12"])
    fill(tmp_path, [f"test/{name}" for name in IMAGES])
    write(tmp_path / "test.csv")
    assert "no training part" in refusal(tmp_path)


def test_an_image_in_two_tables_is_refused(tmp_path):
    fill(tmp_path, IMAGES)
    write(tmp_path / "train.csv")
    write(tmp_path / "val.csv", LINES[:2])
    assert "val.csv, line 2: '1.png' is named twice, before in " in refusal(tmp_path)


def test_images_in_several_folders(tmp_path):
    fill(tmp_path, ["part_1/1.png", "part_1/2.png", "deep/part_2/3.jpg", "deep/part_2/4.jpg"])
    write(tmp_path / "metadata.csv", ["image_id,label", "1,cat", "2,dog", "3,cat", "4,dog"])
    assert [name for name, _ in contents(open_source(str(tmp_path)).train)] == [
        "part_1/1.png",
        "part_1/2.png",
        "deep/part_2/3.jpg",
        "deep/part_2/4.jpg",
    ]


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv"])
@pytest.mark.parametrize("beside", [IMAGES, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]])
def test_a_table_that_never_ends_is_refused(tmp_path, name, beside):
    """A pipe would be waited for: it is not opened."""
    fill(tmp_path, beside)
    os.mkfifo(tmp_path / name)
    assert f"{name} is not a regular file: remove it" in refusal(tmp_path)
    assert f"{name} is not a regular file: remove it" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["labels.txt", "labels"])
def test_a_pipe_without_the_suffix_of_a_table_is_none(tmp_path, name):
    fill(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    os.mkfifo(tmp_path / name)
    assert open_source(str(tmp_path)).notes == (f"not used, because outside the classes' folders: {name}",)
    assert "is neither a folder nor a table" in refusal(tmp_path / name)


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "zero.csv is not a regular file" in refusal(tmp_path / "zero.csv")


def test_labels_that_are_numbers_are_in_the_order_of_their_values(tmp_path):
    fill(tmp_path, IMAGES)
    lines = ["file,label", "1.png,10", "2.png,9", "3.jpg,10", "4.jpg,9"]
    assert open_source(str(write(tmp_path / "labels.csv", lines))).classes == ("9", "10")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "../secret.csv"])
def test_a_table_that_is_a_link_out_of_the_folder_is_not_read(tmp_path, target):
    write(tmp_path / "secret.csv", ["secret,header", "1,2"])
    fill(tmp_path / "data", IMAGES)
    (tmp_path / "data" / "labels.csv").symlink_to(target)
    message = refusal(tmp_path / "data")
    assert "labels.csv is a link that leaves the folder" in message
    assert "secret,header" not in message
    assert "root" not in message.replace(str(tmp_path), "")


def test_a_line_without_end_is_refused(tmp_path):
    fill(tmp_path, IMAGES)
    with open(write(tmp_path / "labels.csv"), "r+b") as file:
        file.truncate(2**33)  # of zeros, that take no room on the disk
    assert "labels.csv cannot be read as a table" in refusal(tmp_path)


def test_labels_are_shown_as_a_terminal_may_show_them(tmp_path):
    fill(tmp_path, IMAGES)
    lines = ["file,label", "1.png,caf\u00e9", "2.png,cafe\u0301", "3.jpg,a\x1b[31mb", "4.jpg,a\x1b[31mb"]
    found = open_source(str(write(tmp_path / "labels.csv", lines)))
    assert found.classes == ("a\ufffd[31mb", "caf\u00e9")


BAD_LINES = {
    "missing file": ("9.png,cat", ["line 6", "'9.png'", "remove the line"]),
    "no label": ("5.png,", ["line 6", "no label"]),
    "label of spaces": ("5.png,  ", ["line 6", "no label"]),
    "short line": ("5.png", ["line 6", "no label"]),
    "no file": (",cat", ["line 6", "no file"]),
    "twice": ("1.png,cat", ["line 6", "'1.png'", "line 2"]),
    "twice, otherwise written": ("./1.png,cat", ["line 6", "'./1.png'", "line 2"]),
    "twice, without suffix": ("1,cat", ["line 6", "'1'", "line 2"]),
    "up": ("../x.png,cat", ["line 6", "'../x.png'", "cannot leave"]),
    "up within": ("a/../../x.png,cat", ["line 6", "cannot leave"]),
    "up on Windows": ("..\\x.png,cat", ["line 6", "cannot leave"]),
    "absolute": ("/etc/x.png,cat", ["line 6", "'/etc/x.png'", "cannot leave"]),
    "absolute on Windows": ("C:\\x.png,cat", ["line 6", "cannot leave"]),
    "ambiguous": ("7,cat", ["line 6", "'7'", "7.jpg, 7.png"]),
    "no image": ("notes.txt,cat", ["notes.txt", "not an image"]),
    "empty file": ("empty.png,cat", ["empty.png", "0 bytes"]),
    "a folder": ("folder.png,cat", ["line 6", "'folder.png'"]),
    "a link out": ("link.png,cat", ["link.png", "leaves the folder"]),
    "a folder that links out": ("out/x.png,cat", ["out", "leaves the folder"]),
    "only one image": ("5.png,emu", ["'emu'", "only one image"]),
    "a strange name": ("a\0b.png,cat", ["labels.csv"]),
    "an endless name": ("x" * 5000 + ",cat", ["line 6"]),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_are_named(tmp_path, case):
    line, words = BAD_LINES[case]
    root = fill(tmp_path / "data", [*IMAGES, "5.png", "7.png", "7.jpg", "notes.txt"])
    (root / "empty.png").touch()
    (root / "folder.png").mkdir()
    outside = fill(tmp_path, ["x.png", "outside/x.png"])
    (root / "link.png").symlink_to(outside / "x.png")
    (root / "out").symlink_to(outside / "outside")
    message = refusal(write(root / "labels.csv", [*LINES, line]))
    assert all(word in message for word in ("labels.csv", *words)) or all(
        word in message for word in words
    ), message


def test_an_unknown_split_is_named(tmp_path):
    fill(tmp_path, IMAGES)
    write(tmp_path / "labels.csv", ["file,label,split", "1.png,cat,train", "2.png,dog,later"])
    assert "line 3: unknown split 'later'" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["labels.csv", "no column of files", "nothing"]),
        (["file,label"], ["labels.csv", "no rows"]),
        (["1.png,cat", "2.png,dog"], ["no column of files", "1.png, cat", "'file'"]),
        (["file,width", "1.png,3"], ["no column of labels", "file, width", "'label'"]),
        (["file,label", *(f"{name},cat" for name in IMAGES)], ["one class only", "'cat'"]),
        (["file,label,split", *(f"{name},{name},test" for name in IMAGES)], ["no training part"]),
        (["file,label", '"' + "x" * 200_000], ["labels.csv", "cannot be read as a table"]),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, lines, words):
    fill(tmp_path, IMAGES)
    write(tmp_path / "labels.csv", lines)
    message = refusal(tmp_path)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "content", ["file,label\ncafé.png,cat".encode("latin-1"), "file,label\n".encode("utf-16")]
)
def test_other_encodings_are_refused(tmp_path, content):
    fill(tmp_path, IMAGES)
    (tmp_path / "labels.csv").write_bytes(content)
    assert "save it as UTF-8" in refusal(tmp_path)


def test_several_tables(tmp_path):
    fill(tmp_path, IMAGES)
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv")
    message = refusal(tmp_path)
    assert "a.csv, b.csv" in message
    assert contents(open_source(str(tmp_path / "b.csv")).train) == LABELLED


def test_the_folder_itself_may_be_a_link(tmp_path):
    fill(tmp_path / "real", IMAGES)
    (tmp_path / "images").symlink_to("real")
    write(tmp_path / "images.csv")
    assert contents(open_source(str(tmp_path / "images")).train) == LABELLED


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root / "labels.csv", [*LINES[:3], "3.jpg,dog", "4.jpg,cat"]),
        lambda root: write(root / "labels.csv", [line.replace("dog", "wolf") for line in LINES]),
        lambda root: write(root / "labels.csv", [*LINES, "5.png,dog"]),
        lambda root: write(root / "labels.csv", [LINES[0], *LINES[:0:-1]]),
        lambda root: (root / "1.png").write_bytes(b"5.png"),
    ],
)
def test_the_key_follows_every_change(tmp_path, change):
    fill(tmp_path, [*IMAGES, "5.png"])
    write(tmp_path / "labels.csv", [*LINES[:2], *LINES[2:]])
    before = open_source(str(tmp_path)).key
    write(tmp_path / "labels.csv")  # The same labels again.
    assert open_source(str(tmp_path)).key == before
    change(tmp_path)
    assert open_source(str(tmp_path)).key != before


def test_pictures_can_be_pickled(tmp_path):
    fill(tmp_path, IMAGES)
    pictures = pickle.loads(pickle.dumps(open_source(str(write(tmp_path / "a.csv"))).train.pictures))
    assert [pictures.read(i).decode() for i in range(4)] == IMAGES


def test_file_names_that_are_not_unicode_do_not_disturb(tmp_path):
    fill(tmp_path, [*IMAGES, os.fsdecode(b"caf\xe9.png")])
    write(tmp_path / "labels.csv")
    assert contents(open_source(str(tmp_path)).train) == LABELLED


PIECES = ["..", "/", "\\", "secret", ".png", "names", ".", "1", "~", "\0", "C:", "\n", " "]


@settings(max_examples=50)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=30)))
def test_no_name_leads_out(tmp_path_factory, name):
    """Whatever a table says, it is one line of refusal or a file below its folder."""
    root = tmp_path_factory.getbasetemp() / "names"
    if not root.exists():
        fill(root.parent, ["secret.png"])
        fill(root, [*IMAGES, "5.png"])
    quoted = '"' + name.replace('"', '""') + '"'
    write(root / "labels.csv", [*LINES[:1], *LINES[2:], "5.png,cat", f"{quoted},cat"])
    try:
        pictures = table.collect(root / "labels.csv").train.pictures
    except InputError as error:
        message = str(error)
        event("refused")
    else:
        message = ""
        event("found")
        assert all(pictures.read(i).decode() in [*IMAGES, "5.png"] for i in range(len(pictures)))
    assert len(message.splitlines()) <= 1
