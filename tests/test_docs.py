"""Every code block of the documentation is executed, or, for commands, read by the program it names."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import selftaught
from selftaught import recipes
from selftaught.cli.app import app
from selftaught.methods import base
from selftaught.study import expand

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> list:
    return [
        pytest.param(page, text, id=f"{page.name}-{index}")
        for page in PAGES
        for index, (kind, text) in enumerate(BLOCK.findall(page.read_text()))
        if kind == language
    ]


def test_there_are_only_languages_that_are_checked():
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text())}
    assert kinds <= {"python", "console", "text", "yaml"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python(page, monkeypatch):
    """A page's blocks build on each other."""
    monkeypatch.setattr(base, "KNOWN", dict(base.KNOWN))  # a block may add a method
    namespace = {"__name__": page.stem}
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python":
            exec(compile(text, str(page), "exec"), namespace)


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_recipes(page, text):
    expand.check(recipes.parse(text, page.name))


@pytest.mark.parametrize(("page", "text"), blocks("console"))
def test_commands(page, text):
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in commands:
        words = shlex.split(command, comments=True)
        while "=" in words[0]:
            words.pop(0)
        program, *arguments = words
        if program.endswith("make"):
            assert set(arguments) <= targets, command
        elif program.endswith("selftaught"):
            group = typer.main.get_command(app)
            name, *rest = arguments
            # Parses and checks every flag without running the command.
            group.commands[name].make_context(name, rest)
        elif program.endswith("python"):
            assert (ROOT / arguments[0]).is_file(), command
        else:
            assert program in ("git", "cd", "pip"), command


def test_readme_loop_changes_two_lines():
    """The README's plain loop and its introspective one differ in exactly the two lines it says."""
    text = (ROOT / "README.md").read_text()
    [changes] = [
        block for kind, block in BLOCK.findall(text) if kind == "python" and "IntrospectiveLoss" in block
    ]
    assert len([line for line in changes.splitlines() if "# was:" in line]) == 2


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_public_names_resolve_lazily():
    for name in selftaught.__all__:
        assert getattr(selftaught, name) is not None
    assert set(selftaught.__all__) <= set(dir(selftaught))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        selftaught.nothing  # noqa: B018
