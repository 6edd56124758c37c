"""Worlds, in which a model acts for many steps. Only this module knows their shape, TRL's `environment_factory`.

A world is a class: a constructor without arguments, `reset(**row)`, which returns the first observation or None,
`get_reward()`, and public methods with type hints and docstrings, which are the model's tools and return observations.
Its attribute `consent` names the methods that need a person's yes. Its module also has `world(seed, horizon, split)`,
which makes a row. A row names its world in the column `environment`; its column `consent` is the simulated person's
answer (default "yes"), `steps` the most calls, and `failing` the share of calls that fail with an error, the same ones
for equal answers.

What a model writes reaches a world only through an `Episode`. An exception in a world is an observation. Steps, time,
and the lengths of arguments and observations are bounded; a world must bound its memory itself.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import logging
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import ModuleType
from typing import Any, TypeVar

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.registry import modules, own_module

STEPS = 40  # calls in an episode, if its row does not say
SECONDS = 20.0  # of all calls in an episode; as many for `reset`, and for `get_reward`
OBSERVATION = 1000  # characters
OUT_OF_ORDER = "It is out of order just now."  # the error of a call that is made to fail
SAID_NO = "The user said no."  # the result of a call without consent
_ARGUMENTS = 4000  # characters of a call's arguments

T = TypeVar("T")
_log = logging.getLogger(__name__)


def bounded(work: Callable[[], T], seconds: float) -> T:
    """Call a function in a thread for at most `seconds`: then a loop in it is ended, and a wait is abandoned. Raises
    `TimeoutError` then, and otherwise what the function raises; `SystemExit` and its like become `RuntimeError`."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():  # the function's own
            raise
        # A loop would slow all other threads until the program ends.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        raise TimeoutError(f"There was no result within {seconds:.1f} seconds.") from None


def find(name: str) -> ModuleType:
    """Import a world's module, by its short name (`rooms`) or dotted path. Raises `UserError` if there is none."""
    known = modules("worlds")
    if not all(part.isidentifier() for part in name.split(".")) or ("." not in name and name not in known):
        hint = nearest(name, sorted(known)) or f"; known: {', '.join(sorted(known))}"
        raise UserError(f"environment '{name[:100]}': no such world{hint}; or give a module's dotted path")
    return own_module(known.get(name, name), f"environment '{name}': cannot import it")


@functools.cache
def world_class(name: str) -> type:
    """Return the one class of a world's module that has `reset` and `get_reward`."""
    module = find(name)
    made = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
    worlds = [one for one in made if hasattr(one, "reset") and hasattr(one, "get_reward")]
    if len(worlds) != 1:
        raise UserError(f"environment '{name}': {len(worlds)} classes with reset and get_reward: define one")
    return worlds[0]


def methods(name: str, world: Any = None) -> dict[str, Callable[..., Any]]:
    """Return the methods of a world, or of a new instance, that are tools: those that TRL takes."""
    kind, world = world_class(name), world or world_class(name)()
    public = (key for key, _ in inspect.getmembers(kind, inspect.isfunction) if not key.startswith("_"))
    return {key: getattr(world, key) for key in public if key not in ("reset", "get_reward")}


def needs_consent(name: str) -> frozenset[str]:
    """Return the methods of a world that need a person's yes. Raises `UserError` for a name that is no method."""
    names = frozenset(getattr(world_class(name), "consent", ()))
    if unknown := names - methods(name).keys():  # such as the letters of `consent = ("sell")`
        raise UserError(f"environment '{name}': consent names {sorted(unknown)}, no methods: give a tuple of methods")
    return names


def make_row(name: str, seed: int, horizon: int, split: str = "validation") -> dict[str, Any]:
    """Return a row of a world. Raises `UserError` if the world has none of this horizon."""
    try:
        return {**find(name).world(seed, horizon, split), "environment": name}
    except (AttributeError, LookupError, ValueError) as error:
        raise UserError(f"environment '{name}': no world with seed {seed} and horizon {horizon}: {error}") from error


def worlds_of(rows: Any) -> list[str | None]:
    """Return the world of each row of a dataset."""
    return rows["environment"][:] if "environment" in rows.column_names else [None] * len(rows)


class Episode:
    """One instance of a world, for one row and one answer: no state that a model left reaches another row.

    It is made from a row, or from a dataset's columns, where a task's row is JSON in the column `row`. `observation` is
    the first one, "" if there is none. `functions` are the world's methods. Raises `UserError` if the world cannot
    begin: rows are not a model's text.
    """

    def __init__(self, columns: Mapping[str, Any]):
        whole, self.name = str(columns.get("row")), str(columns["environment"])
        # In a mixture, a row has None in the columns of other sources. The name in the JSON was not checked.
        given = json.loads(whole) if whole.startswith("{") else {k: v for k, v in columns.items() if v is not None}
        self.row = given | {"environment": self.name}
        given.pop("environment", None)
        try:
            self._world = world_class(self.name)()
            self.observation = str(bounded(lambda: self._world.reset(**given), SECONDS) or "")
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"environment '{self.name}': cannot begin: {error!r}: row {str(given)[:200]}") from error
        self.functions = {name: self._guarded(method) for name, method in methods(self.name, self._world).items()}
        self.agrees = self.row.get("consent") in (None, True, "yes")
        self.steps = int(self.row.get("steps") or STEPS)
        self.acted, self._luck = 0, random.Random(json.dumps(self.row, sort_keys=True, default=str))
        self._inside = False  # a call, maybe one that never ended

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def act(**arguments: Any) -> Any:
            if len(json.dumps(arguments)) > _ARGUMENTS:
                raise ValueError(f"The arguments are longer than {_ARGUMENTS} characters.")
            if self._inside:
                raise RuntimeError("An earlier action has not ended.")
            self.acted += 1
            if self._luck.random() < float(self.row.get("failing") or 0):
                raise RuntimeError(OUT_OF_ORDER)
            self._inside = True
            try:
                result = method(**arguments)
            except Exception:
                self._inside = False
                raise
            self._inside = False
            return result

        return act

    def get_reward(self) -> float:
        """Return the world's reward; 0 if a call has not ended, or if there is no finite reward."""
        try:
            reward = 0.0 if self._inside else float(bounded(self._world.get_reward, SECONDS))
        except Exception as error:
            _log.warning("environment %s: get_reward: %r", self.name, error)
            return 0.0
        return reward if math.isfinite(reward) else 0.0


def opened(prompt: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Append a world's first observation to a prompt's last turn, as TRL does, unless it is there already."""
    *turns, last = (dict(turn) for turn in prompt)
    first = Episode(row).observation if row.get("environment") else ""
    return [*turns, last if last["content"].endswith(first) else last | {"content": last["content"] + first}]


def opening(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the question of a row from `make_row`, which ends with the first observation, and its system prompt."""
    prompt = row.get("prompt") or row.get("question") or ""
    *before, last = opened([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt, row)
    return last["content"], before[0]["content"] if before else None
