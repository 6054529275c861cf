"""The recipes against the paper's own tables and text, typed from it once more."""

import pytest

from selftaught import recipes
from selftaught.report.paper_orders import PAPER_ORDER

TABLES = {
    "table1": """
              CE            KD            CWTM          CWTM-Permut   CWTM-Random   DKPP
        CNN-8 86,86(±0.30)  88,48(±0.33)  87,03(±0.26)  87,41(±0.32)  87,22(±0.17)  87,73(±0.37)
        CNN-6 85,18(±0.32)  86,55(±0.32)  85,65(±0.38)  85,74(±0.33)  85,25(±0.31)  86,30(±0.42)
    """,
    "table2": """
                 CE            Dropout       LS            CP            LE_(Grad-CAM)
        ResNet14 90,26(±0.33)  90,33(±0.15)  90,52(±0.12)  90,42(±0.14)  91,21(±0.07)
        ResNet8  87,95(±0.32)  88,02(±0.02)  88,14(±0.16)  88,25(±0.13)  88,70(±0.18)
    """,
    "table3": """
                  CE           Dropout      LS           CP           LE_(Grad)
        MNIST_MLP 1.39(±0.05)  1.27(±0.02)  1.25(±0.02)  1.18(±0.06)  1.10(±0.03)
    """,
    "table4": """
                 CE            DML           BAN           BAN+L         LE_(Grad-CAM)
        ResNet14 90,26(±0.33)  90,39(±0.15)  90,58(±0.15)  90,83(±0.28)  91,21(±0.07)
        ResNet8  87,95(±0.32)  88,23(±0.27)  87,22(±0.03)  88,03(±0.33)  88,70(±0.18)
    """,
    "table5": """
                 KD            Hint          AT_+_KD       FSP_+_KD      TAKD          LE_(Grad-CAM)
        ResNet14 91,14(±0.19)  91,29(±0.19)  91,31(±0.19)  91,42(±0.19)  91,27(±0.19)  91,21(±0.07)
        ResNet8  88,07(±0.36)  88,52(±0.19)  88,15(±0.19)  88,11(±0.19)  88,09(±0.19)  88,70(±0.18)
    """,
    "table6": """
                  CE            LE-Permut     LE_(Grad)     LE_(Grad-CAM)
        MNIST_MLP 98,61(±0.05)  98,81(±0.04)  98,90(±0.03)  -
        ResNet14  90,26(±0.33)  90,91(±0.16)  91,01(±0.12)  91.21(±0.07)
        ResNet8   87,95(±0.32)  88,22(±0.05)  88,27(±0.05)  88,70(±0.18)
    """,
    "sweep-beta": """
              CE            beta_0.5
        CNN-8 86,86(±0.30)  87,22(±0.17)
        CNN-6 85,18(±0.32)  85,25(±0.31)
    """,
    "controls": """
                CE            LS            CP            KD            LE-Permut     LE_(Grad-CAM)
        ResNet8 87,95(±0.32)  88,14(±0.16)  88,25(±0.13)  88,07(±0.36)  88,22(±0.05)  88,70(±0.18)
    """,
    "similarities": """
                CE            LE_(cosine)
        ResNet8 87,95(±0.32)  88,70(±0.18)
    """,
    "refresh": """
                  CE            LE_(Grad)
        MNIST_MLP 98,61(±0.05)  98,90(±0.03)
        ResNet8   87,95(±0.32)  88,27(±0.05)
    """,
}

CIFAR = (160, 128, 0.1, 0.9, 1e-4, (0.5, 0.75), 0.2, "crop")
PLAIN = (160, 128, 0.01, 0.9, 1e-4, (), 0.2, "crop")
MNIST = (50, 16, 0.01, 0.9, 0.0, (), 0.2, "none")
PLAIN_TABLES = ("table1", "sweep-beta")


def _read(text: str) -> dict:
    """A table as printed: a comma or a point, the deviation in brackets, - for nothing, _ for a blank."""
    header, *rows = [line.split() for line in text.strip().splitlines()]
    cells = {}
    for label, *values in rows:
        cells[label.replace("_", " ")] = {
            column.replace("_", " "): tuple(float(v) for v in value.strip(")").replace(",", ".").split("(±"))
            for column, value in zip(header, values, strict=True)
            if value != "-"
        }
    return cells


@pytest.mark.parametrize("name", TABLES)
def test_the_numbers_are_the_printed_ones(name):
    found = {
        group: {variant: (value.mean, value.std) for variant, value in cells.items()}
        for group, cells in recipes.load(name).paper.items()
    }
    assert found == _read(TABLES[name])


def test_what_has_printed_numbers_is_in_the_list_above():
    assert {name for name in recipes.names() if recipes.load(name).paper} == set(TABLES)


def test_table_3_quotes_two_papers_and_is_the_only_one_in_errors():
    quoted = {
        row.source: {v: (x.mean, x.std) for v, x in row.values.items()}
        for row in recipes.load("table3").quoted
    }
    assert quoted == {
        "[21]": {"Dropout": (1.28, 0.06), "LS": (1.23, 0.06), "CP": (1.17, 0.06)},
        "[38]": {"CE": (1.38, None), "Dropout": (1.34, None), "LS": (1.40, None), "CP": (1.36, None)},
    }
    assert [name for name in recipes.names() if recipes.load(name).quoted] == ["table3"]
    assert [name for name in recipes.names() if recipes.load(name).metric == "error"] == ["table3"]


def test_the_teachers_have_their_printed_accuracy():
    printed = {name: {m: v.mean for m, v in recipes.load(name).teachers.items()} for name in recipes.names()}
    assert {name: v for name, v in printed.items() if v} == {
        "table1": {"cnn10": 90.04},
        "table5": {"resnet26": 91.51},
        "controls": {"resnet26": 91.51},
    }


def test_only_the_doubtful_cells_are_no_anchors():
    doubtful = {
        (name, group, variant)
        for name in recipes.names()
        for group, cells in recipes.load(name).paper.items()
        for variant, value in cells.items()
        if not value.anchor
    }
    repeated = {
        ("table5", group, variant)
        for group in ("ResNet14", "ResNet8")
        for variant in ("KD", "Hint", "AT + KD", "FSP + KD", "TAKD")
    }
    assert doubtful == (repeated - {("table5", "ResNet8", "KD")}) | {("table4", "ResNet8", "BAN")}


@pytest.mark.parametrize("name", recipes.names())
def test_the_protocol_is_that_of_sections_3_and_5(name):
    recipe = recipes.load(name)
    for group in recipe.groups:
        p = recipe.protocol_of(group)
        expected = {"cifar10": PLAIN if name in PLAIN_TABLES else CIFAR, "mnist": MNIST}[group.data]
        found = (p.epochs, p.batch_size, p.lr, p.momentum, p.weight_decay, p.milestones, p.warmup, p.augment)
        assert found == expected
        assert p.val_fraction == (0.1 if recipe.judged_on == "held-out" else 0)


def test_the_searches_go_over_the_spaces_of_section_5():
    found = {name: recipes.load(name).search for name in recipes.names() if recipes.load(name).search}
    assert {name: (s.method, s.setting, s.values) for name, s in found.items()} == {
        "search-dropout": ("dropout", "drop_rate", (0, 0.1, 0.25, 0.5, 0.75)),
        "search-ls": ("ls", "alpha", (0.6, 0.7, 0.8, 0.9)),
        "search-cp": ("cp", "strength", (0.1, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0)),
        "search-ban": ("ban", "temperature", (1, 2, 5, 10, 20)),
        "search-fsp": ("fsp", "flow_weight", (0.1, 0.01, 0.001, 0.0001)),
    }
    assert found["search-fsp"].settings == KD
    best = {"search-dropout": 0.1, "search-ls": 0.9, "search-cp": 0.5}
    for name, search in found.items():
        value = best.get(name)
        assert search.paper_best == ({"ResNet14": value, "ResNet8": value} if value else {})


def test_the_best_values_of_section_5_are_those_of_table_2():
    variants = {v.method: v.settings for v in recipes.load("table2").variants}
    assert variants["dropout"] == {"drop_rate": 0.1}
    assert variants["ls"] == {"alpha": 0.9}
    assert variants["cp"] == {"strength": 0.5}


KD = {"temperature": 4, "weight": 0.1}
TAUGHT = {
    ("table1", "KD"): ("kd", {"temperature": 4, "weight": 0}),
    ("table1", "CWTM"): ("cwtm", {}),
    ("table1", "CWTM-Permut"): ("cwtm-permut", {}),
    ("table1", "CWTM-Random"): ("cwtm-random", {"beta": 0.5}),
    ("table1", "DKPP"): ("dkpp", {"temperature": 4, "weight": 0}),
    ("table4", "DML"): ("dml", {"weight": 0.1}),
    ("table5", "KD"): ("kd", KD),
    ("table5", "Hint"): ("hint", {**KD, "stage": 2}),
    ("table5", "AT + KD"): ("at", {**KD, "attention_weight": 1000}),
    ("table5", "FSP + KD"): ("fsp", {**KD, "flow_weight": 0.01}),
    ("table5", "TAKD"): ("takd", KD),
    ("controls", "KD"): ("kd", KD),
}
"""Sections 3, 5.2 and 5.3, and what is chosen where they are silent."""


def test_the_methods_that_learn_from_others_have_the_settings_of_their_sections():
    found = {
        (name, v.label): (v.method, v.settings) for name, _ in TAUGHT for v in recipes.load(name).variants
    }
    assert {cell: found[cell] for cell in TAUGHT} == TAUGHT
    born_again = recipes.load("table4").variant("BAN+L")
    assert (born_again.method, born_again.settings["weight"]) == ("ban+l", 0.1)


def test_the_mlp_is_explained_by_grad_and_a_cnn_by_grad_cam_unless_the_label_says_otherwise():
    saliency = {"LE (Grad)": "grad", "LE (Grad*Input)": "grad-input", "LE (GuidedBP)": "guided-backprop"}
    for name in recipes.names():
        recipe = recipes.load(name)
        for group in recipe.groups:
            usual = "grad" if group.model == "mlp" else "grad-cam"
            for variant in recipe.variants:
                settings = variant.settings_in(group.label)
                if variant.runs_in(group.label) and "saliency" in settings:
                    assert settings["saliency"] == saliency.get(variant.label.partition(",")[0], usual)


def test_the_figures_have_one_trial_or_five_and_figure_3_an_order():
    assert [recipes.load(f"figure{i}").trials for i in (1, 2, 3)] == [1, 5, 5]
    assert all(recipes.load(f"table{i}").trials == 5 for i in range(1, 7))
    explained = {v.settings["saliency"] for v in recipes.load("figure3").variants if v.method == "le"}
    assert list(PAPER_ORDER) == ["grad-input", "guided-backprop", "grad", "grad-cam"]
    assert explained == set(PAPER_ORDER)


def test_the_assistants_of_takd_are_those_of_section_5_3():
    groups = recipes.load("table5").groups
    assert [(g.teacher, g.assistant, g.model) for g in groups] == [
        ("resnet26", "resnet20", "resnet14"),
        ("resnet26", "resnet14", "resnet8"),
    ]
