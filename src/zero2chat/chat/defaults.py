"""The default model of a chat, the tools that a model was trained with, and when it declines.

A run's `run.json` has the settings of its step, including the tools. By default, a model searches its recipe's index,
`library/index`, because it was trained on passages of this index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import METRICS, RUN, read_identity
from zero2chat.inference.confidence import read_abstention
from zero2chat.inference.session import Session
from zero2chat.inference.tool_format import Tools, make_tools, open_tools
from zero2chat.models.loading import bases
from zero2chat.models.tokenization import visible
from zero2chat.tools.tool_functions import NAMES

NONE = "none"
_MODELS = ("runs/assistant/grpo", "runs/quickstart/grpo")
_INDEX = Path("library", "index")


def default_model(option: str = "a model") -> str:
    """Return the last model of the recipe assistant, or else of quickstart, and print its name on stderr. Raises
    `UserError` if neither exists."""
    for model in _MODELS:
        if (Path(model) / METRICS).exists():
            say(f"opening {model}")
            return model
    models = " nor ".join(_MODELS)
    raise UserError(f"no model given, and neither {models} exists: give {option}, or run `make quickstart` in a clone")


def tools_for(model: str, names: str | None, search: str | None) -> Tools | None:
    """Open the tools that a command's `--tools` (`names`) and `--search` name. Default: those of the model's training.

    A tool of the training that cannot be opened is skipped, with a line on stderr. Raises `UserError` as `open_tools`
    does if tools are named, or if `search` is given but the model was trained without search.
    """
    if names is not None:
        return open_tools(None if names == NONE else names, search)
    recipe, trained = _trained_with(model)
    if search is not None and "search" not in trained:
        return open_tools(None, search)  # raises
    functions: list[Callable[..., Any]] = []
    shown = []
    for name, options in trained.items():
        if name not in NAMES:  # a downloaded run.json must not choose what is imported
            say(f"{model}: continuing without your own tool {name!r}: name it in --tools to use it")
            continue
        where = (search or str(recipe / _INDEX)) if name == "search" else ""
        limits = options if where and isinstance(options, Mapping) else {}
        try:
            made = make_tools({name: {**limits, "where": where} if where else {}})
        except (UserError, OSError) as error:  # OSError: the engine's program is missing
            say(f"{model}: continuing without {name}: {error}")
            continue
        functions += made.functions.values() if made else ()
        shown.append(f"search ({where})" if where else name)
    if shown:
        say(f"{model}: tools: {' and '.join(shown)}")
    return Tools(functions) if functions else None


def declines_below(model: str, given: float | None, temperature: float | None = None) -> float:
    """Return the confidence below which to decline: as `given`, or else the model's own threshold. If that was fitted
    at another temperature, a line on stderr says so. Raises `UserError` if the model's file is damaged."""
    if given is not None:
        return given
    own = read_abstention(model)
    if own.abstain_below and temperature != own.temperature:
        sure = f"{own.abstain_below:.0%} sure, a threshold fitted at temperature {own.temperature:g}"
        say(f"{model}: declines if less than {sure}: for another temperature, give --abstain-below")
    return own.abstain_below


def about(model: str, session: Session) -> str:
    """Return a line on what the model was trained to do, its context, whether it thinks, and when it declines."""
    listed = [
        made["settings"].get("datasets") for _, made in _runs(model, warn=False) if made.get("stage") in ("sft", "grpo")
    ]
    entries = [one for datasets in listed if isinstance(datasets, list) for one in datasets if isinstance(one, Mapping)]
    data = [
        str(task).rpartition(".")[2].replace("_", " ") if (task := one.get("task")) else Path(str(one["path"])).stem
        for one in entries
        if one.get("task") or one.get("path")
    ]
    sampling, thoughts, limit = session.sampling, session.thoughts, session.sampling.thinking
    is_budget = limit is not None and not isinstance(limit, bool)
    how = f"at most {limit} tokens" if is_budget else "off" if limit is False else "on"
    parts = [
        *([f"trained on {', '.join(dict.fromkeys(data))}"] if data else []),
        f"context {session.limit} tokens",
        f"thinking {how}" if thoughts.thinks else "does not think",
        *([f"declines if less than {sampling.abstain_below:.0%} sure"] if sampling.abstain_below else []),
    ]
    return f"{model}: {'; '.join(parts)}"


def _trained_with(model: str) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder of the recipe's runs, and the tools in the settings of the run that made the model (or
    checkpoint). If these settings have no tools, an earlier run's settings count: the run that was continued."""
    recipe = Path()
    for run, made in _runs(model):
        recipe = recipe if recipe.parts else run.parent
        tools = made["settings"].get("tools")
        if isinstance(tools, Mapping) and tools:
            return recipe, tools
    return recipe, {}


def _runs(model: str, warn: bool = True) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the folder and the fingerprint of the run that made the model, then of the runs that it continued."""
    seen = set[str]()
    while model not in seen:
        seen.add(model)
        try:
            run = Path(model) if (Path(model) / RUN).is_file() else Path(model).parent
            made = read_identity(run)["fingerprint"]
            names = bases(made["settings"])
        except FileNotFoundError:  # of no run of ours, such as a Hub name
            return
        except (OSError, UserError, TypeError):
            if warn:
                say(f"{model}: cannot read its {RUN}, so what the model was trained with is unknown")
            return
        yield run, made
        model = names[0] if names else model


def say(line: str) -> None:
    print(visible(" ".join(line.split())), file=sys.stderr, flush=True)
