"""Small talk: greetings, thanks, moods, likes and other openings that people type to an assistant.

The phrasings are our own, made from patterns and lists of words, or, with `people`, also real people's: short
utterances of the chitchat-dataset package (MIT), sorted into the same kinds by what the whole utterance says. Some
kinds have a content, such as a name or a food, that the answer has to repeat as the user typed it.

Training also uses wordings drawn from the patterns that classify people's utterances, if their key is in training.

A row's key is its wording without case, punctuation, greetings and repeats, so that two spellings of one wording fall
into one split. Of our own phrasings with a content, form and content are split too: test asks in unseen forms about
unseen words. The shortest wordings, of at most eight letters, are all in training: from no other wording can anybody
tell what "cheers" or "gtg" means.
"""

# ruff: noqa: SIM905, E501 - lists of words and patterns are read more easily as text, a line a group
from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import itertools
import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rstr import Rstr

from zero2chat.errors import UserError
from zero2chat.runs import write_atomically
from zero2chat.tasks import Message, Row, as_typed, ask, blends, draw, in_split, known
from zero2chat.tasks.synthetic.identity_phrases import forms as expand
from zero2chat.tasks.synthetic.world import FIRST_NAMES, JOBS

SHARES = (0.6, 0.1, 0.3)
STYLES = ("worked",)
_MOST_WORDS = 30  # of an answer
_SHORTEST = 8  # letters of a wording that is always in training
_SURFACES = 4  # most spellings of one wording that become rows
_LONGEST_PAGE = 1000  # characters of a conversation that becomes a page
_FEWEST_LINES = 4  # shorter conversations are left out

# ---- kinds: what is asked, in our words and in people's, and what is answered


@dataclass(frozen=True)
class _Kind:
    """One intent.

    `ours` are patterns as in `identity_phrases`, `*` for a content. `people` is a regular expression over an utterance's
    plain words, its group the content; training asks in more wordings drawn from it. `core` is what an answer says in
    this kind and in no other; where there is a content, it comes straight after the core.
    """

    ours: str
    words: tuple[str, ...]
    people: str
    core: str
    demonstrations: tuple[str, ...]
    led: bool = False  # whether our forms may follow a greeting


# What is asked, in our words and in people's, and what is answered; and the words that fill it: text, not code.
_FOLDER = importlib.resources.files("zero2chat.tasks.synthetic") / "small_talk"
_WORDS: dict[str, str] = yaml.load((_FOLDER / "words.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
_LISTS = {name: tuple(word.strip() for word in text.split("|")) for name, text in _WORDS.items() if name != "doings"}
_CONTENTS = {
    **_LISTS,
    "names": (*FIRST_NAMES, *_LISTS["names"]),
    "titles": (*(("an " if job[0] in "aeiou" else "a ") + job for job in JOBS), *_LISTS["titles"]),
    "favorites": tuple(f"favorite {matter}" for matter in _LISTS["favorites"]),
}


_TOLD = yaml.load((_FOLDER / "kinds.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
_PARTS = {name: f"(?:{'|'.join(lines)})" for name, lines in _TOLD["parts"].items()} | {
    mood: "|".join(_LISTS[mood]) for mood in ("good", "bad")
}
_LAUGH = re.compile(_PARTS["laugh"])


def _kinds() -> dict[str, _Kind]:
    def filled(pattern: str) -> str:
        return re.sub(r"(?<!\?P)<(\w+)>", lambda part: _PARTS[part[1]], pattern)

    return {
        name: _Kind(
            ours=kind.get("ours", ""),
            words=_CONTENTS.get(kind.get("contents"), ()),
            people=filled("|".join(kind.get("people", ()))),
            core=kind["core"],
            demonstrations=tuple(kind["demonstrations"]),
            led=kind.get("led", False),
        )
        for name, kind in _TOLD["kinds"].items()
    }


_KINDS = _kinds()
# Kinds whose openings also accept the answers of other kinds: "that was very helpful" accepts "thank you" and "I am
# glad that you think so", and "where do you live?" accepts being a program.
_SERVED_BY = {
    "praise": ("reaction",),
    "reaction": ("praise", "acknowledgement"),
    "laughter": ("reaction",),
    "apology": ("acknowledgement",),
    "presence": ("greeting",),
    "meeting": ("greeting",),
    "help": ("abilities",),
    "person": ("personal", "back_question"),
    "personal": ("person", "back_question"),
    "back_question": ("person", "personal"),
}
_WITH_CONTENT = tuple(name for name, kind in _KINDS.items() if "{c}" in kind.demonstrations[0])


# ---- wordings: words, keys and contents

_JOINED = {
    **{"im": "i am", "i'm": "i am", "youre": "you are", "whats": "what is", "hows": "how is", "its": "it is"},
    **{"thats": "that is", "dont": "do not", "cant": "can not", "cannot": "can not", "ive": "i have", "ill": "i will"},
    **{"u": "you", "ur": "your", "r": "are", "ya": "you", "whos": "who is", "wheres": "where is", "lets": "let us"},
    **{"howre": "how are", "isnt": "is not", "wasnt": "was not", "arent": "are not", "gonna": "going to"},
    **{"didnt": "did not", "doesnt": "does not", "havent": "have not", "theres": "there is", "wont": "will not"},
    **{"hasnt": "has not", "id": "i would", "youve": "you have", "were": "were", "theyre": "they are"},
    **{"anyones": "anyone is", "fav": "favorite", "fave": "favorite", "tho": "though", "bc": "because"},
    **{"thankyou": "thank you", "cuz": "because", "wanna": "want to", "cool": "cool", "whatre": "what are"},
}
_LEADS, _TAILS = set(_LISTS["leads"]), set(_LISTS["tails"])
_AFTER_HELLO = ("there", "again", "everyone", "friend", "zero")
_HELLOS = {"hi", "hello", "hey", "heya", "hiya", "helo", "yo"}
_SMILEY = re.compile(r"(?:[:;=8][-'o]?[)(DPp/|3\]]+|\bx[dD]+\b|<3|\^_*\^|[)(]:)(?=\W|$)")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class _Word:
    """A plain word (without case, apostrophes and hyphens) and its position in the text."""

    plain: str
    start: int
    end: int


def _words_of(text: str) -> list[_Word]:
    """Return the text's words; contractions such as "I'm" are two words with the same position."""
    found = []
    for match in _WORD.finditer(_SMILEY.sub(lambda smiley: " " * len(smiley.group()), text)):
        plain = re.sub(r"([a-z])\1{2,}", r"\1", match.group().lower().replace("'", "").replace("-", ""))
        found += [_Word(part, match.start(), match.end()) for part in _JOINED.get(plain, plain).split()]
    return found


def _cuts(words: Sequence[_Word]) -> Iterator[Sequence[_Word]]:
    """Yield the words unchanged, then with leading fillers removed one by one, then also without final fillers."""
    start, end = 0, len(words)
    starts = [0]
    while start < end - 1:
        plain = words[start].plain
        if not (plain in _LEADS or (plain in _AFTER_HELLO and start and words[start - 1].plain in _HELLOS)):
            break
        start += 1
        starts.append(start)
    while end > start + 1 and words[end - 1].plain in _TAILS:
        end -= 1
    yield from (words[start:] for start in starts)
    if end < len(words):
        yield from (words[start:end] for start in starts)


def key_of(text: str) -> str:
    """Return a wording's letters and digits, without case, greetings, final fillers and repeats.

    "Hey, how are you?", "how are you" and "How are youuu!!" have one key.
    """
    *_, bare = _cuts(_words_of(text))
    joined = "".join(word.plain for word in bare)
    return re.sub(r"(.{1,3}?)\1+", r"\1", joined) or "".join(sorted(set(text)))


def _in_split(key: str, split: str) -> bool:
    """Return whether a wording belongs to a split: the shortest to training, any other by its key."""
    if len(key) <= _SHORTEST and key.isalpha() and not _is_mash(key):
        return split == "train"
    return in_split(key, split, SHARES)


_NO_CONTENT = set(_LISTS["no_content"])
_NO_END = set("the a an and of to in on for with from at by up out over off into".split())
_NO_WORD = set("to and of in on for with by and or up out off into over from at".split())


def _content(text: str, words: Sequence[_Word]) -> str:
    """Return the words as typed, or "" if they are not a content of one to three words."""
    plain = [word.plain for word in words]
    if not 1 <= len(plain) <= 3 or _NO_CONTENT & set(plain) or plain[-1] in _NO_END or plain[0] in _NO_WORD:
        return ""
    if any(
        len(word) < 3 and word not in _NO_END and word not in ("pc", "tv", "uk", "la", "ny", "cs") for word in plain
    ):
        return ""
    typed = text[words[0].start : words[-1].end]
    return typed if re.fullmatch(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,2}", typed) else ""


# ---- our own phrasings


_OPENINGS = ("Hi! ", "Hello. ", "Hey, ", "Hello there! ", "Hi Zero, ", "So, ", "Well, ", "Okay, ")


def _mash() -> Iterator[str]:
    """Yield typed nonsense: rows of keys, one letter repeated, invented words, only punctuation."""
    rng = random.Random("small_talk, nonsense")
    rows = ("asdfghjkl", "qwertyuiop", "zxcvbnm", "sdfjkl", "fjdk")
    for _ in range(260):
        row, n = rng.choice(rows), rng.randint(3, 9)
        yield "".join(rng.choice(row) for _ in range(n))
        start = rng.randrange(len(row) - 2)
        yield (row[start : start + rng.randint(3, 5)] * rng.randint(1, 3)).strip()
        yield "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(n))
        yield " ".join(rng.choice("abcdefgsx") for _ in range(n))
        syllables = [
            rng.choice(("bla", "flib", "gro", "zub", "wug", "mip", "snor", "quav", "tro", "plee")) for _ in range(4)
        ]
        yield f"{syllables[0]}{syllables[1]} {syllables[2]}{syllables[3]}"
        yield "".join(rng.choice("?!.,;#%&*") for _ in range(rng.randint(2, 6)))
        yield "".join(rng.choice("0123456789") + rng.choice("abcxyz") for _ in range(rng.randint(2, 4)))


def _doings() -> list[tuple[str, str]]:
    """Return what somebody is doing, and the part that the answer repeats: ("going to ", "the beach")."""
    found = []
    for line in _WORDS["doings"].strip().splitlines():
        start, contents = re.fullmatch(r"(.*)\{(.*)\}", line).groups()  # type: ignore[union-attr]
        verb, article = re.fullmatch(r"(.*?)((?:the |a )?)", start).groups()  # type: ignore[union-attr]
        found += [(form, article + content) for form in expand(verb) for content in contents.split("|")]
    return found


# Kinds whose words are in every split, in forms that are not: there are four times of day only, and whether "bummed" is
# good or bad nobody can tell who has not met the word.
_CLOSED = ("day_greeting", "feeling_good", "feeling_bad")
# Forms of these kinds fit any content: training also fills them with blended words, so that the model learns to copy.
_BLENDED = {
    "introduction": 400,
    "likes": 150,
    "dislikes": 150,
    "tastes": 150,
    "favorite": 100,
    "origin": 200,
    "job": 150,
}


@functools.cache
def _blended(name: str) -> list[str]:
    every = {word for kind in _KINDS.values() for word in kind.words}
    before = {"favorite": "favorite ", "job": "a "}.get(name, "")
    seen = [word for word in _KINDS[name].words if in_split(word, "train", SHARES)]
    made = blends([word.removeprefix(before) for word in seen], _BLENDED[name], f"small_talk, {name}")
    return [text for word in made if (text := before + word) not in every and " " not in word]


@functools.cache
def _ours(split: str) -> tuple[Row, ...]:
    return tuple(row for name in _KINDS for row in _our_rows(name, split))


def _our_rows(name: str, split: str) -> Iterator[Row]:
    kind, seen = _KINDS[name], set()
    for form, before, content in _filled(name, split):
        wording = form.replace("*", before + content)
        key = key_of(wording)
        if not _in_split(key, split):
            continue
        rng = random.Random(f"small_talk {wording}")
        for i in range(1 if content else _SURFACES):
            led = rng.choice(_OPENINGS) if kind.led and rng.random() < 0.5 else ""
            question = as_typed(wording if not led or i % 2 else led + wording, rng) if name != "nonsense" else wording
            at = question.lower().rfind((before + content).lower())
            typed = question[at + len(before) : at + len(before + content)] if content else ""
            if typed.lower() != content.lower() or question in seen or key_of(question) != key:
                continue
            seen.add(question)
            yield _row(name, key, question, typed, "ours")


def _filled(name: str, split: str) -> Iterator[tuple[str, str, str]]:
    """Return the split's forms with the words before the content, and the content."""
    if name == "nonsense":
        yield from ((mash, "", "") for mash in dict.fromkeys(_mash()))
        return
    forms = dict.fromkeys(form for pattern in _KINDS[name].ours.strip().splitlines() for form in expand(pattern))
    if name not in _WITH_CONTENT:
        yield from ((form, "", "") for form in forms)
        return
    words = _doings() if name == "activity" else [("", word) for word in _KINDS[name].words]
    words = [(before, word) for before, word in words if name in _CLOSED or in_split(word, split, SHARES)]
    if split == "train" and name in _BLENDED:
        words += [("", word) for word in _blended(name)]
    for form in forms:
        if in_split(form, split, SHARES) or name == "day_greeting":
            yield from ((form, before, word) for before, word in words)


def _row(name: str, key: str, question: str, content: str, source: str) -> Row:
    answer = content.lower() or _KINDS[name].demonstrations[0]
    return {"key": key, "question": question, "answer": answer, "kind": name, "source": source, "content": content}


# ---- people's own phrasings

_BLOCKED = re.compile(
    r"sex|porn|fuck|shit|bitch|nigg|\bfag|\bgay|lesb|\brap(?:e|ing|ist)|kill|suicid|damn|\bhell\b|\bass\b|asshole|\bdick|"
    r"\bcock\b|boob|naked|nude|drunk|\bdrug|weed|nazi|hitler|\bjew|muslim|islam|trump|retard|whore|slut|crap|penis|vagin|"
    r"\bcum\b|murder|terroris|racis|\bhoe\b|pedo|abus|\bbeer|alcohol|vodka|hooker|strip|\btits?\b|\bbutt\b|virgin|cuddl|"
    r"kiss|sexy|\bhot\b|sudicid|cancer|abort|republican|democrat|obama|wtf|\bpoo|\bfart|\bpee\b|marij|stalk|slave|"
    r"\bgod\b|jesus|\bdie\b|dead|death|\bmormon|\bblack\b|\bracial|\bcrip|\bpiss|\bbloody|\bgun|bomb|\bwtf|lmfao",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"():;~/^<=|\[\]*-]+")
_PRIVATE = re.compile(r"\d{3}|www|http|\.com|\.net|@")
_MASH_WORD = re.compile(
    r"[asdfghjkl]{4,}|[bcdfghjklmnpqrstvwxz]{4,}|([a-z])\1{3,}|[qwertyuiop]*(?:qwer|wert|rtyu|yuiop)\w*"
)
_NO_MASH = set(_LISTS["no_mash"])
_MASH = re.compile(
    r"(?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|sdfg|as|qwerty|sdfsdf|asdfa|abc|abcd|[a-z])"
    r"(?: (?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|as|ab|[b-hj-z]|a))*"
)


def _is_mash(text: str) -> bool:
    """Return whether a text is only random keys, or one letter repeated."""
    words = re.findall(r"[a-z]+", text.lower())
    if (
        not words
        or not re.fullmatch(r"[A-Za-z ;,.!?]+", text)
        or text.strip(" .!?").lower() in ("a", "i", "k", "u", "y", "ad")
    ):
        return False
    if len(words) == 1 and (words[0] in ("as", "ad", "k", "b", "o", "x") or len(words[0]) == 1):
        return words[0] in "bcdefghjlmnpqrstvwz"
    if _MASH.fullmatch(" ".join(words)) and len("".join(words)) > 1:
        return True
    known_word = re.compile(
        r"(?:b|m)?(?:a?h+a+)+h*|[hm]+|(?:e?h+e+)+h*|a+h+|o+h+|l+o+l+|lmf?ao+|a+w+|z+|u+gh+|y+a+s*|w+o+w*|h+"
    )
    return all(_MASH_WORD.fullmatch(word) and word not in _NO_MASH and not known_word.fullmatch(word) for word in words)


_GROUP = re.compile(r"\((?!\?)|\(\?P<\w+>")


@functools.cache
def _sorter() -> tuple[re.Pattern[str], dict[str, list[int]]]:
    """Return one pattern with a group per kind, and which inner groups are the kind's content."""
    parts, contents, number = [], {}, 1
    order = sorted((name for name in _KINDS if _KINDS[name].people), key=_PRECEDENCE.index)
    for name in order:
        inner = len(_GROUP.findall(_KINDS[name].people))
        parts.append(f"(?P<{name}>{_KINDS[name].people})")
        contents[name] = list(range(number + 1, number + 1 + inner))
        number += 1 + inner
    return re.compile("|".join(f"{part}(?![^\n])" for part in parts)), contents


# The first match counts: "good, how are you?" asks, and "I love talking to you" is praise, not a taste.
_PRECEDENCE = (
    *"greeting day_greeting presence farewell thanks how_are_you fine meeting laughter person abilities help apology".split(),
    *"feeling_good feeling_bad praise complaint reaction back_question doing personal favorite tastes origin job".split(),
    *"activity dislikes likes introduction acknowledgement".split(),
)
_NO_JOB = re.compile(
    r"\b(?:bit|lot|fan|mess|little|huge|big|good|bad|great|sucker|while|fool|joke|girl|guy|boy|man|woman|little|year|part|kid"
    r"|child|couple|person|human|few|ton|place|team|bot|robot|computer|way|class|dating|long|really|very|moderate|lizard|loser"
    r"|hour|point|\w+ed|thing|group|similar|different|living)$|\b(?:huge|big|bit|pretty|really|very|bad|little|such)\b"
)
_JOB = re.compile(
    r"(?:.*\b)?(?:major|student|freshman|freshmen|sophomore|junior|senior|teacher|engineer|designer|nurse|developer|manager"
    r"|assistant|tutor|writer|artist|musician|programmer|reader|runner|gamer|dancer|singer|doctor|lawyer|receptionist|janitor"
    r"|custodian|technician|researcher|scientist|waiter|waitress|server|cashier|barista|baker|cook|chef|farmer|lifeguard|intern"
    r"|missionary|mom|dad|mother|father|parent|twin|pianist|violinist|photographer|filmmaker|animator|accountant|editor|coach"
    r"|vegetarian|vegan|introvert|extrovert|nerd|geek|psychologist|therapist|dentist|pilot|actor|actress|model|ta|supervisor"
    r"|secretary|trainer|dog person|cat person|people person|morning person|night owl|professor|lawyer|biologist|chemist"
    r"|historian|librarian|mechanic|consultant|analyst|architect|graduate|swimmer|climber|hiker|traveler|photographer|poet"
    r"|movie star|superhero|hero|millionaire|president|princess|wizard|jedi|pirate|astronaut|ninja|detective|spy|surgeon"
    r"|veterinarian|vet|minor|fisherman|drummer|guitarist|cellist|composer|director|producer|journalist|cowboy|socialist|chemist"
    r"|translator|interpreter|salesman|firefighter|paramedic|carpenter|plumber|painter|driver|skier|cyclist|gardener)"
)


def _sorted(text: str) -> tuple[str, str] | None:
    """Return kind and content of an utterance, or None if it has no kind, or its content is unsuitable."""
    if _is_mash(text):
        return "nonsense", ""
    words = _words_of(text)
    if not 1 <= len(words) <= 14:
        return None
    pattern, contents = _sorter()
    for cut in _cuts(words):
        plain = " ".join(word.plain for word in cut)
        match = pattern.match(plain)
        if not match:
            continue
        name = next(name for name in _PRECEDENCE if name in contents and match.group(name) is not None)
        if name not in _WITH_CONTENT:
            return name, ""
        group = next(group for group in contents[name] if match.group(group) is not None)
        start = plain[: match.start(group)].count(" ")
        held = cut[start : start + match.group(group).count(" ") + 1]
        content = _held(name, text, held)
        return (name, content) if content else None
    return None


def _held(name: str, text: str, words: Sequence[_Word]) -> str:
    """Return the content of an utterance of a kind, as typed, or ""."""
    plain = " ".join(word.plain for word in words)
    typed = text[words[0].start : words[-1].end]
    if name == "introduction":
        is_name = plain.title() in _ALL_NAMES
        return typed if is_name and re.fullmatch(r"[A-Za-z]+", typed) else ""
    if name in ("feeling_good", "feeling_bad", "day_greeting"):
        return typed if re.fullmatch(r"[A-Za-z]+(?: [A-Za-z]+)*", typed) and plain != "god" else ""
    if name == "job":
        return typed if _JOB.fullmatch(plain) and not _NO_JOB.search(plain) and "  " not in typed else ""
    if name == "favorite" and words[0].start == words[-1].start:
        return ""
    return _content(text, words)


_ALL_NAMES = frozenset(_CONTENTS["names"])


@functools.cache
def _people(path: str) -> dict[str, tuple[Row, ...]]:
    """Return rows of people's phrasings by split. Raises `UserError` if the file is missing or malformed.

    To sort 220,000 utterances takes ten seconds, and each process of a recipe would do it again: what was found is kept
    in a file beside the dataset, for this very dataset and this very module.
    """
    where = f"small_talk: people: {path}"
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise UserError(f"{where}: no such file: `make data` fetches the recipes'") from None
    texts = [_FOLDER / "kinds.yaml", _FOLDER / "words.yaml", Path(__file__)]
    digest = hashlib.sha256(b"".join([data, *(text.read_bytes() for text in texts)])).hexdigest()
    kept = Path(f"{path}.small_talk.json")
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
        if before["digest"] == digest:
            return {split: tuple(rows) for split, rows in before["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not cached yet, or incomplete
    found = _sort_people(data, where)
    with contextlib.suppress(OSError):  # without a cache it only takes longer
        write_atomically(kept, json.dumps({"digest": digest, "rows": found}))
    return found


def _conversations(data: bytes, where: str) -> list[list[str]]:
    """Return each conversation's utterances in order."""
    try:
        conversations = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where}: expected JSON: {error}") from None
    try:
        return [
            [message["text"] for turn in conversation["messages"] for message in turn]
            for conversation in conversations.values()
        ]
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{where}: expected chitchat_dataset's conversations, each with `messages`") from None


def _chats(seed: int, n: int, people: str | None) -> list[str]:
    if people is None:
        raise UserError("small_talk: chats need people's messages: set `people` to chitchat_dataset's dataset.json")
    rows = _people(people)
    held_out = {row["key"] for split in ("validation", "test") for row in (*rows[split], *_ours(split))}
    told = _conversations(Path(people).read_bytes(), f"small_talk: people: {people}")
    random.Random(f"small_talk, chats {seed}").shuffle(told)
    pages = []
    for texts in told:
        lines = [line for text in texts if (line := _plain_line(text)) and key_of(line) not in held_out]
        page = "\n".join([*lines, ""])[:_LONGEST_PAGE].rpartition("\n")[0]
        if page.count("\n") >= _FEWEST_LINES:
            pages.append(page)
        if len(pages) == n:
            return pages
    raise UserError(f"small_talk, chats: {n} pages asked for, {len(pages)} exist: ask for fewer")


def _plain_line(raw: str) -> str:
    """Return an utterance as one line, or "" if it contains something that must not be repeated."""
    text = " ".join(raw.replace("\u2019", "'").replace("\u2018", "'").split())
    fits = text and _PLAIN.fullmatch(text) and not _PRIVATE.search(text) and not _BLOCKED.search(text)
    return text if fits else ""


# Other ways to type the question and, in the same way, the content.
_RESPELLED: tuple[Callable[[str], str], ...] = (
    str.lower,
    str.upper,
    lambda text: text.rstrip(" .!?").lower(),
    lambda text: text[:1].upper() + text[1:].rstrip(" .!?") + "!",
    lambda text: "Haha, " + text,
    lambda text: "Well, " + text[:1].lower() + text[1:],
    lambda text: "oh " + text.lower(),
    lambda text: "so " + text.rstrip(".!"),
    lambda text: text.rstrip(" .!") + " haha",
    lambda text: text.rstrip(" .!") + " lol",
    lambda text: text.rstrip(" .!?") + " :)",
)
_SPELLINGS = 2  # more ones of each of people's train rows, where they are sorted as it is


@functools.cache
def _theirs(people: str, split: str) -> tuple[Row, ...]:
    """Return people's rows of a split; in training also in other spellings, because people use many."""
    rows = _people(people)[split]
    if split != "train":
        return rows
    found = {row["question"]: row for row in rows}
    for row in rows:
        for way in random.Random(f"respelled {row['question']}").sample(_RESPELLED, _SPELLINGS):
            question = way(row["question"])
            if question not in found and key_of(question) == row["key"]:
                kind = _sorted(question)
                if kind and kind[0] == row["kind"] and kind[1].lower() == row["content"].lower():
                    found[question] = _row(kind[0], row["key"], question, kind[1], "people")
    return tuple(found.values())


def _sort_people(data: bytes, where: str) -> dict[str, tuple[Row, ...]]:
    texts = dict.fromkeys(text for told in _conversations(data, where) for text in told)
    found: dict[str, list[Row]] = {split: [] for split in ("train", "validation", "test")}
    surfaces: dict[str, int] = defaultdict(int)
    seen = set()
    for raw in texts:
        if len(raw) > 72 or raw.count(" ") > 11:
            continue
        text = _plain_line(raw)
        if not text or text in seen:
            continue
        seen.add(text)
        kind = _sorted(text)
        if not kind:
            continue
        key = key_of(text)
        surfaces[key] += 1
        if surfaces[key] > _SURFACES:
            continue
        split = next(split for split in found if _in_split(key, split))
        found[split].append(_row(kind[0], key, text, kind[1], "people"))
    return {**{split: tuple(rows) for split, rows in found.items()}, "drawn": tuple(_drawn())}


# ---- more wordings for training, drawn from the patterns that sort people's

_ANY = "\u00a7"  # stands for any word
_DRAWS = 1800  # per kind's pattern
_OF_A_WORD = 24  # wordings with the same word, at most, but where another of their words is rarer
_MOST_DRAWN = 4000  # words of a kind's wordings, at most
_SHORT = (
    *(("i am", "i'm im"), ("you are", "you're youre ur"), ("what is", "what's whats"), ("do not", "don't dont")),
    *(("it is", "it's its"), ("that is", "that's thats"), ("can not", "can't cant"), ("did not", "didn't didnt")),
    *(
        ("how is", "how's hows"),
        ("let us", "let's lets"),
        ("have not", "haven't havent"),
        ("does not", "doesn't doesnt"),
    ),
)
_ASKS = re.compile(
    r"(?:and |but |so )?(?:what|who|where|how|which|when|are|do|does|can|could|is|have|did|will|would)\b"
)


def _free(name: str) -> list[str]:
    """Return training words for the free places of a kind's pattern."""
    words = [*_KINDS[name].words, *(_blended(name) if name in _BLENDED else ())] or _LISTS["things"]
    bare = {word.split()[-1].lower() for word in words if in_split(word, "train", SHARES)}
    return sorted(word for word in bare if word.isalpha() and in_split(word, "train", SHARES))


def _finite(pattern: str) -> str:
    """Return the pattern with a mark for each free word, and at most two repeats of anything."""
    pattern = re.sub(r"\\w\+|\.(?:\{\d+,\d+\}|\+)", _ANY, pattern).replace(".*", f"{_ANY}?")
    return re.sub(r"(?<=[\w)])\+", "{1,2}", re.sub(r"(?<=[\w)])\*", "?", pattern))


def _as_typed(plain: str, rng: random.Random) -> str:
    """Return plain words as people may type them: with or without contractions, capitals and punctuation."""
    for long, short in _SHORT:
        if rng.random() < 0.6:
            plain = re.sub(rf"\b{long}\b", rng.choice(short.split()), plain)
    chance = rng.random()
    if chance < 0.1:
        plain = plain.upper()
    elif chance < 0.7:
        plain = re.sub(r"\bi\b", "I", plain)
        plain = plain[:1].upper() + plain[1:]
    return plain + (rng.choice(("?", "?", "")) if _ASKS.match(plain.lower()) else rng.choice((".", "!", "")))


def _drawn() -> list[Row]:
    """Return train rows in wordings that the kinds' patterns match.

    A pattern has both common and rare words. Wordings with a word that few earlier ones have are kept, so that "ciao"
    is learned as well as "bye".
    """
    found: dict[str, Row] = {}
    for name in _KINDS:
        rng = random.Random(f"small_talk, drawn {name}")
        pattern, words, draws = _finite(_KINDS[name].people), _free(name), Rstr(rng)
        having: Counter[str] = Counter()
        for _ in range(_DRAWS if pattern else 0):
            filled = re.sub(_ANY, lambda _: rng.choice(words), draws.xeger(pattern))  # noqa: B023 - called at once
            question = _as_typed(" ".join(filled.split()), rng)
            its_words = {word.plain for word in _words_of(question)}
            if len(question) > 72 or question in found or all(having[word] >= _OF_A_WORD for word in its_words):
                continue
            if not _in_split(key := key_of(question), "train"):
                continue
            kind, content = _sorted(question) or ("", "")
            if kind == name and content.lower() not in _held_out():
                having.update(its_words)
                found[question] = _row(name, key, question, content, "pattern")
            if having.total() > _MOST_DRAWN:
                break
    return list(found.values())


@functools.cache
def _held_out() -> frozenset[str]:
    """Return contents of our own rows in the other splits, which training rows must not contain."""
    rows = [row for split in ("validation", "test") for row in _ours(split) if row["kind"] not in _CLOSED]
    return frozenset(row["content"].lower() for row in rows if row["content"])


# ---- the task


def rows(
    split: str, seed: int, n: int, people: str | None = None, intents: Sequence[str] | None = None, share: float = 0.5
) -> list[Row]:
    """Return openings of small talk, alternating between intents.

    With `people`, the path of chitchat_dataset's dataset.json, at least `share` of the first rows, for any number of
    them, are people's own utterances. Half of the other training rows are drawn from the patterns that classify these
    utterances. `intents` selects kinds. Raises `UserError` for an invalid file, intent or share, and if there are too
    few rows.
    """
    known(split, ("train", "validation", "test"), "split")
    if intents is not None:
        if isinstance(intents, str) or not intents:
            raise UserError(f"small_talk: intents: expected a list such as [greeting, thanks], got {intents!r}")
        for intent in intents:
            known(intent, list(_KINDS), "small_talk: intent")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"small_talk: share: expected a number from 0 to 1, got {share!r}")
    wanted = set(intents or _KINDS)
    theirs = [row for row in _theirs(people, split) if row["kind"] in wanted] if people else []
    asked = {row["question"] for row in theirs}
    ours = [row for row in _ours(split) if row["kind"] in wanted and row["question"] not in asked]
    where = f"small_talk, {split}"
    if not people:
        return draw(ours, where, seed, n)
    # The number of people's rows among the first i, so that n rows begin with the same rows as fewer do.
    enough = min(n, math.floor(len(theirs) / share) if share else n, len(ours) + len(theirs))
    if n > enough:
        raise UserError(
            f"{where}: {n} rows asked for, {enough} distinct ones exist with a share of {share} of people's: "
            "ask for fewer, or for a smaller share"
        )
    first, second = draw(theirs, where, seed, len(theirs)), draw(ours, where, seed, len(ours))
    if split == "train":
        drawn = [row for row in _people(people)["drawn"] if row["kind"] in wanted]
        pairs = itertools.zip_longest(second, draw(drawn, where, seed, len(drawn)))
        second = list({row["question"]: row for pair in pairs for row in pair if row}.values())
    taken = [math.ceil(i * share) for i in range(n + 1)]
    merged = []
    for i in range(n):
        mine = i - taken[i]
        merged.append(first[taken[i]] if taken[i + 1] > taken[i] or mine >= len(second) else second[mine])
    return merged


def prompt(row: Row) -> list[Message]:
    """Return the question as one user turn."""
    return ask(row)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return one of the kind's answers, with the content as the user typed it."""
    known(style, STYLES, "small_talk: style")
    return rng.choice(_KINDS[row["kind"]].demonstrations).format(c=row["content"])


@functools.cache
def _cores() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(kind.core, re.IGNORECASE) for name, kind in _KINDS.items()}


_PERSON = re.compile(r"\bi(?: am|'m) (?:a |an )?(?:real )?(?:person|human|man|woman)\b", re.IGNORECASE)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if a completion has what its kind of opening needs, with the content, and nothing of another kind.

    A few kinds are served by the answers of others too, and laughter is by laughter. At most 30 words. A content comes
    once, right after the kind's core and before a mark, with at most two more of the user's words on either side of it;
    case does not count.
    """
    text = " ".join(completion.split())
    if not text or len(text.split()) > _MOST_WORDS or _PERSON.search(text):
        return 0.0
    # Repeating the opening is no answer, unless it is one: goodbye to "Goodbye, Zero".
    if key_of(text) == key_of(row["question"]) and text not in _KINDS[row["kind"]].demonstrations:
        return 0.0
    cores = _cores()
    told = {name for name, core in cores.items() if core.search(text)}
    serving = {row["kind"], *_SERVED_BY.get(row["kind"], ())}
    if any(_LAUGH.fullmatch(word.plain) for word in _words_of(row["question"])):
        serving.add("laughter")
    if told - serving:
        return 0.0
    if row["kind"] not in told:
        return float(bool(told))
    found = list(cores[row["kind"]].finditer(text))
    if not found or not row["content"]:
        return float(bool(found))
    said = re.split(r"[.,!?]| to you\b| too\b", text[found[0].end() :], maxsplit=1)[0]
    return float(len(found) == 1 and said.lower() in _takings(row))


def _takings(row: Row) -> set[str]:
    """Return ways to repeat the content: alone, and with up to two of the user's words before and after it."""
    words, content = row["question"].lower().split(), row["content"].lower().split()
    bare = [word.strip(".,!?") for word in words]
    ways = {" ".join(content)}
    for at in range(len(bare) - len(content) + 1):
        if bare[at : at + len(content)] == content:
            end = at + len(content)
            ways |= {" ".join(bare[max(0, at - i) : end + j]) for i in range(3) for j in range(3)}
    return ways


def documents(seed: int, n: int, people: str | None = None, chats: bool = False) -> list[str]:
    """Return pages of a phrase book: three to six exchanges of train rows, with question and answer on separate lines.

    With `chats` the pages are people's conversations instead, one utterance per line, without utterances of validation
    and test rows. Raises `UserError` if there are fewer than n pages, or if `people` is missing.
    """
    if chats:
        return _chats(seed, n, people)
    pool = [*_ours("train"), *(_people(people)["train"] + _people(people)["drawn"] if people else ())]
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in pool:
        by_kind[row["kind"], row["source"]].append(row)
    kinds, rng = list(by_kind.values()), random.Random(f"small_talk, documents {seed}")
    pages = []
    for _ in range(n):
        page = [rng.choice(rows) for rows in rng.sample(kinds, rng.randint(3, 6))]
        pages.append("\n\n".join(f"{row['question']}\n{demonstration(row, rng)}" for row in page))
    return pages
