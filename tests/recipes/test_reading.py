"""What is refused, and in which words: one line with the file, the place and the remedy."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selftaught import recipes
from selftaught.errors import InputError
from selftaught.recipes.schema import Protocol, Value

MINE = """
name: mine
title: A table of my own
kind: table
source: mine
command: selftaught reproduce mine.yaml
expected: {smoke: seconds, quick: minutes, paper: hours}
protocol:
  cifar10:
    {epochs: 10, batch_size: 32, lr: 0.1, momentum: 0.9, weight_decay: 0.0001, milestones: [0.5, 0.75],
     warmup: 0.2, augment: crop}
groups:
  - {label: ResNet8, data: cifar10, model: resnet8, protocol: {lr: 0.05}}
  - {label: ResNet14, data: cifar10, model: resnet14}
variants:
  - {label: CE, method: ce}
  - {label: BAN, method: ban, settings: {temperature: {selected: search-ban}}, groups: [ResNet8]}
  - {label: LS, method: ls, settings: {alpha: 0.9}, by_group: {ResNet14: {alpha: 0.8}}}
paper:
  ResNet8: {CE: 88, BAN: 87.5 ± 0.1}
quoted:
  - {source: "[1]", group: ResNet8, values: {CE: 87}}
"""


def test_the_recipe_that_the_others_are_made_from_is_fine():
    recipe = recipes.parse(MINE, "mine.yaml")
    assert [recipe.protocol_of(group).lr for group in recipe.groups] == [0.05, 0.1]
    assert [recipe.protocol_of(group).epochs for group in recipe.groups] == [10, 10]
    assert recipe.paper["ResNet8"] == {"CE": Value(mean=88), "BAN": Value(mean=87.5, std=0.1)}
    assert recipe.variant("LS").settings_in(recipe.group("ResNet14").label) == {"alpha": 0.8}
    assert recipe.variant("LS").settings_in("ResNet8") == {"alpha": 0.9}
    assert [recipe.variant("BAN").runs_in(group.label) for group in recipe.groups] == [True, False]


def test_a_protocol_may_be_like_a_named_one_but_for_what_it_says_itself():
    start, end = MINE.index("    {epochs: 10"), MINE.index("groups:")
    protocol = recipes.parse(
        MINE[:start] + "    {like: plain-cnn, epochs: 20, ema: 0.9}\n" + MINE[end:], "m.yaml"
    ).protocol
    found = protocol["cifar10"]
    assert (found.epochs, found.batch_size, found.lr, found.milestones, found.ema) == (20, 128, 0.01, (), 0.9)
    assert {"epochs": 20, "milestones": (), "warmup": 4, "ema": 0.9}.items() <= found.options(20).items()
    with pytest.raises(
        InputError, match=r"in protocol\.cifar10: unknown protocol 'cifr': did you mean 'cifar'\?"
    ):
        recipes.parse(MINE[:start] + "    {like: cifr}\n" + MINE[end:], "m.yaml")


SEARCH = "kind: search\nsearch: {method: ls, setting: alpha, values: [0.8, 0.9]}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title:", "titel:", r"unknown key 'titel': did you mean 'title'\? \(known: name, title, "),
        ("model: resnet8", "modle: resnet8", r"in groups\.0: unknown key 'modle': did you mean 'model'\?"),
        ("{lr: 0.05}", "{learning_rate: 1}", r"in groups\.0\.protocol: unknown key 'learning_rate'"),
        ("smoke: seconds, ", "", r"expected\.smoke is missing: add it"),
        ("lr: 0.1,", "", r"protocol\.cifar10\.lr is missing: add it"),
        ("kind: table", "kind: tabel", r"kind is 'tabel' but should be 'table', 'search'.*: correct it"),
        ("lr: 0.1,", "lr: -1,", r"protocol\.cifar10\.lr is -1 but should be greater than 0: correct it"),
        ("lr: 0.1,", "lr: .inf,", r"protocol\.cifar10\.lr is inf but should be a finite number: correct it"),
        (
            "[0.5, 0.75]",
            "0.5",
            r"protocol\.cifar10\.milestones is 0\.5 but should be a valid list: correct it",
        ),
        ("epochs: 10", "epochs: 1.5", r"protocol\.cifar10\.epochs is 1\.5 but should be a valid integer"),
        ("warmup: 0.2", "warmup: 1", r"protocol\.cifar10\.warmup is 1 but should be less than 1: correct it"),
        ("[0.5, 0.75]", "[0.75, 0.5]", r"in protocol\.cifar10: milestones \[0\.75, 0\.5\] must be fractions"),
        ("[0.5, 0.75]", "[80, 120]", r"in protocol\.cifar10: milestones \[80\.0, 120\.0\] must be fractions"),
        ("{lr: 0.05}", "{milestones: [0]}", r"in groups\.0\.protocol: milestones \[0\.0\] must be fractions"),
        (
            "data: cifar10, model: resnet14",
            "data: cifar, model: resnet14",
            r"unknown protocol 'cifar': did you",
        ),
        ("label: ResNet14", "label: ResNet8", r"group 'ResNet8' is there twice: rename one"),
        ("label: LS", "label: CE", r"variant 'CE' is there twice: rename one"),
        ("groups: [ResNet8]", "groups: [ResNet9]", r"unknown group 'ResNet9': did you mean 'ResNet8'\?"),
        ("{ResNet14: {alpha", "{Resnet: {alpha", r"unknown group 'Resnet'"),
        ("  ResNet8: {CE: 88", "  ResNet20: {CE: 88", r"unknown group 'ResNet20'"),
        ("{CE: 88,", "{CE: 88, KD: 89,", r"unknown variant 'KD'"),
        ("quoted:", "reference: LSS\nquoted:", r"unknown variant 'LSS': did you mean 'LS'"),
        (
            "values: {CE: 87}",
            "values: {C: 87}",
            r"unknown variant 'C'",
        ),
        (
            "  ResNet8: {CE: 88,",
            "  ResNet14: {CE: 88,",
            r"variant 'BAN' has a printed value in group 'ResNet14' but",
        ),
        (
            "87.5 ± 0.1",
            "87.5 +- 0.1",
            r"in paper\.ResNet8\.BAN: '87\.5 \+- 0\.1' is no printed value: write it like",
        ),
        ("{CE: 88,", "{CE: 880,", r"paper\.ResNet8\.CE\.mean is 880 but should be less than or equal to 100"),
        (
            "alpha: 0.9",
            "alpha: [0.9]",
            r"in variants\.2\.settings\.alpha: \[0\.9\] is no setting: give one value",
        ),
        ("alpha: 0.9", "alpha: null", r"in variants\.2\.settings\.alpha: None is no setting"),
        ("selected: search-ban", "selektd: search-ban", r"unknown key 'selektd': did you mean 'selected'\?"),
        (
            "search-ban}",
            "search-bann}",
            r"variant 'BAN': unknown search 'search-bann': did you mean 'search-ban'\?",
        ),
        ("search-ban}", "table2}", r"variant 'BAN': unknown search 'table2'"),
        ("search-ban}", "search-ls}", r"variant 'BAN': search-ls does not search for temperature: refer to"),
        ("label: ResNet14", "label: R14", r"unknown group 'ResNet14'"),
        (
            "label: ResNet8, data: cifar10, model: resnet8",
            "label: ResNet8, data: cifar10, model: resnet20",
            "no group",
        ),
        ("kind: table", SEARCH, r"variants are made from the search's values: leave out variants or search"),
        ("kind: table", "kind: search", r"search and kind: search belong together: give both or neither"),
        ("name: mine", "name: Mine!", r"name is 'Mine!' but "),
        ("name: mine", "name: mine\nname: yours", r"line 3: key 'name' is there twice: correct it"),
        (
            "name: mine",
            "name: &a mine\ntitle: *a",
            r"line 3: the alias \*a stands in place of a value: correct it",
        ),
        ("title: A", "title: [A", r"line \d+: .*: correct it"),
        (
            "title: A",
            "title: !!python/object:os.system A",
            r"could not determine a constructor.*: correct it",
        ),
        ("title: A table of my own", 'title: "two\\nlines"', r"title is 'two.+lines' but "),
    ],
)
def test_a_mistake_is_told_in_one_line(old, new, said):
    assert MINE.count(old) >= 1
    text = MINE.replace(old, new, 1)
    with pytest.raises(InputError, match=said) as caught:
        recipes.parse(text, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "- a\n- b", "42", "a: &a [*a]", "[" * 3000, "? {a: 1}\n: 2", "\0", "a: 2020-13-45"]
)
def test_what_is_no_mapping_at_all_is_told_in_one_line(text):
    with pytest.raises(InputError) as caught:
        recipes.parse(text, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)


def _search(**changes):
    values = yaml.safe_load(MINE)
    for key in ("variants", "paper", "quoted"):
        del values[key]
    values |= {"kind": "search", "search": {"method": "ls", "setting": "alpha", "values": [0.8, 0.9]}}
    values["protocol"]["cifar10"]["val_fraction"] = 0.1
    return recipes.parse(yaml.safe_dump(values | changes), "mine.yaml")


class TestAlternative:
    def _with(self, line):
        return recipes.parse(MINE.replace("\npaper:", f"\n  - {{{line}}}\npaper:"), "mine.yaml")

    def test_it_has_the_method_and_the_settings_of_what_it_is_based_on_but_for_its_own(self):
        recipe = self._with(
            "label: half, based_on: LS, settings: {}, protocol: {weight_decay: 0, warmup: 0.5}"
        )
        other = self._with(
            "label: half, based_on: LS, settings: {alpha: 0.5}, by_group: {ResNet14: {alpha: 0.4}}"
        )
        half = recipe.variant("half")
        assert (half.method, half.settings, half.by_group) == (
            "ls",
            {"alpha": 0.9},
            {"ResNet14": {"alpha": 0.8}},
        )
        assert [other.variant("half").settings_in(g)["alpha"] for g in ("ResNet8", "ResNet14")] == [0.5, 0.4]
        protocols = [recipe.protocol_of(recipe.group("ResNet8"), recipe.variant(v)) for v in ("LS", "half")]
        assert [(p.lr, p.weight_decay, p.warmup) for p in protocols] == [(0.05, 1e-4, 0.2), (0.05, 0, 0.5)]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("label: half, based_on: LSS, method: ls", r"unknown variant 'LSS': did you mean 'LS'"),
            ("label: half, based_on: LSS", r"variants\.3\.method is missing: add it"),
            (
                "label: half, based_on: half, method: ls",
                "'half' is based on 'half', which is not run but by itself",
            ),
            (
                "label: half, based_on: BAN",
                "based on 'BAN', which is not run in group 'ResNet14': name another",
            ),
            (
                "label: half, based_on: LS, method: ls, settings: [1]",
                r"settings is \[1\] but should be a valid mapping",
            ),
            ("label: half, based_on: LS, protocol: {lr: -1}", r"variants\.3\.protocol\.lr is -1"),
        ],
    )
    def test_a_mistake_is_told_in_one_line(self, line, said):
        with pytest.raises(InputError, match=said):
            self._with(line)

    def test_what_it_says_itself_goes_before_what_the_other_has_for_a_group(self):
        recipe = self._with("label: half, based_on: LS, settings: {alpha: 0.5}")
        assert recipe.variant("half").settings_in("ResNet14") == {"alpha": 0.5}

    def test_its_key_used_to_be_instead_of(self):
        with pytest.warns(DeprecationWarning, match="instead_of of a variant is now based_on"):
            assert self._with("label: half, instead_of: LS").variant("half").based_on == "LS"

    def test_an_alternative_to_an_alternative_has_what_both_say(self):
        first = "label: half, based_on: LS, settings: {alpha: 0.5}, protocol: {weight_decay: 0}}"
        recipe = self._with(first + "\n  - {label: both, based_on: half, protocol: {warmup: 0.5}")
        both = recipe.variant("both")
        assert (both.method, both.settings, both.based_on) == ("ls", {"alpha": 0.5}, "half")
        protocol = recipe.protocol_of(recipe.group("ResNet8"), both)
        assert (protocol.weight_decay, protocol.warmup) == (0, 0.5)

    def test_all_variants_have_the_same_images(self):
        with pytest.raises(
            InputError, match="'half' changes val_fraction, but variants must have the same images"
        ):
            self._with("label: half, based_on: LS, protocol: {val_fraction: 0.5}")

    def test_printed_values_are_not_of_held_out_images(self):
        held_out = MINE.replace("augment: crop", "augment: crop, val_fraction: 0.1") + "judged_on: held-out\n"
        with pytest.raises(InputError, match="what the paper prints is of the test images: leave out paper"):
            recipes.parse(held_out, "mine.yaml")
        nothing = (
            held_out.partition("\npaper:")[0] + "\njudged_on: held-out\nquick: {cifar10: {val_fraction: 0}}\n"
        )
        with pytest.raises(
            InputError, match="judges by held-out training images: give group 'ResNet8' a val"
        ):
            recipes.parse(nothing, "mine.yaml")

    def test_a_table_on_held_out_images_must_hold_some_out(self):
        with pytest.raises(
            InputError, match=r"judges by held-out training images: give group 'ResNet8' a val"
        ):
            recipes.parse(MINE + "judged_on: held-out\n", "mine.yaml")


class TestSearch:
    def test_it_is_judged_on_held_out_images_and_nothing_else(self):
        assert _search().judged_on == "held-out"
        with pytest.raises(
            InputError, match="a search is judged on held-out training images: leave out judged_on"
        ):
            _search(judged_on="test")

    def test_it_has_one_variant_per_value(self):
        variants = _search().variants
        assert [(v.label, v.method, v.settings) for v in variants] == [
            ("alpha 0.8", "ls", {"alpha": 0.8}),
            ("alpha 0.9", "ls", {"alpha": 0.9}),
        ]

    def test_it_must_hold_something_out_in_every_group(self):
        group = {"label": "G", "data": "cifar10", "model": "resnet8", "protocol": {"val_fraction": 0}}
        with pytest.raises(
            InputError, match=r"judges by held-out training images: give group 'G' a val_fraction"
        ):
            _search(groups=[group])

    def test_the_papers_best_is_of_a_group_that_it_has(self):
        search = {"method": "ls", "setting": "alpha", "values": [0.8, 0.9], "paper_best": {"R": 0.9}}
        with pytest.raises(InputError, match="unknown group 'R'"):
            _search(search=search)

    def test_values_that_would_have_the_same_label_are_refused(self):
        with pytest.raises(InputError, match=r"variant 'alpha 0\.8' is there twice"):
            _search(search={"method": "ls", "setting": "alpha", "values": [0.8, 0.8000001]})


@given(st.floats(0, 100), st.one_of(st.none(), st.floats(0, 100)))
def test_a_value_is_read_as_it_is_written(mean, std):
    text = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
    value = Value.model_validate(text)
    assert (f"{value.mean:.2f}", value.std and f"{value.std:.2f}") == (
        f"{mean:.2f}",
        std and value.std and f"{std:.2f}",
    )
    assert value.anchor


@given(st.lists(st.floats(-1, 2), max_size=4))
def test_milestones_are_accepted_exactly_where_they_increase_within_the_training(milestones):
    fine = all(0 < m < 1 for m in milestones) and milestones == sorted(set(milestones))
    values = {
        "epochs": 5,
        "batch_size": 2,
        "lr": 1,
        "momentum": 0,
        "weight_decay": 0,
        "warmup": 0,
        "augment": "none",
    }
    if fine:
        assert Protocol.model_validate({**values, "milestones": milestones}).milestones == tuple(milestones)
    else:
        with pytest.raises(ValueError, match="must be fractions"):
            Protocol.model_validate({**values, "milestones": milestones})


def test_a_file_that_is_too_large_for_a_recipe_is_not_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("# " + "x" * 300_000)
    with pytest.raises(InputError, match="has more than 262,144 bytes, which no recipe has"):
        recipes.load(str(tmp_path / "mine.yaml"))
