"""What sharded weights do not allow is refused before training, also where only the launch config asks for FSDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat.stages import dpo, gkd, reward, sft
from zero2chat.trainers.arguments import prepare_machine

LORA = {"use_peft": True, "lora_r": 2, "lora_target_modules": "all-linear"}
PAIRS = {"datasets": [{"task": "lines", "n": 8}]}


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [
        (sft, LORA | {"merge_adapter": True}, "merge_adapter: sharded weights are not merged"),
        (reward, LORA, "use_peft: the adapter is merged at the end, which sharded weights do not allow"),
        (dpo, {"precompute_ref_log_probs": True}, "precompute_ref_log_probs: not supported with sharded weights"),
        (gkd, {"teacher_model_name_or_path": "m"}, "gkd: FSDP is not supported"),
    ],
)
def test_fsdp_of_the_launch_config_counts(
    stage: Any, settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"output_dir": str(tmp_path / "run"), "model_name_or_path": "m", **PAIRS, **settings}
    arguments = stage.STAGE.build(given, "a.yaml")

    def check() -> None:
        prepare_machine(arguments)
        if stage.STAGE.check is not None:
            stage.STAGE.check(*arguments)

    check()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=says):
        check()


def test_a_reward_model_in_4_bits_is_refused_because_its_adapter_would_be_rounded_away(tmp_path: Path) -> None:
    given = {"output_dir": str(tmp_path / "run"), "model_name_or_path": "m", **PAIRS, **LORA, "load_in_4bit": True}
    with pytest.raises(UserError, match="load_in_4bit: the adapter is merged at the end, and would be rounded away"):
        reward.STAGE.check(*reward.STAGE.build(given, "a.yaml"))
