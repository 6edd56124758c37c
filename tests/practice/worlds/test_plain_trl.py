"""The script of plain TRL runs unchanged on a tiny model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "recipes/worlds/plain_trl.py"


@pytest.mark.slow
def test_trl_trains_two_steps_on_rooms(write_model: Callable[..., Path], tmp_path: Path) -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 40
    model = write_model(tmp_path / "model", max_position_embeddings=2048)
    command = [sys.executable, str(SCRIPT), str(model), str(tmp_path / "run"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len([line for line in done.stdout.splitlines() if "rewards/Rooms/mean" in line]) == 2
    assert (tmp_path / "run/model.safetensors").exists()
