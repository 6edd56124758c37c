"""A folder of small text and Python files: list, read, replace, run and delete.

`replace` changes the file that was read last, so each edited file takes two actions, and each deleted one takes one.
The Python files are judged by their tests, which run in the sandbox at the end, and the other files by their text.
"""

from __future__ import annotations

import operator
import random
from typing import Any, ClassVar

from zero2chat.tasks import Row
from zero2chat_practice.synthetic.grammar import plural
from zero2chat_practice.worlds import base
from zero2chat_sandbox import unit_tests
from zero2chat_sandbox.python import Limits, shortened

_LARGEST = 2000  # characters of a file
_LIMITS = Limits(seconds=1.0, memory=2**25)
_SIGNS = {"plus": ("+", operator.add), "minus": ("-", operator.sub), "times": ("*", operator.mul)}


class Files(base.World):
    """A folder.

    State: `files` (name to text), `open` (the file read last), `edits` (name to wrong and right text), `want` (name to
    the text at the end), `tests` (name to assertions) and `asked` (name to request).
    """

    consent = frozenset({"delete"})
    arguments: ClassVar = {"file": "Its name", "old": "The text", "new": "The new text"}

    def _first(self) -> str:
        return f"Files: {', '.join(self._state['files'])}."

    def _solved(self) -> bool:
        files, want = self._state["files"], self._state["want"]
        return files.keys() == want.keys() and not any(map(self._failing, want))

    def _failing(self, name: str) -> str:
        """Return a test that the file fails, or its name if it has no tests; "" if the file is right."""
        text, tests = self._state["files"].get(name, ""), self._state["tests"].get(name, [])
        if text == self._state["want"].get(name):
            return ""
        code = f"```python\n{text}\n```"
        failing = (test for test in tests if unit_tests.share_passed(code, [test], "monty", _LIMITS) < 1)
        return str(next(failing, "" if tests else name))

    def list_files(self) -> str:
        """List the files."""
        return self._first()

    def read(self, file: str) -> str:
        """Read a file."""
        if file not in self._state["files"]:
            return "There is no such file."
        self._state["open"] = file
        return shortened(self._state["files"][file], base.LONGEST) or "It is empty."

    def replace(self, old: str, new: str) -> str:
        """Replace a text in the file that was read last."""
        name = self._state["open"]
        text = self._state["files"].get(name)
        if text is None:
            return "Read a file first."
        if not old or text.count(old) != 1:
            return f"{name} has this text {text.count(old) if old else 0} times, not once."
        if len(text) + len(new) > _LARGEST:
            return "The file would be too large."
        self._state["files"][name] = text.replace(old, new)
        return f"{name} is changed."

    def run(self) -> str:
        """Run the tests of the Python files."""
        failing = next((test for name in self._state["tests"] if (test := self._failing(name))), "")
        return f"Fails: {failing}" if failing else "All tests pass."

    def delete(self, file: str) -> str:
        """Delete a file."""
        if self._state["files"].pop(file, None) is None:
            return "There is no such file."
        return f"{file} is deleted."

    def _goal(self) -> str:
        """The next request, in its own words and then in those of the actions; when the file is open, its number and
        the edit."""
        action, arguments = next(iter(self._to_do()), ("", dict[str, str]()))
        if action == "replace":
            name = self._state["open"]
            return f"{self._asked(name).partition('.')[0]}. In {name}, {arguments['old']} becomes {arguments['new']}."
        name = arguments.get("file", "")
        return f"{self._asked(name)} So {action} {name}." if name else ""

    def _asked(self, name: str) -> str:
        return base.counted(self._state["asked"].get(name, ""), len(self._state["asked"]))

    def _plan(self) -> base.Plan:
        files, want, opened = self._state["files"], self._state["want"], self._state["open"]
        steps = base.Plan()
        for name, text in files.items() if want.keys() <= files.keys() else ():
            if name not in want:
                steps.append(("delete", {"file": name}))
            elif self._failing(name):
                wrong, right = self._state["edits"].get(name, ("", ""))
                old, new = (wrong, right) if text.count(wrong) == 1 else (text, want[name])
                steps += [("read", {"file": name})] if name != opened else []
                steps.append(("replace", {"old": old, "new": new}))
                opened = name
        return steps


def world(seed: int, horizon: int, split: str) -> Row:
    """Return the row of a world whose shortest plan has `horizon` actions."""
    rng = base.generator(*(instance := ("files", seed, horizon, split)))
    deleted = rng.choice([n for n in range(min(horizon, 3) + 1) if (horizon - n) % 2 == 0])
    kinds = ["delete"] * deleted + [rng.choice(("word", "bug")) for _ in range((horizon - deleted) // 2)]
    rng.shuffle(kinds)
    stems = rng.sample(base.share("stems", split), len(kinds) + 1)
    files, want, edits, tests = dict[str, str](), dict[str, str](), dict[str, Any](), dict[str, Any]()
    asked = dict[str, str]()
    for kind, stem in zip([*kinds, ""], stems, strict=True):  # no request is about the last file
        is_code = kind == "bug" or (kind != "word" and rng.random() < 0.5)
        file = f"{stem}.{'py' if is_code else 'txt'}"
        name, wrong, right, text, tested = _code(rng) if is_code else _words(rng, split)
        files[file] = text
        if kind != "delete":
            want[file] = text
        if kind in ("word", "bug"):
            files[file], edits[file] = text.replace(right, wrong), (wrong, right)
            tests |= {file: tested} if tested else {}
        if kind:
            asked[file] = base.request(kind, split, rng, file=file, name=name, old=wrong, new=right)
    asked = dict(zip(asked, base.numbered(asked.values()), strict=True))
    state = {"files": files, "open": "", "edits": edits, "want": want, "tests": tests, "asked": asked}
    denied, done = ([file for file in [*files][:-1] if (file in want) == which] for which in (False, True))
    answer = f"Done: {', '.join(done) or 'nothing'}. Not done: {', '.join(denied)}." if denied else ""
    return base.make_row(instance, " ".join(asked.values()), state, f"Done: {', '.join([*files][:-1])}.", answer)


def _code(rng: random.Random) -> tuple[str, str, str, str, list[str]]:
    """Return the name of a function, a wrong and the right expression, the file, and its tests."""
    kind, n = rng.choice(list(_SIGNS)), rng.randint(2, 30)
    other, m = rng.choice([(sign, n) for sign in _SIGNS if sign != kind] + [(kind, n + rng.randint(1, 5))] * 2)
    name, (sign, compute) = f"{kind}_{n}", _SIGNS[kind]
    right = f"x {sign} {n}"
    tests = [f"assert {name}({x}) == {compute(x, n)}" for x in (3, 20)]
    return name, f"x {_SIGNS[other][0]} {m}", right, f"def {name}(x):\n    return {right}\n", tests


def _words(rng: random.Random, split: str) -> tuple[str, str, str, str, list[str]]:
    """Return the same of a text file, without a name and tests. No word is part of another."""
    while True:
        wrong, *words = map(plural, rng.sample(base.share("things", split), rng.randint(3, 5)))
        text, right = ", ".join(words), rng.choice(words)
        if text.count(right) == 1 and wrong not in text and text.replace(right, wrong).count(wrong) == 1:
            return "", wrong, right, text, []
