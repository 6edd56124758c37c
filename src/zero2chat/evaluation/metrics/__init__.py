"""Metrics in the format of the `evaluate` library: our own by name, and users' own by path.

`load_metric` imports a local file. `evaluate.load` is not used, because it downloads scripts by name.

A metric takes `predictions` and `references`, both texts. If it has a method `use(model, tokenizer, prompts, tools,
schemas)`, that method first gets the model that gave the predictions, and the prompts.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError, nearest

if TYPE_CHECKING:
    import evaluate

NAMES = ("bleu", "chrf", "exact_match", "f1", "perplexity")


def load_metric(name: str) -> evaluate.Metric:
    """Return a metric: one of ours by name, or the metric in a user's Python file.

    Raises `UserError` if the metric does not exist, or if the file cannot be imported.
    """
    import evaluate  # takes seconds

    if name in NAMES:
        from zero2chat.evaluation.metrics.ours import Perplexity, TextMetric

        return Perplexity(name) if name == "perplexity" else TextMetric(name)
    file = Path(name)
    if file.suffix != ".py":
        hint = nearest(name, list(NAMES))
        raise UserError(f"metrics: unknown metric '{name}'{hint}; or give the path of a .py file with your own metric")
    module = f"metric_{file.stem}"
    try:
        values = runpy.run_path(name, run_name=module).values()
        own = [kind for kind in values if isinstance(kind, type) and kind.__module__ == module]
        kinds = [kind for kind in own if issubclass(kind, evaluate.Metric)]
        if len(kinds) == 1:
            return kinds[0](keep_in_memory=True)
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script may end
        raise UserError(f"metrics: cannot import {file}: {error!r}") from error
    raise UserError(f"metrics: {name}: expected one subclass of evaluate.Metric in the file, found {len(kinds)}")
