"""Whose folder it is that a study is to be written to."""

import pytest

from selftaught.errors import InputError
from selftaught.files import study_folder as folder


def make(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}")
    return directory


@pytest.mark.parametrize(
    "names",
    [
        (),
        (".DS_Store",),
        ("study.json", "table.md"),
        ("graph.json", "trials/notes.txt"),
        ("table.md", "trials/0123456789ab/config.json"),
        ("trials/notes.txt",),
    ],
)
def test_what_a_study_wrote_may_be_written_again(tmp_path, names):
    assert folder.checked(make(tmp_path, *names)) == tmp_path


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("table.md",), "table.md"),
        (("report.html", "trials/patient-1.csv"), "report.html"),
        (("table.md", "trials/2024/config.json"), "table.md"),
        (("trials",), "trials"),
    ],
)
def test_somebody_elses_folder_is_left_alone_even_where_it_has_trials(tmp_path, names, named):
    with pytest.raises(InputError, match=rf"is not empty and not a comparison \({named}\)"):
        folder.checked(make(tmp_path, *names))
