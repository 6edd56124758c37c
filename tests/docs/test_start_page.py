"""The commands of docs/index.md, "Change something", in order after the quickstart. Only the launches are replaced."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from recipes.tiny_recipes import ROOT, enter, replace_launch

from zero2chat.cli import main
from zero2chat.recipes.recipe import Step
from zero2chat.stages.open_run import open_run

PAGE = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_each_command_runs_the_steps_that_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    for name in ("recipes", "data"):
        Path(name).symlink_to(ROOT / name)
    configs: list[str] = []

    def leave(step: Step, settings: dict[str, Any]) -> None:
        configs.append(step.accelerate_config)
        open_run(settings["output_dir"], step.stage, settings).finish({})

    names = replace_launch(monkeypatch, leave)

    def run(command: str) -> list[str]:
        names.clear()
        configs.clear()
        main(shlex.split(command)[1:])
        return list(names)

    steps = run("zero2chat run recipes/quickstart")
    block = re.search(r"## Change something\n+```bash\n(.*?)```", PAGE, re.DOTALL)
    assert block
    shown, faster, sharded = block[1].splitlines()
    assert run(shown) == []
    assert run(faster) == steps[steps.index("sft") :]
    assert run(sharded) == steps[steps.index("pretrain") :]
    assert {*configs} == {"cpu_zero2"}
