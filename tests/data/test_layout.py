"""What the sub-folders of a folder of images mean, as real collections have them."""

import pytest

from selftaught.data import folder
from selftaught.errors import InputError
from tests.data.test_folder import contents, fill

AB = ("a", "b")


def grid(*places, classes=AB, numbers="12"):
    """Two pictures of each class in each place: PLACE/CLASS/1.png."""
    return [f"{place}/{label}/{n}.png" for place in places for label in classes for n in numbers]


def flat(*places):
    """Pictures that lie in no folder of a class."""
    return [f"{place}/{n}.png" for place in places for n in "12"]


PARTS = {
    "ImageNet's": grid("train", "val"),
    "sets": grid("training_set", "test_set"),
    "data": grid("train_data", "test_data"),
    "capital": grid("Train_Images", "Test_Images"),
    "camels": grid("TrainImages", "TestImages"),
    "one word": grid("trainset", "testset"),
    "one word, two": grid("traindata", "testdata"),
    "numbered": grid("01_train", "02_test"),
    "years": grid("train2017", "val2017"),
    "of something": grid("pets-train", "pets-test"),
    "after something": grid("train pets", "test pets"),
    "upper case": grid("TRAIN", "TEST"),
    "Training and Testing": grid("Training", "Testing"),
    "below data": grid("data/train", "data/test"),
    "below two": grid("dataset/images/train", "dataset/images/test"),
    "images beside annotations": [*grid("images/train", "images/val"), "annotations/instances_train.json"],
    "images beside masks": [*grid("images/train", "images/val"), *grid("masks/train", "masks/val")],
    "Kaggle's doubled": grid("seg_train/seg_train", "seg_test/seg_test"),
    "doubled at random": grid("train/train", "test/images"),
    "within the classes": grid("a", "b", classes=("train", "test")),
    "within the classes, sets": grid("a", "b", classes=("training_set", "test_set")),
    "within the classes, below": grid("data/a", "data/b", classes=("Train", "Val")),
    "empty annotations beside": [*grid("train", "test"), "Annotations/train/a/1.xml"],
}


@pytest.mark.parametrize("case", PARTS)
def test_halves_are_not_classes(tmp_path, case):
    """Four training and four test images of two classes, whatever the folders are called."""
    found = folder.collect(fill(tmp_path / "data", PARTS[case]))
    assert found.classes == AB
    for part, names in ((found.train, "train trn"), (found.test, "test val")):
        assert [label for _, label in contents(part)] == [0, 0, 1, 1]
        assert all(any(name in path.lower() for name in names.split()) for path, _ in contents(part))
        assert not any("masks" in path for path, _ in contents(part))


UNLABELLED = {
    "Kaggle's Intel": [*grid("seg_train/seg_train", "seg_test/seg_test"), *flat("seg_pred/seg_pred")],
    "test without labels, valid with": [*grid("train", "valid"), *flat("test")],
    "doubled test without labels": [*grid("train", "valid"), *flat("test/test")],
    "test below images": [*grid("train", "valid"), *flat("test/images")],
}


@pytest.mark.parametrize("case", UNLABELLED)
def test_a_part_without_labels_is_left_aside_and_told(tmp_path, case):
    found = folder.collect(fill(tmp_path / "data", UNLABELLED[case]))
    assert (found.classes, found.train.labels.tolist(), found.test.labels.tolist()) == (
        AB,
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    )
    assert any(
        note.startswith("not used, because in no folder of a class: 2 images in ") for note in found.notes
    )


def test_training_images_with_a_test_part_that_has_no_labels(tmp_path):
    found = folder.collect(fill(tmp_path, [*grid("train"), *flat("test")]))
    assert (found.classes, len(found.train.labels), found.test) == (AB, 4, None)
    assert f"2 images in {tmp_path / 'test'}" in found.notes[0]


CLASSES = {
    "vehicles": (flat("train", "bus", "car"), ["bus", "car", "train"]),
    "a word among others": (flat("test_tube", "training_shoe"), ["test_tube", "training_shoe"]),
    "a word in a word": (flat("valley", "testament", "trainer"), ["testament", "trainer", "valley"]),
    "a fold": (flat("fold", "crease"), ["crease", "fold"]),
    "numbered": (flat("01_train", "02_bus", "03_car"), ["01_train", "02_bus", "03_car"]),
    "each with a part's name": (flat("cats_train", "dogs_train"), ["cats_train", "dogs_train"]),
    "predictions": (flat("unlabelled", "predictions"), ["predictions", "unlabelled"]),
    "masks on faces": (flat("mask", "no_mask"), ["mask", "no_mask"]),
    "below images": (flat("dataset/images/cat", "dataset/images/dog"), ["cat", "dog"]),
    "below a name": (flat("pets/cat", "pets/dog"), ["cat", "dog"]),
    "below one part": (flat("seg_train/cat", "seg_train/dog"), ["cat", "dog"]),
    "beside documents": ([*flat("cat", "dog"), "docs/paper.pdf", "annotations/1.xml"], ["cat", "dog"]),
    "of day and night": (
        grid("cat", "dog", "emu", classes=("day", "night")),
        ["cat", "dog", "emu"],
    ),
    "vehicles of several makes": (
        [
            f"{a}/{b}.png"
            for a in ("train/ice", "train/tgv", "bus/city", "bus/coach", "car/suv")
            for b in "12"
        ],
        ["bus", "car", "train"],
    ),
    "of different depth": ([*flat("cat/a", "cat/b", "dog")], ["cat", "dog"]),
    "each with images and masks": (grid("cat", "dog", classes=("images", "masks")), ["cat", "dog"]),
    "numbered as sets": (flat("set1", "set2"), ["set1", "set2"]),
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes(tmp_path, case):
    names, classes = CLASSES[case]
    found = folder.collect(fill(tmp_path / "data", names))
    assert (list(found.classes), found.test) == (classes, None)
    of_examples = [name for name in names if name.endswith(".png") and "masks" not in name]
    assert sorted(path for path, _ in contents(found.train)) == sorted(of_examples)


def test_what_is_left_aside_is_told(tmp_path):
    names = [*grid("images/train", "images/val"), *grid("masks/train"), "annotations/1.xml", "readme.txt"]
    notes = folder.collect(fill(tmp_path / "data", names)).notes
    assert f"not used, because without images: annotations in {tmp_path / 'data'}" in notes
    assert f"not used, because they describe the images beside them: masks in {tmp_path / 'data'}" in notes
    assert "not used, because outside the classes' folders: readme.txt" in notes
    notes = folder.collect(fill(tmp_path / "more", flat("pets/cat", "pets/dog"))).notes
    assert notes == (f"the classes are the sub-folders of {tmp_path / 'more/pets'}",)
    names = grid("cat", "dog", "emu", classes=("images", "masks"))
    notes = folder.collect(fill(tmp_path / "each", names)).notes
    assert notes == (
        f"not used, because they describe the images beside them: 6 images in "
        f"{tmp_path / 'each/cat/masks'}, {tmp_path / 'each/dog/masks'}, {tmp_path / 'each/emu/masks'}",
    )
    names = grid("cat", "dog", "emu", classes=("day", "night"))
    notes = folder.collect(fill(tmp_path / "alike", names)).notes
    where = tmp_path / "alike"
    assert notes[0].startswith(
        f"each class in {where} holds folders called day, night, whose images are taken"
    )
    notes = folder.collect(fill(tmp_path / "within", grid("a", "b", classes=("train", "test")))).notes
    assert notes == (f"each class in {tmp_path / 'within'} is divided into parts of its own",)


REFUSALS = {
    "folds": (
        grid("fold0", "fold1", "fold2"),
        ["folds (fold0, fold1, fold2)", "not classes", "one folder per"],
    ),
    "folds beside a test part": (grid("Fold_1", "Fold_2", "test"), ["folds", "Fold_1"]),
    "folds of the training part": (
        grid("train/fold1", "train/fold2", "test"),
        ["train is divided into folds"],
    ),
    "folds without classes": (flat("1st fold", "2nd fold"), ["folds"]),
    "batches": (grid("batch1", "batch2"), ["batch1, batch2", "called a, b", "put the images of each"]),
    "batches of parts": (grid("train/part_a", "train/part_b", "test"), ["part_a, part_b"]),
    "halves in another language": (grid("Apprentissage", "Essai"), ["Apprentissage, Essai", "called a, b"]),
    "domains": (grid("amazon/images", "dslr/images"), ["amazon, dslr", "called a, b"]),
    "domains that differ a little": ([*grid("amazon", "dslr"), *flat("dslr/c")], ["called a, b"]),
    "vehicles like parts": (grid("train", "bus", "car"), ["divided into train, but also has bus, car"]),
    "two divisions": (
        grid("train", "test", "pets_train", "pets_test"),
        ["divided more than once", "pets_test"],
    ),
    "parts for each class": (
        flat("cat_train", "cat_test", "dog_train", "dog_test"),
        ["divided more than once"],
    ),
    "a part and others": (grid("train", "extra"), ["divided into train, but also has extra: move", "rename"]),
    "parts and others": (
        [*grid("training_set", "test_set"), *flat("bonus")],
        ["divided into test_set, training_set, but also has bonus"],
    ),
    "parts without classes": (
        flat("pets_train", "pets_test"),
        ["pets_train holds images, but no sub-folders"],
    ),
    "YOLO's": (
        [*flat("images/train", "images/val"), "labels/train/1.txt"],
        ["images/train holds images, but no sub-folders"],
    ),
    "parts of parts": (grid("train/train", "train/val", "test"), ["train is itself divided into train, val"]),
    "some classes divided": (
        [*grid("a", classes=("train", "test")), *flat("b")],
        ["a is divided", "b is not"],
    ),
    "the same part twice": (grid("train1", "train2", "test"), ["two folders for one part: train1, train2"]),
    "only a test part": (grid("test_set"), ["no training part"]),
    "an empty part": ([*grid("train"), "test/1.unknown"], ["test has no images"]),
    "a class of other files": ([*flat("a", "b"), "c/1.part"], ["c has no images"]),
    "a picture above": ([*flat("images/a", "images/b"), "sample.png"], ["sample.png belongs to no class"]),
    "a class of HEIC": ([*flat("a", "b"), "c/1.heic"], ["c/1.heic", "convert"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_plain_is_refused(tmp_path, case):
    names, words = REFUSALS[case]
    with pytest.raises(InputError) as caught:
        folder.collect(fill(tmp_path / "data", names))
    assert len(str(caught.value).splitlines()) == 1
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_classes_that_are_numbers_are_in_the_order_of_their_values(tmp_path):
    names = [str(number) for number in range(12)]
    found = folder.collect(fill(tmp_path / "numbers", flat(*names)))
    assert list(found.classes) == names
    assert contents(found.train)[:4:2] == [("0/1.png", 0), ("1/1.png", 1)]
    assert dict(contents(found.train))["10/1.png"] == 10
    found = folder.collect(fill(tmp_path / "mixed", flat("10", "9", "x")))
    assert found.classes == ("10", "9", "x")


def test_classes_that_are_themselves_divided_are_told(tmp_path):
    names = [f"{name}/{n}.png" for name in ("animals/cat", "animals/dog", "things/bus") for n in range(2)]
    found = folder.collect(fill(tmp_path, names))
    assert found.classes == ("animals", "things")
    assert found.notes == (
        f"each class in {tmp_path} is one with all of its sub-folders, 3 in all (bus, cat, dog): if those are the "
        "classes, move them up beside each other",
    )
