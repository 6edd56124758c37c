"""The evaluation stage: its numbers are those of `evaluate_tasks`, and of the checkpoint it changes the card alone. Two
evaluations and two models are compared row by row, and a base model can be asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage_fixtures import TEMPLATE, Killed, Train, main, metrics, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import tasks
from zero2chat.core import fingerprints, stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.evaluation import lm_eval, models
from zero2chat.evaluation.models import open_evaluated
from zero2chat.evaluation.scores import changes_since, metrics_over_tasks
from zero2chat.evaluation.tasks import Scored, evaluate_tasks, rate_of, read_specs
from zero2chat.models.chat_template import end_turn
from zero2chat.models.tokenization import set_chat_template
from zero2chat.stages import evaluate

BITS = {"load_in_4bit": True}


@pytest.fixture
def ask(train: Train) -> Train:
    """`ask(name, **changes)` evaluates the pretrained model → the run's folder."""
    return lambda name="e", **changes: train("evaluate", name, **changes)


@pytest.mark.parametrize(("changes", "gpu"), [({}, "auto"), ({"dtype": "float32"}, "float32"), (BITS, "float32")])
def test_weights_are_fp32_on_a_cpu_and_on_a_gpu_as_saved(changes, gpu, monkeypatch):
    seen: list[str] = []

    def load(path: str, dtype: str, *_: Any, **more: Any) -> None:
        seen.append(dtype)
        raise Killed

    monkeypatch.setattr(models, "load_model", load)
    monkeypatch.setattr("trl.get_quantization_config", lambda _: None)
    args = evaluate.EvaluateArguments(model_name_or_path="a", output_dir="b", questions=["c"], **changes)
    for on_cpu in (True, False):
        monkeypatch.setattr(models, "is_on_cpu", lambda on_cpu=on_cpu: on_cpu)
        with pytest.raises(Killed):
            open_evaluated("a", args)
    assert seen == ["float32", gpu]


def _open(path: Path) -> tuple[Any, Any]:
    """Open a base model for chat, as the stage does."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    set_chat_template(tokenizer, TEMPLATE)
    end_turn(model, tokenizer)
    return model, tokenizer


def test_a_checkpoint_is_examined_on_each_task(tiny, tmp_path, configured, capsys):
    entries = [
        {"task": "facts", "n": 5, "samples": 2, "max_new_tokens": 6},
        {"task": "facts", "n": 4, "options": {"told": "once"}, "label": "once", "max_new_tokens": 6},
    ]
    checkpoint = shutil.copytree(tiny / "pretrain", tmp_path / "model")
    path = configured("evaluate", "e", tasks=entries, model_name_or_path=str(checkpoint))

    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in checkpoint.rglob("*") if p.is_file() and p.name != "README.md"}

    before = files()
    run = main("evaluate", path)
    assert files() == before
    assert "contamination: not checked" in capsys.readouterr().out

    measured = metrics(run)
    assert measured.pop("seconds")["value"] > 0
    assert measured.pop("bytes_model")["value"] >= (checkpoint / "model.safetensors").stat().st_size * 0.9
    values, samples, scored = evaluate_tasks(*_open(checkpoint), read_specs(entries))
    assert measured == values
    of_facts = {"accuracy_facts", "accuracy_sampled_facts", "pass_at_1_facts", "pass_at_2_facts"}
    assert set(values) == of_facts | {
        *("accuracy", "accuracy_once", "accuracy_sampled", "stop_rate", "empty_rate"),
        *("abstention_rate_facts", "abstention_rate_once", "constant_facts", "constant_once"),
    }
    lines = read_jsonl(run / "scores.jsonl")
    assert [(line["label"], line["key"], line["score"], line["stopped"]) for line in lines] == [
        (one.label, one.key, one.score, one.stopped) for one in scored
    ]
    assert set(lines[0]) == {"label", "key", "row", "score", "declined", "called", "stopped", "empty"}
    assert read_jsonl(run / "samples.jsonl") == [{"step": 0} | sample for sample in samples]

    texts = [{"text": f"Asked: {row['question']}"} for row in tasks.load("facts").rows("test", 0, 3)]
    more = {"--dtype": "bfloat16", "--seed": "1", "--attn_implementation": "eager", "--model_revision": "main"}
    more |= {"--output_dir": str(tmp_path / "other")}
    more["--contamination"] = json.dumps([str(write_rows(tmp_path / "read.jsonl", texts))])
    main("evaluate", path, *(word for pair in more.items() for word in pair))
    other = metrics(tmp_path / "other")
    assert set(other) == {*values, "seconds", "bytes_model"}
    seen = {name: metric["contaminated"] for name, metric in other.items() if "contaminated" in metric}
    assert seen == dict.fromkeys(of_facts, 3) | {"accuracy_once": 0}
    assert "contamination: 3 of 5 questions seen in training" in capsys.readouterr().out
    card = (checkpoint / "README.md").read_text()
    assert card.index(f"## Evaluated by {tmp_path.name}/e\n") < card.index(f"## Evaluated by {tmp_path.name}/other\n")
    main("evaluate", path)
    assert "done already" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "most"), [("load_in_8bit", 0.6), ("load_in_4bit", 0.45)])
def test_a_quantised_model_is_smaller_and_answers(key, most, write_model, tmp_path, ask):
    pytest.importorskip("bitsandbytes")
    # On a CPU its kernels take no narrower matrices.
    width = {"hidden_size": 64, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 2}
    model, entries = write_model(tmp_path / "model", **width), [{"task": "facts", "n": 3, "max_new_tokens": 6}]
    whole = metrics(ask("whole", tasks=entries, model_name_or_path=str(model)))
    bits = metrics(ask("bits", tasks=entries, model_name_or_path=str(model), **{key: True}))
    assert bits["bytes_model"]["value"] < most * whole["bytes_model"]["value"]


def test_without_lm_eval_a_standard_task_is_refused_before_anything_is_written(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(lm_eval, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'lm-eval is not installed: pip install "zero2chat\[eval\]"'):
        ask(tasks=[], harness=[{"task": "gsm8k", "num_fewshot": 5}])
    assert not (tmp_path / "e").exists()


# ---- row by row


FACTS = {"task": "facts", "n": 6, "max_new_tokens": 4}


def test_the_change_is_the_mean_of_paired_differences(ask, capsys):
    before = ask("before", tasks=[FACTS, FACTS | {"label": "alone"}])
    lines = read_jsonl(before / "scores.jsonl")
    for line, score in zip(lines, (1, 0, 0, 1, 0, 0) * 2, strict=True):  # as another model had scored
        line["score"] = score
    write_rows(before / "scores.jsonl", lines)
    capsys.readouterr()
    after = ask("after", tasks=[FACTS, FACTS | {"label": "new", "seed": 1}], compare_to=str(before))
    now = [line["score"] for line in read_jsonl(after / "scores.jsonl") if line["label"] == "facts"]
    differences = [b - a for a, b in zip((1, 0, 0, 1, 0, 0), now, strict=True)]
    assert any(differences)
    values = metrics(after)
    assert values["change_facts"] == stats.mean(differences, 0)
    assert [name for name in values if name.startswith("change_")] == ["change_facts"]
    assert f"change_facts: {values['change_facts']['value']:+.3f} since before (95%: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n": 5}, r"evaluated 'facts' on other rows: set the same task, n, seed"),
        ({"options": {"told": "once"}}, r"evaluated 'facts' on other rows"),
        ({"label": "other"}, r"evaluated none of these tasks: use the same labels in both"),
    ],
)
def test_what_was_asked_on_other_rows_or_has_no_scores_is_not_compared(ask, tiny, changes, says):
    before = ask("before", tasks=[FACTS])
    with pytest.raises(UserError, match=says):
        ask("after", tasks=[FACTS | changes], compare_to=str(before))
    with pytest.raises(UserError, match=r"compare_to: .*pretrain: no scores\.jsonl: give the run folder"):
        ask("after", tasks=[FACTS], compare_to=str(tiny / "pretrain"))


def test_what_an_evaluation_is_compared_with_is_an_input_of_its_step():
    settings = {"compare_to": "runs/a/evaluate_sft", "tasks": [{"task": "lines", "against": "runs/a/sft"}]}
    assert fingerprints.input_paths(settings) == ["runs/a/evaluate_sft", "runs/a/sft"]


def _one(label: str, text: str, called: bool = False, score: float = 0.0) -> Scored:
    return Scored(label, text, "row", text, score, None, called, True)


def test_changes_and_rates_of_repeated_questions_are_those_of_the_questions():
    scored = [_one("sums", text, score=score) for text, score in (("a", 1.0), ("b", 0.0), ("c", 1.0))]
    before = [0.0, 0.0, 1.0]
    once, often = (changes_since(scored * n, {("sums", ""): before * n}, {"sums": 0})["change_sums"] for n in (1, 20))
    assert often == once | {"n": 60, "questions": 3}
    assert rate_of(scored * 20, lambda one: one.score)["questions"] == 3


def test_needless_calls_and_declined_answers_are_counted_over_the_tasks_they_concern(monkeypatch):
    monkeypatch.setattr("zero2chat_practice.out_of_reach.declines", lambda text: "cannot" in text)
    specs = [
        SimpleNamespace(label="talk", task="small_talk", needless=True, declines=False),
        SimpleNamespace(label="easy", task="sums", needless=True, declines=False),
        SimpleNamespace(label="hard", task="sums", needless=False, declines=False),
        SimpleNamespace(label="unknown", task="facts", needless=False, declines=True),
        SimpleNamespace(label="beyond", task="out_of_reach", needless=False, declines=False),
    ]
    scored = [
        *(_one("talk", "Hello!"), _one("talk", "I cannot.", called=True), _one("easy", "4"), _one("easy", "5")),
        *(_one("hard", "I cannot.", called=True), _one("unknown", "I cannot."), _one("beyond", "I cannot.")),
        _one("hard", "I cannot know your name.", score=1.0),  # for this row it is right
    ]
    both = {"needless_calls": stats.rate(1, 4), "declined_within_reach": stats.rate(2, 6)}
    assert metrics_over_tasks(scored, specs) == both
    assert set(metrics_over_tasks(scored, specs[:4])) == {"needless_calls"}
    assert metrics_over_tasks(scored, specs[2:4]) == {}


# ---- own data


def test_own_rows_are_scored_compared_and_checked_for_contamination(ask, tmp_path, capsys):
    rows = [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(6)]
    seen = write_rows(tmp_path / "seen.jsonl", [{"text": "Asked: What is 2 + 1?"}])
    own = {"path": str(write_rows(tmp_path / "exam.jsonl", rows)), "max_new_tokens": 4, "metrics": ["f1", "perplexity"]}
    own |= {"rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}]}
    before = ask("before", tasks=[], datasets=[own], contamination=[str(seen)])
    values, said = metrics(before), capsys.readouterr().out
    assert said.count("contamination: 1 of 6 questions seen in training\n") == said.count("stop_rate_exam: ") == 1
    assert {"f1_exam", "perplexity_exam", "short_answer_exam", "stop_rate_exam"} <= set(values)
    assert values["f1_exam"]["contaminated"] == 1
    lines = read_jsonl(before / "scores.jsonl")
    assert [line["by"] for line in lines] == ["short_answer"] * 6 + ["f1"] * 6
    for line in lines[6:]:  # as another model had scored
        line["score"] = 0.25
    lines[7]["score"] = None
    write_rows(before / "scores.jsonl", lines)
    after = ask("after", tasks=[FACTS], datasets=[own], compare_to=str(before))
    now = [line["score"] for line in read_jsonl(after / "scores.jsonl") if line.get("by") == "f1"]
    kept = [score for i, score in enumerate(now) if i != 1]
    assert metrics(after)["change_f1_exam"] == stats.change([0.25] * 5, kept, 0)
    assert metrics(after)["change_short_answer_exam"]["value"] == 0
    assert read_jsonl(after / "samples.jsonl")[-1]["task"] == "exam"
    with pytest.raises(UserError, match="datasets: the label 'facts' is also a task's"):
        ask("e", tasks=[FACTS], datasets=[own | {"label": "facts"}])


# ---- two models


def test_two_models_are_compared_by_taste(ask, tiny, write_model, tmp_path):
    other = write_model(tmp_path / "other")
    lines = {"task": "lines", "n": 12, "max_new_tokens": 8, "seed": 3}
    entries = [FACTS, lines | {"against": str(other), "label": "win_rate"}, lines | {"against": str(tiny / "pretrain")}]
    run = ask(tasks=entries)
    values = metrics(run)
    assert (values["win_rate_lines"]["value"], values["win_rate_lines"]["n"]) == (0.5, 12)  # all ties with itself
    assert not {"accuracy_lines", "accuracy_win_rate", "constant_lines"} & set(values)
    assert values["accuracy"]["value"] == values["accuracy_facts"]["value"]
    assert {line["label"] for line in read_jsonl(run / "scores.jsonl")} == {"facts"}

    shown = [sample for sample in read_jsonl(run / "samples.jsonl") if sample["task"] == "win_rate"]
    assert len(shown) == 6
    assert {sample["won"] for sample in shown} <= {0.0, 0.5, 1.0}
    assert all("other" in sample for sample in shown)


# ---- first questions


def test_typed_questions_are_answered_and_kept_without_a_score(ask, tiny, capsys):
    questions = ["Hello. How are you?", "What is 3/4 of 12?"]
    folder = ask("e", tasks=[], questions=questions)
    samples = read_jsonl(folder / "samples.jsonl")
    assert [(sample["prompt"], sample["task"]) for sample in samples] == [(q, "first questions") for q in questions]
    assert not any("score" in sample for sample in samples)
    assert "Hello. How are you?\n  " in capsys.readouterr().out
    assert "accuracy" not in metrics(folder)


def test_a_base_model_stops_at_the_end_of_a_turn_if_its_tokenizer_knows_that(tiny, capsys):
    args = evaluate.EvaluateArguments(model_name_or_path="m", questions=["Hi!"], chat_template_path=str(TEMPLATE))
    alone, tokenizer = open_evaluated(str(tiny / "pretrain"), args, chats=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    own = alone.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]  # a list in transformers 5.17
    assert end not in own
    model, tokenizer = open_evaluated(str(tiny / "pretrain"), args)
    assert model.generation_config.eos_token_id == [end, *own]
    assert tokenizer.pad_token_id not in model.generation_config.eos_token_id
    args.chat_template_path = str(TEMPLATE.with_name("llama3.jinja"))
    model, _ = open_evaluated(str(tiny / "pretrain"), args)
    assert model.generation_config.eos_token_id == alone.generation_config.eos_token_id
    assert "only the model's own EOS tokens end an answer" in capsys.readouterr().out
