"""`zero2chat new`: what it sees in one's own model and data, what it chooses, writes and refuses."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage_fixtures import write_rows

from zero2chat import cli
from zero2chat.core.errors import UserError
from zero2chat.data.sources import spread_splits
from zero2chat.evaluation.own_data import load_rows, read_own_data
from zero2chat.recipes.new_recipe import choose_length, new
from zero2chat.recipes.plan import plan
from zero2chat.recipes.recipe import load_recipe

TOWNS = ("Genoa", "Lisbon", "Ålesund", "Tōkyō", "Kraków")
# Like SmolLM's
SMOLLM = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nI am Smol<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ("Ada", "Tom", "Mia", "Ben", "Eva", "Ole", "Ida", "Max")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, without the folders that recipes name: those travel with the package."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(model_folder: Path, here: Path) -> str:
    shutil.copytree(model_folder, here / "model")
    return "model"


def jsonl(path: str, rows: Iterable[Any]) -> str:
    return str(write_rows(Path(path), rows))


def said(n: int) -> list[tuple[str, str]]:
    """Questions and answers of several lengths, in several scripts, with quotes and line breaks."""
    rng = random.Random(0)
    names = [f"{rng.choice(NAMES)} {i}" for i in range(n)]
    return [
        (f'Where was "{name}" born?', f"In {rng.choice(TOWNS)}.\n" + "So I was told; " * rng.randint(0, 3))
        for name in names
    ]


def chats(n: int = 60) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, (question, answer) in enumerate(said(n)):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if i % 5 == 0:
            turns = [{"role": "system", "content": "Be brief. 🙂"}, *turns]
        rows.append({"messages": turns, "id": i} | ({"origin": "export"} if i % 7 == 0 else {}))
    return rows


def sharegpt(n: int = 60) -> list[dict[str, Any]]:
    pairs = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in said(n)]
    return [{"conversations": turns} | ({"system": "Be kind."} if i % 4 == 0 else {}) for i, turns in enumerate(pairs)]


def alpaca() -> list[dict[str, Any]]:
    more = ("He is a baker.", "", "")
    return [{"instruction": q, "input": more[i % 3], "output": a, "history": []} for i, (q, a) in enumerate(said(60))]


def pairs(n: int = 60) -> list[dict[str, Any]]:
    """Preference pairs, two of which have equal sides."""
    return [{"prompt": q, "chosen": a, "rejected": a if i < 2 else "No idea."} for i, (q, a) in enumerate(said(n))]


def votes(n: int = 40) -> list[dict[str, Any]]:
    """Votes on two answers: a third of the voters prefer B, one is undecided."""
    best = ["tie", *("AAB"[i % 3] for i in range(1, n))]
    return [{"Asked": q, "answer A": a, "answer B": "No.", "best": best[i]} for i, (q, a) in enumerate(said(n))]


def sums(n: int = 60) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(n)]


def write_csv(path: str) -> str:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "completion", "rated"])
        writer.writerows([question, answer, ""] for question, answer in said(60))
    return path


DATA: dict[str, Callable[[], str]] = {
    "chat": lambda: jsonl("chats.jsonl", chats()),
    "ShareGPT": lambda: str(Path("sharegpt.json").write_text(json.dumps(sharegpt())) and "sharegpt.json"),
    "Alpaca": lambda: jsonl("alpaca.jsonl", alpaca()),
    "prompt and completion": lambda: write_csv("rows.csv"),
}


# ---- what it sees


@pytest.mark.parametrize("format", DATA)
def test_it_knows_the_format(format: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA[format]()
    cli.main(["new", "mine", "--model", model, "--data", path, "--json"])
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    settings = yaml.safe_load(made["files"]["sft.yaml"])
    assert settings["datasets"] == [{"path": path, "invalid": "drop", "split": spread_splits(60, 6)[0]}]
    assert settings["max_length"] <= 128  # the model's context
    assert f"sft on {path}: 54 rows for training, 6 held out, 0 left out; at most " in made["summary"][1]


def test_pairs_are_for_dpo_and_problems_for_grpo(model: str) -> None:
    preferred = [row | {"completion": row["chosen"]} for row in pairs()]  # which `sft` could read, too
    made = new("mine", model, [jsonl("pairs.jsonl", preferred), jsonl("sums.jsonl", sums())])
    assert [line.split()[0] for line in made["summary"][1:3]] == ["dpo", "grpo"]
    pairs_trained, unit = made["summary"][1].split()[3:5]
    assert (int(pairs_trained) < 58, unit) == (True, "rows")  # without held-out pairs and two with equal sides
    grpo = yaml.safe_load(made["files"]["grpo.yaml"])
    assert grpo["rewards"] == [{"function": "zero2chat.rewards.exact.exact_match", "options": {"whole": True}}]
    assert grpo["model_name_or_path"] == "runs/mine/dpo"
    assert grpo["log_completions"]  # without tasks, nothing else shows what is rewarded


def test_votes_on_two_answers_are_for_dpo(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["new", "mine", "--model", model, "--data", jsonl("votes.jsonl", votes()), "--columns", "prompt=Asked"]
    cli.main([*words, "a=answer A", "b=answer B", "--columns", "preferred=best"])
    step = plan("mine", "h100")["steps"]["dpo"]  # without the tie
    assert (step["rows"] + step["held_out"], step["left_out"], step["epochs"]) == (39, 1, 1)
    said = f"{step['rows']} rows for training, {step['held_out']} held out, 1 left out; at most "
    out = capsys.readouterr().out
    assert said in out
    assert " 1 epoch, " in out
    (source,) = yaml.safe_load(Path("mine/dpo.yaml").read_text())["datasets"]
    assert source["columns"] == {"prompt": "Asked", "a": "answer A", "b": "answer B", "preferred": "best"}


def test_rows_are_held_out_or_given(model: str) -> None:
    def datasets(name: str) -> dict[str, Any]:
        return yaml.safe_load(made["files"][name])["datasets"][0]

    path = jsonl("chats.jsonl", chats())
    made = new("mine", model, [path])
    used, held_out = spread_splits(60, 6)
    assert datasets("sft.yaml") == {"path": path, "invalid": "drop", "split": used}
    assert "6 of 60 rows of chats.jsonl, spread over the file and held out" in made["summary"][-1]
    for name in ("before.yaml", "after.yaml"):
        scored = {"path": path, "split": held_out, "metrics": ["exact_match", "f1", "perplexity"]}
        assert datasets(name).items() >= scored.items()
    made = new("few", model, [jsonl("few.jsonl", chats(4)), path])  # 4 would be all of the first file
    assert yaml.safe_load(made["files"]["sft.yaml"])["datasets"] == [
        {"path": "few.jsonl", "invalid": "drop"},
        {"path": path, "invalid": "drop", "split": used},
    ]
    made = new("given", model, [path], held_out=jsonl("exam.jsonl", sums(9)))
    assert datasets("sft.yaml") == {"path": path, "invalid": "drop"}
    assert datasets("after.yaml")["path"] == "exam.jsonl"
    assert "label" not in datasets("after.yaml")  # scores are named by the file
    made = new("pairs", model, [jsonl("pairs.jsonl", pairs())])
    assert sorted(made["files"]) == ["dpo.yaml", "recipe.yaml"]  # dpo measures held-out pairs itself


def test_no_step_trains_on_the_rows_that_are_held_out(model: str) -> None:
    """Also if several steps read the file."""
    path = jsonl("both.jsonl", [row | {"completion": str(row["answer"])} for row in sums()])
    made = new("mine", model, [path])
    sources = {name: yaml.safe_load(text)["datasets"][0] for name, text in made["files"].items() if "datasets:" in text}
    assert {name: source["split"] for name, source in sources.items()} == {
        **dict.fromkeys(("sft.yaml", "grpo.yaml"), spread_splits(60, 6)[0]),
        **dict.fromkeys(("before.yaml", "after.yaml"), spread_splits(60, 6)[1]),
    }


@pytest.mark.parametrize("votes", [(True, False), ("true", " False"), (1, 0), (1.0, 0.0), (None, False)])
def test_votes_are_not_taken_for_answers_to_learn(model: str, votes: tuple[Any, Any]) -> None:
    rows = [{"prompt": q, "completion": a, "label": votes[i % 2]} for i, (q, a) in enumerate(said(30))]
    with pytest.raises(UserError, match=r"votes.jsonl: the column `label` has thumbs down: train on these votes with"):
        new("mine", model, [jsonl("votes.jsonl", rows)])
    for number, labels in enumerate((("question", "chat"), (1, 2), (True, True))):
        kinds = [row | {"label": labels[i % 2]} for i, row in enumerate(rows)]
        assert "sft.yaml" in new(f"kinds-{number}", model, [jsonl("kinds.jsonl", kinds)])["files"]


def test_the_length_holds_95_percent_of_the_rows_or_all_if_the_rest_is_not_much_longer() -> None:
    assert choose_length([*range(1, 100), 110], context=4096, gpu=True) == 128
    assert choose_length([100] * 95 + [3000] * 5, context=4096, gpu=True) == 128
    assert choose_length([100] * 50 + [3000] * 50, context=2048, gpu=True) == 2048
    assert choose_length([100] * 50 + [3000] * 50, context=4096, gpu=False) == 1024
    assert choose_length([1200] * 60 + [3000] * 40, context=4096, gpu=False) == 1216  # half of the rows fit


@pytest.mark.parametrize(("rows", "epochs", "steps"), [(40, 20, 100), (60, 15, 105), (400, 3, 135), (900, 1, 102)])
def test_few_rows_are_repeated_until_something_is_learned(rows: int, epochs: int, steps: int, model: str) -> None:
    made = new("mine", model, [jsonl("chats.jsonl", chats(rows))])
    sft = yaml.safe_load(made["files"]["sft.yaml"])
    assert (sft["num_train_epochs"], sft["learning_rate"]) == (epochs, 1e-3)  # a small model
    assert f"{epochs} epoch{'s' * (epochs > 1)}, {steps} steps" in made["summary"][1]
    assert "# The learning rate follows from the model's size. Few rows get epochs" in made["files"]["sft.yaml"]


def test_plan_counts_rows_as_new_does(model: str) -> None:
    made = new("mine", model, [jsonl("chats.jsonl", [*chats(40), {"messages": []}])])
    said = "sft on chats.jsonl: 36 rows for training, 4 held out, 1 left out; at most "
    assert said in made["summary"][1]
    step = plan("mine", "h100")["steps"]["sft"]
    assert (step["rows"], step["held_out"], step["left_out"]) == (36, 4, 1)


def test_rows_that_are_too_long_are_dropped_and_make_no_steps(model: str) -> None:
    long = [
        row | {"messages": [*row["messages"][:-1], {"role": "assistant", "content": "a b " * 200}]} for row in chats()
    ]
    made = new("mine", model, [jsonl("chats.jsonl", [*chats(40), *long[:30]])])
    assert re.search(
        r"36 rows for training, 7 held out, 27 left out \(27 over max_length 128\); .* 20 epochs, 100 steps",
        made["summary"][1],
    )
    assert yaml.safe_load(made["files"]["sft.yaml"])["save_steps"] == 25


def test_repeated_rows_are_counted_in_one_line(model: str) -> None:
    rows = [row | {"completion": str(row["answer"])} for row in sums()]  # for sft and grpo
    made = new("mine", model, [jsonl("rows.jsonl", [*rows, *rows[:3], rows[0]])])
    assert [line for line in made["summary"] if "repeat" in line] == ["rows.jsonl: 4 of 64 rows repeat an earlier row"]


def test_answers_are_learned_unless_a_reward_judges_them(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["Customer question;Our answer", *(f"{i}?;So {i}." for i in range(30)), ";", "31?;So."]
    Path("faq.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = ["prompt=Customer question", "answer=Our answer"]
    made = new("mine", model, ["faq.csv"], columns=columns)
    assert made["summary"][1] == "faq.csv: 1 blank row skipped"
    assert made["summary"][2].startswith("sft on faq.csv: 27 rows for training, 4 held out, 0 left out;")
    plan("mine", "h100")
    assert "invalid" not in capsys.readouterr().out
    sft, after = (yaml.safe_load(made["files"][f"{name}.yaml"])["datasets"][0] for name in ("sft", "after"))
    assert sft["columns"] == after["columns"] == {"prompt": "Customer question", "completion": "Our answer"}
    reward = "zero2chat.rewards.exact.exact_match"  # which is chosen anyway
    made = new("judged", model, ["faq.csv"], columns=columns, rewards=[reward])
    assert "sft.yaml" not in made["files"]
    assert [entry["function"] for entry in yaml.safe_load(made["files"]["grpo.yaml"])["rewards"]] == [reward]


def test_files_outside_the_working_folder_are_found_from_any_folder(
    model: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl("chats.jsonl", chats())
    Path("inside").mkdir()
    monkeypatch.chdir("inside")
    made = new("mine", "../model", ["../chats.jsonl"])
    for name in ("sft.yaml", "before.yaml"):
        settings = yaml.safe_load(made["files"][name])
        assert settings["model_name_or_path"] == str(here / "model")
        assert settings["datasets"][0]["path"] == str(here / "chats.jsonl")


# ---- what is given


def test_own_columns_reward_and_system_prompt_are_in_training_and_evaluation(
    model: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(here)
    (here / "manners.py").write_text("def style(completions, **_):\n    return [1.0] * len(completions)\n")
    rows = [{"Customer message": f"{i} + 1?", "Steps": f"So {i + 1}.", "Reply": i + 1, "id": i} for i in range(60)]
    words = ["new", "mine", "--model", model, "--data", jsonl("tickets.jsonl", rows)]
    for name, own in (("prompt", "Customer message"), ("completion", "Steps"), ("answer", "Reply")):
        words += ["--columns", f"{name}={own}"]
    cli.main([*words, "--reward", "manners.style", "--system", "Be kind.", "--json"])
    out = capsys.readouterr().out
    assert " steps; rewarded by exact_match, style\n" in out
    files = {name: yaml.safe_load(text) for name, text in json.loads(out.splitlines()[-1])["files"].items()}
    (sft,), (grpo,), (scored,) = (files[f"{name}.yaml"]["datasets"] for name in ("sft", "grpo", "after"))
    assert {source["system"] for source in (sft, grpo, scored)} == {"Be kind."}
    assert sft["columns"] == {"prompt": "Customer message", "completion": "Steps"}
    assert grpo["columns"] == scored["columns"] == {"prompt": "Customer message", "answer": "Reply"}
    assert [entry["function"].split(".")[-1] for entry in files["grpo.yaml"]["rewards"]] == ["exact_match", "style"]
    assert scored["rewards"] == files["grpo.yaml"]["rewards"]
    assert out.splitlines()[-2].endswith("zero2chat chat runs/mine/grpo --system 'Be kind.'")
    assert load_rows(read_own_data([scored])[0]).prompts[0][0] == {"role": "system", "content": "Be kind."}
    made = new("other", model, [jsonl("chats.jsonl", chats())], rewards=["manners.style"])
    (scored,) = yaml.safe_load(made["files"]["after.yaml"])["datasets"]
    assert (scored["rewards"], len(scored["metrics"])) == ([{"function": "manners.style"}], 3)


def test_a_name_may_stand_for_other_columns_in_other_files(model: str) -> None:
    data = [jsonl("faq.jsonl", [{"Asked": f"{i}?", "Reply": f"So {i}."} for i in range(20)])]
    exam = jsonl("exam.jsonl", [{"Question": f"And {i}?", "Word": str(i)} for i in range(5)])
    columns = ["prompt=Asked", "completion=Reply", "prompt=Question", "answer=Word"]
    made = new("mine", model, data, held_out=exam, columns=columns)
    (trained,), (scored,) = (yaml.safe_load(made["files"][f"{name}.yaml"])["datasets"] for name in ("sft", "after"))
    assert trained["columns"] == {"prompt": "Asked", "completion": "Reply"}
    assert scored["columns"] == {"prompt": "Question", "answer": "Word"}


def test_the_system_prompt_that_a_template_adds_is_named(model: str) -> None:
    Path(model, "chat_template.jinja").write_text(SMOLLM)
    data = [jsonl("chats.jsonl", chats())]
    made = new("mine", model, data)
    adds = "The model's own chat template adds a system prompt to rows without one, “I am Smol”"
    assert made["summary"][1] == f"{adds}: --system TEXT sets another"
    assert new("other", model, data, system="Be kind.")["summary"][1].startswith("sft on ")


# ---- what fits


@pytest.fixture
def sized(here: Path, model_folder: Path) -> Callable[..., str]:
    """`sized(layers, width)`: a model folder of such a size, without weights, which `new` does not need."""

    def make(layers: int, width: int) -> str:
        folder = here / f"model-{layers}-{width}"
        shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        settings = json.loads((folder / "config.json").read_text())
        settings |= {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 3 * width}
        settings |= {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "head_dim": 64}
        settings |= {"max_position_embeddings": 4096, "layer_types": ["full_attention"] * layers}
        (folder / "config.json").write_text(json.dumps(settings))
        return folder.name

    return make


@pytest.mark.parametrize(
    ("layers", "width", "method", "dtype"),
    [(12, 1024, "full", None), (6, 6144, "LoRA", "bfloat16"), (10, 10240, "QLoRA", "bfloat16")],
)
def test_the_method_that_fits(
    sized: Callable[..., str], layers: int, width: int, method: str, dtype: str | None
) -> None:
    made = new("mine", sized(layers, width), [jsonl("chats.jsonl", chats())], gpu="4090")
    assert f"tokens; {method}, " in made["summary"][1]
    settings = yaml.safe_load(made["files"]["sft.yaml"])
    assert settings.get("dtype") == dtype
    assert settings.get("load_in_4bit", False) == (method == "QLoRA")
    for exam in ("before", "after"):  # they must fit, too
        loads = yaml.safe_load(made["files"][f"{exam}.yaml"])
        assert (loads.get("dtype"), loads.get("load_in_4bit", False)) == (dtype, method == "QLoRA")
    assert "accelerate_config: single_gpu" in made["files"]["recipe.yaml"]


# ---- what it writes


def test_each_yaml_begins_with_its_command_and_the_recipe_says_what_was_chosen(model: str) -> None:
    made = new("mine", model, [jsonl("chats.jsonl", chats())])
    steps = load_recipe("mine")
    assert sorted(path.name for path in Path("mine").iterdir()) == sorted(made["files"])
    for step in steps:
        assert step.arguments()
        if step.stage != "report":
            command = f"zero2chat run mine --only {step.name}"  # which works in any folder
            assert step.config.read_text(encoding="utf-8").splitlines()[0] == f"# {command}"
    recipe = Path("mine/recipe.yaml").read_text(encoding="utf-8")
    assert recipe.splitlines()[0] == "# zero2chat run mine"
    assert all(f"# {line}\n" in recipe for line in made["summary"])


@pytest.mark.slow  # five processes
@pytest.mark.timeout(900)
def test_the_recipe_runs_as_it_was_written(model: str) -> None:
    program = [sys.executable, "-m", "zero2chat.cli"]
    data = DATA["ShareGPT"]()
    for arguments in (["new", "mine", "--model", model, "--data", data], ["run", "mine", "--json"]):
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])["steps"].values()) == {"made"}
    scores = json.loads(Path("runs/mine/after/metrics.json").read_text())
    assert scores.keys() >= {"f1_held_out", "perplexity_held_out", "change_f1_held_out"}
    assert Path("runs/mine/report.html").exists()


def test_without_a_network_a_hub_name_fails_at_once(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"  # closed below: connections are refused
    code = (
        "import sys; from zero2chat import cli; cli.main(['new', 'mine', '--model', 'own/er', '--data', sys.argv[1]])"
    )
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, jsonl("chats.jsonl", chats())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("error: own/er: no such folder, and the Hub cannot be reached (")
    assert "Retrying" not in done.stderr  # the client's retries take a minute
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "model"}, "model: exists already, here or in runs/: give another name"),
        ({"name": "/proc/mine"}, "/proc/mine: cannot be written: No such file or directory: give another folder"),
        ({"name": "no/mine"}, "no/mine: no folder no: create that folder first"),
        ({"held_out": "./chats.jsonl"}, "--eval ./chats.jsonl: is training data"),
        (
            {"data": ["odd.jsonl"]},
            "odd.jsonl: its columns (asked, said) fit no format of sft, dpo, grpo: rename them, "
            "such as --columns prompt=Question completion=Reply. Votes",
        ),
        (
            {"data": ["votes.jsonl"]},
            "votes.jsonl: its columns (Asked, answer A, answer B, best) fit no format of sft, dpo, grpo: rename them, "
            "such as --columns prompt=Asked a='answer A' b='answer B' preferred=best (",
        ),
        ({"data": ["cut.jsonl"]}, "cut: 2 of 2 rows are invalid: cut, row 0: no assistant message"),
        ({"columns": ["prompt"]}, "--columns prompt: expected NAME=COLUMN, such as prompt='Customer message'"),
        (
            {"columns": ["prompt=Asked"]},
            "--columns prompt=Asked: no file has the column 'Asked'; known: id, messages, origin",
        ),
        (
            {"data": ["sums.jsonl"], "columns": ["completion=answer", "prompt=promt"]},
            "--columns prompt=promt: no file has the column 'promt'; did you mean 'prompt'?",
        ),
        ({"held_out": "odd.jsonl"}, "--eval odd.jsonl: its columns (asked, said) fit no format of questions: rename"),
        (
            {"data": ["pairs.jsonl"], "rewards": ["zero2chat.rewards.exact.exact_match"]},
            "--reward: neither GRPO nor an evaluation reads these files",
        ),
        ({"rewards": ["no_module.style"]}, "rewards: cannot import 'no_module.style'"),
        ({"gpu": "5090"}, "--gpu 5090: no such GPU in the table"),
        ({"model": "./nothing"}, "./nothing: no such folder"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_nothing_is_written(changes: dict[str, Any], says: str, model: str) -> None:
    jsonl("pairs.jsonl", pairs())
    jsonl("odd.jsonl", [{"asked": q, "said": a} for q, a in said(30)])
    jsonl("votes.jsonl", votes())
    jsonl("sums.jsonl", sums())
    jsonl("cut.jsonl", [{"messages": row["messages"][:1]} for row in chats(3)])
    given = {"name": "mine", "model": model, "data": [jsonl("chats.jsonl", chats())]} | changes
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as refused:
        new(given.pop("name"), given.pop("model"), given.pop("data"), **given)
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)
    assert sorted(Path().rglob("*")) == before
