"""The fixtures of digests.py: small files of each row format, and the steps that read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
N = 16
QUESTIONS = [f"What is {i} + {7 * i}? {'Say it in one word. ' * (i % 3)}" for i in range(N)]
ANSWERS = [f"It is {8 * i}: naïve, 日本語 {'🙂' * (i % 2)}\n{'<|im_end|> ' * (i % 4 == 1)}so." for i in range(N)]
WORSE = [f"Perhaps {9 * i}, NA, 007.{' I do not know.' * (i % 5)}" for i in range(N)]
SCHEMA = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


def turn(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def chat(i: int, answer: str) -> list[Row]:
    return [turn("system", "Be brief."), turn("user", QUESTIONS[i]), turn("assistant", answer)]


def called(i: int) -> list[Row]:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": i, "b": 7 * i}}}
    told = [turn("assistant", "", tool_calls=[call]), turn("tool", str(8 * i), name="add")]
    return [turn("user", QUESTIONS[i]), *told, turn("assistant", ANSWERS[i])]


def speakers(i: int) -> list[Row]:
    call = json.dumps({"name": "add", "arguments": {"a": i, "b": 7}})
    tools = [{"from": "function_call", "value": call}, {"from": "observation", "value": str(i + 7)}] if i % 2 else []
    return [{"from": "human", "value": QUESTIONS[i]}, *tools, {"from": "gpt", "value": ANSWERS[i]}]


def rows() -> dict[str, list[Row]]:
    """Return the rows of each file. A name's first word is the kind of rows."""
    q, a, w = QUESTIONS, ANSWERS, WORSE
    sides = [{"chosen": a[i], "rejected": w[i]} for i in range(N)]
    said = [{side: [turn("assistant", text)] for side, text in row.items()} for row in sides]
    asked = [{"from": "human", "value": text} for text in q]
    made = {
        "chats": [{"messages": [*chat(i, a[i]), turn("user", "And?"), turn("assistant", w[i])]} for i in range(N)],
        "chats-tools": [{"messages": called(i), "tools": [SCHEMA]} for i in range(N)],
        "chats-thoughts": [
            {"messages": [turn("user", q[i]), turn("assistant", a[i], reasoning_content=w[i])]} for i in range(N)
        ],
        "chats-sharegpt": [
            {"conversations": speakers(i), "system": "Be brief." * (i % 2), "tools": json.dumps([SCHEMA["function"]])}
            for i in range(N)
        ],
        "chats-prompt": [{"prompt": q[i], "completion": a[i], "system": "Be brief." * (i % 2)} for i in range(N)],
        "chats-prompt-messages": [
            {"prompt": [turn("user", q[i])], "completion": [turn("assistant", a[i])]} for i in range(N)
        ],
        "chats-alpaca": [
            {"instruction": q[i], "input": w[i] * (i % 2), "output": a[i], "history": [[q[0], a[0]]] * (i % 3)}
            for i in range(N)
        ],
        "chats-named": [{"Question": q[i], "Answer": a[i], "Source": "me"} for i in range(N)],
        "chats-dialogue": [{"dialogue": chat(i, a[i])} for i in range(N)],
        "chats-broken": [{"messages": chat(i, a[i] * (i % 4 != 2))} for i in range(N)],
        "pairs": [{"prompt": q[i], **sides[i]} for i in range(N)],
        "pairs-messages": [{"prompt": [turn("user", q[i])], **said[i]} for i in range(N)],
        "pairs-system": [{"prompt": q[i], "system": "Be brief." * (i % 2), **sides[i]} for i in range(N)],
        "pairs-whole": [{"chosen": chat(i, a[i]), "rejected": chat(i, w[i])} for i in range(N)],
        "pairs-sharegpt": [
            {"conversations": [asked[i]], **{side: {"from": "gpt", "value": v} for side, v in sides[i].items()}}
            for i in range(N)
        ],
        "pairs-alpaca": [{"instruction": q[i], "input": "Now." * (i % 2), **sides[i]} for i in range(N)],
        "pairs-tools": [{"prompt": q[i], **sides[i], "tools": [SCHEMA]} for i in range(N)],
        "pairs-equal": [{"prompt": q[i], **sides[i], **({"rejected": a[i]} if i % 5 == 0 else {})} for i in range(N)],
        "votes": [{"prompt": q[i], "completion": (a if i % 2 else w)[i], "label": i % 2 == 1} for i in range(N)],
        "votes-messages": [
            {"prompt": chat(i, "")[:2], "completion": [turn("assistant", a[i])], "label": i % 3 > 0} for i in range(N)
        ],
        "problems": [{"prompt": q[i], "answer": 8 * i, "level": i % 3, "code": f"{i:03}"} for i in range(N)],
        "problems-messages": [{"prompt": chat(i, "")[1:2], "system": "Be brief.", "answer": a[i]} for i in range(N)],
        "problems-tools": [{"prompt": q[i], "answer": str(8 * i), "tools": [SCHEMA]} for i in range(N)],
        "pages": [{"text": f"Page {k}. {q[i]}\n{a[i]} {w[i]} " * 6, "id": i} for k in range(8) for i in range(N)],
    }
    reviews = ("unreviewed", "accepted", "rejected")
    made["distilled"] = [
        {"messages": chat(i, a[i])[1:], "origin": {"row": i}, "review": reviews[i % 3]} for i in range(N)
    ]
    # Steps of recipes read these in large batches.
    made["distilled"] *= 40
    made["ranked"] = [row | {"prompt": f"{row['prompt']} ({i})"} for i in range(40) for row in made["pairs"]]
    return made


def is_flat(row: Row) -> bool:
    return not any(isinstance(value, dict | list) for value in row.values())


def kinds(name: str) -> list[str]:
    return ["jsonl", "json", "parquet", *(["csv"] if is_flat(rows()[name][0]) else [])]


def write(folder: Path) -> None:
    """Write each format as JSON Lines, JSON and Parquet, and as CSV if its cells are text."""
    folder.mkdir()
    for name, found in rows().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
        (folder / f"{name}.json").write_text(json.dumps(found, ensure_ascii=False, indent=1))
        pq.write_table(pa.Table.from_pylist(found), folder / f"{name}.parquet")
        if is_flat(found[0]):
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(found[0]), delimiter=";" if name == "chats-named" else ",")
                writer.writeheader()
                writer.writerows(
                    {k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()} for row in found
                )


def sources(name: str, **more: Any) -> list[Row]:
    return [{"path": f"fixtures/{name}.{kind}", "label": f"{name}-{kind}", **more} for kind in kinds(name)]


def steps() -> dict[str, tuple[str, Row]]:
    """Return stage and settings of each fixture."""
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    train = {"max_steps": 4, "global_batch_size": 4, "per_device_train_batch_size": 4, "bf16": False, "seed": 0}
    continued = {"model_name_or_path": "runs/fixture/pretrain/corpus", "new_tokens": [" PostgreSQL", "日本語"]}
    continued |= {"tokenizer": None, "model": {}, "dataset": "runs/fixture/corpus"}
    pages = train | {
        "tokenizer": "runs/fixture/tokenizer",
        "model": shape | {"num_key_value_heads": 1, "head_dim": 16},
        "max_length": 512,
    }
    tuned = train | {
        "model_name_or_path": "runs/fixture/pretrain/corpus",
        "chat_template_path": "chat_templates/chatml.jinja",
        "gradient_checkpointing": False,
    }
    pairs = tuned | {"test_fraction": 0.3, "max_length": 256, "equal": "drop"}
    sampled = tuned | {"num_generations": 4, "max_completion_length": 16}
    exact = {"function": "zero2chat.rewards.exact.exact_match"}
    facts = {"task": "facts", "n": 500}
    held_out = {"validation_fraction": 0.1}
    stream = held_out | {"stream": {"path": "fixtures/pages.parquet"}, "validation_documents": 2}
    made = {
        "corpus": ("corpus", held_out | {"datasets": [*sources("pages"), facts], "test_fraction": 0.05}),
        "tokenizer": ("tokenizer", {"dataset": "runs/fixture/corpus", "vocab_size": 400}),
        "pretrain/corpus": ("pretrain", pages | {"dataset": "runs/fixture/corpus"}),
        "pretrain/masked": ("pretrain", pages | {"dataset": "runs/fixture/corpus", "mask_documents": True}),
        "pretrain/stream": ("pretrain", pages | stream),
        "pretrain/continued": ("pretrain", pages | continued),
    }
    chats = [name for name in rows() if name.startswith("chats")]
    options = {"chats-named": {"columns": {"prompt": "Question", "completion": "Answer"}}}
    options |= {"chats-dialogue": {"column": "dialogue"}, "chats-broken": {"invalid": "drop"}}
    given = {name: sources(name, **options.get(name, {})) for name in rows()}
    made |= {f"sft/{name}": ("sft", tuned | {"max_length": 512, "datasets": given[name]}) for name in chats}
    everything = tuned | {"max_length": 512, "datasets": [source for name in chats for source in given[name]]}
    lines = {"task": "lines", "n": 40, "retell": "Tell me something."}
    mixture = [{"path": "fixtures/ranked.csv", "columns": {"completion": "chosen"}, "split": "train[10%:90%]"}, lines]
    made |= {
        "sft/packed": ("sft", everything | {"packing": True, "validation_fraction": 0.2}),
        "sft/grouped": ("sft", everything | {"train_sampling_strategy": "group_by_length"}),
        "sft/options": (
            "sft",
            tuned
            | {
                "max_length": 120,
                "overlong": "drop",
                "join": 2,
                "datasets": [source | {"fraction": 0.5} for source in mixture],
                "validation_datasets": sources("chats-prompt", n=10),
                "decontaminate": [{"path": "fixtures/chats-named.jsonl", "column": "Question"}],
            },
        ),
    }
    made |= {f"dpo/{name}": ("dpo", pairs | {"datasets": given[name]}) for name in given if "pairs" in name}
    every = [source for name in given if "pairs" in name for source in given[name]]
    made |= {f"{stage}/pairs": (stage, pairs | {"datasets": every}) for stage in ("reward", "kto")}
    made |= {f"kto/{name}": ("kto", pairs | {"datasets": given[name]}) for name in given if "votes" in name}
    for name in given:
        if name.startswith("problems"):
            made[f"grpo/{name}"] = ("grpo", sampled | {"datasets": given[name], "rewards": [exact]})
    prompts = {"datasets": given["problems"], "max_completion_length": 16}
    rewards = [{"model": "runs/fixture/reward/pairs"}, {**exact, "weight": 0.5}]
    made["ppo/problems"] = ("ppo", tuned | prompts | {"rewards": rewards, "held_out": {"task": "lines", "n": 4}})
    made["gkd/problems"] = ("gkd", tuned | prompts | {"teacher_model_name_or_path": "runs/fixture/sft/chats"})
    return {f"fixture/{name}": step for name, step in made.items()}
