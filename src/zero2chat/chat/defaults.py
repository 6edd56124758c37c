"""The default model of a chat, and the tools that a model was trained with.

A run's `run.json` has the settings of its step, including the tools. A model only searches the index of its own recipe,
`library/index`, because it was trained on such passages.
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

AUTO, NONE = "auto", "none"
_MODELS = ("runs/assistant/grpo", "runs/quickstart/grpo")
_INDEX = Path("library", "index")


def default_model() -> str:
    """Return the assistant recipe's last model, or else the quickstart's. Raises `UserError` if neither exists."""
    for model in _MODELS:
        if (Path(model) / METRICS).exists():
            return model
    here = " nor ".join(_MODELS)
    raise UserError(f"no model named, and neither {here} is here: name one, or run `make quickstart` in a clone")


def tools_for(model: str, names: str | None, search: str | None) -> Tools | None:
    """Open the tools of a command's `--tools` and `--search` for this model.

    Without names, or with `auto`, these are the tools that the model was trained with; one that cannot be opened is
    skipped, with a line on stderr. Raises `UserError` as `open_tools` does if tools are named, and if a search backend
    is given for a model that was trained without search.
    """
    if names not in (None, AUTO):
        return open_tools(None if names == NONE else names, search)
    run, trained = _trained_with(model)
    if search is not None and "search" not in trained:
        return open_tools(None, search)  # raises
    if run is None or not trained:
        if names == AUTO:
            _say(f"{model}: trained without tools, so it has none here")
        return None
    functions: list[Callable[..., Any]] = []
    shown = []
    for name, options in trained.items():
        try:
            if name not in NAMES:  # a downloaded run.json must not choose what is imported
                raise UserError(f"{name!r} is your own function, which must be enabled explicitly: add --tools")
            given, where = {}, ""
            if name == "search":  # with the limits of its results that the model was trained with
                options = options if isinstance(options, Mapping) else {}
                where = _where(run.parent, search)
                given = {key: options[key] for key in ("passages", "characters") if key in options} | {"where": where}
            made = make_tools({name: given})
        except (UserError, OSError) as error:  # OSError: the engine's program is missing
            _say(f"{model}: continuing without {name if name in NAMES else 'a tool'}: {error}")
            continue
        functions += made.functions.values() if made else ()
        shown.append(f"search ({where})" if where else name)
    if shown:
        _say(f"{model}: tools: {' and '.join(shown)}")
    return Tools(functions) if functions else None


def _where(recipe: Path, search: str | None) -> str:
    """Return the model's search backend. Raises `UserError` for a missing index, or one of another recipe."""
    if search is None:
        return str(recipe / _INDEX)
    if "://" in search or Path(search).resolve().is_relative_to(recipe.resolve()):
        return search
    raise UserError(
        f"--search {search}: not an index of the model's recipe, in {recipe}: name the tools "
        "(--tools search,python) to use it anyway"
    )


def _trained_with(model: str) -> tuple[Path | None, Mapping[str, Any]]:
    """Return the folder of the run that made the model, which may be one of its checkpoints, and the tools in its
    settings, or else in those of the run that it continued."""
    first, names, seen = None, [model], set[Path]()
    while names:
        try:
            folder = Path(names[0])
            run = next((owner for owner in (folder, folder.parent) if (owner / RUN).is_file()), None)
        except (OSError, ValueError):  # not a path
            run = None
        if run is None or run.resolve() in seen:
            break
        first = first or run
        seen.add(run.resolve())
        try:
            settings = json.loads((run / RUN).read_text(encoding="utf-8"))["fingerprint"]["settings"]
            tools, names = settings.get("tools"), bases(settings)
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            _say(f"{run / RUN}: cannot be read: the tools that the model was trained with are unknown")
            break
        if isinstance(tools, Mapping) and tools:
            return first, tools
    return first, {}


def _say(line: str) -> None:
    print(visible(" ".join(line.split())), file=sys.stderr, flush=True)
