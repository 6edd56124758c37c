"""Print `docs/tasks.md`: each task with an example, and its options with what they do, from signatures and docstrings.

python docs/tasks.py > docs/tasks.md
"""

from __future__ import annotations

import inspect
import random
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from zero2chat import tasks
from zero2chat.core.registry import modules, own_module

_FIXED = ("split", "seed", "n", "row", "rng", "style", "call")
_HEAD = """# Tasks

A [task](concepts.md#task) is named in `datasets`, `tasks` and `rewards` of any YAML. Here are 500 of its rows for
training, with two of its options:

```yaml
datasets:
  - {task: sums, n: 500, options: {digits: [1, 2], operations: [plus, minus]}}
```

`rows` makes the prompts of SFT, RL and evaluation. `documents` makes pages of text for `corpus` and `index`. Each
option below names the functions that take it. `style` selects the wording of the answers that SFT trains on.
`tools: true` answers with tool calls, in tasks that can. Every example is the first test row of seed 0, with an answer
that scores 1.0.

This page is generated: `make tasks` writes it.

| task | what it asks | styles | documents | tools |
|---|---|---|---|---|
"""
# Rows that come over the network, whose package may give other ones, or that only measure: an example of their kind.
_EXAMPLES = {
    "asdiv": ("Ada has 7 apples and buys 2 more. How many apples does she have?", "7 + 2 = 9.\n#### 9"),
    "svamp": ("Ben had 9 pens. How many are left if he gives 4 away?", "9 - 4 = 5.\n#### 5"),
    "unseen": ("hi can u tell me how many eggs are left if i had 12 and used 5", "12 - 5 = 7.\n#### 7"),
    "countries": ("What is the capital of Iceland?", "The capital of Iceland is Reykjavik (almanac)."),
    "gsm8k": (
        "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips "
        "did Natalia sell altogether in April and May?",
        "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May.\n#### 72",
    ),
    "reasoning_gym": (
        "State the final answer to the following arithmetic problem: 52 - 25 =",
        "I find 27.\n#### 27",
    ),
}


def page(names: Sequence[str]) -> str:
    """Return the page with these tasks."""
    found = {name: own_module(modules("tasks")[name], name) for name in names}
    table = "".join(map(_row, found, found.values()))
    return _HEAD + table + "".join(f"\n{_section(name, module)}" for name, module in found.items())


def _row(name: str, module: ModuleType) -> str:
    first = re.match(r".*?[^l][.?](?= |$)", _paragraphs(module)[0])[0]  # type: ignore[index]
    styles = ", ".join(f"`{style}`" for style in getattr(module, "STYLES", ("worked",)))
    functions = (("documents",), ("use_tools", "episode"))
    has = ["yes" if any(hasattr(module, name) for name in some) else "" for some in functions]
    return f"| [{name}](#{name}) | {first} | {styles} | {has[0]} | {has[1]} |\n"


def _section(name: str, module: ModuleType) -> str:
    example = _example(name)
    fence = "````" if "```" in example else "```"
    return (
        "\n\n".join([f"## {name}", f"{fence}text\n{example}\n{fence}", *_paragraphs(module), *_options(module)]) + "\n"
    )


def _example(name: str) -> str:
    """Return a conversation, a line per message."""
    if name in _EXAMPLES:
        question, answer = _EXAMPLES[name]
        messages = [{"role": "user", "content": question}]
    else:
        task = tasks.load(name)
        (row,) = task.rows("test", seed=0, n=1)
        messages, answer = task.prompt(row), task.demonstration(row, random.Random(0))
        assert task.score(row, answer) == 1.0
    said = [*messages, {"role": "assistant", "content": answer}]
    return "\n".join(f"{one['role']}: {one['content']}" for one in said)


def _options(module: ModuleType) -> list[str]:
    """Return a bullet per option: its functions, its default, and the sentences of the docstrings that name it."""
    functions = {name: getattr(module, name) for name in ("rows", "documents") if hasattr(module, name)}
    options: dict[str, dict[str, inspect.Parameter]] = {}
    for name, function in functions.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in _FIXED:
                options.setdefault(parameter.name, {})[name] = parameter
    bullets: dict[str, list[str]] = {}  # options that one sentence explains share a bullet
    for name, takes in options.items():
        where, default = ", ".join(f"`{function}`" for function in takes), next(iter(takes.values())).default
        text = _meaning(name, [*(functions[function] for function in takes), module])
        if not text:
            raise SystemExit(f"{module.__name__}: no docstring of it explains the option `{name}`")
        bullets.setdefault(text, []).append(f"`{name}` ({where}; {_default(default)})")
    return ["\n".join(f"- {', '.join(names)}: {text}" for text, names in bullets.items())] if bullets else []


def _meaning(option: str, of: Sequence[Any]) -> str:
    """Return the sentences that name the option; those of the module, which comes last, only if there are no others."""
    *functions, module = ([one for one in _sentences(one) if f"`{option}`" in one] for one in of)
    said = [one for some in functions for one in some if "as in `rows`" not in one] or module
    text = re.sub(r"(^|\. )Return (\w)", lambda match: match[1] + match[2].upper(), " ".join(dict.fromkeys(said)))
    return text.removeprefix(f"`{option}`: ")


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple | list):
        return f"default `[{', '.join(map(str, value))}]`"
    return f"default `{str(value).lower() if isinstance(value, bool) else value}`"


def _paragraphs(of: Any) -> list[str]:
    text = re.sub(r" ?This file is long: [^.]*\.", "", inspect.getdoc(of) or "")
    return [re.sub(r"\s+", " ", one.strip()) for one in text.split("\n\n")]


def _sentences(of: Any) -> list[str]:
    """Return a docstring's sentences; a list belongs to the sentence before it."""
    text = re.sub(r":\n+- ", ": ", inspect.getdoc(of) or "")
    text = re.sub(r"\.\n- ", "; ", text)
    return [
        one for part in text.split("\n\n") for one in re.split(r'(?<=[^l]\.) (?=[A-Z`"])', re.sub(r"\s+", " ", part))
    ]


if __name__ == "__main__":
    sys.stdout.write(page(tasks.names()))
