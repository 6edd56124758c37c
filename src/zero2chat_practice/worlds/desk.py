"""A desk: orders, stock and appointments, with rules in the prompt. Some requests must be refused.

A record must be looked up before it is acted on, so each request takes a fixed number of actions. No two requests of a
row are about the same record.
"""

from __future__ import annotations

from typing import Any, ClassVar

from zero2chat.tasks import Row
from zero2chat_practice.synthetic.grammar import plural
from zero2chat_practice.worlds import base

RULES = (
    "Rules: no refunds. A sent order stays as it is. Pay only open orders, send only paid ones. No order exceeds the "
    "stock. One visitor a day. Look first; refuse what the rules forbid."
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
# Each case of a request: its kind, the order's status, whether the rules allow it, and how many actions it takes.
_CASES = (
    *(("refund", "paid", False, 1), ("stock", "", True, 1), ("visit", "", True, 2), ("visit", "", False, 2)),
    *(("pay", "open", True, 2), ("pay", "paid", False, 2), ("send", "paid", True, 2), ("send", "open", False, 2)),
    *(("count", "open", True, 3), ("count", "open", False, 3), ("count", "sent", False, 2)),
)
_BECOMES = {"pay": "paid", "send": "sent"}
_MUST_BE = {"pay": "open", "send": "paid", "count": "open or paid", "visit": "free"}


class Desk(base.World):
    """A desk with a database.

    State: `records` (an order's number to its item, count and status, an item to its stock, a day to its visitor, or
    ""), `seen` and `refused` (names of records), `requests` (kind, record, value, and whether it is allowed),
    `asked` (their wordings), and `want`: the records at the end.
    """

    consent = frozenset(_BECOMES)
    arguments: ClassVar = {"record": "An order, item or day", "value": "A number, or a visitor", "order": "Its number"}

    def _first(self) -> str:
        orders = sorted(name for name, record in self._state["records"].items() if isinstance(record, list))
        return f"Orders: {', '.join(orders) or 'none'}."

    def _solved(self) -> bool:
        refused = {record for _, record, _, is_allowed in self._state["requests"] if not is_allowed}
        return self._state["records"] == self._state["want"] and set(self._state["refused"]) == refused

    def _unseen(self, *records: str) -> list[str]:
        return [record for record in records if record not in self._state["seen"]]

    def _decisive(self, kind: str, record: str) -> list[str]:
        """Return the records that decide whether a request is allowed."""
        if kind == "count":
            item, _, status = self._state["records"][record]
            return [record] if status == "sent" else [record, item]
        return [] if kind in ("refund", "stock") else [record]

    def look(self, record: str) -> str:
        """Look up an order, an item or a day."""
        found = self._state["records"].get(record)
        self._state["seen"] += self._unseen(record) if found is not None else []
        if isinstance(found, list):
            return f"Order {record}: {found[1]} {found[0]}, {found[2]}."
        return "There is no such record." if found is None else f"{record}: {found or 'free'}."

    def change(self, record: str, value: str) -> str:
        """Set the number in an order or of an item, or the visitor of a day."""
        records = self._state["records"]
        found, is_number = records.get(record), value.isascii() and value.isdigit() and len(value) <= 3
        if found is None or (not is_number and not isinstance(found, str)):
            return "There is no such record." if found is None else "The value must be a number."
        needed = [record, found[0]] if isinstance(found, list) else [record] if isinstance(found, str) else []
        if unseen := self._unseen(*needed):
            return f"Look up {unseen[0]} first."
        if isinstance(found, list):
            found[1] = int(value)
        else:
            records[record] = value if isinstance(found, str) else int(value)
        return f"{record} is changed."

    def pay(self, order: str) -> str:
        """Pay an order."""
        return self._become(order, "paid")

    def send(self, order: str) -> str:
        """Send an order."""
        return self._become(order, "sent")

    def _become(self, order: str, status: str) -> str:
        found = self._state["records"].get(order)
        if not isinstance(found, list) or self._unseen(order):
            return f"Look up {order} first." if isinstance(found, list) else "There is no such order."
        found[2] = status
        return f"Order {order} is {status}."

    def refuse(self, record: str) -> str:
        """Refuse a request that the rules forbid."""
        if record not in self._state["records"]:
            return "There is no such record."
        kinds = [kind for kind, of, *_ in self._state["requests"] if of == record]
        if unseen := self._unseen(*self._decisive(kinds[0] if kinds else "", record)):
            return f"Look up {unseen[0]} first."
        if record not in self._state["refused"]:
            self._state["refused"].append(record)
        return f"Refused: {record}."

    def _goal(self) -> str:
        """The next request, first in its own words and then in those of the action; when all is looked up, its number
        and the rule that decides it."""
        for asked, (kind, record, value, is_allowed) in zip(self._state["asked"], self._state["requests"], strict=True):
            steps = [step for step in self._planned(kind, record, value, is_allowed) if step not in self._denied]
            if not steps:
                continue
            found, (action, arguments) = self._state["records"][record], steps[-1]
            told = base.counted(asked, len(self._state["asked"]))
            number = f"{told.partition('.')[0]}."
            then = f"{action} {' to '.join(arguments.values())}."
            meant = f"change {record} to {value}" if kind in ("count", "stock", "visit") else f"{kind} {record}"
            if steps[0][0] == "look" or kind == "stock":
                return f"{told} So {meant}."
            if kind == "refund":
                return f"{told} So {meant}, which is not allowed: {then}"
            if kind == "count" and found[2] != "sent":
                stock, fits = self._state["records"][found[0]], "fits" if is_allowed else "is too many"
                return f"{number} Of {found[0]}, {stock} are in stock. {value} {fits}: {then}"
            status = found[2] if kind != "visit" else f"for {found}" if found else "free"
            verb = kind if kind in _BECOMES else "change"
            return f"{number} To {verb} {record}, it must be {_MUST_BE[kind]}. It is {status}: {then}"
        return ""

    def _plan(self) -> base.Plan:
        return [step for request in self._state["requests"] for step in self._planned(*request)]

    def _planned(self, kind: str, record: str, value: str, is_allowed: bool) -> base.Plan:
        is_changed = self._state["records"][record] == self._state["want"][record]
        if (is_allowed and is_changed) or record in self._state["refused"]:
            return []
        steps: base.Plan = [("look", {"record": one}) for one in self._unseen(*self._decisive(kind, record))]
        if not is_allowed:
            return [*steps, ("refuse", {"record": record})]
        last = (kind, {"order": record}) if kind in _BECOMES else ("change", {"record": record, "value": value})
        return [*steps, last]


def world(seed: int, horizon: int, split: str) -> Row:
    """Return the row of a world whose shortest plan has `horizon` actions."""
    rng = base.generator(*(instance := ("desk", seed, horizon, split)))
    cases: list[tuple[str, str, bool, int]] = []
    while left := horizon - sum(case[3] for case in cases):
        visits = sum(case[0] == "visit" for case in cases)
        cases.append(rng.choice([case for case in _CASES if case[3] <= left and (visits < 4 or case[0] != "visit")]))
    cases.append(("", "open", True, 0))  # an order that no request is about
    numbers = rng.sample(base.part([str(number) for number in range(10, 100)], split), len(cases))
    items = [plural(item) for item in rng.sample(base.share("things", split), len(cases))]
    days, people = rng.sample(_DAYS, len(_DAYS)), rng.sample(base.share("people", split), 8)
    records: dict[str, Any] = dict.fromkeys(_DAYS, "")
    want, requests = dict[str, Any](), list[tuple[str, str, str, bool]]()
    after: Any
    for (kind, status, is_allowed, _), number, item in zip(cases, numbers, items, strict=True):
        records[item] = stock = rng.randint(3, 9)
        if kind == "visit":
            record, after = days.pop(), people.pop()
            records[record] = "" if is_allowed else people.pop()
        elif kind == "stock":
            record, after = item, stock + rng.randint(1, 9)
        else:
            record, count = number, rng.randint(2, stock)
            fits = is_allowed or status == "sent"
            more = rng.choice([n for n in range(2, stock + 9) if n != count and (n <= stock) == fits])
            records[record] = [item, count, status]
            after = [item, more if kind == "count" else count, _BECOMES.get(kind, status)]
        if is_allowed:
            want[record] = after
        requests.append((kind, record, str(after[1] if kind == "count" else after), is_allowed))
    requests = rng.sample(requests[:-1], len(cases) - 1)
    wanted = base.numbered(base.request(kind, split, rng, record=of, value=value) for kind, of, value, _ in requests)
    state: dict[str, Any] = {"records": records, "want": records | want, "seen": [], "refused": []}
    state |= {"requests": requests, "asked": wanted}
    done, refused = ([of for _, of, _, is_allowed in requests if is_allowed == which] for which in (True, False))
    asked = [of for kind, of, _, is_allowed in requests if is_allowed and kind in _BECOMES]
    denied = f"{_said([of for of in done if of not in asked], refused)} Not done: {', '.join(asked)}." if asked else ""
    return base.make_row(instance, f"{RULES} {' '.join(wanted)}", state, _said(done, refused), denied)


def _said(done: list[str], refused: list[str]) -> str:
    return f"Done: {', '.join(done) or 'nothing'}. Refused: {', '.join(refused) or 'nothing'}."
