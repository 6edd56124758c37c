"""What GRPO needs of TRL and vLLM, in the versions that a GPU gets: `make .venv-vllm` installs them for CPUs."""

from __future__ import annotations

import os
import subprocess

import pytest
from stage_fixtures import REPOSITORY

PYTHON = REPOSITORY / ".venv-vllm" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not PYTHON.exists(), reason="vLLM for CPUs is not here: `make .venv-vllm` installs it")
def test_the_contracts_hold_and_recipes_parse_in_the_versions_of_a_gpu():
    tests = ["tests/contracts", "tests/recipes/test_every_recipe.py"]
    command = [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", *tests]
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    env |= {"PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
