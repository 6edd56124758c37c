"""A game of TextWorld (Côté et al. 2018, arXiv:1806.11532): a world with texts that others wrote.

TextWorld comes with `pip install "zero2chat[worlds]"`. It generates a game from a seed, with a quest of `horizon`
commands, and compiles the game with Inform 7. A game's split depends on its objective, which is the prompt.
"""

from __future__ import annotations

import copy
import functools
import re
import tempfile
from typing import Any, ClassVar

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, in_split
from zero2chat_practice.worlds import base
from zero2chat_sandbox.python import shortened

SHARES = (1 / 3, 1 / 3, 1 / 3)
_LONGEST = 300  # characters of an observation
_END = re.compile(r"\n\s*(?:>|\*\*\* The End).*", re.DOTALL)  # the prompt of the interpreter and its status line
_QUESTION = "Play this game. {} Say so when it is done."


class TextWorld(base.World):
    """A game. State: the `seed` and the `length` of its quest; all else is in the interpreter."""

    arguments: ClassVar = {"command": "Such as take key from box"}
    _played: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> TextWorld:
        other = copy.copy(self)
        other._played = self._played.copy()
        return other

    def _first(self) -> str:
        if self._played:
            self._played.close()
        seed, length = self._state["seed"], self._state["length"]
        game = _game(seed, length)
        # Only the game's own words: other commands save files, or end the interpreter.
        self._words = {word.lower() for name in (*game.verbs, *game.entity_names) for word in name.split()}
        self._words |= {"from", "into", "on", "with"}
        self._folder = _compiled(seed, length)
        infos = _library().EnvInfos(policy_commands=True, won=True, feedback=True, description=True)
        self._played = _library().start(f"{self._folder.name}/game.z8", infos)
        self._now, self._over = self._played.reset(), False
        return _short(self._now.description)

    def _solved(self) -> bool:
        return self._over and bool(self._now.won)

    def act(self, command: str) -> str:
        """Play a command: go, look, inventory, examine, take, drop, put, insert, open, close, lock, unlock, eat."""
        words = command.lower().split()
        if self._over:
            return "The game is over."
        if not words or not self._words.issuperset(words):
            return "The game does not know these words."
        self._now, _, self._over = self._played.step(" ".join(words))
        return _short(self._now.feedback)

    def _plan(self) -> base.Plan:
        return [] if self._over else [("act", {"command": command}) for command in self._now.policy_commands or ()]


def world(seed: int, horizon: int, split: str) -> Row:
    """Return the row of a game whose quest has `horizon` commands."""
    rng = base.generator(*(instance := ("textworld", seed, horizon, split)))
    while True:
        number = rng.randrange(2**31)
        game = _game(number, horizon)
        if len(game.metadata["walkthrough"]) == horizon and in_split(game.objective, split, SHARES):
            break
    request, state = _QUESTION.format(game.objective), {"seed": number, "length": horizon}
    return base.make_row(instance, request, state, "The game is done.")


def _short(text: str) -> str:
    return shortened(" ".join(_END.sub("", text).replace("-=", "").replace("=-", ":").split()), _LONGEST)


def _library() -> Any:
    try:
        import textworld
    except ImportError as error:
        raise UserError(f"environment 'textworld': {error}: pip install \"zero2chat[worlds]\"") from error
    return textworld


@functools.lru_cache(maxsize=64)
def _game(seed: int, length: int) -> Any:
    library = _library()
    options = library.GameOptions()
    options.seeds, options.quest_length = seed, length
    options.nb_rooms, options.nb_objects = 1 + length // 4, 3 + length // 4  # with more, it may search for minutes
    options.grammar.theme = "basic"
    return library.generator.make_game(options)


@functools.lru_cache(maxsize=64)
def _compiled(seed: int, length: int) -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the compiled game, which is removed when nobody uses it any more."""
    library, folder = _library(), tempfile.TemporaryDirectory(prefix="textworld-", ignore_cleanup_errors=True)
    options = library.GameOptions()
    options.path = f"{folder.name}/game.z8"
    library.generator.compile_game(_game(seed, length), options)
    return folder
