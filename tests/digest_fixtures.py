"""The fixtures of digests.py: small files of each row format, and the steps that read them."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
N = 16
q = [f"What is {i} + {7 * i}? {'Say it in one word. ' * (i % 3)}" for i in range(N)]
a = [f"It is {8 * i}: naïve, 日本語 {'🙂' * (i % 2)}\n{'<|im_end|> ' * (i % 4 == 1)}so." for i in range(N)]
w = [f"Perhaps {9 * i}, NA, 007.{' I do not know.' * (i % 5)}" for i in range(N)]
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds two numbers.", "parameters": NUMBERS}}


def each(make: Callable[[int], Row]) -> list[Row]:
    return [make(i) for i in range(N)]


def turn(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def chat(i: int, answer: str) -> list[Row]:
    return [turn("system", "Be brief."), turn("user", q[i]), turn("assistant", answer)]


def called(i: int) -> list[Row]:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": i, "b": 7 * i}}}
    result = [turn("assistant", "", tool_calls=[call]), turn("tool", str(8 * i), name="add")]
    return [turn("user", q[i]), *result, turn("assistant", a[i])]


def speakers(i: int) -> list[Row]:
    call = json.dumps({"name": "add", "arguments": {"a": i, "b": 7}})
    tools = [{"from": "function_call", "value": call}, {"from": "observation", "value": str(i + 7)}] if i % 2 else []
    return [{"from": "human", "value": q[i]}, *tools, {"from": "gpt", "value": a[i]}]


@functools.cache
def rows() -> dict[str, list[Row]]:
    """Return the rows of each file. A name's first word is their kind."""
    pairs = each(lambda i: {"chosen": a[i], "rejected": w[i]})
    said = [{side: [turn("assistant", text)] for side, text in pair.items()} for pair in pairs]
    gpt = [{side: {"from": "gpt", "value": text} for side, text in pair.items()} for pair in pairs]
    own, short = json.dumps([TOOL["function"]]), ["Be brief." * (i % 2) for i in range(N)]
    reviews = ["unreviewed", "accepted", "rejected"]
    made = {
        "chats": each(lambda i: {"messages": [*chat(i, a[i]), turn("user", "And?"), turn("assistant", w[i])]}),
        "chats-tools": each(lambda i: {"messages": called(i), "tools": [TOOL]}),
        "chats-thoughts": each(
            lambda i: {"messages": [turn("user", q[i]), turn("assistant", a[i], reasoning_content=w[i])]}
        ),
        "chats-sharegpt": each(lambda i: {"conversations": speakers(i), "system": short[i], "tools": own}),
        "chats-prompt": each(lambda i: {"prompt": q[i], "completion": a[i], "system": short[i]}),
        "chats-turns": each(lambda i: {"prompt": [turn("user", q[i])], "completion": [turn("assistant", a[i])]}),
        "chats-alpaca": each(lambda i: {"instruction": q[i], "input": w[i] * (i % 2), "output": a[i]}),
        "chats-named": each(lambda i: {"Question": q[i], "Answer": a[i], "Source": "me"}),
        "chats-column": each(lambda i: {"dialogue": chat(i, a[i])}),
        "chats-broken": each(lambda i: {"messages": chat(i, a[i] * (i % 4 != 2))}),
        "pairs": each(lambda i: {"prompt": q[i], **pairs[i]}),
        "pairs-turns": each(lambda i: {"prompt": [turn("user", q[i])], **said[i]}),
        "pairs-system": each(lambda i: {"prompt": q[i], "system": short[i], **pairs[i]}),
        "pairs-whole": each(lambda i: {"chosen": chat(i, a[i]), "rejected": chat(i, w[i])}),
        "pairs-speakers": each(lambda i: {"prompt": [{"from": "human", "value": q[i]}], **gpt[i]}),
        "pairs-equal": each(lambda i: {"prompt": q[i], "chosen": a[i], "rejected": (w if i % 5 else a)[i]}),
        "votes": each(lambda i: {"prompt": q[i], "completion": (a if i % 2 else w)[i], "label": i % 2 == 1}),
        "votes-turns": each(
            lambda i: {"prompt": chat(i, "")[:2], "completion": [turn("assistant", a[i])], "label": i % 3 > 0}
        ),
        "problems": each(lambda i: {"prompt": q[i], "answer": 8 * i, "level": i % 3, "code": f"{i:03}"}),
        "problems-turns": each(lambda i: {"prompt": chat(i, "")[1:2], "system": "Be brief.", "answer": a[i]}),
        "pages": [{"text": f"Page {k}. {q[i]}\n{a[i]} {w[i]} " * 6, "id": i} for k in range(8) for i in range(N)],
    }
    # In place of what trained models write. Steps of recipes read these in large batches.
    made["distilled"] = each(lambda i: {"messages": chat(i, a[i])[1:], "review": reviews[i % 3]}) * 40
    made["ranked"] = [row | {"prompt": f"{row['prompt']} ({i})"} for i in range(40) for row in made["pairs"]]
    return made


def is_flat(name: str) -> bool:
    return not any(isinstance(value, dict | list) for value in rows()[name][0].values())


def write(folder: Path) -> None:
    """Write each format as JSON Lines, JSON and Parquet, and as CSV if its cells are text."""
    folder.mkdir()
    for name, lines in rows().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        (folder / f"{name}.json").write_text(json.dumps(lines, ensure_ascii=False, indent=1))
        pq.write_table(pa.Table.from_pylist(lines), folder / f"{name}.parquet")
        if is_flat(name):
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.writer(file, delimiter=";" if name == "chats-named" else ",")
                writer.writerows([list(lines[0]), *(row.values() for row in lines)])


def sources(name: str, **more: Any) -> list[Row]:
    kinds = ["jsonl", "json", "parquet", *["csv"] * is_flat(name)]
    return [{"path": f"fixtures/{name}.{kind}", "label": f"{name}-{kind}", **more} for kind in kinds]


def steps() -> dict[str, tuple[str, Row]]:
    """Return stage and settings of each fixture."""
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    train = {"max_steps": 4, "global_batch_size": 4, "per_device_train_batch_size": 4, "bf16": False, "seed": 0}
    held_out = {"validation_fraction": 0.1}
    corpus, model = {"dataset": "runs/fixture/corpus"}, {"model_name_or_path": "runs/fixture/pretrain/corpus"}
    pages = train | {"model": shape | {"num_key_value_heads": 1, "head_dim": 16}, "max_length": 512}
    pages["tokenizer"] = "runs/fixture/tokenizer"
    continued = train | corpus | model | {"max_length": 512}
    tuned = train | model | {"chat_template_path": "chat_templates/chatml.jinja", "gradient_checkpointing": False}
    chats = tuned | {"max_length": 512}
    pairs = tuned | {"test_fraction": 0.3, "max_length": 256, "equal": "drop"}
    exact = {"function": "zero2chat.rewards.exact.exact_match"}
    short = tuned | {"max_completion_length": 16}

    given = {name: sources(name) for name in rows()}
    given["chats-named"] = sources("chats-named", columns={"prompt": "Question", "completion": "Answer"})
    given["chats-column"] = sources("chats-column", columns={"messages": "dialogue"})
    given["chats-broken"] = sources("chats-broken", invalid="drop")
    everything = {
        kind: [source for name in given if name.startswith(kind) for source in given[name]]
        for kind in ("chats", "pairs")
    }
    part = {"path": "fixtures/ranked.csv", "columns": {"completion": "chosen"}, "split": "train[10%:90%]"}
    mixed = [part, {"task": "lines", "n": 40, "retell": "Tell me something."}]
    options = {"max_length": 120, "overlong": "drop", "join": 2, "datasets": [one | {"fraction": 0.5} for one in mixed]}
    options["decontaminate"] = [{"path": "fixtures/chats-named.jsonl", "column": "Question"}]
    rewards = [{"model": "runs/fixture/reward/pairs"}, {**exact, "weight": 0.5}]
    made = {
        "corpus": (
            "corpus",
            held_out | {"datasets": [*sources("pages"), {"task": "facts", "n": 500}], "test_fraction": 0.05},
        ),
        "tokenizer": ("tokenizer", corpus | {"vocab_size": 400}),
        "pretrain/corpus": ("pretrain", pages | corpus),
        "pretrain/masked": ("pretrain", pages | corpus | {"mask_documents": True}),
        "pretrain/continued": ("pretrain", continued),
        "sft/packed": ("sft", chats | {"datasets": everything["chats"], "packing": True, "validation_fraction": 0.2}),
        "sft/grouped": ("sft", chats | {"datasets": everything["chats"], "train_sampling_strategy": "group_by_length"}),
        "sft/options": ("sft", chats | options),
        "reward/pairs": ("reward", pairs | {"datasets": everything["pairs"]}),
        "kto/pairs": ("kto", pairs | {"datasets": everything["pairs"]}),
        "ppo/problems": (
            "ppo",
            short | {"datasets": given["problems"], "rewards": rewards, "held_out": {"task": "lines", "n": 4}},
        ),
        "gkd/problems": (
            "gkd",
            short | {"datasets": given["problems"], "teacher_model_name_or_path": "runs/fixture/sft/chats"},
        ),
    }
    stages = {"chats": ("sft", chats), "pairs": ("dpo", pairs), "votes": ("kto", pairs)}
    stages["problems"] = ("grpo", short | {"num_generations": 4, "rewards": [exact]})
    for name in given:
        if stage := stages.get(name.partition("-")[0]):
            made[f"{stage[0]}/{name}"] = (stage[0], stage[1] | {"datasets": given[name]})
    return {f"fixture/{name}": step for name, step in made.items()}
