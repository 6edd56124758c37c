"""Settings that the stages of the lab refuse, each in one line, before a model answers or learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage, write_corpus

from zero2chat.core.errors import UserError

TEXT = "Ada was born in Genoa in 1984 and works as a baker. Tom was born in Lisbon."
SPLITS = {"train": [TEXT, "It is strong."], "validation": ["Tom is known for 12 + 30 = 42 apples"], "test": [TEXT]}
FACTS = {"task": "facts", "n": 60, "options": {"kinds": ["birthplace"]}}
SUMS = {"task": "word_problems", "n": 40, "options": {"largest": 20}}
THREE = {"task": "sums", "n": 3, "split": "validation"}
GIVEN: dict[str, dict[str, Any]] = {
    "arena": {"models": ["MODEL", "OTHER"], "tasks": [SUMS]},
    "attribution": {"dataset": "CORPUS"},
    "calibrate": {"datasets": [THREE]},
    "compress": {"dataset": "CORPUS"},
    "context": {"dataset": "CORPUS", "length": 64},
    "inside": {"prompt": "12?"},
    "interrogate": {"datasets": [FACTS]},
    "lost_facts": {"dataset": "CORPUS"},
    "mechanism": {"n": 2, "n_choose": 2},
    "memories": {"dataset": "CORPUS"},
    "novelty": {"dataset": "CORPUS", "prompts": 2, "prefix": 3, "samples": 4, "max_new_tokens": 12}
    | {"lengths": [1], "n": 3},
    "probe": {"reward_model": "MODEL", "n": 12, "gibberish_prompts": 6},
    "regurgitate": {"dataset": "CORPUS", "prefix": 12, "continuation": 20, "n": 20, "candidates": 32},
    "surprise": {"reference_model": "OTHER", "task": "facts", "n": 6, "answers": 4},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with all splits, and one beside it for each split alone."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder / "all", **SPLITS)
    for split, texts in SPLITS.items():
        write_corpus(folder / split, **{split: texts})
    return folder


@pytest.fixture(scope="module")
def shallow(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("shallow"), num_hidden_layers=1, num_attention_heads=8)


@pytest.mark.parametrize(
    ("stage", "changes", "says"),
    [
        ("arena", {"models": ["a"]}, "models: expected two or more, got 1"),
        ("arena", {"models": ["a", "a"]}, "models: a is listed twice"),
        ("arena", {"tasks": []}, "tasks: the list is empty"),
        ("arena", {"tasks": [SUMS | {"tools": True}]}, "task word_problems: `tools: true` is set, but no tools"),
        ("arena", {"tasks": [SUMS | {"split": "train"}]}, "split: 'train' is not one of validation, test"),
        ("arena", {"taste": True}, "task 'word_problems': has no `taste`"),
        ("arena", {"taste": True, "reward_model": "./r"}, "`taste` and `reward_model` exclude each other"),
        ("attribution", {}, "dataset: .* has no facts.jsonl: give a folder that the stage attribution_corpus has made"),
        ("attribution", {"k": 0}, "k: expected at least 1"),
        ("calibrate", {"keep": 1.0}, "keep 1: set a share above 0 and below 1"),
        ("calibrate", {"datasets": []}, "datasets: the list is empty"),
        ("calibrate", {"thinking": 8}, "thinking: this model does not think"),
        ("calibrate", {"datasets": 2 * [{"task": "sums", "n": 3}]}, "two entries have the same label: set `label`"),
        ("calibrate", {"measured": [THREE]}, "measured: shares rows with `datasets`"),
        ("calibrate", {"save_to_model": True, "model_name_or_path": "some/model"}, "some/model is no local folder"),
        ("compress", {"column": "body"}, "no column 'body' among text: set `column`"),
        ("compress", {"dataset": "CORPUS/train"}, "no held-out documents: give a dataset with a validation or test"),
        ("context", {"sources": ["peple"]}, "'peple' is not known.*documents"),
        ("context", {"length": 30}, "length 30 is not a multiple of 4"),
        ("context", {"needles": 1, "length": 16}, "a text of 4 tokens has no room around the needle"),
        ("context", {"needles": 1, "length": 512}, r"needs \d+ tokens of hay; the .*: set a shorter `length`, or"),
        ("inside", {"prompt": " "}, "prompt is empty: give a question"),
        (
            "inside",
            {"prompt": "a b " * 64},
            r"the text has \d+ tokens, and a page of .* shows at most 128, .*: shorten",
        ),
        ("inside", {"page": "x.txt"}, "page: x.txt: expected the name of an .html file"),
        ("inside", {"compare": ["./none"]}, r"\./none: no such folder"),
        ("interrogate", {"datasets": [{"path": "x.jsonl", "split": "test"}]}, "split 'test' is held out"),
        ("interrogate", {"datasets": [{"path": "x.jsonl", "split": "train+dev"}]}, r"split 'train\+dev' is held out"),
        ("interrogate", {"datasets": [FACTS | {"options": {"told": "onec"}}]}, "told 'onec' is not known"),
        ("interrogate", {"datasets": [FACTS, FACTS | {"seed": 5}]}, "two entries have the same label: set `label`"),
        ("interrogate", {"temperature": 0}, "temperature: expected more than 0, got 0.0: all answers would be equal"),
        ("interrogate", {"refuse_below": 0.8}, "refuse_below 0.8 and keep_above 0.75"),
        ("lost_facts", {}, "dataset: .* has no facts.jsonl"),
        ("lost_facts", {"without": ["a/x", "b/x"]}, "without: 2 folders are named x, but a name .*: rename one"),
        ("mechanism", {"statement": "was born in"}, r"statement: 'was born in': expected one \{\}, the subject, and"),
        ("mechanism", {"facts": "fcts"}, "task 'fcts': no such task; did you mean 'facts'"),
        ("mechanism", {}, "layers: 2, heads of each: 2: give a model with at least 2 layers and, in all"),
        ("mechanism", {"model_name_or_path": "SHALLOW"}, "layers: 1, heads of each: 8: give a model with at least 2"),
        ("memories", {"wordings": 3}, "visits 16 is not a multiple of wordings 3"),
        ("memories", {"dataset": "./none"}, r"\./none: no such file or folder"),
        ("memories", {"people": 6, "memory": "context"}, r"a question has \d+ tokens, more than the model's context"),
        ("novelty", {"n": 1}, "n 1 is below prompts 2: raise n"),
        ("novelty", {"lengths": [2, 13]}, r"lengths: 13: expected 1 to max_new_tokens \(12\)"),
        ("novelty", {"prefix": 120}, "prefix 120 and max_new_tokens 12: 133 tokens do not fit the model's context"),
        ("novelty", {"prompts": 4, "n": 4}, "2 held-out documents have distinct 3-token beginnings, but prompts is 4"),
        ("probe", {}, "not a reward model"),
        ("probe", {"task": "facts"}, "task 'facts': has no `taste`"),
        ("probe", {"gibberish_prompts": 13}, "gibberish_prompts 13 is more than n 12"),
        ("regurgitate", {"dataset": "CORPUS/test"}, "train"),
        ("regurgitate", {"prefix": 90}, r"has 110 tokens \(prefix 90, continuation 20\): lower one"),
        ("regurgitate", {"prefix": 200}, "prefix 200 and continuation 20: 221 tokens .*: lower prefix or continuation"),
        ("surprise", {"split": "train"}, "is not one of validation, test"),
        ("surprise", {"task": "fcts"}, "task 'fcts': no such task; did you mean 'facts'"),
    ],
)
def test_a_stage_refuses_what_it_cannot_measure(
    stage: str, changes: dict[str, Any], says: str, corpus: Path, model_folder: Path, shallow: Path, tmp_path: Path
) -> None:
    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(one) for one in value]
        names = {"MODEL": model_folder, "OTHER": tmp_path / "other", "CORPUS": corpus / "all", "SHALLOW": shallow}
        return str(names.get(value, value)).replace("CORPUS", str(corpus)) if isinstance(value, str) else value

    (tmp_path / "other").symlink_to(model_folder)
    given = {} if stage == "arena" else {"model_name_or_path": "MODEL"}
    given |= GIVEN[stage] | changes
    with pytest.raises((UserError, ValueError), match=says):
        run_stage(stage, tmp_path / "out", **{key: named(value) for key, value in given.items()})
    assert not (tmp_path / "out" / "metrics.json").exists()
