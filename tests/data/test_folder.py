"""Folders of images. A file's content is its own name: nothing here decodes it."""

import os
import pickle
import random
import shutil
from contextlib import contextmanager

import pytest

from selftaught.data import folder
from selftaught.data.sources import open_source
from selftaught.errors import InputError

GOOD = ["cat/1.png", "cat/2.PNG", "dog/1.jpg", "dog/deep/er/2.webp", "dog/3.tiff"]


def fill(root, names=GOOD):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape"))
    return root


def contents(part):
    """The names that the files hold, with the label of each."""
    pictures, labels = part.pictures, part.labels.tolist()
    assert len(pictures) == len(labels)
    return [(pictures.read(i).decode(errors="surrogateescape"), labels[i]) for i in range(len(labels))]


def refusal(root):
    with pytest.raises(InputError) as caught:
        folder.collect(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_folder_per_class(tmp_path):
    found = folder.collect(fill(tmp_path))
    assert found.classes == ("cat", "dog")
    assert (found.test, found.size, found.notes) == (None, None, ())
    expected = [
        ("cat/1.png", 0),
        ("cat/2.PNG", 0),
        ("dog/1.jpg", 1),
        ("dog/3.tiff", 1),
        ("dog/deep/er/2.webp", 1),
    ]
    assert contents(found.train) == expected
    assert found.train.pictures.name(4) == str(tmp_path / "dog/deep/er/2.webp")
    assert found.train.labels.dtype.is_signed


@pytest.mark.parametrize("seed", range(3))
def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch, seed):
    fill(tmp_path, [f"{label}/{n}.png" for label in "cab" for n in range(4)])
    expected, key = contents(folder.collect(tmp_path).train), folder.collect(tmp_path).key
    scandir = os.scandir

    @contextmanager
    def shuffled(place):
        with scandir(place) as entries:
            yield random.Random(seed).sample(found := list(entries), len(found))

    monkeypatch.setattr(os, "scandir", shuffled)
    again = folder.collect(tmp_path)
    assert contents(again.train) == expected
    assert (again.classes, again.key) == (("a", "b", "c"), key)


@pytest.mark.parametrize(
    "names", [("train", "test"), ("Training", "TESTING"), ("train", "val"), ("train", "Valid")]
)
def test_parts(tmp_path, names):
    for name in names:
        fill(tmp_path, [f"{name}/{path}" for path in GOOD])
    found = folder.collect(tmp_path)
    assert found.classes == ("cat", "dog")
    for part, name in zip((found.train, found.test), names, strict=True):
        assert [path for path, _ in contents(part)][:2] == [f"{name}/cat/1.png", f"{name}/cat/2.PNG"]
        assert part.labels.tolist() == [0, 0, 1, 1, 1]
    assert any("validation part serves as the test part" in note for note in found.notes) == (
        "v" in names[1].lower()
    )


def test_validation_beside_test_is_not_used(tmp_path):
    for name in ("train", "test", "validation"):
        fill(tmp_path, [f"{name}/{path}" for path in GOOD])
    found = folder.collect(tmp_path)
    assert contents(found.test)[0][0].startswith("test/")
    assert [note for note in found.notes if "validation part" in note and "not used" in note]


def test_a_class_may_be_called_train(tmp_path):
    assert folder.collect(
        fill(tmp_path, [f"{c}/{n}.png" for c in ("bus", "train") for n in "12"])
    ).classes == (
        "bus",
        "train",
    )


def test_hidden_files_and_litter_are_skipped(tmp_path):
    litter = [
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "desktop.ini",
        "__MACOSX/cat/._1.png",
        ".git/x/y.png",
        "dog/.hidden/1.png",
    ]
    found = folder.collect(fill(tmp_path, [*GOOD, *litter]))
    assert (found.classes, len(found.train.labels)) == (("cat", "dog"), 5)
    [note] = found.notes
    assert note.startswith("not used, because they are no images: 6 files (")
    kinds = ["1 .DS_Store", "1 .db", "1 .ini", "1 __MACOSX/", "1 .git/", "1 .hidden/"]
    assert sorted(note.split("(")[1].rstrip(")").split(", ")) == sorted(kinds)


COMPANIONS = {
    "Picasa.ini": ".ini",
    "1.xml": ".xml",
    "ZbThumbnail.info": ".info",
    "desktop.ini": ".ini",
    ".DS_Store": ".DS_Store",
    "._1.png": "._*",
    "Thumbs.db": ".db",
    "1.txt": ".txt",
    "1.json": ".json",
    "IMG_1.AAE": ".aae",
    "1.xmp": ".xmp",
    "IMG_1.MOV": ".mov",
    "README": "without a suffix",
    "1.unheard-of": ".unheard-of",
}


@pytest.mark.parametrize("name", COMPANIONS)
def test_what_lies_beside_pictures_does_not_stop_a_run(tmp_path, name):
    found = folder.collect(fill(tmp_path, [*GOOD, f"cat/{name}", f"dog/deep/{name}", name]))
    assert (found.classes, len(found.train.labels)) == (("cat", "dog"), 5)
    notes = [f"not used, because they are no images: 2 files (2 {COMPANIONS[name]})"]
    if name.startswith(".") or name in ("desktop.ini", "Thumbs.db"):
        notes = [f"not used, because they are no images: 3 files (3 {COMPANIONS[name]})"]
    else:
        notes.insert(0, f"not used, because outside the classes' folders: {name}")
    assert found.notes == tuple(notes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1", b"\xff\xd8\xff\xe0", "is a JPEG picture without the suffix of one: rename it (.jpeg)"),
        ("1.bak", b"\x89PNG\r\n\x1a\n", "is a PNG picture without the suffix of one: rename it (.png)"),
        ("1.part", b"RIFF1234WEBPVP8 ", "is a WebP picture"),
        ("1.HEIC", b"x", "is not an image that can be read (.heic): convert it"),
        ("1.eps", b"x", "is not an image that can be read (.eps): convert it"),
        ("1.CR2", b"x", "is not an image that can be read (.cr2): convert it"),
    ],
)
def test_what_should_be_a_picture_and_is_not_read_is_reported(tmp_path, name, content, words):
    (fill(tmp_path) / "cat" / name).write_bytes(content)
    assert f"cat/{name} {words}" in refusal(tmp_path)


def test_sound_is_no_picture_although_it_begins_like_webp(tmp_path):
    (fill(tmp_path) / "cat" / "1.wav").write_bytes(b"RIFF1234WAVEfmt ")
    assert "1 .wav" in folder.collect(tmp_path).notes[0]


def test_what_lies_beside_the_classes_is_told(tmp_path):
    found = folder.collect(fill(tmp_path, [*GOOD, "README.md"]))
    assert len(found.train.labels) == 5
    assert found.notes == ("not used, because outside the classes' folders: README.md",)
    fill(tmp_path / "divided", [f"{part}/{name}" for part in ("train", "test") for name in GOOD])
    fill(tmp_path / "divided", ["LICENSE", "test/index.html"])
    [note] = folder.collect(tmp_path / "divided").notes
    assert note == "not used, because outside the classes' folders: LICENSE, index.html"


REFUSALS = {
    "empty": ([], ["no images", "sub-folder"]),
    "no sub-folders": (["1.png", "2.png"], ["images, but no sub-folders", "CSV"]),
    "no sub-folders in a part": (
        ["train/1.png", "test/1.png"],
        ["data/train holds images, but no sub-folders"],
    ),
    "one class": (["cat/1.png", "cat/2.png"], ["one class only ('cat')", "at least two"]),
    "one image": ([*GOOD, "emu/1.png"], ["'emu'", "only one image", "add"]),
    "not decoded by Pillow": ([*GOOD, "cat/1.eps"], ["cat/1.eps", "not an image"]),
    "of no class": ([*GOOD, "lost.png"], ["lost.png", "no class", "move it"]),
    "of no part": (
        [f"{p}/{c}/1.png" for p in ("train", "test") for c in "ab"] + ["lost.png"],
        ["lost.png", "move it"],
    ),
    "only in test": (
        ["train/a/1.png", "train/b/1.png", *[f"test/{c}/1.png" for c in "abc"]],
        ["'c'", "training"],
    ),
    "only in train": (
        ["test/a/1.png", "test/b/1.png", *[f"train/{c}/1.png" for c in "abc"]],
        ["'c'", "test part"],
    ),
    "no training part": (["test/a/1.png", "test/b/1.png"], ["no training part"]),
    "two for one part": (
        [f"{p}/{c}/1.png" for p in ("train", "Training", "test") for c in "ab"],
        ["Training", "train"],
    ),
    "more than parts": (
        [f"{p}/{c}/1.png" for p in ("train", "test", "extra") for c in "ab"],
        ["extra", "elsewhere"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(tmp_path, case):
    names, words = REFUSALS[case]
    message = refusal(fill(tmp_path / "data", names) if names else tmp_path)
    assert all(word in message for word in words), message


def test_an_empty_class_is_named(tmp_path):
    (fill(tmp_path) / "emu" / "deep").mkdir(parents=True)
    message = refusal(tmp_path)
    assert f"{tmp_path / 'emu'} has no images" in message
    assert "remove" in message


def test_an_empty_file_is_named(tmp_path):
    (fill(tmp_path) / "cat" / "0.png").touch()
    assert refusal(tmp_path) == f"{tmp_path / 'cat/0.png'} is empty (0 bytes): replace or remove it"


def test_what_cannot_be_read_like_a_file_is_named(tmp_path):
    os.mkfifo(fill(tmp_path) / "cat" / "0.png")
    assert "cat/0.png is not a regular file" in refusal(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    scandir = os.scandir

    def guarded(place):
        if str(place).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    message = refusal(fill(tmp_path))
    assert "dog/deep cannot be read (Permission denied)" in message


def test_links_within_the_folder_are_followed(tmp_path):
    fill(tmp_path, GOOD)
    (tmp_path / "cat" / "more.png").symlink_to("1.png")
    (tmp_path / "emu").symlink_to("dog")
    found = folder.collect(tmp_path)
    assert found.classes == ("cat", "dog", "emu")
    assert contents(found.train)[2] == ("cat/1.png", 0)
    assert [name for name, label in contents(found.train) if label == 2] == [
        "dog/1.jpg",
        "dog/3.tiff",
        "dog/deep/er/2.webp",
    ]


@pytest.mark.parametrize("link", ["cat/0.png", "cat/others", "emu", "dog/deep/0.png"])
def test_links_that_leave_the_folder_are_refused(tmp_path, link):
    fill(tmp_path / "data")
    outside = fill(tmp_path / "outside", ["1.png", "2.png"])
    (tmp_path / "data" / link).symlink_to(outside / "1.png" if link.endswith("png") else outside)
    message = refusal(tmp_path / "data")
    assert f"{link} is a link that leaves" in message
    assert "copy" in message


def test_a_part_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    fill(tmp_path / "data", [f"train/{name}" for name in GOOD])
    (tmp_path / "data" / "test").symlink_to(fill(tmp_path / "outside"))
    assert "data/test is a link that leaves" in refusal(tmp_path / "data")


def test_the_folder_itself_may_be_a_link(tmp_path):
    fill(tmp_path / "data")
    (tmp_path / "link").symlink_to("data")
    assert len(folder.collect(tmp_path / "link").train.labels) == 5


@pytest.mark.parametrize(
    ("links", "word"),
    [
        ({"cat/gone.png": "nothing.png"}, "cat/gone.png cannot be read"),
        ({"cat/self.png": "self.png"}, "cat/self.png cannot be read"),
        ({"cat/up": ".."}, "cat/up is a link that leads in a circle"),
        ({"cat/x": "../dog", "dog/y": "../cat"}, "is a link that leads in a circle"),
    ],
)
def test_links_that_lead_nowhere_are_refused(tmp_path, links, word):
    fill(tmp_path)
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert word in refusal(tmp_path)


def test_names_that_are_not_unicode(tmp_path):
    cafe = os.fsdecode(b"caf\xe9")
    fill(
        tmp_path, [f"{cafe}/{os.fsdecode(bytes([0xE9, n]))}.png" for n in b"12"] + ["tea/1.png", "tea/2.png"]
    )
    found = folder.collect(tmp_path)
    assert found.classes == ("caf\ufffd", "tea")
    assert found.train.pictures.name(0).encode().endswith(b".png")
    assert contents(found.train)[0][0].startswith(cafe)
    (tmp_path / cafe / "line\nbreak.heic").touch()
    assert "line\ufffdbreak.heic is not an image" in refusal(tmp_path)


def test_accents_are_the_same_however_they_are_written(tmp_path):
    fill(tmp_path, ["train/caf\u00e9/1.png", "train/tea/1.png", "test/cafe\u0301/1.png", "test/tea/1.png"])
    assert folder.collect(tmp_path).classes == ("caf\u00e9", "tea")


def rewrite(root):
    (root / "cat/1.png").write_bytes(b"other content, other length")


def same_length(root):
    (root / "cat/1.png").write_bytes(b"cat/9.png")


def replaced_with_the_old_time(root):
    before = (root / "cat/1.png").stat()
    (root / "cat/1.png").write_bytes(b"cat/9.png")
    os.utime(root / "cat/1.png", ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        same_length,
        replaced_with_the_old_time,
        lambda root: (root / "cat/1.png").rename(root / "cat/0.png"),
        lambda root: (root / "cat/1.png").unlink(),
        lambda root: shutil.copy(root / "cat/1.png", root / "cat/3.png"),
        lambda root: (root / "cat/1.png").rename(root / "dog/0.png"),
        lambda root: (root / "cat").rename(root / "kitten"),
    ],
)
def test_the_key_follows_every_change(tmp_path, change):
    fill(tmp_path, [*GOOD, "cat/4.png"])
    before = folder.collect(tmp_path).key
    assert folder.collect(tmp_path).key == before
    change(tmp_path)
    after = folder.collect(tmp_path).key
    assert after != before
    assert folder.collect(tmp_path).key == after


def test_masks_beside_their_images_are_left_aside(tmp_path):
    masks = ["cat/1 (1)_mask.png", "cat/1 (1)_mask_1.png", "cat/2_segmentation.jpg", "dog/deep/3-Seg.png"]
    masks += ["dog/4_label.png"]
    kept = ["cat/1 (1).png", "cat/2.png", "cat/_mask.png", "cat/9_mask.png", "dog/4.jpg", "dog/deep/3.png"]
    found = folder.collect(fill(tmp_path, masks + kept))
    assert {name for name, _ in contents(found.train)} == set(kept)
    note = "not used, because they describe the images of the same name beside: 5 images (such as 1 (1)_mask.png)"
    assert found.notes == (note,)


@pytest.mark.parametrize(
    "name", ["metadata.jsonl", "train/metadata.jsonl", "Labels.XLSX", "images/labels.xls"]
)
def test_a_table_of_a_kind_that_is_not_read_is_told(tmp_path, name):
    fill(tmp_path, [name, "images/1.png", "images/2.png"])
    advice = f"{tmp_path / name} is not read: if it holds the labels, save it as CSV"
    assert refusal(tmp_path).endswith(f"; {advice}")


def test_a_table_that_is_not_read_is_told_beside_classes(tmp_path):
    found = folder.collect(fill(tmp_path, [*GOOD, "metadata.jsonl"]))
    assert f"{tmp_path / 'metadata.jsonl'} is not read: if it holds the labels, save it as CSV" in found.notes


def test_the_key_ignores_what_is_not_used(tmp_path, monkeypatch):
    before = folder.collect(fill(tmp_path)).key
    fill(tmp_path, ["README.md", "cat/.DS_Store"])
    monkeypatch.chdir(tmp_path.parent)
    assert open_source(f"./{tmp_path.name}").key == before


def test_pictures_can_be_pickled(tmp_path):
    pictures = folder.collect(fill(tmp_path)).train.pictures
    again = pickle.loads(pickle.dumps(pictures))
    assert [again.read(i) for i in range(len(again))] == [pictures.read(i) for i in range(len(pictures))]


def test_a_file_that_vanishes_is_named(tmp_path):
    pictures = folder.collect(fill(tmp_path)).train.pictures
    (tmp_path / "cat/1.png").unlink()
    with pytest.raises(InputError, match=r"cat/1.png cannot be read \(No such file"):
        pictures.read(0)


def test_everything_wrong_with_the_files_is_told_at_once(tmp_path):
    for label in ("a", "b", "c"):
        (tmp_path / label).mkdir()
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "1.heic").write_text("mine")
    (tmp_path / "b" / "zero.jpg").touch()
    with pytest.raises(InputError) as refusal:
        folder.collect(tmp_path)
    told = str(refusal.value).split("; ")
    assert [part.split(" ")[0].removeprefix(f"{tmp_path}/") for part in told] == [
        "a/1.heic",
        "b/zero.jpg",
        "c",
    ]
