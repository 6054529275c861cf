"""What is made of finished runs without their networks: a report, an archive. Importing this does not import torch."""

import sys
from pathlib import Path

from selftaught.activities import activity
from selftaught.cli import DONE, complain
from selftaught.cli.busy import hear


def report(runs: list[Path], out: Path) -> int:
    """The page about runs that are there."""
    with activity(hear, "writing the report"):
        from selftaught.report import study as pages

        written = pages.write(runs, out)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    return DONE


def archive(study: Path, out: Path) -> int:
    """Copy the records of a study."""
    with activity(hear, "archiving") as doing:
        from selftaught.files.archive import archive as copy

        made = copy(study, out, doing)
    for name in made.too_large:
        complain(f"{name} is left out: it is larger than 1 MB")
    without = f", without {made.unfinished} not finished" if made.unfinished else ""
    print(
        f"archived {made.trials} finished trials{without} in {made.directory}: {made.bytes / 1e6:.1f} MB",
        file=sys.stderr,
    )
    return DONE
