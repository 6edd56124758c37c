"""The default model of a chat, and the tools that a model was trained with.

A run's `run.json` has the settings of its step, including the tools. By default, a model searches its recipe's index,
`library/index`, because it was trained on passages of this index.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.runs import METRICS, RUN
from zero2chat.inference.tool_format import Tools, make_tools, open_tools
from zero2chat.models.loading import bases
from zero2chat.models.tokenization import visible
from zero2chat.tools.tool_functions import NAMES

NONE = "none"
_MODELS = ("runs/assistant/grpo", "runs/quickstart/grpo")
_INDEX = Path("library", "index")


def default_model() -> str:
    """Return the last model of the recipe assistant, or else of quickstart. Raises `UserError` if neither exists."""
    for model in _MODELS:
        if (Path(model) / METRICS).exists():
            return model
    models = " nor ".join(_MODELS)
    raise UserError(f"no model given, and neither {models} exists: give a model, or run `make quickstart` in a clone")


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
            _say(f"{model}: continuing without your own tool {name!r}: name it in --tools to use it")
            continue
        where = (search or str(recipe / _INDEX)) if name == "search" else ""
        limits = options if where and isinstance(options, Mapping) else {}
        try:
            made = make_tools({name: {**limits, "where": where} if where else {}})
        except (UserError, OSError) as error:  # OSError: the engine's program is missing
            _say(f"{model}: continuing without {name}: {error}")
            continue
        functions += made.functions.values() if made else ()
        shown.append(f"search ({where})" if where else name)
    if shown:
        _say(f"{model}: tools: {' and '.join(shown)}")
    return Tools(functions) if functions else None


def _trained_with(model: str) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder of the recipe's runs, and the tools in the settings of the run that made the model (or
    checkpoint). If these settings have no tools, an earlier run's settings count: the run that was continued."""
    recipe, seen = Path(), set[str]()
    while model not in seen:
        seen.add(model)
        try:
            run = Path(model) if (Path(model) / RUN).is_file() else Path(model).parent
            settings = json.loads((run / RUN).read_text(encoding="utf-8"))["fingerprint"]["settings"]
            tools, names = settings.get("tools"), bases(settings)
        except FileNotFoundError:  # of no run of ours, such as a Hub name
            break
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            _say(f"{model}: cannot read its {RUN}, so the tools that the model was trained with are unknown")
            break
        recipe = recipe if recipe.parts else run.parent
        if isinstance(tools, Mapping) and tools:
            return recipe, tools
        model = names[0] if names else model
    return recipe, {}


def _say(line: str) -> None:
    print(visible(" ".join(line.split())), file=sys.stderr, flush=True)
