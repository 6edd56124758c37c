"""Small talk: openings that people type to an assistant.

The phrasings are our own, made from patterns and lists of words, or, with `people`, also real people's: short
utterances of the chitchat-dataset package (MIT), sorted into the same kinds by the whole utterance. Training then also
uses wordings drawn from the patterns that classify people's utterances. Some kinds have a content, such as a name or a
food, that the answer has to repeat as the user typed it.

A row's key is its wording without case, punctuation, greetings and repeats, so that two spellings of one wording fall
into one split. For our own phrasings with a content, form and content are split, too: test rows have unseen forms and
unseen words. Wordings whose key has at most eight letters are all in training, except random keys: no other wording
shows what "cheers" or "gtg" means.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rstr import Rstr
from rstr.xeger import sre_parse

from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_atomically
from zero2chat.tasks import SPLITS, Row, draw, exercises, in_split, make_pages
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic import FOLDER, forms, utterances
from zero2chat_practice.synthetic.grammar import as_typed
from zero2chat_practice.synthetic.utterances import KINDS, LISTS, TEXTS, key_of, kind_and_content, plain_words

SHARES = (0.6, 0.1, 0.3)
MEANS = ("has an expected phrase", "lacks an expected phrase")
_MOST_WORDS = 30  # of an answer
_SURFACES = 4  # most spellings of one wording that become rows
_LONGEST_PAGE = 1000  # characters of a conversation that becomes a page
_FEWEST_LINES = 4  # shorter conversations are left out


def _in_split(key: str, split: str) -> bool:
    """Return whether a wording belongs to a split: the shortest belong to training, all others are split by key."""
    if len(key) <= 8 and key.isalpha() and not utterances.is_mash(key):
        return split == "train"
    return in_split(key, split, SHARES)


# ---- our own phrasings


@functools.cache
def _blended(name: str) -> list[str]:
    """Return made-up contents of a kind for training, so that the model learns to copy; none if its forms fit only some
    contents."""
    if name not in TEXTS["blended"]:
        return []
    every = {word for kind in KINDS.values() for word in kind.words}
    before = {"favorite": "favorite ", "job": "a "}.get(name, "")
    words = KINDS[name].words or LISTS["things"]
    seen = [word.removeprefix(before) for word in words if in_split(word, "train", SHARES)]
    made = [word for word in blends(seen, TEXTS["blended"][name], f"small_talk, {name}") if " " not in word]
    if name in TEXTS["of_two_words"]:
        rng = random.Random(f"small_talk, two words {name}")
        single = [word for word in seen if " " not in word] + made
        made += [f"{rng.choice(single)} {rng.choice(single)}" for _ in made]
    return [text for word in made if (text := before + word) not in every]


@functools.cache
def _ours(split: str) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    for name, (form, before, content) in ((kind, texts) for kind in KINDS for texts in _filled(kind, split)):
        wording = form.replace("*", before + content)
        if not _in_split(key := key_of(wording), split):
            continue
        rng = random.Random(f"small_talk {wording}")
        for i in range(1 if content else _SURFACES):
            led = rng.choice(LISTS["openings"]) + " " if KINDS[name].led and rng.random() < 0.5 else ""
            question = wording if name == "nonsense" else as_typed(wording if i % 2 else led + wording, rng)
            at = question.lower().rfind((before + content).lower()) + len(before)
            typed = question[at : at + len(content)]
            if typed.lower() == content.lower() and key_of(question) == key:
                rows.setdefault((name, question), _row(name, key, question, typed, "ours"))
    return list(rows.values())


def _filled(name: str, split: str) -> Iterator[tuple[str, str, str]]:
    """Yield the split's forms, each with the words before the content and the content."""
    wordings = (form for line in KINDS[name].ours.splitlines() for form in forms(line))
    words = [("", "")]
    if name in utterances.WITH_CONTENT:
        words = utterances.doings() if name == "activity" else [("", word) for word in KINDS[name].words]
        words = [(before, word) for before, word in words if name in utterances.CLOSED or in_split(word, split, SHARES)]
    if split == "train":
        rng = random.Random(f"small_talk, before {name}")
        befores = sorted({before for before, _ in words})
        words += [(rng.choice(befores), word) for word in _blended(name)]
    for form in dict.fromkeys(utterances.mash() if name == "nonsense" else wordings):
        if name not in utterances.WITH_CONTENT or name == "day_greeting" or in_split(form, split, SHARES):
            yield from ((form, before, word) for before, word in words)


def _row(name: str, key: str, question: str, content: str, source: str) -> Row:
    answer = content.lower() or KINDS[name].demonstrations[0]
    return {"key": key, "question": question, "answer": answer, "kind": name, "source": source, "content": content}


# ---- people's own phrasings


@functools.cache
def _people(path: str) -> dict[str, list[Row]]:
    """Return rows of people's phrasings by split, and more for training: `respelled` ones, and those `drawn` from the
    patterns. Classifying 220,000 utterances takes fifteen seconds in each process of a recipe. So the result is cached
    in a file beside the dataset, keyed by a hash of the dataset and of this code."""
    if not Path(path).is_file():
        raise UserError(f"small_talk: people: {path!r} is no file: run in a clone, after `make data`, or set `people`")
    texts = [FOLDER / name for name in ("small_talk/kinds.yaml", "small_talk/words.yaml", "utterances.py")]
    sources = b"".join(source.read_bytes() for source in (Path(path), *texts, Path(__file__)))
    digest = hashlib.sha256(sources).hexdigest()
    cache = Path(f"{path}.small_talk.json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not cached yet, or damaged
        cached = json.loads(cache.read_bytes())
        if cached["digest"] == digest:
            return dict(cached["rows"])
    by_split = _sort_people(path)
    with contextlib.suppress(OSError):  # without a cache it only takes longer
        write_atomically(cache, json.dumps({"digest": digest, "rows": by_split}))
    return by_split


def _conversations(path: str) -> list[list[str]]:
    """Return each conversation's utterances in order."""
    try:
        conversations = json.loads(Path(path).read_bytes()).values()
        return [[message["text"] for turn in some["messages"] for message in turn] for some in conversations]
    except (ValueError, AttributeError, KeyError, TypeError):
        where = f"small_talk: people: {path}"
        raise UserError(f"{where}: expected chitchat_dataset's conversations, each with `messages`") from None


def _chats(seed: int, n: int, people: str) -> list[str]:
    rows = _people(people)
    held_out = {row["key"] for split in ("validation", "test") for row in (*rows[split], *_ours(split))}
    chats = _conversations(people)
    random.Random(f"small_talk, chats {seed}").shuffle(chats)
    pages: list[str] = []
    for texts in chats:
        lines = [line for text in texts if (line := utterances.plain_line(text)) and key_of(line) not in held_out]
        page = "\n".join([*lines, ""])[:_LONGEST_PAGE].rpartition("\n")[0]
        if page.count("\n") >= _FEWEST_LINES:
            pages.append(page)
        if len(pages) == n:
            return pages
    raise UserError(f"small_talk, chats: {n} pages requested, but only {len(pages)} exist: request fewer")


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


def _respelled(rows: Sequence[Row]) -> list[Row]:
    """Return up to two other spellings of each row, if they are classified like it: people use many spellings."""
    spellings = {row["question"]: row for row in rows}
    for row in rows:
        for way in random.Random(f"respelled {row['question']}").sample(_RESPELLED, 2):
            question = way(row["question"])
            if question not in spellings and key_of(question) == row["key"]:
                kind, content = kind_and_content(question) or ("", "")
                if kind == row["kind"] and content.lower() == row["content"].lower():
                    spellings[question] = _row(kind, row["key"], question, content, "people")
    return list(spellings.values())[len(rows) :]


def _sort_people(path: str) -> dict[str, list[Row]]:
    said = (text for chat in _conversations(path) for text in chat if len(text) <= 72 and text.count(" ") <= 11)
    by_split: dict[str, list[Row]] = {split: [] for split in SPLITS}
    surfaces: Counter[str] = Counter()
    for text in dict.fromkeys(map(utterances.plain_line, said)):
        if text and (found := kind_and_content(text)):
            key = key_of(text)
            surfaces[key] += 1
            if surfaces[key] <= _SURFACES:
                split = next(split for split in SPLITS if _in_split(key, split))
                by_split[split].append(_row(found[0], key, text, found[1], "people"))
    return by_split | {"respelled": _respelled(by_split["train"]), "drawn": _of_patterns()}


# ---- more wordings for training, drawn from the patterns that classify people's

_ANY = "\u00a7"  # stands for any word
_DRAWS = 1800  # per kind's pattern
_OF_A_WORD = 24  # maximum of wordings with the same word, unless another of their words is rarer
_MOST_DRAWN = 4000  # maximum of words in a kind's wordings
_ASKS = re.compile(TEXTS["asks"])


def _free(name: str) -> list[str]:
    """Return training words for the free places of a kind's pattern."""
    words = [*KINDS[name].words, *_blended(name)] or LISTS["things"]
    bare = {word.split()[-1].lower() for word in words if in_split(word, "train", SHARES)}
    return sorted(word for word in bare if word.isalpha() and in_split(word, "train", SHARES))


def _retyped(plain: str, rng: random.Random) -> str:
    """Return plain words as people may type them: with or without contractions, capitals and punctuation."""
    for long, short in TEXTS["contractions"].items():
        if rng.random() < 0.6:
            plain = re.sub(rf"\b{long}\b", rng.choice(short.split()), plain)
    chance = rng.random()
    if chance < 0.1:
        plain = plain.upper()
    elif chance < 0.7:
        plain = re.sub(r"\bi\b", "I", plain)
        plain = plain[:1].upper() + plain[1:]
    return plain + (rng.choice(("?", "?", "")) if _ASKS.match(plain.lower()) else rng.choice((".", "!", "")))


def _of_patterns() -> list[Row]:
    """Return train rows in wordings that the kinds' patterns match. Wordings with a word that few earlier wordings have
    are kept, so that "ciao" is learned as well as "bye"."""
    questions: dict[str, Row] = {}
    for name in KINDS:
        rng = random.Random(f"small_talk, drawn {name}")
        words, draws = _free(name), Rstr(rng)
        # With a mark for each free word, and at most two repeats of anything
        pattern = re.sub(r"\\w\+|\.(?:\{\d+,\d+\}|\+)", _ANY, KINDS[name].people).replace(".*", f"{_ANY}?")
        pattern = re.sub(r"(?<=[\w)])\+", "{1,2}", re.sub(r"(?<=[\w)])\*", "?", pattern))
        parsed = sre_parse.parse(pattern)
        having: Counter[str] = Counter()
        for _ in range(_DRAWS if pattern else 0):
            sample = draws._build_string(parsed)  # as `xeger`, which would parse the pattern again: a minute in all
            filled = re.sub(_ANY, lambda _: rng.choice(words), sample)  # noqa: B023 - called at once
            question = _retyped(" ".join(filled.split()), rng)
            its_words = {*plain_words(question)}
            fits = len(question) <= 72 and any(having[word] < _OF_A_WORD for word in its_words)
            if not fits or question in questions or not _in_split(key := key_of(question), "train"):
                continue
            kind, content = kind_and_content(question) or ("", "")
            if kind == name and content.lower() not in _held_out():
                having.update(its_words)
                questions[question] = _row(name, key, question, content, "pattern")
            if having.total() > _MOST_DRAWN:
                break
    return list(questions.values())


@functools.cache
def _held_out() -> set[str]:
    """Return contents of our own rows in the other splits, which training rows must not contain."""
    rows = [*_ours("validation"), *_ours("test")]
    return {row["content"].lower() for row in rows if row["content"] and row["kind"] not in utterances.CLOSED}


# ---- the task


def rows(split: str, seed: int, n: int, people: str | None = None, share: float = 0.5) -> list[Row]:
    """Return openings of small talk, alternating between intents.

    `people` is the path of chitchat_dataset's dataset.json: at least a `share` of the first rows, however many, are
    then people's own utterances. Half of the other training rows are drawn from the patterns that classify utterances.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"small_talk: share: expected a number from 0 to 1, got {share!r}")
    where = f"small_talk, {split}"
    if not people:
        return draw(_ours(split), where, seed, n)
    by_split = _people(people)
    theirs = by_split[split] + (by_split["respelled"] if split == "train" else [])
    questions = {row["question"] for row in theirs}
    ours = [row for row in _ours(split) if row["question"] not in questions]
    first, second = draw(theirs, where, seed, len(theirs)), draw(ours, where, seed, len(ours))
    if split == "train":
        pairs = itertools.zip_longest(second, draw(by_split["drawn"], where, seed, len(by_split["drawn"])))
        second = list({row["question"]: row for pair in pairs for row in pair if row}.values())
    # Interleave so that the first rows are the same for every n.
    taken = [math.ceil(i * share) for i in range(n + 1)]
    if taken[n] > len(first) or n - taken[n] > len(second):
        exist = f"{len(first)} of people's and {len(second)} other rows exist"
        raise UserError(f"{where}: {n} rows requested with share {share}, but only {exist}: request fewer")
    return [first[now] if after > now else second[i - now] for i, (now, after) in enumerate(itertools.pairwise(taken))]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return one of the kind's answers, with the content as the user typed it."""
    return rng.choice(KINDS[row["kind"]].demonstrations).format(c=row["content"])


_PERSON = re.compile(r"\bi(?: am|'m) (?:a |an )?(?:real )?(?:person|human|man|woman)\b", re.IGNORECASE)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if a completion has what its kind of opening needs, and nothing of another kind. A content comes once,
    right after the kind's core, with at most two more of the user's words on either side of it."""
    text, own = " ".join(completion.split()), KINDS[row["kind"]]
    # Repeating the opening is not an answer, except where it is usual: goodbye to "Goodbye, Zero".
    repeated = key_of(text) == key_of(row["question"]) and text not in own.demonstrations
    if repeated or len(text.split()) > _MOST_WORDS or _PERSON.search(text):
        return 0.0
    kinds = {name for name, kind in KINDS.items() if re.search(kind.core, text, re.IGNORECASE)}
    serving = {row["kind"], *TEXTS["served_by"].get(row["kind"], ())}
    if any(map(utterances.LAUGH.fullmatch, plain_words(row["question"]))):
        serving.add("laughter")
    if not kinds or kinds - serving:
        return 0.0
    if row["kind"] not in kinds or not row["content"]:
        return 1.0
    _, *parts = re.split(own.core, text, flags=re.IGNORECASE)
    said = re.split(r"[.,!?]| to you\b| too\b", parts[0], maxsplit=1)[0]
    return float(len(parts) == 1 and said.lower() in _takings(row))


def _takings(row: Row) -> set[str]:
    """Return ways to repeat the content: alone, and with up to two of the user's words before and after it."""
    words = [word.strip(".,!?") for word in row["question"].lower().split()]
    content = row["content"].lower().split()
    ends = [at for at in range(len(content), len(words) + 1) if words[at - len(content) : at] == content]
    cuts = ((max(0, end - len(content) - i), end + j) for end in ends for i in range(3) for j in range(3))
    return {" ".join(content), *(" ".join(words[start:end]) for start, end in cuts)}


def documents(seed: int, n: int, people: str | None = None, chats: bool = False) -> list[str]:
    """Return pages of a phrase book: three to six exchanges of train rows. With `chats` the pages are people's
    conversations instead, one utterance per line, without utterances of validation and test rows."""
    if chats:
        return _chats(seed, n, people or "")
    drawn = _people(people)["train"] + _people(people)["drawn"] if people else []
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _ours("train") + drawn:
        by_kind[row["kind"], row["source"]].append(row)

    def page(rng: random.Random) -> str:
        some = rng.sample(list(by_kind.values()), rng.randint(3, 6))
        return exercises([rng.choice(rows) for rows in some], demonstration, rng)

    return make_pages(seed, n, "small_talk, documents", page)
