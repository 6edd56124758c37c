"""GRPO on tiny models: it learns what is rewarded, chooses its problems, and calls tools."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset
from own_worlds import boxes, turns
from stage_fixtures import REPOSITORY, Configured, Train, history, main, metrics, stage_environment, write_rows
from transformers import PreTrainedTokenizerBase, TrainerControl, TrainerState, TrainingArguments

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.inference import fast_generate
from zero2chat.models.loading import load_model
from zero2chat.recipes.recipe import FILE, load_recipe
from zero2chat.stages import grpo
from zero2chat.stages.open_run import open_run
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.grpo import draw_others, fill_missing, turn_advantages

pytestmark = pytest.mark.usefixtures("own_rewards")
CONSTANT = {"learning_rate": 5.0e-3, "lr_scheduler_type": "constant"}
CALL = "<PYTHON_START>6 * 7<PYTHON_END>"


def _reward(*names: str) -> dict[str, Any]:
    return {"rewards": [{"function": f"own_rewards.{name}"} for name in names]}


OWN = _reward("digits") | {
    "datasets": [{"task": "spelling", "n": 24}],
    "tasks": [{"task": "spelling", "n": 8, "max_new_tokens": 4}],
    "learning_rate": 1.0e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "seed": 0,
}


@pytest.fixture
def base(configured: Configured, model_folder: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a small run that rewards digits."""
    return lambda name="run", **more: configured("grpo", name, model_name_or_path=str(model_folder), **OWN | more)


@pytest.fixture
def practise(base: Configured) -> Train:
    """`practise(name, **changes)` → the folder of such a run."""
    return lambda name="run", **changes: main("grpo", base(name, **changes))


def test_what_is_rewarded_becomes_likelier(practise, train, capsys):
    run = practise(max_steps=60, save_strategy="no", **CONSTANT)
    rewards = [line["reward"] for line in history(run)]
    assert sum(rewards[-10:]) > 3 * sum(rewards[:10])
    assert metrics(run)["problems"] == {"value": 24}
    assert metrics(run)["unscored_completions"] == {"value": 0}
    assert metrics(run)["accuracy"]["n"] == 8
    printed = capsys.readouterr().out
    for shown in ("How to read the log. loss", "reward 0.", "zero-variance groups ", "truncated ", "tokens/s", "ETA"):
        assert shown in printed

    (line,) = history(run, "group")
    group = line["group"]
    assert {len(group[key]) for key in ("prompt", "completion", "advantages")} == {len(group["rewards"]["digits"])}
    assert sum(group["advantages"]) == pytest.approx(0, abs=1e-3)

    # The folder opens as any model's, and answers as the run's own samples say. Those before are of the same questions.
    samples = read_jsonl(run / "samples.jsonl")
    before, after = ([s for s in samples if s["step"] == step] for step in (0, 60))
    assert [s["prompt"] for s in before] == [s["prompt"] for s in after]
    assert "trained with GRPO" in (run / "README.md").read_text()
    again = train("evaluate", "again", model_name_or_path=str(run), chat_template_path=None, tasks=OWN["tasks"])
    assert [s["completion"] for s in read_jsonl(again / "samples.jsonl")] == [s["completion"] for s in after]


def test_rewards_are_weighed_and_logged_by_function(practise, capsys):
    brief = {"function": "own_rewards.longer", "weight": -0.5, "options": {"goal": 20}, "label": "brief"}
    run = practise(rewards=[{"function": "own_rewards.digits", "weight": 2.0}, brief], max_steps=3)
    printed, lines, values = capsys.readouterr().out, history(run), metrics(run)
    for name, key in (("entropy", "entropy"), ("completion_length", "completions/mean_length")):
        assert values[name]["value"] == pytest.approx(lines[-1][key], abs=1e-4)
    for line in lines:
        digits, brevity = line["rewards/digits/mean"], line["rewards/brief/mean"]
        assert line["reward"] == pytest.approx(2.0 * digits - 0.5 * brevity, abs=1e-4)
        assert f"reward {line['reward']:.3f} | digits {digits:.3f} | brief " in printed


def test_groups_of_equal_rewards_teach_nothing_and_the_log_says_so(practise, model_folder):
    run = practise(**_reward("alike"), max_steps=2, weight_decay=0.0)
    assert [line["frac_reward_zero_std"] for line in history(run)] == [1, 1]
    before, after = (load_model(folder)[0].state_dict() for folder in (model_folder, run))
    assert all((before[name] == after[name]).all() for name in before)


def test_answers_that_no_function_judges_are_left_out_and_counted(practise):
    run = practise(**_reward("of_some"), max_steps=4)
    assert 0 < metrics(run)["unscored_completions"]["value"] < 4 * 16
    assert all(line["reward"] == 0.0 or math.isclose(line["reward"], 1.0) for line in history(run))


def test_two_zero2_ranks_practise_together(base, two_ranks, tmp_path, monkeypatch):
    """A group is spread over both ranks, which draw different answers, compare them all, and learn from all."""
    monkeypatch.setenv("SAMPLED", str(tmp_path / "sampled"))
    half = {"per_device_train_batch_size": 8, "num_generations": 16}
    path = base("zero2", max_steps=40, save_steps=20, seed=1, **half, **_reward("digits", "written_down"), **CONSTANT)
    printed = two_ranks("grpo", path)
    files = [(tmp_path / f"sampled{rank}").read_text().splitlines() for rank in (0, 1)]
    ranks = [list(map(json.loads, lines)) for lines in files]
    assert len(ranks[0]) == len(ranks[1]) == 40
    # Different to the end, but for the one digit all along that both find to be worth most.
    assert all(len(set(text)) == 1 for a, b in zip(*ranks, strict=True) for text in set(a) & set(b))
    assert not any(set(a) & set(b) for a, b in list(zip(*ranks, strict=True))[:10])
    rewards = [line["rewards/digits/mean"] for line in history(path.with_suffix(""))]
    assert sum(rewards[-10:]) > 2 * sum(rewards[:10])
    assert len(rewards) == 40
    assert printed.count("How to read the log") == 1
    assert load_model(path.with_suffix(""))[0] is not None


@pytest.mark.slow  # a launch of two ranks
def test_two_ranks_replace_groups_and_choose_problems_together(base, two_ranks):
    """Each has groups of its own; while one of them has a group to replace, both sample on."""
    filtered = {"pass_rate": {"samples": 4, "low": 0.0, "high": 0.9}, "resample": 2}
    path = base("ranks", max_steps=3, per_device_train_batch_size=8, **filtered, **_reward("often"))
    assert two_ranks("grpo", path).count("problems kept") == 1
    run = path.with_suffix("")
    assert metrics(run)["groups_replaced"]["value"] > 0
    assert len(read_jsonl(run / "pass_rates.jsonl")) == 24
    assert len(history(run)) == 3


def test_none_of_one_function_moves_an_answer_neither_up_nor_down():
    none = math.nan
    # Two groups of three answers, two functions.
    rewards = torch.tensor([[1.0, 5.0], [0.0, none], [none, none], [1.0, none], [0.0, none], [0.5, none]])
    filled = fill_missing(rewards, 3)
    assert filled[:2].tolist() == [[1.0, 5.0], [0.0, 5.0]]
    assert filled[2].isnan().all()  # left out
    assert filled[3:, 0].tolist() == [1.0, 0.0, 0.5]
    assert filled[3:, 1].isnan().all()  # the function said nothing of the whole group


def test_trl_is_given_the_groups_mean_in_place_of_none(practise, monkeypatch):
    seen: list[torch.Tensor] = []
    real = grpo.GrpoTrainer._calculate_rewards
    monkeypatch.setattr(grpo.GrpoTrainer, "_calculate_rewards", lambda *more: seen.append(real(*more)) or seen[-1])
    run = practise(**_reward("digits", "of_some"), max_steps=3, save_strategy="no")
    assert metrics(run)["unscored_completions"]["value"] == 0
    some = torch.cat(seen)[:, 1].view(-1, 4)  # 1 or None, which is 1 then too where another answer of the group has it
    assert all(group.isnan().all() or (group == 1).all() for group in some)
    assert (some == 1).any()


# ---- which problems


def test_further_problems_are_none_of_the_batchs_own_and_each_is_drawn_once():
    problems = Dataset.from_list([{"prompt": [{"role": "user", "content": str(i)}]} for i in range(12)])
    own = [problems[3], problems[7]]
    for seed in range(20):
        others = draw_others(problems, own, 5, random.Random(seed))
        assert sorted(others) == [i for i in range(12) if i not in (3, 7)]
    assert len(draw_others(problems, own, 1, random.Random(0))) >= 2
    assert len(draw_others(problems.select([3, 7]), own, 1, random.Random(0))) == 2  # there are no others


def test_problems_too_easy_and_too_hard_are_left_out(practise, capsys):
    filtered = {"pass_rate": {"samples": 6, "low": 0.1, "high": 0.9}, "eval_batch_size": 12}  # a few problems at once
    run = practise(**filtered, **_reward("often", "digits"), max_steps=1, save_strategy="no")
    rates = [line["passed"] / line["samples"] for line in read_jsonl(run / "pass_rates.jsonl")]
    values = {name: metric["value"] for name, metric in metrics(run).items()}
    solvable, hard = sum(0.1 <= rate <= 0.9 for rate in rates), sum(rate < 0.1 for rate in rates)
    assert values["problems"] == solvable > 4
    assert values["problems_too_hard"] == hard > 0
    assert values["problems_too_easy"] + hard + solvable == len(rates) == 24
    assert values["pass_rate_before"] == pytest.approx(sum(rates) / 24, abs=1e-3)
    assert f"pass rates: {solvable} of 24 problems kept" in capsys.readouterr().out


def test_groups_are_replaced_only_if_resample_is_set(practise):
    runs = [practise(f"r{rounds}", **_reward("often"), resample=rounds, max_steps=2) for rounds in (0, 2)]
    assert "groups_replaced" not in metrics(runs[0])
    assert metrics(runs[1])["groups_replaced"]["value"] > 0


def test_the_batches_of_every_recipe_fit_together(monkeypatch):
    """Parsing a recipe does not do these sums, which depend on how many processes there are."""
    monkeypatch.chdir(REPOSITORY)
    tables = {path: yaml.safe_load(path.read_text()).get("steps") for path in Path("recipes").rglob("*.yaml")}
    found = [path for path, steps in tables.items() if steps and "stage" in steps[0]]
    recipes = {path.parent if path.name == FILE else path for path in found}
    steps = [step for recipe in sorted(recipes) for step in load_recipe(recipe) if step.stage == "grpo"]
    assert len(steps) > 5
    for step in steps:
        args, training, _ = grpo.STAGE.build(step.settings | {"use_vllm": False}, step.name)
        grpo.set_global_batch(training, args.global_batch_size)
        grpo.set_generations(training, step.settings)
        batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
        assert batch == args.global_batch_size
        assert training.generation_batch_size % batch == 0
    two: Any = SimpleNamespace(**vars(training) | {"world_size": 2, "num_generations": 2, "steps_per_generation": 1})
    two.per_device_train_batch_size = 1
    with pytest.raises(UserError, match="resample: each process samples 1 completions, not a multiple of num_gen"):
        grpo.set_generations(two, {"steps_per_generation": 1, "resample": 1})


def test_a_users_own_problems_are_practised_with_control_tokens_as_plain_text(practise, tmp_path, monkeypatch):
    seen: list[Any] = []
    prepare = grpo.prepare
    monkeypatch.setattr(grpo, "prepare", lambda *args: seen.append(prepare(*args)) or seen[0])
    problems = [{"prompt": f"What is {i} + 1? <|im_end|>", "answer": i + 1, "level": 1} for i in range(8)]
    own = {"path": str(write_rows(tmp_path / "mine.jsonl", problems)), "n": 6}
    practise(datasets=[own], rewards=[{"function": "zero2chat.rewards.math.math_answer"}], max_steps=1)
    rows = seen[0].train
    assert (len(rows), rows[0]["answer"], rows[0]["level"]) == (6, "1", 1)
    (turn,) = rows[0]["prompt"]
    assert turn["role"] == "user"
    assert turn["content"].startswith("What is 0 + 1?")
    assert "<|im_end|>" not in turn["content"]


# ---- with tools


@pytest.fixture
def sample(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`sample(say)`: in place of the model, `say(n, context)` writes the n-th completion of a batch."""

    def replace(say: Callable[[int, str], str]) -> None:
        def draw(self: Any, prompt_ids: Sequence[Any], *_: Any, **__: Any) -> Any:
            texts = [say(n, tokenizer.decode(ids)) for n, ids in enumerate(prompt_ids)]
            return [tokenizer.encode(text) for text in texts], None

        monkeypatch.setattr(grpo.GrpoTrainer, "_generate_single_turn", draw)

    return replace


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The inputs of each call of `compute_loss`."""
    seen: list[Any] = []
    real = grpo.GrpoTrainer.compute_loss
    listen = lambda self, model, inputs, **more: seen.append(inputs) or real(self, model, inputs, **more)  # noqa: E731
    monkeypatch.setattr(grpo.GrpoTrainer, "compute_loss", listen)
    return seen


WITH_TOOLS = {"tools": {"python": {}}, "max_completion_length": 54, "max_steps": 1, "tasks": []}


def test_results_of_tools_get_no_gradient_and_every_token_that_the_model_drew_gets_one(
    practise, tokenizer, sample, batches, monkeypatch
):
    contexts: list[str] = []

    def say(n: int, context: str) -> str:
        """Three of four answers call Python first."""
        contexts.append(context)
        assert fast_generate._last.get() is not None  # a further turn reuses keys and values
        return f"{n}!<|im_end|>" if "<|im_start|>tool" in context or not n % 4 else CALL

    likelihoods = grpo.GrpoTrainer._get_per_token_logps_and_entropies

    def keep(self: Any, *args: Any, **more: Any) -> Any:
        output = likelihoods(self, *args, **more)
        if output[0].requires_grad:
            output[0].retain_grad()
            batches.append(output[0])
        return output

    sample(say)
    monkeypatch.setattr(grpo.GrpoTrainer, "_get_per_token_logps_and_entropies", keep)
    (line,) = history(practise(**WITH_TOOLS | {"max_completion_length": 40}))
    assert contexts[0].startswith("<|im_start|>system\npython(code)<|im_end|>")
    assert contexts[-1].endswith(f"{CALL}<|im_end|>\n<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n")
    assert (line["tools/call_frequency"], line["tools/failure_frequency"]) == (0.75, 0.0)
    inputs, of_tokens = batches
    sampled = inputs["completion_mask"] * inputs["tool_mask"]
    results = inputs["completion_mask"] * (1 - inputs["tool_mask"])
    moved = inputs["advantages"].abs() > 0
    assert results[1].sum() > 10
    assert (of_tokens.grad[sampled == 0] == 0).all()
    assert (of_tokens.grad[moved][sampled[moved] == 1] != 0).all()
    assert tokenizer.decode(inputs["completion_ids"][1][sampled[1] == 1]) == f"{CALL}0!<|im_end|>"


def test_a_reward_reads_the_turns_of_an_answer_and_the_answer_last(practise, sample, monkeypatch):
    sample(lambda _, context: "42<|im_end|>" if "<|im_start|>tool" in context else f"I look. {CALL}")
    answers: list[Any] = []
    monkeypatch.setattr("own_rewards.digits", lambda completions, **columns: answers.extend(completions) or [0.0] * 16)
    practise(**WITH_TOOLS)
    call = {"type": "function", "function": {"name": "python", "arguments": {"code": "6 * 7"}}}
    assert answers[0] == [
        {"role": "assistant", "content": "I look. ", "tool_calls": [call]},
        {"role": "tool", "name": "python", "content": "42"},
        {"role": "assistant", "content": "42"},
    ]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (f"\x1b]0;owned\x07\x1b[2J {CALL}", {"code": "6 * 7"}),
        ("<PYTHON_END>", {}),  # no table can hold a column of empty structs
    ],
)
def test_whatever_a_model_writes_is_logged_without_escape_sequences(written, arguments, practise, sample, capfd):
    sample(lambda _, context: "42<|im_end|>" if "<|im_start|>tool" in context else written)
    run = practise(**_reward("logs"), **WITH_TOOLS, log_completions=True)
    shown = capfd.readouterr().out
    assert "ASSISTANT" in shown
    assert not re.search("\x1b(?!\\[[\\d;]*m)", shown)  # but for rich's own colours
    (table,) = (run / "completions").glob("*.parquet")
    (call,) = pd.read_parquet(table)["completion"][0][0]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == arguments


def test_calls_and_results_stay_within_the_length_of_an_answer(practise, sample, batches):
    sample(lambda *_: '<PYTHON_START>"long " * 99<PYTHON_END>')
    practise(**WITH_TOOLS)
    assert all(20 < length <= 60 for length in batches[0]["completion_mask"].sum(1).tolist())


def test_a_rank_without_calls_left_generates_with_those_that_have_some(practise, sample, tokenizer, monkeypatch):
    """All ranks gather sharded weights together. Here another one says that it has calls after the first two turns."""
    numbers: list[int] = []
    others = iter([1, 1, 1])
    sample(lambda n, _: numbers.append(n) or "So.<|im_end|>")
    monkeypatch.setattr("zero2chat.trainers.grpo.is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr("zero2chat.trainers.grpo.gather_object", lambda numbers: [*numbers, next(others, 0)])
    (line,) = history(practise(**WITH_TOOLS))
    assert numbers == [*range(16), 0, 0]
    assert line["completions/mean_length"] == len(tokenizer.encode("So.<|im_end|>"))
    assert line["tools/call_frequency"] == 0


# ---- in worlds


def _call(name: str, **arguments: str) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call><|im_end|>"


@pytest.fixture
def act(configured: Configured, write_model: Any, tmp_path: Path) -> Train:
    """`act(**changes)` → the folder of a run with a model of a longer context, in worlds of boxes."""
    long = str(write_model(tmp_path / "long", max_position_embeddings=1024))
    worlds = {"datasets": [{"task": "own_worlds.boxes", "n": 8}], "tasks": [], "save_strategy": "no"}
    rewards = {"rewards": [{"function": "zero2chat.rewards.task.task_score"}]}
    more = {"model_name_or_path": long, "max_steps": 1, "max_completion_length": 200}
    return lambda **changes: main("grpo", configured("grpo", "run", **OWN | worlds | rewards | more | changes))


def _open_a_box(n: int, context: str) -> str:
    """Three of four answers open a box each, all different."""
    colour = (*boxes.COLOURS, None)[n % 4]
    return "Done.<|im_end|>" if "<|im_start|>tool" in context or not colour else _call("open", colour=colour)


@pytest.mark.parametrize("credit", ["trajectory", "turn"])
def test_actions_in_a_world_are_learned_and_observations_never(act, tokenizer, sample, batches, credit):
    sample(_open_a_box)
    (line,) = history(act(credit=credit))
    assert line["reward"] == 0.25
    assert line["tools/call_frequency"] == 0.75
    (inputs,) = batches
    assert "Find the coin. The boxes are red, blue and green.<" in tokenizer.decode(inputs["prompt_ids"][0])
    wins = 0
    for ids, whole, own, advantage in zip(
        *(inputs[key] for key in ("completion_ids", "completion_mask", "tool_mask", "advantages")), strict=True
    ):
        drawn, observed = (tokenizer.decode(ids[(whole == 1) & (own == by)]) for by in (1, 0))
        assert re.fullmatch(r"(<tool_call>.*</tool_call>)?Done\.<\|im_end\|>", drawn)
        assert not observed or "<|im_start|>tool\nIt is empty." in observed or "There is a coin." in observed
        wins += (won := "There is a coin." in observed)
        mine = 1.5 if won else -0.5
        if credit == "trajectory":
            assert advantage.item() == pytest.approx(mine, abs=1e-2)
        else:  # the first turn follows what all of the group read; of those that read the same next, none does better
            of_tokens = advantage[(whole == 1) & (own == 1)]
            assert of_tokens[0].item() == pytest.approx(2 * mine, abs=1e-2)
            assert of_tokens[-1].item() == pytest.approx(mine if observed else 2 * mine, abs=1e-2)
    assert wins == 4


def test_worlds_mix_with_problems_that_have_none_and_with_tools(act, sample, monkeypatch):
    given: list[Any] = []

    def listed(completions: Any, environments: Any, **columns: Any) -> list[float]:
        given.extend(zip([one[-1]["content"] for one in completions], environments, strict=True))
        return [0.0] * len(completions)

    sample(
        lambda n, context: (
            "Ash.<|im_end|>" if "<|im_start|>tool" in context else CALL if '"burn"' not in context else _call("burn")
        )
    )
    monkeypatch.setattr("own_rewards.digits", listed)
    mixed = [{"task": "own_worlds.boxes", "n": 2}, {"task": "spelling", "n": 2}]
    act(datasets=mixed, tools={"python": {}}, rewards=_reward("digits")["rewards"])
    assert {text for text, _ in given} == {"Ash."}
    assert sorted(bool(world and world.acted == 1) for _, world in given) == [False] * 8 + [True] * 8


def test_what_samples_without_worlds_is_refused(act):
    with pytest.raises(UserError, match="`pass_rate` and `resample` sample without worlds"):
        act(resample=1)


def test_a_turns_baseline_is_the_mean_of_its_groups_turns_after_the_same_observation():
    # Two groups of two. In the first, both read "a" next; one wins at once, the other a turn later.
    observed = [["", "a"], ["", "a", "a"], [""], ["", "b"]]
    advantages = turn_advantages([1.0, 1.0, 0.0, math.nan], observed, 2, scale=False, discount=0.5)
    quick, slow = torch.tensor([0.5, 1.0]), torch.tensor([0.25, 0.5, 1.0])
    mean = (1.0 + 0.5 + 1.0) / 3
    assert torch.allclose(advantages[0], torch.tensor([quick[0] - 0.375, quick[1] - mean, 0.0]))
    assert torch.allclose(advantages[1], torch.tensor([slow[0] - 0.375, slow[1] - mean, slow[2] - mean]))
    assert not advantages[2:].any()


@pytest.mark.slow  # two ranks
def test_two_ranks_give_turns_the_advantages_that_one_rank_gives():
    """The group of eight is spread over both. Turns are compared over all of it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", turns.__file__]
    printed = subprocess.run(launch, env=stage_environment(), capture_output=True, text=True, check=True).stdout
    found = [row for rank in sorted(printed.splitlines()) for row in json.loads(rank)["advantages"]]
    alone = turns.advantages()
    assert torch.allclose(torch.tensor(found), torch.tensor(alone))
    assert len({round(row[2], 3) for row in alone}) > 3


# ---- vLLM: `test_vllm.py` has the real one


def test_with_vllm_calls_end_a_request_and_each_token_keeps_its_log_probability(
    practise, tokenizer, batches, monkeypatch
):
    requests: list[tuple[int, list[int]]] = []
    stops: list[int] = []

    class Sampler:
        """Answers with calls of unlike lengths, and never twice; a token's log-probability is its id / -1000."""

        def __init__(self, generation_kwargs: dict[str, Any], max_completion_length: int, **_: Any):
            stops.extend(generation_kwargs["stop_token_ids"])
            self.max_completion_length = max_completion_length

        def sync_weights(self) -> None:
            pass

        def generate(self, prompts: list[list[int]], **_: Any) -> tuple[Any, ...]:
            requests.append((self.max_completion_length, [len(ids) for ids in prompts]))
            ids = []
            for n, prompt in enumerate(prompts):
                called = "<|im_start|>tool" in tokenizer.decode(prompt)
                call = f"<PYTHON_START>6 * 7{' + 0' * (n % 3)}<PYTHON_END>"
                ids.append(tokenizer.encode(f"{n}!<|im_end|>" if called or not n % 4 else call))
            return prompts, ids, [[[i / -1000] for i in row] for row in ids], None

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Sampler)
    (line,) = history(practise(**WITH_TOOLS | {"max_completion_length": 40}, use_vllm=True))
    assert set(tokenizer.convert_tokens_to_ids(["<PYTHON_END>", "<|im_end|>"])) <= set(stops)
    assert line["tools/call_frequency"] == 0.75
    (first, prompts), *later = requests
    assert first == 40
    assert len(later) > 1  # some wait for those with more room
    assert sum(len(lengths) for _, lengths in later) == 12
    for more, lengths in later:
        assert more < first
        assert max(lengths) + more <= max(prompts) + first
    (inputs,) = batches
    sampled = inputs["completion_mask"] * inputs["tool_mask"]
    assert torch.equal(inputs["sampling_per_token_logps"], sampled * inputs["completion_ids"] / -1000)
    ends = [tokenizer.decode(ids[keep == 1][-1]) for ids, keep in zip(inputs["completion_ids"], sampled, strict=True)]
    assert ends == ["<|im_end|>"] * 16


@pytest.mark.parametrize("changes", [{}, {"loss_type": "dr_grpo", "scale_rewards": "none"}], ids=["DAPO", "Dr. GRPO"])
def test_a_variants_loss_is_its_formula_when_the_policy_has_moved(practise, monkeypatch, changes):
    losses: list[tuple[float, float, float]] = []
    batch: dict[str, torch.Tensor] = {}
    compute, score = grpo.GrpoTrainer._compute_loss, grpo.GrpoTrainer._calculate_rewards

    def watched(self, model, inputs):
        ids, seen = (torch.cat([inputs[f"prompt_{key}"], inputs[f"completion_{key}"]], 1) for key in ("ids", "mask"))
        answers, mask, advantages = inputs["completion_ids"], inputs["completion_mask"], inputs["advantages"][:, None]
        logits = model(input_ids=ids, attention_mask=seen).logits[:, -answers.shape[1] - 1 : -1].float()
        new = logits.log_softmax(-1).gather(2, answers[:, :, None]).squeeze(2)
        ratio = (new - inputs["old_per_token_logps"]).exp()
        clipped = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        by_hand = (clipped * mask).sum() / (12 * len(mask) if changes else mask.sum())  # 12: the longest length
        batch["advantages"], loss = inputs["advantages"], compute(self, model, inputs)
        losses.append((loss.item(), by_hand.item(), ((ratio - 1) * mask).abs().max().item()))
        return loss

    monkeypatch.setattr(grpo.GrpoTrainer, "_compute_loss", watched)
    monkeypatch.setattr(grpo.GrpoTrainer, "_calculate_rewards", lambda *more: batch.setdefault("rewards", score(*more)))
    short = {"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}
    twice = {"max_steps": 2, "num_iterations": 2, "learning_rate": 5.0e-3, "save_strategy": "no"}
    practise(**twice, rewards=[short], **changes)
    groups = batch["rewards"][:, 0].view(-1, 4)
    expected = (groups - groups.mean(1, keepdim=True)) / (1 if changes else groups.std(1, keepdim=True) + 1e-4)
    # TRL shuffles completions after it has scored them.
    torch.testing.assert_close(batch["advantages"].sort().values, expected.view(-1).sort().values, atol=1e-4, rtol=1e-4)
    (_, _, still), (second, _, moved) = losses
    assert still < 1e-3 < 0.05 < moved
    assert [loss for loss, *_ in losses] == pytest.approx([by_hand for _, by_hand, _ in losses], abs=2e-4)
    assert abs(second) > 1e-3


def test_training_stops_after_its_minutes(practise):
    run = practise(max_steps=50, max_minutes=1e-6)
    assert metrics(run)["steps"] == {"value": 1}
    assert (run / "model.safetensors").exists()


def test_minutes_are_those_of_all_attempts(tmp_path):
    run = open_run(tmp_path / "run", "grpo", {"output_dir": str(tmp_path / "run")})
    callback, control = RunCallback(run), TrainerControl()
    state = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerState(), control
    callback.limit, callback.all_seconds = 120.0, 119.0  # the latter from a checkpoint
    callback.on_step_end(*state)
    assert not control.should_training_stop
    callback.all_seconds = 120.0
    callback.on_step_end(*state)
    assert control.should_training_stop
