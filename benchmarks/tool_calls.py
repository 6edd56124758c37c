"""Does a model call the tools that it is given? Conversations up to a call, and what the model writes next.

    make smollm && python benchmarks/tool_calls.py runs/smollm2-tool-calls/sft [MODEL …] [--json]

The 50 conversations are those that `make smollm` holds out. `parsed`: the response template parses one call. `fits`: it
is a call of a given tool, with all required arguments and no unknown ones. `same`: name and arguments are those of the
conversation. Greedy, at most 256 tokens. About a minute per model on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trl.chat_template_utils import parse_response

from zero2chat.core import stats
from zero2chat.core.errors import exit_on_mistake
from zero2chat.core.runs import read_jsonl
from zero2chat.inference.generate import answer
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.loading import load_model

ROWS = Path("data/smollm2-135m/tool_calls_test.jsonl")


def asked(row: dict[str, Any]) -> tuple[list[dict[str, str]], dict[str, dict[str, Any]], dict[str, Any]]:
    """The turns before the first call, the tools' parameters by name, and the call."""
    place = next(i for i, message in enumerate(row["messages"]) if "tool_calls" in message)
    tools = [tool["function"] for tool in json.loads(row["tools"])]
    # In the template's format
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    (call,) = row["messages"][place]["tool_calls"]
    made = {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
    turns = [{"role": "system", "content": lines}, *row["messages"][:place]]
    return turns, {tool["name"]: tool["parameters"] for tool in tools}, made


def is_call(call: dict[str, Any], tools: dict[str, dict[str, Any]]) -> bool:
    if call["name"] not in tools or not isinstance(call["arguments"], dict):
        return False
    parameters, given = tools[call["name"]], set(call["arguments"])
    return set(parameters.get("required", [])) <= given <= set(parameters.get("properties", {}))


def measure(path: str) -> dict[str, Any]:
    model, tokenizer = load_model(path)
    prepare_chat_template(tokenizer, "chat_templates/chatml.jinja")
    rows = [asked(row) for row in read_jsonl(ROWS)]
    answers = answer(model, tokenizer, [turns for turns, _, _ in rows], 256, batch_size=10)
    header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    parsed = fits = same = 0
    for (_, tools, made), found in zip(rows, answers, strict=True):
        said = parse_response(tokenizer, tokenizer.encode(found.text, add_special_tokens=False), prefix=header)
        calls = [call["function"] for call in said.get("tool_calls", [])]
        parsed += len(calls) == 1
        fits += len(calls) == 1 and is_call(calls[0], tools)
        same += calls == [made]
    counts = {"parsed": parsed, "fits": fits, "same": same}
    return {name: stats.rate(count, len(rows)) for name, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if not ROWS.exists():
        raise SystemExit(f"tool_calls: {ROWS} does not exist: run `make smollm` first")
    found = {path: measure(path) for path in args.models}
    for path, it in found.items():
        shown = (f"{key} {rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})" for key, rate in it.items())
        print(f"{path}: {', '.join(shown)} of {it['parsed']['n']}")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
