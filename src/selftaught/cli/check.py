"""`selftaught check`: is everything in a folder what was written?"""

import json
from pathlib import Path

from selftaught.activities import activity
from selftaught.cli import DONE, WRONG_INPUT
from selftaught.cli.busy import hear
from selftaught.errors import shown
from selftaught.files.verification import Checked
from selftaught.files.verification import check as verify


def check(directory: Path, as_json: bool) -> int:
    """Print a line for every fault, or how much was looked at."""
    with activity(hear, "checking") as doing:
        found = verify(directory, doing)
    if as_json:
        print(json.dumps(_values(found), indent=2))
    else:
        for fault in found.faults:
            print(shown(fault))
        print(shown(_summary(found)))
    return WRONG_INPUT if found.faults else DONE


def _summary(found: Checked) -> str:
    """What was looked at, in one line."""
    runs = f"{found.runs} finished run{'s' * (found.runs != 1)}"
    if found.unfinished:
        runs += f" and {found.unfinished} unfinished"
    if found.faults:
        count = len(found.faults)
        return f"{found.directory}: {count} fault{'' if count == 1 else 's'} in {runs}"
    line = f"{found.directory}: {runs}, {found.files} files with a digest: each is what was written"
    if found.unsealed:
        line += (
            f"; {found.unsealed} of an older version have no digest of their own: of these, what follows from the "
            "predictions was computed again"
        )
    return line


def _values(found: Checked) -> dict[str, object]:
    return {
        "directory": str(found.directory),
        "runs": found.runs,
        "unfinished": found.unfinished,
        "files": found.files,
        "unsealed": found.unsealed,
        "faults": [str(fault) for fault in found.faults],
    }
