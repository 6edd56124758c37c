"""Runs survive kills at random moments and damaged files: `benchmarks/damage.py`, with few of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_and_damaged_runs_end_as_an_uninterrupted_one_or_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "damage.py"), "--folder", str(tmp_path), "--json"]
    command += ["--kills", "10", "--damages", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["complete"]
    assert made["trials"]["kill: killed"] == 10
    assert made["trials"]["end: identical"] >= 1
