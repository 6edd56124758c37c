"""The rows that trainers receive are unchanged. After an intended change: `python tests/digests.py --write`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("digests.py")


def _check(*arguments: str) -> None:
    command = [sys.executable, str(SCRIPT), "--check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    different = [line for line in done.stdout.splitlines() if ": equal (" not in line and ": left out: " not in line]
    assert done.returncode == 0, "\n".join(different) + done.stderr[-3000:]
    assert ": equal (" in done.stdout


@pytest.mark.timeout(900)
def test_rows_of_each_format_are_unchanged():
    _check("--fast")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pattern", ["[!f]*@?", "fixture/*@2"])
def test_rows_of_each_recipe_are_unchanged(pattern):
    _check("--only", pattern)
