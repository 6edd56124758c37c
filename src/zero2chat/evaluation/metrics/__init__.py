"""Metrics in the format of the `evaluate` library: our own by name, and users' own by path.

`load_metric` imports a file. `evaluate.load` is not used: it fetches scripts by name, and files that a script names.

A metric takes `predictions` and `references`, both texts, and may have `use(model, tokenizer, prompts, tools,
schemas)`: it is told who gave the predictions, and to which prompts.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError, nearest

if TYPE_CHECKING:
    import evaluate

NAMES = ("bleu", "chrf", "exact_match", "f1", "perplexity", "rouge")


def load_metric(name: str) -> evaluate.Metric:
    """Return a metric by its name here, or from a user's file, or folder with a file of its name.

    Raises `UserError` if there is none, or if the file cannot be imported.
    """
    import evaluate  # takes seconds

    if name in NAMES:
        from zero2chat.evaluation.metrics.perplexity import Perplexity
        from zero2chat.evaluation.metrics.texts import TextMetric

        return Perplexity(keep_in_memory=True) if name == "perplexity" else TextMetric(name)
    module = _import(name)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, evaluate.Metric) and kind.__module__ == module.__name__
    ]
    if len(kinds) != 1:
        raise UserError(f"metrics: {name}: expected one subclass of evaluate.Metric in the file, found {len(kinds)}")
    try:
        return kinds[0](keep_in_memory=True)
    except Exception as error:  # a user's class may raise anything
        raise UserError(f"metrics: {name}: cannot be created: {error!r}") from error


def _import(name: str) -> ModuleType:
    path = Path(name)
    file = path / f"{path.name}.py" if path.is_dir() else path
    if file.suffix != ".py":
        hint = nearest(name, list(NAMES))
        raise UserError(f"metrics: unknown metric '{name}'{hint}; or give the path of a .py file with your own")
    spec = importlib.util.spec_from_file_location(f"metric_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise UserError(f"metrics: {file}: no such file") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script may end
        raise UserError(f"metrics: {file}: cannot import it: {error!r}") from error
    return module


def text_info() -> evaluate.MetricInfo:
    """Return the info of a metric of texts."""
    import evaluate
    from datasets import Features, Value

    return evaluate.MetricInfo(
        description="",
        citation="",
        inputs_description="predictions: the answers; references: one reference answer for each",
        features=Features({"predictions": Value("string"), "references": Value("string")}),
    )
