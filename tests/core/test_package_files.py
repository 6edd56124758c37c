"""What travels with the package: found in any folder, from a clone and from a wheel."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat.core import fingerprints
from zero2chat.core.config import load_yaml
from zero2chat.core.package_files import FOLDERS, find, own_file
from zero2chat.recipes import runner
from zero2chat.recipes.recipe import load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_path_is_looked_up_in_the_package_if_the_working_folder_lacks_it(elsewhere: Path) -> None:
    assert find("chat_templates/chatml.jinja") == ROOT / "chat_templates/chatml.jinja"
    assert find("recipes/quickstart") == ROOT / "recipes/quickstart"
    own = Path("chat_templates/chatml.jinja")
    own.parent.mkdir()
    own.write_text("mine")
    assert find(own) == own
    for other in ("pyproject.toml", "recipes/none", "recipes/../pyproject.toml", str(elsewhere / "recipes"), ""):
        assert find(other) == Path(other)
    assert own_file(f"a.{'b' * 300}") is None  # longer than a file's name may be


def test_the_same_anywhere(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = load_recipe("recipes/chat/qwen3-0.6b.yaml")
    runner.run("recipes/chat/qwen3-0.6b.yaml", dry_run=True)
    printed = capsys.readouterr().out
    assert f"--config_file {ROOT / 'accelerate_configs/single_gpu.yaml'} " in printed
    template = "chat_templates/chatml.jinja"
    (sft,) = (step for step in steps if step.name == "sft")
    here = fingerprints.input_digest(template)
    assert template in fingerprints.input_paths(sft.settings)
    assert "chat_templates/chatml.response.json" in fingerprints.input_paths(sft.settings)
    assert load_yaml(sft.config)["learning_rate"] == sft.settings["learning_rate"]
    monkeypatch.chdir(ROOT)
    again = load_recipe("recipes/chat/qwen3-0.6b.yaml")
    assert [(step.name, step.settings) for step in again] == [(step.name, step.settings) for step in steps]
    assert fingerprints.input_digest(template) == here
    assert "--config_file accelerate_configs/single_gpu.yaml " in shlex.join(sft.command())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, installed from a wheel."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    command = ["git", "ls-files", "-co", "--exclude-standard", "src", *FOLDERS]
    wanted = subprocess.check_output(command, cwd=ROOT, text=True).split()
    names = [name.removeprefix("src/") if name.startswith("src/") else f"zero2chat/bundled/{name}" for name in wanted]
    inside = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(inside) == sorted(names)


@pytest.mark.slow
@pytest.mark.timeout(900)  # five minutes on a busy machine
def test_an_own_recipe_runs_in_an_empty_folder_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "my-recipe").mkdir()
    (tmp_path / "prompts.csv").write_text("prompt;answer\n" + "".join(f"Say {i}.;{i}\n" for i in range(16)))
    reward = "def short(completions, **_):\n    return [float(len(c[-1]['content']) < 5) for c in completions]\n"
    (tmp_path / "my_rewards.py").write_text(reward)
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}
    training = {"max_steps": 2, "global_batch_size": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    training |= {"bf16": False, "gradient_checkpointing": False}
    corpus, tokenizer = {"dataset": "runs/my-recipe/corpus"}, {"tokenizer": "runs/my-recipe/tokenizer"}
    practice = {"datasets": [{"path": "prompts.csv"}], "rewards": [{"function": "my_rewards.short"}]}
    practice |= {"num_generations": 2, "max_completion_length": 4, "chat_template_path": "chat_templates/chatml.jinja"}
    settings: dict[str, dict[str, Any]] = {
        "corpus": {"datasets": [{"task": "word_problems", "n": 200}]},
        "tokenizer": corpus | {"vocab_size": 300},
        "pretrain": corpus | tokenizer | training | {"model": sizes, "max_length": 64},
        "grpo": training | practice | {"model_name_or_path": "runs/my-recipe/pretrain"},
    }
    steps = [{"name": stage, "stage": stage, "set": own} for stage, own in settings.items()]
    (tmp_path / "my-recipe/recipe.yaml").write_text(yaml.safe_dump({"steps": steps}))

    site = installed / "site"
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(path) != ROOT / "src"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *others]), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        command = [str(site / "bin/zero2chat"), "run", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    printed = run("my-recipe", "--json")
    assert json.loads(printed.splitlines()[-1])["steps"] == dict.fromkeys(settings, "made")
    assert str(site / "zero2chat/bundled/accelerate_configs/cpu.yaml") in printed
    assert str(site) not in (tmp_path / "runs/my-recipe/grpo/README.md").read_text()
    assert "zero2chat.stages.dpo" in run("recipes/chat/qwen3-0.6b.yaml", "--dry-run")
