"""Reward functions in TRL's signature, configured by dotted path and weight.

A function takes `prompts`, `completions` and the dataset's other columns as keyword arguments: lists with one entry per
completion. It returns a number per completion, or None, which `trainers/grpo.py` makes neutral. Functions read
the last assistant message, which with tools follows calls and results, without its reasoning. A module may have
`check_references(answers)`: it is called once before training, and raises `UserError` with the row of an unusable
reference answer. References are in the column `answer`, or in the column that the module names in `REFERENCES`.

The signatures of this package's functions convert and check their options. At configuration each function is called
with empty lists: it must first check whatever its signature cannot. Short imports, such as `from zero2chat.rewards
import math_answer`, load a function's module on first use.
"""

from __future__ import annotations

import inspect
import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from importlib import import_module
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, get_type_hints

from zero2chat.core.config import build
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.registry import own_function
from zero2chat.models.tokenization import split_reasoning

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)
_FIRST_FAILURES = 64  # a function that fails for this many completions from the start is broken
# Arguments that a trainer passes to every function, besides the dataset's columns.
GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
_SHORT = {"math_answer": "math", "exact_match": "exact", "code_tests": "code", "soft_overlong": "length"}


def __getattr__(name: str) -> Any:
    if name not in _SHORT:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_SHORT[name]}"), name)


@dataclass
class RewardSpec:
    """One entry of a YAML's `rewards:` list: a function by dotted path, its weight, and its options."""

    function: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    label: str | None = None  # name in the log; default: the function's name


def read_rewards(entries: Any, alone: bool = False, models: type | None = None) -> list[Any]:
    """Read a YAML's `rewards:` list. With `models`, entries that name a model become `models`. With `alone`, functions
    that need a trainer are invalid. Raises `UserError` for an empty list, or an invalid key, function or option."""
    if not isinstance(entries, list) or not entries:
        what = "the list is empty" if entries == [] else f"expected a list, got {entries!r}"
        model = "a model, such as runs/quickstart/reward, or " if models else ""
        raise UserError(f"rewards: {what}: list {model}a function, such as zero2chat.rewards.math.math_answer")
    rewards = []
    for i, entry in enumerate(entries):
        made = models if models and isinstance(entry, Mapping) and "model" in entry else RewardSpec
        spec = build([made], entry, f"rewards[{i}]")[0]
        rewards.append(Reward(spec) if made is RewardSpec else spec)
    if len({reward.__name__ for reward in rewards}) < len(rewards):
        raise UserError("rewards: two entries have the same name: set `label`")
    for reward in rewards:
        if alone and reward.needs_of_trainer:
            needs = ", ".join(reward.needs_of_trainer)
            raise UserError(
                f"rewards: '{reward.__name__}' needs {needs}, which only training has: use another function"
            )
    return rewards


def with_names(said: str, names: Sequence[str]) -> str:
    """Replace the row number at the beginning of a message by the row's name."""
    return re.sub(r"^row (\d+)", lambda match: names[int(match[1])], said)


def last_message(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a completion's last assistant message without its initial reasoning; "" if there is none."""
    return split_reasoning(_last(completion)[1])[1]


def written(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the last assistant message with its reasoning, which a chat template may store in a separate field."""
    reasoning, text = _last(completion)
    return (f"<think>{reasoning}</think>" if reasoning else "") + text


def _last(completion: str | Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
    """Return the separate reasoning and the content of the last assistant message."""
    if isinstance(completion, str):
        return None, completion
    said = [message for message in completion if message.get("role") == "assistant"]
    return (said[-1].get("reasoning_content"), str(said[-1].get("content") or "")) if said else (None, "")


class Reward:
    """A reward function for a trainer, with bound options and checked return values."""

    def __init__(self, spec: RewardSpec):
        """Raises `UserError` if the function cannot be imported or called with columns and options, or if a function of
        this package rejects an option's value."""
        self.weight = spec.weight
        self._path = spec.function
        module, function = own_function(spec.function, "rewards", "my_rewards.polite")
        module_name, _, name = spec.function.rpartition(".")
        if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
            raise UserError(f"rewards: '{spec.function}' is not a plain function: give one made with `def`")
        parameters = inspect.signature(function).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise UserError(
                f"rewards: '{spec.function}' must accept columns that it does not use: add the argument **columns"
            )
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        options = [p.name for p in named if p.name not in GIVEN]
        for key in spec.options:
            if key not in options:
                raise UserError(f"rewards: {spec.function} has no option '{key}'{nearest(key, options)}")
        needed = [p.name for p in named if p.default is p.empty and p.name not in spec.options]
        # Required arguments: columns of the dataset, and values that only a trainer has.
        self.needs = [name for name in needed if name not in GIVEN]
        self.needs_of_trainer = [name for name in needed if name in GIVEN[2:]]
        self.__name__ = spec.label or name  # its name in TRL's log
        ours = module_name.startswith(f"{__name__}.")
        self._function = function
        self._options = _by_signature(function, spec) if ours else spec.options
        # A column may have the name of an option of our functions, such as `whole`: it does not set that option.
        self._ignored = {key for key in options if key not in needed} if ours else set()
        self.errors = 0  # completions for which the function raised
        self.failure: str | None = None  # the first row of the last call for which it raised, and the error
        self.logs = True  # the first failure of a call
        self._judged = 0  # completions for which it returned a number
        self._check_references = getattr(module, "check_references", None)
        self._references = getattr(module, "REFERENCES", "answer")
        if ours:  # a user's function may not support a call without completions
            self([], **{name: [] for name in needed if name != "completions"})

    def check(self, problems: Dataset, label: str, names: Sequence[str] = ()) -> None:
        """Raises `UserError` if the problems lack a required column, or if a reference answer cannot be used; the
        message then names its row. `names` are the rows' names."""
        for column in self.needs:
            if column not in problems.column_names:
                raise UserError(f"{label}: no column '{column}', which the reward {self._path} needs")
        if self._check_references is not None:
            named = inspect.signature(self._check_references).parameters
            options = {key: value for key, value in self._options.items() if key in named}
            try:
                self._check_references(problems[self._references], **options)
            except UserError as error:
                raise UserError(with_names(str(error), names) if names else f"{label}: {error}") from error

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """Raises `UserError` if the function returns a wrong number of rewards or a reward that is not finite, or if it
        has failed for all of its first completions.

        A completion's text may cause any other exception, and must not end training: the completion gets None, which
        has no effect. The first error is logged, and all are counted as the metric `<function>/errors`.
        """
        columns = {key: value for key, value in columns.items() if key not in self._ignored} | self._options
        self.failure = None
        try:
            values = checked_rewards(self._path, self._function(completions=completions, **columns), len(completions))
        except UserError:
            raise
        except Exception:
            if not completions:
                raise
            values = self._one_by_one(completions, columns)
        self._judged += sum(value is not None for value in values)
        return values

    def _one_by_one(self, completions: Sequence[Any], columns: dict[str, Any]) -> list[float | None]:
        rewards: list[float | None] = []
        failed: list[tuple[int, str, Exception]] = []
        # A trainer's columns have one entry per completion; options are passed unchanged.
        lists = {k: v for k, v in columns.items() if isinstance(v, list | tuple) and k not in self._options}
        split = {k: v for k, v in lists.items() if len(v) == len(completions)}
        for i, completion in enumerate(completions):
            own = columns | {key: [values[i]] for key, values in split.items()}
            try:
                rewards += checked_rewards(self._path, self._function(completions=[completion], **own), 1)
            except UserError:
                raise
            except Exception as error:
                said = f"{_prompt_end(columns, i)}answer {last_message(completion)[:200]!r}"
                at = traceback.extract_tb(error.__traceback__)[:2][-1]  # after this frame, the function's own
                raised = f"reward {self._path}: {at.filename}, line {at.lineno}: {error!r}"
                self.failure = self.failure or f"row {i}: {raised}: {said}"
                failed.append((i, raised, error))
                rewards.append(None)
        self.errors += len(failed)
        if not self._judged and len(failed) == len(completions) and self.errors >= _FIRST_FAILURES:
            i, raised, cause = failed[-1]
            raise UserError(f"{raised}, for every completion: {_prompt_end(columns, i)}".rstrip(": ")) from cause
        if failed and self.logs:
            _log.warning("%s (%d of %d completions failed)", self.failure, len(failed), len(completions))
        if (log_metric := columns.get("log_metric")) is not None:
            log_metric(f"{self.__name__}/errors", len(failed) / len(completions))
        return rewards


def _by_signature(function: Any, spec: RewardSpec) -> dict[str, Any]:
    """Return the options, converted and checked as a stage's settings are."""
    hints = get_type_hints(function, include_extras=True)
    options = make_dataclass("options", [(name, hints[name]) for name in spec.options])
    return vars(build([options], spec.options, f"rewards: {spec.function}")[0])


def _prompt_end(columns: Mapping[str, Any], i: int) -> str:
    """Return the end of a row's prompt, to quote in a message; "" if the function was called without prompts."""
    prompts = columns.get("prompts") or ()
    if i >= len(prompts):
        return ""
    prompt = prompts[i] if isinstance(prompts[i], str) else str(prompts[i][-1].get("content"))
    return f"prompt {prompt[-200:]!r}: "


def checked_rewards(name: str, result: Any, n: int) -> list[float | None]:
    """Check a function's return value for n completions. Raises `UserError` for a wrong number, or a non-finite one."""
    if isinstance(result, str) or not hasattr(result, "__iter__"):
        raise UserError(f"reward {name}: returned {result!r}, not a list of rewards")
    values = list(result)
    if len(values) != n:
        raise UserError(f"reward {name}: returned {len(values)} rewards for {n} completions")
    rewards: list[float | None] = []
    for i, value in enumerate(values):
        try:
            number = None if value is None else float("nan" if isinstance(value, str) else value)
        except (OverflowError, TypeError, ValueError):
            number = nan
        if number is not None and not isfinite(number):
            raise UserError(f"reward {name}: returned {value!r} for completion {i}, not a finite number")
        rewards.append(number)
    return rewards
