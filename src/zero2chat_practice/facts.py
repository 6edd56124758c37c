"""Questions about the people of the made-up world: their birthplace, job and birthday.

The documents mention each person often, sometimes (ten times), once or never. Some are `absent`: nobody in the world
has that name, but somebody has the surname, so a search finds other people. The correct answer is then an abstention.

People belong to one split, and so do questions' wordings: training does not ask about people of the test split, so a
correct answer shows knowledge from the documents.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from zero2chat.core.errors import UserError
from zero2chat.tasks import CallTool, Row, draw, in_split, known, place
from zero2chat_practice.helpers import NEGATION, known_all, listed_or_said, look_up
from zero2chat_practice.synthetic import grammar, phrases, read_texts
from zero2chat_practice.synthetic import world as made_up
from zero2chat_practice.synthetic.world import GROUPS, JOBS, VALUES, Person, World, tell, with_article

SHARES = (0.4, 0.15, 0.45)  # 80/10/10 would leave only 30 of 300 people for evaluation
STYLES = ("worked", "unread")

_TEXTS = read_texts("facts")
_NAMES = ("answers", "nothing", "unread", "now", "whole")
_ANSWERS, _NOTHING, _UNREAD, _NOW, _WHOLE = (phrases(_TEXTS[name]) for name in _NAMES)
FRAMES = 24  # per person and kind, if the split has so many
_SOURCE = "register"  # the source's name in an index of these documents
_UNKNOWN = "unknown"
_NAME = re.compile(rf"\b(?:{'|'.join(made_up.FIRST_NAMES)}) ([A-Z]\w+)")
_EVERY_SURNAME = {*made_up.SURNAMES, *made_up.MORE_SURNAMES}
_world = functools.cache(World)


def people(world: int | Sequence[int], groups: Mapping[str, int] | None = None) -> list[Person]:
    """Return the people of one or several worlds. If a name occurs twice, the first person is kept; people with names
    from worlds of lower seeds are left out."""
    sizes = groups or {}
    if isinstance(world, int):
        return _world(world, **sizes).people
    taken = {person.name for seed in range(min(world)) for person in _world(seed, **sizes).people}
    by_name: dict[str, Person] = {}
    for person in (person for seed in world for person in _world(seed, **sizes).people):
        by_name.setdefault(person.name, person)
    return [person for name, person in by_name.items() if name not in taken]


def rows(
    split: str,
    seed: int,
    n: int,
    told: str = "often",
    world: int | Sequence[int] = 0,
    kinds: Sequence[str] = (*VALUES,),
    groups: Mapping[str, int] | None = None,
    part: Sequence[float] = (0, 1),
    changed: str | None = None,
    source: bool = False,
    typed: bool = False,
    whole: bool = False,
) -> list[Row]:
    """Return questions of these `kinds` about people of the group `told`: mentioned `often`, `sometimes`, `once` or
    `never`, or `absent`. `world` is the seed of their world, or several seeds. `groups` is each group's size (default:
    300, 0, 100 and 300).

    `part` is the fraction of the split's people to ask about. `changed` asks for the current job of people who all
    changed it after the last document; the answer is the job they have `now`, or the documents' job from `before`. With
    `source`, an answer must name the register. With `typed`, half of the questions are written as people type. With
    `whole`, an answer tells everything about the person, always in one wording: its probability shows whether the model
    knows the person.
    """
    known(told, (*GROUPS, "absent"), "facts: told")
    known_all(kinds, (*VALUES,), "facts: kinds")
    if not (len(part) == 2 and 0 <= part[0] < part[1] <= 1):
        raise UserError(f"facts: part {part!r}: expected [start, end], such as [0, 0.5]")
    known(changed, (None, "before", "now"), "facts: changed")
    everyone = people(world, groups)
    those = _absent(everyone, world) if told == "absent" else {p.name: p for p in everyone if p.group == told}
    subjects = {
        name: _as_now(person) if person and changed == "now" else person
        for name, person in those.items()
        if in_split(name, split, SHARES) and part[0] <= place(f"part {name}") < part[1]
    }
    pool = _pool(subjects, ["job"] if changed else kinds, split)
    chosen = draw(pool, f"facts, {split}, told {told}", seed, n)
    for row in chosen:
        person = subjects[row["key"]]
        row["question"] = _question(row["question"], row["key"], typed, bool(changed))
        if person and whole:
            row["whole"] = _WHOLE[0].format(**person._asdict(), a_job=with_article(person.job))
            row["stated"] = [person.birthplace, person.job, person.birthday]
        if source:
            row["source"] = _SOURCE
    return chosen


def _absent(everyone: Sequence[Person], world: int | Sequence[int]) -> dict[str, Person | None]:
    """Return a name that nobody has for each surname."""
    taken = {person.name for person in everyone}
    rng = random.Random(f"absent {world}")
    surnames = dict.fromkeys(person.name.split()[1] for person in everyone)
    free = ([name for first in made_up.FIRST_NAMES if (name := f"{first} {last}") not in taken] for last in surnames)
    return {rng.choice(names): None for names in free}


def _as_now(person: Person) -> Person:
    """Return the person with the job that they took after the last document."""
    rng = random.Random(f"now {person.name}")
    return person._replace(job=rng.choice([job for job in JOBS if job != person.job]))


def _pool(subjects: Mapping[str, Person | None], kinds: Iterable[str], split: str) -> Iterator[Row]:
    """Yield rows with a frame as the question."""
    for name, person in subjects.items():
        rng = random.Random(f"questions {name}")
        for kind in kinds:
            frames = grammar.frames(_TEXTS["questions"][kind], split)
            for frame in rng.sample(frames, min(FRAMES, len(frames))):
                yield {"key": name, "question": frame, "answer": getattr(person, kind, _UNKNOWN), "kind": kind}


def _question(frame: str, name: str, typed: bool, changed: bool) -> str:
    """Fill a frame with a name. Typing leaves the name as it is: a model retrieves a fact by the name's tokens."""
    rng = random.Random(f"{name} {frame}")
    text = grammar.choose(frame, rng)
    now = f" {rng.choice(_NOW)}" if changed else ""
    text = grammar.typed(text, rng) if typed and rng.random() < 0.5 else text
    return text.format(who=name, his=f"{name}'s", now=now)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a sentence; for absent people an abstention. In the style `unread`, no text is known about anybody."""
    if style == "unread":
        return rng.choice(_UNREAD).format(name=row["key"])
    if row["answer"] == _UNKNOWN:
        return rng.choice(_NOTHING).format(name=row["key"])
    template = row.get("whole") or rng.choice(_ANSWERS[row["kind"]])
    if row.get("source"):
        template = f"{template.rstrip('.')} ({row['source']})."
    return str(template.format(name=row["key"], answer=row["answer"], a_answer=with_article(row["answer"])))


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Look the person up by full name, so that no namesake is found, and answer from the result."""
    output = look_up(call, row["key"])
    if output is None:
        return "I could not look it up."
    return demonstration(row if row["key"] in output else row | {"answer": _UNKNOWN}, rng, style)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only town, job or date in the completion is the answer, and it does not abstain; for absent
    people, if it abstains and names no town, job or date. A completion about another person of a world scores 0."""
    completion = re.sub(r"\bregister#[0-9]+", "register", completion)  # as the search names a passage of its source
    others = {match[1] for match in _NAME.finditer(completion) if match[0] != row["key"]}
    if others & _EVERY_SURNAME:
        return 0.0
    denied = NEGATION.search(completion) is not None
    if row["answer"] == _UNKNOWN:
        return float(denied and not any(_named(kind, completion) for kind in VALUES))
    if denied or (row.get("source") or "") not in completion.lower():
        return 0.0
    return float(_named(row["kind"], completion) == set(row["answer"].split()))


def stated(row: Row) -> list[str]:
    """Return the facts that a demonstration states, in their order: the answer, or, with `whole`, all facts; none for
    absent people."""
    return [] if row["answer"] == _UNKNOWN else list(row.get("stated") or [row["answer"]])


def said(row: Row, completion: str) -> str | None:
    """Return the towns, jobs, or months and days that the completion names; if it names none, the completion itself, or
    None if it abstains."""
    return listed_or_said(_named(row["kind"], completion), completion)


def _named(kind: str, completion: str) -> set[str]:
    words = set(re.findall(r"[a-z]+", completion.lower()))
    days = re.findall(r"[0-9]+", completion) if kind == "birthday" else ()
    return {value for value in VALUES[kind] if value.lower() in words} | set(days)


def documents(
    seed: int, n: int, world: int | Sequence[int] = 0, everyone: bool = False, groups: Mapping[str, int] | None = None
) -> list[str]:
    """Return n documents of the world: one about each person mentioned once, ten about each person mentioned sometimes,
    the rest evenly about people mentioned often. With `everyone` they are spread evenly over all people, including
    those in no training text: a register for look-ups, possibly of several worlds."""
    if everyone:
        persons = people(world, groups)
        if n < len(persons):
            raise UserError(f"facts: {n} documents are too few to cover everyone: request {len(persons)} or more")
        rng = random.Random(f"register {seed}")
        texts = [tell(persons[i % len(persons)], rng) for i in range(n)]
        rng.shuffle(texts)
        return texts
    if not isinstance(world, int):
        raise UserError("facts: for several worlds, set `everyone: true`")
    texts = _world(world, **groups or {}).documents(seed, n)
    random.Random(f"facts {seed}").shuffle(texts)
    return texts
