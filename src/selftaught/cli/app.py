"""The commands. What takes long to import is imported by the command that needs it."""

import json
from pathlib import Path
from typing import Annotated

import typer

import selftaught
from selftaught.cli.options import OutputOptions, RunOptions, grouped

app = typer.Typer(
    help="Train image classifiers that learn from their own explanations, and find out honestly whether it helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[str, typer.Argument(help="A dataset (see `selftaught ls datasets`).", metavar="DATA")]
Methods = Annotated[str, typer.Option(help="Methods, separated by commas (see `selftaught ls methods`).")]


def _version(wanted: bool) -> None:
    if wanted:
        print(selftaught.__version__)
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train image classifiers that learn from their own explanations, and find out whether it helped."""


@app.command(epilog="Example: selftaught compare digits --methods ce,ls,cp,le --trials 5")
@grouped
def compare(
    data: Data,
    options: RunOptions,
    output: OutputOptions,
    methods: Methods = "ce,ls,cp,le",
    trials: Annotated[int, typer.Option(help="Seeds per method: SEED, SEED+1, ...")] = 5,
    jobs: Annotated[
        int | None, typer.Option(help="Trials at once; by default as many as fit the cores.")
    ] = None,
) -> None:
    """Train each method over several seeds; ends with a table of differences, intervals and cost.

    Finished trials are kept: the same command resumes an interrupted comparison.
    """
    from selftaught.cli.commands import compare as command

    raise typer.Exit(command(data, methods, trials, jobs, options, output))


@app.command(epilog="Example: selftaught train digits --method le --epochs 10")
@grouped
def train(
    data: Data,
    options: RunOptions,
    output: OutputOptions,
    method: Annotated[str, typer.Option(help="A method (see `selftaught ls methods`).")] = "le",
) -> None:
    """Train one model; the same command resumes it."""
    from selftaught.cli.commands import train as command

    raise typer.Exit(command(data, method, options, output))


@app.command(epilog="Example: selftaught bench digits --methods ce,ls,le")
@grouped
def bench(
    options: RunOptions,
    data: Data = "digits",
    methods: Annotated[str | None, typer.Option(help="Methods, separated by commas; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure what a step of each method costs relative to plain training, on this machine."""
    from selftaught.cli.commands import bench as command

    raise typer.Exit(command(data, methods, options, as_json))


@app.command(epilog="Example: selftaught explain runs/my-run cat.jpg dog.jpg -o explanation.png")
def explain(
    run: Annotated[Path, typer.Argument(help="The directory of a finished run.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files; by default test images of the run's own data.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many test images, where no files are given.")] = 5,
    saliency: Annotated[
        str | None, typer.Option(help="Which maps; by default those the run was trained with.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Grad-CAM's layer, by its dotted name.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture: .png, .pdf or .svg.")] = Path(
        "explanation.png"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print predictions and similarities as JSON.")
    ] = False,
) -> None:
    """Show what a trained model sees: one map per class, and how alike the classes look to it."""
    from selftaught.cli.explain import explain as command

    raise typer.Exit(command(run, images or [], count, saliency, layer, out, as_json))


@app.command(name="ls", epilog="Example: selftaught ls methods")
def list_names(
    kind: Annotated[str | None, typer.Argument(help="methods, models or datasets; all if left out.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the names and descriptions as JSON.")
    ] = False,
) -> None:
    """What there is: one name at the start of each line."""
    from selftaught.cli.listing import listing

    found = listing(kind)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for title, entries in found.items():
        if kind is None:
            print(f"# {title}")
        width = max(map(len, entries))
        for name, summary in entries.items():
            print(f"{name:<{width}}  {summary}")
