"""The commands. What takes long to import is imported by the command that needs it."""

import json
from pathlib import Path
from typing import Annotated

import typer

import selftaught
from selftaught.cli.busy import loading
from selftaught.cli.options import MachineOptions, OutputOptions, RunOptions, grouped
from selftaught.files import catalogue
from selftaught.study import demands

app = typer.Typer(
    help="Train image classifiers that learn from their own explanations, and find out honestly whether it helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str,
    typer.Argument(
        help="A dataset (see `selftaught ls datasets`), a folder of images, a CSV of labels, or OWNER/NAME on the Hub.",
        metavar="DATA",
    ),
]
Run = Annotated[Path, typer.Argument(help="The directory of a finished run.", metavar="RUN")]
ModelDevice = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
ModelCode = Annotated[
    str | None,
    typer.Option(
        "--model", help="net.py:build, for a run of a network from a Python file: allows its code to run."
    ),
]
Executor = Annotated[
    str, typer.Option(help="Who runs the trials: local (processes of this machine) or ray (a cluster).")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and what it would take, and stop.")
]
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
    executor: Executor = "local",
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="The linear probe as a row too, of pretrained networks."),
    ] = True,
    dry_run: DryRun = False,
) -> None:
    """Train each method over several seeds; ends with a table of differences, intervals and cost, and a report.

    Finished trials are kept: the same command resumes an interrupted comparison.
    """
    from selftaught.cli import early

    demands.check_executor(executor, jobs)
    demands.check_trials(trials)
    early.check_options(options)
    catalogue.check_names(demands.split_methods(methods))
    first = options.given().get("seed", 0)
    early.check_study(output.out, demands.split_methods(methods), range(first, first + trials))
    with loading():
        from selftaught.cli.commands import Work
        from selftaught.cli.commands import compare as command

    work = Work(jobs, executor, dry_run)
    raise typer.Exit(command(data, methods, trials, probe, work, options, output))


@app.command(epilog="Example: selftaught train digits --method le --epochs 10")
@grouped
def train(
    data: Data,
    options: RunOptions,
    output: OutputOptions,
    method: Annotated[str, typer.Option(help="A method (see `selftaught ls methods`).")] = "le",
    dry_run: DryRun = False,
) -> None:
    """Train one model; the same command resumes it."""
    from selftaught.cli import early

    early.check_options(options)
    catalogue.check_names([method])
    early.check_run(output.out)
    with loading():
        from selftaught.cli.commands import train as command

    raise typer.Exit(command(data, method, dry_run, options, output))


@app.command(epilog="Example: selftaught reproduce table2 --budget quick")
@grouped
def reproduce(
    machine: MachineOptions,
    output: OutputOptions,
    names: Annotated[
        list[str], typer.Argument(help="Recipes (see `selftaught ls recipes`), or all.", metavar="RECIPES")
    ],
    budget: Annotated[
        str, typer.Option(help="smoke (does it run?), quick (a small version) or paper (full protocol).")
    ] = "quick",
    trials: Annotated[int | None, typer.Option(help="Seeds per cell, if not the budget's.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Trials at once; by default as many as fit the cores.")
    ] = None,
    executor: Executor = "local",
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", help="Train this variant only, again for more; tables stay whole.", metavar="LABEL"
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            help="Train for this group of a table only, such as ResNet8, again for more.",
            metavar="LABEL",
        ),
    ] = None,
    dry_run: DryRun = False,
    tables_only: Annotated[
        bool,
        typer.Option("--tables-only", help="Train nothing: tables and figures of the trials in --out."),
    ] = False,
) -> None:
    """Run tables and figures of the paper, and show ours beside theirs.

    Trials that several need are trained once; the same command resumes.
    """
    from selftaught.cli import early

    demands.check_executor(executor, jobs)
    early.check_options(machine)
    early.check_reproduction(names, budget, output.out)
    with loading():
        from selftaught.cli.commands import Work
        from selftaught.cli.commands import reproduce as command

    options = {"trials": trials, **machine.given()}
    work = Work(jobs, executor, dry_run, tables_only)
    raise typer.Exit(command(names, budget, variants or [], groups or [], work, options, output))


@app.command(epilog="Example: selftaught status runs/paper-quick")
def status(
    directory: Annotated[
        Path | None,
        typer.Argument(help="A study's directory; by default the newest one below runs.", metavar="STUDY"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show how a study stands: what is done, running, waiting or failed, and the time left."""
    from selftaught.cli.status import status as command

    raise typer.Exit(command(directory, as_json))


@app.command(epilog="Example: selftaught archive runs/paper-quick -o records/")
def archive(
    study: Annotated[
        Path, typer.Argument(help="The directory of a comparison or reproduction.", metavar="STUDY")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory to copy to.")] = Path("archive"),
) -> None:
    """Copy what a study's numbers come from, small enough for git: records and tables, but no networks.

    The same `selftaught reproduce`, or for a comparison `selftaught report`, makes tables and page of the copy.
    """
    from selftaught.cli.records import archive as command

    raise typer.Exit(command(study, out))


@app.command(epilog="Example: selftaught check runs/compare-digits")
def check(
    directory: Annotated[
        Path, typer.Argument(help="The directory of a run, a study or an archive.", metavar="DIR")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Say whether every file is what was written, and whether the numbers follow from the predictions.

    One line for each file in which something is wrong, and what to do about it.
    """
    from selftaught.cli.check import check as command

    raise typer.Exit(command(directory, as_json))


@app.command(epilog="Example: selftaught bench digits --methods ce,ls,le")
@grouped
def bench(
    options: RunOptions,
    data: Data = "digits",
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, separated by commas; by default all that the model can be trained by."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure what a step of each method costs relative to plain training, in time and memory, on this machine."""
    from selftaught.cli import early

    early.check_options(options)
    catalogue.check_names(demands.split_methods(methods or ""))
    with loading():
        from selftaught.cli.bench import bench as command

    raise typer.Exit(command(data, methods, options, as_json))


@app.command(epilog="Example: selftaught predict runs/my-run photos/ --top 3 -o predictions.csv")
def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", metavar="IMAGES")],
    top: Annotated[int, typer.Option(help="How many of the most probable classes to name.")] = 1,
    style: Annotated[
        str | None,
        typer.Option("--format", help="table, csv or json; by default as --out ends, else a table."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file instead of the screen.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    device: ModelDevice = "auto",
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Divide the logits by the run's temperature.")
    ] = False,
    model: ModelCode = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Say which class images are of, and how probable it is; CSV and JSON have every class's probability."""
    from selftaught.cli import early

    early.check_trained(run)
    with loading():
        from selftaught.cli.predict import predict as command

    raise typer.Exit(command(run, images, top, style, out, batch_size, device, calibrated, model, as_json))


@app.command(epilog="Example: selftaught explain runs/my-run cat.jpg dog.jpg -o explanation.png")
def explain(
    run: Run,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files and folders of them; by default test images of the run's own data.",
            metavar="IMAGES",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="How many test images, where no files are given.")] = 5,
    classes: Annotated[
        int,
        typer.Option(help="Where there are more classes: the true, the predicted and the likeliest ones."),
    ] = 10,
    saliency: Annotated[
        str | None, typer.Option(help="Which maps; by default those the run was trained with.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Grad-CAM's layer, by its dotted name.")] = None,
    overlay: Annotated[
        bool | None,
        typer.Option("--overlay/--no-overlay", help="Maps over the picture; by default over photographs."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The picture: .png, .pdf or .svg. Each has up to 20 images.")
    ] = Path("explanation.png"),
    device: ModelDevice = "auto",
    model: ModelCode = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print predictions and similarities as JSON.")
    ] = False,
) -> None:
    """Show what a trained model sees: one map per class, and how alike the classes look to it."""
    from selftaught.cli import early

    early.check_trained(run)
    with loading():
        from selftaught.cli.explain import explain as command

    raise typer.Exit(
        command(run, images or [], count, classes, saliency, layer, overlay, out, as_json, device, model)
    )


@app.command(epilog="Example: selftaught export runs/my-run -o model.onnx")
def export(
    run: Run,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file: .onnx, or .pt2 for torch.export.")
    ] = Path("model.pt2"),
    model: ModelCode = None,
) -> None:
    """Write a trained network, its preprocessing inside, to a file that runs without selftaught.

    It takes float32 images (batch, channels, height, width) in [0, 1] and returns logits; class names are its metadata.
    """
    from selftaught.cli import early

    early.check_trained(run)
    with loading():
        from selftaught.cli.export import export as command

    raise typer.Exit(command(run, out, model))


@app.command(epilog="Example: selftaught report runs/compare-digits -o report.html")
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Directories of comparisons or of runs.", metavar="RUNS")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, an .html file.")] = Path("report.html"),
) -> None:
    """Write a page about finished runs, with everything in one file; nothing is trained."""
    from selftaught.cli.records import report as command

    raise typer.Exit(command(runs, out))


@app.command(name="ls", epilog="Example: selftaught ls methods")
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(help="methods, models, datasets or recipes; all if left out.", metavar="KIND"),
    ] = None,
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
