"""Read a run folder: metrics, history, samples, stage and settings of its step."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import read_identity, read_metrics
from zero2chat.core.runs import HISTORY, METRICS, RUN, SAMPLES, read_jsonl

Metric = dict[str, Any]  # {"value": …, and where applicable "n", "low", "high", "seed"}
_ROWS = ("conversations", "pairs_train", "problems", "prompts", "votes_train")  # metrics that count training rows
Points = Sequence[tuple[float, float]]


@dataclass(eq=False)  # hashed by identity
class StepResult:
    """One finished step."""

    name: str
    stage: str
    position: int
    metrics: dict[str, Metric]
    history: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # as given, without defaults
    folder: Path = Path()

    @property
    def anchor(self) -> str:
        """Return a unique id on the page, of letters, digits and dashes."""
        return f"s{self.position}-" + re.sub(r"[^A-Za-z0-9]+", "-", self.name)

    def value(self, name: str) -> float | None:
        """Return a metric as a finite number, or None."""
        return finite(self.metrics.get(name, {}).get("value"))

    def named(self, pattern: str) -> dict[str, Metric]:
        """Return the metrics whose full names match the pattern, keyed by its first group."""
        matches = ((re.fullmatch(pattern, name), metric) for name, metric in self.metrics.items())
        return {match[1]: metric for match, metric in matches if match and finite(metric["value"]) is not None}

    def curve(self, key: str, x: str = "step") -> list[tuple[float, float]]:
        """Return (step, value) of the history lines with `key`, sorted. `x` is the key to use instead of the step."""
        pairs = ((finite(line.get(x)), finite(line.get(key))) for line in self.history)
        return sorted((x, y) for x, y in pairs if x is not None and y is not None)

    def samples_by_step(self) -> dict[int, list[dict[str, Any]]]:
        """Return samples in file order, by training step, ascending."""
        groups: dict[int, list[dict[str, Any]]] = {}
        for sample in self.samples:
            groups.setdefault(int(finite(sample.get("step")) or 0), []).append(sample)
        return dict(sorted(groups.items()))


def finite(value: Any) -> float | None:
    """Return the value if it is a finite number, else None."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def bounds(metric: Metric) -> tuple[float, float] | None:
    """Return the interval's low and high end, or None if the metric has no interval."""
    low, high = finite(metric.get("low")), finite(metric.get("high"))
    return None if low is None or high is None else (low, high)


def read_step(folder: str | Path, position: int) -> StepResult:
    """Read a run folder. Files other than the metrics may be missing. Raises `UserError` if the step is unfinished."""
    folder = Path(folder)
    metrics = read_metrics(folder)
    if metrics is None:
        raise UserError(f"{folder}: step '{folder.name}' has no {METRICS}, so it is not finished: run it first")
    identity = read_identity(folder).get("fingerprint", {}) if (folder / RUN).is_file() else {}
    history, settings = read_jsonl(folder / HISTORY), identity.get("settings") or {}
    return StepResult(
        name=folder.resolve().name,
        stage=str(identity.get("stage", "unknown")),
        position=position,
        metrics=_used(metrics, history, settings) | metrics,
        history=history,
        samples=read_jsonl(folder / SAMPLES),
        settings=settings,
        folder=folder,
    )


def _used(metrics: dict[str, Metric], history: Sequence[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Metric]:
    """Return how often training passed over its rows (`epochs`), and how many of them it used (`*_seen`), from its log,
    which may end before the last step. A step uses a whole number of rows, such as eight prompts."""
    for line in reversed(history):
        if (epoch := finite(line.get("epoch"))) and (step := finite(line.get("step"))):
            steps = max(step, finite(metrics.get("steps", {}).get("value")) or finite(settings.get("max_steps")) or 0)
            rows = {name: n for name in _ROWS if (n := finite(metrics.get(name, {}).get("value")))}
            used = {name: min(n, steps * math.ceil(n * epoch / step - 0.05)) for name, n in rows.items()}
            seen = {name.removesuffix("_train") + "_seen": {"value": n} for name, n in used.items()}
            return {"epochs": {"value": round(epoch * steps / step, 3)}} | seen
    return {}


def read_steps(folders: Sequence[str | Path]) -> list[StepResult]:
    """Read run folders in order. Raises `UserError` as `read_step` does, and for a duplicate name."""
    steps = [read_step(folder, position) for position, folder in enumerate(folders, start=1)]
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"steps: two steps have the name '{name}', so their metrics collide: rename one of them")
    return steps


def join_metrics(steps: Sequence[StepResult]) -> dict[str, Metric]:
    """Return all metrics of all steps, flat: `"<step>.<metric>"` → metric."""
    return {f"{step.name}.{name}": metric for step in steps for name, metric in step.metrics.items()}
