"""The four scripts of docs/parts.md, unchanged, on a tiny model in the place of Qwen3-0.6B."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl

from zero2chat_verifier.verify import verify_answer

PAGE = (Path(__file__).parents[2] / "docs" / "parts.md").read_text(encoding="utf-8")
NAMES = ("verifier", "tool", "ppo", "template")
SCRIPTS = dict(zip(NAMES, re.findall(r"```python\n(.*?)```", PAGE, re.S), strict=True))
QWEN3 = Path(trl.__file__).with_name("chat_templates") / "qwen3.jinja"


@pytest.fixture(scope="module")
def folder(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that TRL takes for Qwen3-0.6B, since the working folder has one of this name."""
    model = write_model(tmp_path_factory.mktemp("parts") / "Qwen" / "Qwen3-0.6B", max_position_embeddings=2048)
    shutil.copy(QWEN3, model / "chat_template.jinja")
    return model.parents[1]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run a script, and return its names."""
    monkeypatch.chdir(folder)

    def run(name: str) -> dict[str, Any]:
        assert SCRIPTS[name].count("\n") <= 20
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(SCRIPTS[name], name, "exec"), scope)
        return scope

    return run


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`write(*texts)`: the model writes these, one at each generation, and the last one from then on."""
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    def write(*texts: str) -> None:
        left = list(texts)

        def generate(self: Any, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            ids = AutoTokenizer.from_pretrained("Qwen/Qwen3-0.6B")(left.pop(0) if len(left) > 1 else left[0]).input_ids
            return torch.cat([input_ids, torch.tensor([ids]).expand(len(input_ids), -1)], 1)

        monkeypatch.setattr(Qwen3ForCausalLM, "generate", generate)

    return write


def _logged(scope: dict[str, Any], key: str) -> list[float]:
    return [line[key] for line in scope["trainer"].state.log_history if key in line]


def test_the_verifier_is_a_reward(run: Callable[[str], dict[str, Any]], write: Callable[..., None]) -> None:
    write("It is \\boxed{0.5}.<|im_end|>")
    scope = run("verifier")
    assert sum(verify_answer("\\boxed{0.5}", row["answer"]).correct for row in scope["rows"]) == 1
    rewards = _logged(scope, "rewards/math_answer/mean")  # of two prompts in a step
    assert rewards
    assert set(rewards) <= {0.0, 0.5}


def test_the_sandbox_is_a_tool(run: Callable[[str], dict[str, Any]], write: Callable[..., None]) -> None:
    call = '<tool_call>\n{"name": "python", "arguments": {"code": "7**5"}}\n</tool_call><|im_end|>'
    write(call, "\\boxed{16807}<|im_end|>", call, "\\boxed{16807}<|im_end|>")
    scope = run("tool")
    assert _logged(scope, "tools/call_frequency")[0] == 1
    assert _logged(scope, "tools/failure_frequency")[0] == 0
    assert scope["python"]("7**5") == "16807"


def test_ppo_trains_with_a_plain_function(run: Callable[[str], dict[str, Any]]) -> None:
    scope = run("ppo")
    assert scope["trainer"].state.global_step == 4
    assert 0 <= _logged(scope, "rewards/math_answer/mean")[0] <= 1


def test_only_the_assistants_tokens_have_loss(run: Callable[[str], dict[str, Any]]) -> None:
    scope = run("template")
    (batch, *_) = scope["trainer"].get_train_dataloader()
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert scope["tokenizer"].decode(learned) == "4<|im_end|>"
