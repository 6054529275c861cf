"""The command line, called as a shell would."""

import pytest

from selftaught import cli


def call(*arguments) -> int:
    """The exit code of `selftaught` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code
