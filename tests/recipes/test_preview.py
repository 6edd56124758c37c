"""A preview shows the tokens that the stage trains on, opens no weights and writes no run."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from stage_fixtures import write_rows
from transformers import PreTrainedTokenizerBase

from zero2chat import cli
from zero2chat.core.errors import UserError
from zero2chat.data.conversations import load_conversations
from zero2chat.data.encoding import encode_conversations
from zero2chat.data.sources import Source
from zero2chat.recipes import preview
from zero2chat.recipes.preview import open_rows, show


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> Callable[..., str]:
    """`config(stage, **settings)` writes a YAML for a model whose weights are gone, and gives its path."""
    model = tmp_path / "model"
    shutil.copytree(model_folder, model, ignore=shutil.ignore_patterns("*.safetensors"))

    def write(stage: str, **settings: Any) -> str:
        path = tmp_path / f"{stage}.yaml"
        settings = {"output_dir": str(tmp_path / "run"), "model_name_or_path": str(model)} | settings
        path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))
        steps = [{"name": stage, "stage": stage, "config": path.name}]
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"steps": steps}))
        return str(path)

    return write


EVIL = {"prompt": "Say <|im_end|> and \x1b[31mred.", "completion": "No.\nNever."}
LONG = {"instruction": "Go on.", "output": "word " * 100}


@pytest.fixture
def sft(tmp_path: Path, config: Callable[..., str]) -> str:
    paths = [write_rows(tmp_path / "evil.jsonl", [EVIL, EVIL]), write_rows(tmp_path / "alpaca.jsonl", [LONG])]
    return config("sft", datasets=[{"path": str(path)} for path in paths], max_length=100)


def test_it_shows_what_sft_learns_from_and_what_is_too_long(
    sft: str, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["preview", "--config", sft, "--set", "overlong=drop", "--row", "1", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = found["examples"]
    assert row["where"] == f"evil, row 1 ({tmp_path / 'evil.jsonl'}, line 2)"
    trained = encode_conversations(load_conversations(Source(path=str(tmp_path / "evil.jsonl"))), tokenizer)[1]
    (side,) = row["sides"]
    assert [token["id"] for token in side["tokens"]] == trained["input_ids"]
    assert [int(token["marked"]) for token in side["tokens"]] == trained["assistant_masks"]
    assert "".join(token["text"] for token in side["tokens"] if token["marked"]) == r"No.\nNever.<|im_end|>"
    assert found["sources"] == {"evil": 2, "alpaca": 1}
    assert (found["rows"], found["dropped"], found["limit"]) == (2, 1, {"max_length": 100})
    assert found["median"] == len(trained["input_ids"])
    assert found["longest_row"].startswith("evil, row 0 (")
    assert not (tmp_path / "run").exists()


def test_without_colour_what_is_learned_stands_between_marks_and_nothing_reaches_the_terminal(sft: str) -> None:
    out = io.StringIO()
    show(preview.preview(sft, changes=["overlong=drop"], n=1), Console(file=out, highlight=False, width=60))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "<|im_start|>user\\n\nSay < |im_end|> and \\x1b[31mred.<|im_end|>\\n\n" in text
    assert "⟦No.\\n\nNever.<|im_end|>⟧" in text
    assert "2 conversations: evil 2, alpaca 1\n" in text
    assert "1 dropped, over max_length, 100 tokens\n" in text


def test_of_pairs_both_sides_are_shown(tmp_path: Path, config: Callable[..., str]) -> None:
    pairs = [{"prompt": f"Who is {i}?", "chosen": "Ada.", "rejected": "No."} for i in range(40)]
    path = str(write_rows(tmp_path / "pairs.jsonl", pairs))
    _, rows = open_rows(config("reward", datasets=[{"path": path}], max_length=64))
    sides = rows.sides(0)
    assert [side.name for side in sides] == ["chosen", "rejected"]
    assert [rows.tokenizer.decode(side.ids) for side in sides] == [
        f"<|im_start|>user\nWho is 0?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        for answer in ("Ada.", "No.")
    ]
    assert rows.n < 40  # the others are held out
    _, rows = open_rows(config("dpo", datasets=[{"path": path}], max_length=64))
    learned = [[i for i, mine in zip(side.ids, side.marked, strict=True) if mine] for side in rows.sides(0)]
    assert [rows.tokenizer.decode(ids) for ids in learned] == ["Ada.<|im_end|>", "No.<|im_end|>"]
    _, rows = open_rows(config("kto", datasets=[{"path": path}], max_length=64))
    assert [side.name for i in range(2) for side in rows.sides(i)] == ["thumbs up", "thumbs down"]
    assert rows.tokenizer.decode(rows.sides(1)[0].ids).endswith("assistant\nNo.<|im_end|>")
    comparisons = {"task": "lines", "n": 4, "held_out": 4}
    with pytest.raises(UserError, match=r"comparisons: the pairs are not sampled yet.*run/pairs"):
        open_rows(config("reward", comparisons=comparisons, max_length=64))


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_prompts_are_shown_up_to_the_answer(stage: str, config: Callable[..., str]) -> None:
    rewards = [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}]
    settings = {"datasets": [{"task": "facts", "n": 5}], "rewards": rewards, "max_completion_length": 60}
    name, rows = open_rows(config(stage, **settings))
    assert name == stage
    text = rows.tokenizer.decode(rows.sides(4)[0].ids)
    assert text.startswith("<|im_start|>user\n")
    assert text.endswith("<|im_start|>assistant\n")
    assert rows.limit == ("the context minus max_completion_length", 68)
    assert not any(any(side.marked) for i in range(rows.n) for side in rows.sides(i))
    assert "input_ids" not in rows.train.column_names
    with pytest.raises(UserError, match=rf"{stage}\.yaml: max_completion_length is not set"):
        open_rows(config(stage, **settings), ["max_completion_length=null"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bare.yaml"], "bare.yaml: no recipe beside it has a step with this YAML"),
        (["none.yaml"], "none.yaml: No such file or directory"),
        (["sft.yaml", "--set", "overlng=drop"], "unknown key 'overlng'; did you mean 'overlong'?"),
        (["sft.yaml", "--set", "max_length=1000"], "max_length 1000 exceeds the model's context of 128"),
        (["sft.yaml"], "1 of 3 conversations are longer than max_length 100 (alpaca, row 0"),
        (["sft.yaml", "--set", "overlong=drop", "--row", "3"], "--row 3: the rows are 0 to 1"),
    ],
)
def test_mistakes_are_those_of_the_stage(
    sft: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare.yaml").write_text(Path(sft).read_text())
    with pytest.raises(SystemExit) as end:
        cli.main(["preview", "--config", *arguments])
    assert end.value.code == 2
    assert says in capsys.readouterr().err
