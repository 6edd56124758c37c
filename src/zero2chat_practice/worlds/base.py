"""What the worlds share: actions that always return an observation, steps that run out, words of a split, and rows."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from zero2chat.tasks import SPLITS, Row, known
from zero2chat.tools.environments import SAID_NO
from zero2chat_practice import synthetic
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic.grammar import choose, plural

Plan = list[tuple[str, dict[str, str]]]  # pairs of method and arguments

LONGEST = 200  # characters of an argument
_TURNS = ("train", "train", "train", "validation", "test")  # of five words of a list, the splits that they belong to
_WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
_NAMES = ("places", "things", "people", "colours", "stems")
_INTO: dict[str, Callable[[str], str]] = {"people": str.capitalize, "stems": plural}  # what a word becomes as a name
_MADE = 4000  # nonexistent words for training
_WORD = re.compile(r"\b[a-z]{3,10}\b")
_STATES = {"hand", "nothing", "none", "locked"}  # no names, as observations use them


class World:
    """A world with a state that is JSON in its row.

    The public methods of a subclass are its actions, which a model calls. `arguments` describes the arguments of all of
    them, and `consent` names the actions that need a person's yes. `_first` is the first observation, `_plan` the
    shortest plan from the current state, which is empty if the world is solved, or cannot be solved any more. `_goal`
    is what the plan's first actions are for, which a demonstration thinks of before it acts.
    """

    arguments: ClassVar[dict[str, str]] = {}
    consent: frozenset[str] = frozenset()
    _first: Callable[[], str]
    _solved: Callable[[], bool]
    _plan: Callable[[], Plan]

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, _action(method, cls.arguments))

    def reset(self, state: str = "{}", steps: int = 0, consent: str = "yes", **row: Any) -> str:
        """Begin the episode of a row, and return the first observation. With `consent: no`, actions that need consent
        change nothing."""
        self._state, self._left, self._denied = json.loads(state), steps, Plan()
        self._agrees = consent != "no" or not self.consent
        return f"\n{self._first()}"

    def get_reward(self) -> float:
        """Return 1.0 if the final state is what the row asks for, otherwise 0.0. If the person says no, it is the state
        in which only the actions that need consent are missing."""
        end = self if self._agrees else copy.deepcopy(self)
        for name, arguments in () if self._agrees else self._plan():
            if name in self.consent:
                end._agrees, end._left = True, 1
                getattr(end, name)(**arguments)
        return float(end._solved())

    def _goal(self) -> str:
        return ""

    def _to_do(self) -> Plan:
        """Return the shortest plan without the actions that a person said no to."""
        return [step for step in self._plan() if step not in self._denied]


def _action(method: Callable[..., str], about: dict[str, str]) -> Callable[..., str]:
    """Make a method an action, which takes a step. Any wrong argument, and any step too many, is an observation. The
    docstring gets the lines about the arguments, from which transformers makes a schema."""
    takes = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def act(self: World, *given: Any, **named: Any) -> str:
        if self._left <= 0:
            return "No steps are left."
        self._left -= 1
        values = dict(zip(takes, given, strict=False)) | named
        if len(given) > len(takes) or values.keys() != set(takes):
            return f"{method.__name__} takes {' and '.join(takes) or 'nothing'}."
        if not all(isinstance(value, str) and len(value) <= LONGEST for value in values.values()):
            return f"{' and '.join(takes)}: give short text."
        if method.__name__ in self.consent and not self._agrees:
            self._denied.append((method.__name__, values))
            return SAID_NO
        return method(self, **values)

    lines = "".join(f"\n    {name}: {about[name]}" for name in takes)
    act.__doc__ = f"{method.__doc__}\n\nArgs:{lines}" if takes else method.__doc__
    return act


@functools.cache
def share(name: str, split: str) -> tuple[str, ...]:
    """Return the words, or requests, of a list in `words.yaml` that belong to the split. In training, a name can be any
    word, also one that does not exist, so that a model learns to copy a name, whatever its tokens are, instead of
    knowing it."""
    words = part(_listed(name), split)
    if split != "train" or name not in _NAMES:
        return words
    return (*words, *map(_INTO.get(name, str), _others()[_NAMES.index(name)]))


@functools.cache
def _others() -> list[list[str]]:
    """Return, for each list of names, words of other tasks' phrases, and nonexistent ones: blends, and words with the
    end of another, in which a tokenizer finds the tokens of all these words, also of the names of other splits. People
    get the names of people. None is a name of any split, or its plural, or has such a plural. A word's list does not
    depend on the other words."""
    names = {word.lower() for name in _NAMES for word in _listed(name)}
    taken = _STATES | names | {plural(word) for word in names}
    files = (file for name in ("*", "stories/*", "topics/*") for file in sorted(synthetic.FOLDER.glob(f"{name}.yaml")))
    text = " ".join(file.read_text(encoding="utf-8") for file in files).lower()
    found = list(dict.fromkeys(_WORD.findall(text)))
    people = synthetic.read_texts("memory")["values"]["name"].lower().split()
    lists: list[list[str]] = [[] for _ in _NAMES]
    rng = random.Random("names")
    longer = {word + rng.choice(found)[-2:]: word for word in found * 2}
    for word, root in {**{word: word for word in (*blends(found, _MADE, "worlds"), *found)}, **longer}.items():
        if len(word) > 3 and not word.endswith("s") and not {word, plural(word)} & taken:
            which = _NAMES.index("people") if root in people else zlib.crc32(word.encode()) % len(lists)
            lists[which].append(word)
    return lists


def _listed(name: str) -> list[str]:
    text = _WORDS[name].strip()
    return text.split("\n") if "\n" in text else text.split()


def part(items: Sequence[str], split: str) -> tuple[str, ...]:
    """Return the items of a list that belong to the split. Raises `UserError` for an unknown split."""
    known(split, SPLITS, "split")
    return tuple(item for i, item in enumerate(items) if _TURNS[i % len(_TURNS)] == split)


def generator(name: str, seed: int, horizon: int, split: str) -> random.Random:
    """Return the source of a row's random choices. Raises `ValueError` for a horizon below 1 or above 16."""
    if not 1 <= horizon <= 16:
        raise ValueError(f"{name}: horizon {horizon}: give a whole number from 1 to 16")
    return random.Random(f"{name} {split} {seed} {horizon}")


def request(kind: str, split: str, rng: random.Random, **about: str) -> str:
    """Return a request of a kind, in a wording of the split: one of the list, or a clause in a frame."""
    wordings = share(kind, split) if rng.random() < 0.5 else framed(kind, split)
    text = choose(rng.choice(wordings), rng)
    return (text[0].upper() + text[1:]).format(**about)


@functools.cache
def framed(kind: str, split: str) -> tuple[str, ...]:
    """Return the clauses of a kind in frames such as "Remember to …", in those pairs that belong to the split."""
    pairs = itertools.product(_listed("asks"), _listed(f"{kind}_clauses"))
    chosen = (pair for pair in pairs if _TURNS[zlib.crc32(" ".join(pair).encode()) % len(_TURNS)] == split)
    return tuple(ask.replace("{clause}", one) for ask, one in chosen)


def numbered(requests: Iterable[str]) -> list[str]:
    """Return requests with their numbers, as in a list of things to do."""
    return [f"{i}. {text}" for i, text in enumerate(requests, 1)]


def counted(text: str, n: int) -> str:
    """Return a numbered request with the number of all: "2 of 5. Send order 43", which says what is left."""
    return text.replace(". ", f" of {n}. ", 1)


def make_row(instance: tuple[str, int, int, str], request: str, state: Any, answer: str, denied: str = "") -> Row:
    """Return a row: the arguments of `generator`, the prompt, what `reset` needs, and the sentence that ends a solved
    episode, also of one in which the person says no (`denied`). The limit of steps leaves room for detours."""
    row = dict(zip(("environment", "seed", "horizon", "split"), instance, strict=True))
    prompt = [{"role": "user", "content": request}]
    return {**row, "steps": 2 * instance[2] + 6, "state": json.dumps(state), "prompt": prompt, "answer": answer} | (
        {"denied": denied} if denied else {}
    )
