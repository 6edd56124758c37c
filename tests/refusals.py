"""What the command says of a user's mistake."""

from __future__ import annotations

from typing import Any

import pytest

from zero2chat import cli


def refused(capture: pytest.CaptureFixture[Any], *arguments: str) -> str:
    """Run the command. It must print nothing, end with exit code 2, and say one line on stderr, which is returned."""
    capture.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capture.readouterr()
    assert end.value.code == 2, err
    assert (out, err.count("\n"), err[:7]) == ("", 1, "error: "), err
    return err.removeprefix("error: ")
