import itertools

import datasets
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selftaught import data
from selftaught.data import hub, splits
from selftaught.data.sources import open_source
from selftaught.errors import InputError
from tests.data.conftest import encode, random_pictures, write_parquet

CLASSES = [str(k) for k in range(5)]


def _groups_of_one_class():
    """Some classes of some groups of some images."""
    return st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=12), min_size=2, max_size=4)


def _made(sizes):
    """Labels and groups, int64 (N,), in a random order."""
    rows = [
        (label, group)
        for label, of_class in enumerate(sizes)
        for group, size in enumerate(of_class)
        for _ in range(size)
    ]
    labels, groups = torch.tensor(rows)[
        torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    ].T
    return labels, (labels * 100 + groups).unique(return_inverse=True)[1]


def _apart(groups, *sides):
    sets = [set(groups[side].tolist()) for side in sides]
    return all(a.isdisjoint(b) for a, b in itertools.combinations(sets, 2))


@settings(max_examples=60, deadline=None)
@given(sizes=_groups_of_one_class(), fraction=st.sampled_from([0.1, 0.2, 0.5]), seed=st.integers(0, 9))
def test_whole_groups_are_set_aside_stratified(sizes, fraction, seed):
    labels, groups = _made(sizes)
    train, test = splits.set_aside(labels, fraction, seed, CLASSES, groups)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(len(labels)))
    assert (train.diff() > 0).all()
    assert _apart(groups, train, test)
    again = splits.set_aside(labels, fraction, seed, CLASSES, groups)
    assert torch.equal(again[1], test)
    for label, of_class in enumerate(sizes):
        aside = int((labels[test] == label).sum())
        assert 0 < aside < sum(of_class)
        # No further group would bring the class closer, and the only one on a side cannot be left.
        off, largest = abs(aside - fraction * sum(of_class)), max(of_class)
        assert off <= largest / 2 + 0.1 or min(aside, sum(of_class) - aside) <= largest


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=4), min_size=2, max_size=6),
    seed=st.integers(0, 9),
)
def test_groups_of_several_classes_are_divided_where_that_is_possible(members, seed):
    labels = torch.tensor([label for of_group in members for label in of_group])
    groups = torch.repeat_interleave(torch.arange(len(members)), torch.tensor([len(m) for m in members]))
    present = set(labels.tolist())
    assume(len(present) > 1)

    def whole(side):
        return {label for group in side for label in members[group]} == present

    everyone = range(len(members))
    possible = any(
        whole(side) and whole(set(everyone) - set(side))
        for count in everyone
        for side in itertools.combinations(everyone, count)
    )
    taken = splits.whole_groups(labels, groups, 0.3, seed)
    assert (taken is not None) == possible
    if taken is not None:
        rest = splits.complement(taken, len(labels))
        assert _apart(groups, taken, rest)
        assert set(labels[taken].tolist()) == set(labels[rest].tolist()) == present


@settings(max_examples=40, deadline=None)
@given(sizes=_groups_of_one_class(), seed=st.integers(0, 9), share=st.sampled_from([0.1, 0.3]))
def test_what_is_held_out_are_whole_groups_of_what_is_used(sizes, seed, share):
    labels, groups = _made(sizes)
    size = max(len(labels) * 3 // 4, len(sizes))
    try:
        train, val = splits.hold_out(labels, size, share, seed, len(sizes), groups)
    except InputError as error:
        assume("holds out" not in str(error))
        raise
    assert len(train) + len(val) == size
    assert set(torch.cat([train, val]).tolist()) == set(splits.stratified(labels, size, seed).tolist())
    assert _apart(groups, train, val)
    assert set(labels[train].tolist()) == set(range(len(sizes)))


def test_fractions_are_kept_where_groups_are_many():
    labels, groups = _made([[3] * 40, [1, 5] * 30, [2] * 10])
    orders = set()
    for seed in range(4):
        _, test = splits.set_aside(labels, 0.2, seed, CLASSES, groups)
        assert torch.bincount(labels[test]).tolist() == [24, 36, 4]
        orders.add(tuple(test.tolist()))
    assert len(orders) == 4


def test_a_class_of_one_group_is_refused():
    with pytest.raises(InputError, match=r"class '1' are of one group of split_by.*remove the class"):
        splits.set_aside(torch.tensor([0, 0, 1, 1]), 0.5, 0, CLASSES, torch.tensor([0, 1, 2, 2]))
    around = torch.tensor([0, 1, 1, 2, 2, 0]), torch.tensor([0, 0, 1, 1, 2, 2])  # each two share a class
    with pytest.raises(InputError, match="groups of split_by cannot be divided"):
        splits.set_aside(around[0], 0.5, 0, CLASSES, around[1])


@pytest.fixture
def photos(tmp_path):
    """Four pictures each of five birds and five dogs, by number."""
    root = tmp_path / "photos"
    for label in ("bird", "dog"):
        for number, pixels in enumerate(random_pictures(20, seed=len(label))):
            path = root / label / f"{label}{number // 4}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels))
    return root


def _names(images, part="test"):
    return [images.test_name(k).rsplit("/", 1)[1] for k in range(len(images.test_labels))]


def test_a_folder_is_split_by_what_its_file_names_say(photos):
    images = data.load(str(photos), split_by=r"([a-z]+\d)-", val_fraction=0.2)
    sets = [{x.numpy().tobytes() for x in part} for part in (images.train_images, images.val_images)]
    assert [len(found) for found in sets] == [24, 8]
    tested = {name.split("-")[0] for name in _names(images)}
    assert sorted(name[:-1] for name in tested) == ["bird", "dog"]
    assert len(_names(images)) == 8
    assert images.test_part == r"20 % set aside by group (([a-z]+\d)-), stratified, split seed 0"
    assert any("10 groups of 4 images, 2 of them in the test part" in note for note in images.notes)
    other = data.load(str(photos), split_by=r"[a-z]+\d+-(?=.)", val_fraction=0.2, split_seed=1)
    assert set(_names(other)) != set(_names(images))


def _table(photos, column="bird no", lacking=False):
    rows = [
        f"{path.relative_to(photos)},{path.parent.name},{path.stem[-1]}" for path in photos.rglob("*.png")
    ]
    if lacking:
        rows[3] = rows[3].rsplit(",", 1)[0] + ","
    (photos / "labels.csv").write_text("\n".join([f"file,label,{column}", *sorted(rows)]))


def test_a_table_is_split_by_a_column(photos):
    _table(photos)
    images = data.load(str(photos), split_by="bird no")
    tested = {name[-5] for name in _names(images)}
    assert len(tested) == 2  # of ten last digits, whichever the class
    assert len(_names(images)) == 8
    _table(photos, lacking=True)
    with pytest.raises(InputError, match=r"labels.csv, line \d+: no bird no"):
        data.load(str(photos), split_by="bird no")


@pytest.mark.parametrize(
    ("by", "complaint"),
    [
        ("patient", r"split_by 'patient' is no column and matches nothing in bird/bird\d-\d+.png"),
        ("(dog", r"split_by '\(dog' is neither a column of the data nor a regular expression \(missing \)"),
        ("[a-z]+", "class 'bird' are of one group of split_by"),
    ],
)
def test_what_groups_nothing_is_refused_with_what_to_give(photos, by, complaint):
    with pytest.raises(InputError, match=complaint) as error:
        data.load(str(photos), split_by=by)
    assert "\n" not in str(error.value)


def test_tables_of_parts_must_all_have_the_column(photos):
    _table(photos)
    lines = (photos / "labels.csv").read_text().splitlines()
    (photos / "train.csv").write_text("\n".join([lines[0], *lines[1::2]]))
    (photos / "test.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in [lines[0], *lines[2::2]]))
    (photos / "labels.csv").unlink()
    with pytest.raises(InputError, match="not every table has the column 'bird no': add it to all"):
        data.load(str(photos), split_by="bird no")


def test_a_division_of_the_data_s_own_that_tears_groups_apart_is_told(photos):
    for path in sorted(photos.rglob("*.png")):
        part = "test" if path.stem.endswith(("3", "7")) or "4-" in path.stem else "train"
        target = photos / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for label in ("bird", "dog"):
        (photos / label).rmdir()
    images = data.load(str(photos), split_by=r"[a-z]+\d+(?=-)")
    assert images.test_part == "the source's own"
    [note] = [note for note in images.notes if "in part memory" in note]
    torn = [name for name in _names(images) if "4-" not in name]
    assert note.startswith(f"{len(torn)} of the {len(_names(images))} test images")
    assert "(such as 'bird0')" in note


def test_parquet_files_are_split_by_a_column(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "shots" / "train-00000.parquet"
    write_parquet(path, [encode(p) for p in random_pictures(24)], [k % 2 for k in range(24)])
    shots = pq.read_table(path).append_column("shoot", pa.array([k // 4 for k in range(24)]))
    pq.write_table(shots, path)
    found = open_source(str(path.parent), "shoot")
    assert found.train.groups == [str(k // 4) for k in range(24)]
    images = data.load(str(path.parent), split_by="shoot")
    rows = sorted(int(images.test_name(k).rsplit(" ", 1)[1]) for k in range(len(images.test_labels)))
    assert rows == list(range(rows[0], rows[0] + 4))
    with pytest.raises(InputError, match=r"no column 'patient' to split by \(it has image, label, shoot\)"):
        data.load(str(path.parent), split_by="patient")
    lacking = shots.set_column(2, "shoot", pa.array([None if k == 5 else k for k in range(24)]))
    pq.write_table(lacking, path)
    with pytest.raises(InputError, match="row 5: no shoot, by which to split"):
        data.load(str(path.parent), split_by="shoot")


def test_data_sets_of_the_hub_are_split_by_a_column(monkeypatch):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "who": datasets.Value("int32"),
        }
    )
    rows = {"image": random_pictures(4), "label": [0, 1, 0, 1], "who": [7, 7, 9, 8]}
    split = datasets.Dataset.from_dict(rows, features)
    monkeypatch.setattr(hub, "_load", lambda hub_id: {"train": split})
    assert hub.collect("me/it", "who").train.groups == ["7", "7", "9", "8"]
    with pytest.raises(InputError, match="no column 'patient' to split by"):
        hub.collect("me/it", "patient")


def test_data_that_has_no_groups_says_so():
    with pytest.raises(InputError, match="the digits are not in groups"):
        data.load("digits", split_by="writer")
