"""Rooms in a row: find a thing, carry it, and unlock the boxes on the way, whose keys lie in rooms or other boxes.

The prompt says where everything is, and numbers the rooms. A box holds the key of the next one, and the last box the
thing, so only one order of actions leads to the goal.
"""

from __future__ import annotations

import copy
import itertools
from typing import ClassVar

from zero2chat.tasks import Row
from zero2chat_practice.worlds import base

_HAND = "hand"


class Rooms(base.World):
    """Rooms with things, locked boxes, and keys.

    State: `row` (the rooms in order), `at` (the room), `where` (each thing's room, box, or "hand"), `locks` (each box's
    key, "" once it is open), `goal` (a thing and where it must be).
    """

    arguments: ClassVar = {"place": "The room", "thing": "The thing or key", "box": "The box"}

    def _first(self) -> str:
        row, at, locks = (self._state[name] for name in ("row", "at", "locks"))
        here = ", ".join(f"{thing} (locked)" if locks.get(thing) else thing for thing in self._in(at))
        i, rooms = row.index(at), _numbered(row)
        left, right = rooms[i - 1] if i else "nothing", rooms[i + 1] if i + 1 < len(rooms) else "nothing"
        return f"{rooms[i]}: {here or 'nothing'}. Left: {left}. Right: {right}."

    def _solved(self) -> bool:
        thing, place = self._state["goal"]
        return bool(self._state["where"][thing] == place)

    def _in(self, place: str) -> list[str]:
        return [thing for thing, where in self._state["where"].items() if where == place]

    def go(self, place: str) -> str:
        """Go to the next room."""
        row, at = self._state["row"], self._state["at"]
        if place not in row or abs(row.index(place) - row.index(at)) != 1:
            return f"You are in the {at}. It is not next to that."
        self._state["at"] = place
        return self._first()

    def take(self, thing: str) -> str:
        """Take a thing or key."""
        where, at, locks = (self._state[name] for name in ("where", "at", "locks"))
        holder = where.get(thing)
        is_in_box = holder in locks and not locks[holder] and where[holder] == at
        if thing in locks or not (holder == at or is_in_box):
            return "That cannot be taken here."
        where[thing] = _HAND
        return f"You have the {thing}."

    def put(self, thing: str) -> str:
        """Put a thing down here."""
        if self._state["where"].get(thing) != _HAND:
            return "You do not have that."
        self._state["where"][thing] = self._state["at"]
        return f"You put down the {thing}."

    def unlock(self, box: str) -> str:
        """Unlock a box here."""
        where, locks = self._state["where"], self._state["locks"]
        if box not in locks or where[box] != self._state["at"]:
            return "There is no such box here."
        if locks[box] and where[locks[box]] != _HAND:
            return f"You do not have the {locks[box]}."
        locks[box] = ""
        return f"In the {box}: {', '.join(self._in(box)) or 'nothing'}."

    def _goal(self) -> str:
        """Where the thing must go, and where it is, in the words of the prompt; if that is a locked box, where its key
        is, and so on, as far as the room to go to, and on which side that is. Later, only the first and the last."""
        row, where, locks = (self._state[name] for name in ("row", "where", "locks"))
        thing, place = self._state["goal"]
        wanted = [f"The {thing} goes to the {place}"] if _HAND not in (place, where[thing]) else []
        said, seen = list[str](), thing
        while True:
            is_held = where[seen] == _HAND
            holder = place if is_held else where[seen]
            if holder in locks and not locks[holder]:
                holder = where[holder]
            said.append(f"The {seen} {'goes to' if is_held else 'is in'} the {holder}")
            if holder in row:
                to, at = row.index(holder), row.index(self._state["at"])
                said[-1] += f" {to + 1}; from {at + 1}: {'here' if to == at else 'right' if to > at else 'left'}"
                return f"{'. '.join([*wanted, *(said if _HAND not in where.values() else said[-1:])])}."
            seen = locks[holder] if where[locks[holder]] != _HAND else holder

    def _plan(self) -> base.Plan:
        ahead, steps = copy.deepcopy(self), base.Plan()
        row, where, locks = (ahead._state[name] for name in ("row", "where", "locks"))

        def act(method: str, **arguments: str) -> None:
            ahead._left = 1
            steps.append((method, arguments))
            getattr(ahead, method)(**arguments)

        def walk(place: str) -> None:
            while (at := row.index(ahead._state["at"])) != (to := row.index(place)):
                act("go", place=row[at + (1 if to > at else -1)])

        def fetch(thing: str) -> None:
            holder = where[thing]
            if locks.get(holder):
                fetch(locks[holder])
            if holder != _HAND:
                walk(where.get(holder, holder))
                if locks.get(holder):
                    act("unlock", box=holder)
                act("take", thing=thing)

        thing, place = self._state["goal"]
        if not self._solved():
            fetch(thing)
            if place != _HAND:
                walk(place)
                act("put", thing=thing)
        return steps


def _numbered(row: list[str]) -> list[str]:
    return [f"{room} {i}" for i, room in enumerate(row, 1)]


def world(seed: int, horizon: int, split: str) -> Row:
    """Return the row of a world whose shortest plan has `horizon` actions."""
    rng = base.generator(*(instance := ("rooms", seed, horizon, split)))
    while True:
        boxes, is_carried, n = rng.randint(0, 3), rng.random() < 0.5, rng.randint(3, 7)
        # Where it begins, the room of the first key or of the thing, each box, and where the thing must go.
        stops = [rng.randrange(n) for _ in range(2 + boxes + is_carried)]
        moves = sum(abs(a - b) for a, b in itertools.pairwise(stops))
        if 2 * boxes + 1 + is_carried + moves == horizon and not (is_carried and stops[-1] == stops[-2]):
            break
    row = rng.sample(base.share("places", split), n)
    thing, *others = rng.sample(base.share("things", split), rng.randint(2, 4))
    locks = {f"{colour} box": f"{colour} key" for colour in rng.sample(base.share("colours", split), boxes)}
    where = {box: row[stop] for box, stop in zip(locks, stops[2:], strict=False)}
    where |= dict(zip([*locks.values(), thing], [row[stops[1]], *locks], strict=True))
    told = rng.sample([f"The {name} is in the {place}." for name, place in where.items()], len(where))
    where |= {other: rng.choice(row) for other in others}
    where = dict(rng.sample(list(where.items()), len(where)))
    place = row[stops[-1]] if is_carried else _HAND
    state = {"row": row, "at": row[stops[0]], "where": where, "locks": locks, "goal": [thing, place]}
    wanted = base.request("bring" if is_carried else "fetch", split, rng, thing=thing, place=place)
    answer = f"The {thing} is in the {place}." if is_carried else f"I have the {thing}."
    request = f"Rooms in a row: {', '.join(_numbered(row))}. {' '.join(told)} {wanted}"
    return base.make_row(instance, request, state, answer)
