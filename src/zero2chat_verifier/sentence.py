"""The sentence that holds an answer: a closed grammar of leads such as "Therefore, the sum of the roots is".

Words that change a value are endless, so those that may lead to an answer are listed instead (`words.txt`). Only what a
quantity is about, as after "the number of", has other words.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from zero2chat_verifier.units import NUMBERS, WORDS, counted, known, read_unit


class Lead(NamedTuple):
    """What a sentence says: `\\text{area}:` or `x=`, its noun, and the unit of a bare number; None if it is unclear."""

    name: str = ""
    noun: str = ""
    unit: str | None = None


VALUE = "\\text{value}: "  # a name that no reference has


def _set(name: str) -> frozenset[str]:
    return frozenset(word.replace("_", " ") for word in WORDS[name])


_LABELS, _OPENINGS, _STEPS, _QUALITIES, _VERBS = map(_set, ("labels", "openings", "steps", "qualities", "verbs"))
_PLAIN, _KINDS, _LINKS = map(_set, ("plain", "kinds", "links"))
_NOUNS = _LABELS | _PLAIN | _KINDS | _set("titles")
_EXACT = frozenset({"final", "correct", "required", "desired"})
_DETERMINERS = frozenset({"the", "our", "this", "these", "all", "a", "an"})
_FORMULA, _AMOUNT = r"\$[^$]{1,200}\$", r"\\?\$?\d+(?:[.,]\d+)*%?(?![\w-])"
_TOKEN = re.compile(
    rf"({_FORMULA}|{_AMOUNT}(?: ?[-+*/×=] ?{_AMOUNT})*"
    r"|(?:\d+-)?[A-Za-z]+(?:-[A-Za-z]+)*(?:['’]s?)?|\([a-z]+\)|[,:=])\s*"
)
_IS = frozenset({"is", "are", "was", "were", "equals", "equal", "becomes", "has", "=", ":"})
_WE_GET = re.compile(r"(?:we|i) (?:get|have|find|obtain|conclude|see|know|arrive at)")
_IT_IS = re.compile(r"(?:it|this|that|which|there) (?:is|are|was|were|gives|equals|yields)(?: us)?")
# Read as if they were written like this: "the line has equation", "solving $x^2=4$ gives", "it comes to:".
_REWORDED = (
    (r"\binverse function\b", "function"),
    (r"((?<= )(?:then|therefore|thus|hence|exactly|now|indeed|simply) ?)+(?=:?\Z)", ""),
    (r"\b(is|are|was|were|be|has|equals?|becomes|that|get|have|to|by|as) ?:\Z", r"\1"),
    (r"\b(\w+ing\b[^,]*) (?:gives|yields)(?: us)?\Z", r"\1, we get"),
    (rf"\b(?:{'|'.join(_set('means'))})\Z", "is"),
)
_WHO = re.compile(r"(?:will |can )?(needs? to [a-z]+|[a-z]+)(?: (?:a total of|him|her|them))?")
_SOMEBODY = frozenset({"he", "she", "they", "it", "we", "you", "i"})
_NAME = re.compile(r"[a-zA-Z]|[A-Z]{1,6}|" + _FORMULA)
_LISTS = ("doubt", "tail", "scaled", "said")
_DOUBT, _TAIL, _SCALED, _SAID = ("|".join(WORDS[n]).replace("*", "[a-z]*").replace("_", " ") for n in _LISTS)
_CHANGING = re.compile(
    rf"(?i)\b(?:{_DOUBT}|{_TAIL}|{_SCALED})\b|n['’]t\b|\\(?:l?not|neg|b?cancel)"
    r"|\b(?:\w*(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|teen|tie|dred|sand|lion)ths?|third) of\b"
    rf"|\b(?:{'|'.join(NUMBERS)}|[\d.,]+) (?:(?!a\b)[a-z]\b|\$|of\b)"
    r"|(?<!of )\btimes\b|(?<!square )(?<!cubic )\bunits of\b|\bup to (?!\d|\$|and\b)"
    r"|\b(?:in|as) (?!(?:the|an?|each|which|that|both|our|all|this|these|total|order|simplest|lowest|standard|terms)\b"
    r"|(?-i:[A-Z])|\$)[a-z]+\b(?!-)"
)
_WHERE, _PLACES = _set("where"), frozenset({"in", "at", "on", "for"})
_ASKED = _DETERMINERS | {"part", "question", "problem"}  # "the answer to part (b)", but not "the answer to avoid"
_NOT = r"\b(?:no|not(?! on the\b)|never|cannot|invalid)\b|n['’]t\b"  # "the scoop that is not on the bottom"
_NEGATED = re.compile(rf"(?i){_NOT}|\b(?:without|(?:fail|avoid|exclu|violat|break|miss(?!ing\b)|lack)\w*)\b")
_RETRACTING = re.compile(
    rf"\b(?:{_DOUBT}|{_SCALED})\b|(?:{_NOT})[^,;:.$]{{0,20}}\b(?:{_SAID})\b|\b(?:{_SAID})\b[^,;:.]{{0,20}}?(?:{_NOT})"
)
_AHEAD = re.compile(r"(?<!\\)\b(?:box(?:ed)?|radix|off by)\b")  # of the answer that follows
_CLAUSE = frozenset({"that", "when", "where", "which", "who", "if", "whose"})
_BARE = _set("bare")
_THINGS = re.compile(r"(?:(?:[Ss]o|Thus|Therefore),? the|The) (?:total )?number of ([a-z ]+?) (?:is|are|was|=|:)\Z")
_UNIT_WORD = r"(?<![A-Za-z\\])[A-Za-z]{2,20}\b|\\\$|\\circ|[%°€£¥₹]|(?:(?<=[\d/{])|(?<=[\d{] )|(?<=\bin ))[A-Za-z]\b"
_SIGNS = dict(entry.split("=") for entry in WORDS["signs"])
_ENDS = re.compile(
    rf"\b(?:{'|'.join(_IS - {'=', ':'} | _VERBS)}|get|find|obtain|that|to|by|gives|yields|exactly)\b:?|[:=]"
)


def led(sentence: str) -> Lead | None:
    """Return what a sentence says of the answer that follows it; None if it may not lead to an answer."""
    for pattern, words in _REWORDED:
        sentence = re.sub(pattern, words, sentence)
    if (tokens := _tokens(sentence.rstrip())) is None:
        return None
    hidden = " ".join(token for token in tokens if re.search(r"\\(?:text|[hm]box|math|oper)", token))
    hidden = " ".join(re.findall(r"(?<![A-Za-z\\])[A-Za-z]{2,}", hidden))
    if _NEGATED.search(sentence) or not titled(hidden) or _CHANGING.search(hidden):
        return None
    if not (rest := _opened(tokens)):
        return Lead(noun="answer" if re.search(r"(?i)\banswer ?:?\Z", sentence) else "")
    low = " ".join(rest).lower().removesuffix(" that")
    if _WE_GET.fullmatch(low) or _IT_IS.fullmatch(low):
        return Lead()
    lead = _quantity(rest[:-1], rest[-1]) if rest[-1].lower() in _IS else None
    return lead or (Lead() if _acts(rest) else None)


def measure(sentence: str) -> str | None:
    """Return the unit of a number without one, often "". None if the sentence has words outside of a closed list."""
    if counts := _THINGS.match(sentence):
        return f"\\text{{ {counts[1]}}}" if counted(counts[1]) else None
    words = re.findall(r"[^\s,:=]+", sentence)
    things = {word for the, word in itertools.pairwise(words) if the == "the" and counted(word) and not known(word)}
    return "" if all(word in things or word.lower() in _BARE for word in words) else None


def foreign(text: str, gold: str) -> bool:
    """Whether a text names a unit or a counted noun that a reference with a unit does not have."""
    texts = gold.replace("mph", "mi/h"), re.sub(r"\bof the [a-z]+ (?=is\b)", "", text)
    own, named = ({_SIGNS.get(word, word) for word in re.findall(_UNIT_WORD, said)} for said in texts)
    units, plain = [None, *map(read_unit, own)], _BARE | _STEPS | _QUALITIES
    others = (word for word in named - own if not (_noun(word) or word.lower() in plain))
    return any(word in "°%" or read_unit(word) not in units for word in others)


def idle(sentence: str) -> bool:
    """Whether an earlier sentence is plain: one with mathematics calls nothing wrong, others have only listed words."""
    low = sentence.lower()  # five times as fast as patterns that ignore case
    if re.search(r"[\d$\\=]", sentence):
        return not (_RETRACTING.search(low) or _AHEAD.search(low))
    return _STEPS.union(_OPENINGS).issuperset(re.findall(r"[a-z’']+|…", low))


def titled(title: str) -> bool:
    """Whether a heading has only listed words and counted nouns, and no negation."""
    words = re.findall(r"[a-z]+", title.lower())
    return all(word in _STEPS | _OPENINGS | _QUALITIES | _LINKS or _noun(word) or counted(word) for word in words)


def trails(after: str) -> bool:
    """Whether a text after an answer and its unit only says where, when or what for: "in April and May"."""
    said = after.removesuffix(".").replace("to arrange ", "for ").replace("to choose ", "for ")
    place, *words = [re.sub("['’]s?$", "", word).lower() for word in _tokens(said) or [""]]
    return place in _PLACES and {word in _WHERE or (counted(word) and not known(word)) for word in words} == {True}


def ends(sentence: str) -> list[int]:
    """Return the places of a sentence where a lead may end, the last one first."""
    return [match.end() for match in _ENDS.finditer(sentence)][:-9:-1]


def _tokens(sentence: str) -> list[str] | None:
    found, at = [], 0
    while at < len(sentence):
        match = _TOKEN.match(sentence, at)
        if match is None:
            return None
        found.append(match[1].strip())
        at = match.end()
    return found


def _opened(tokens: list[str]) -> list[str]:
    """Return the tokens after words such as "so" and clauses such as "adding 2 and 3,"."""
    while tokens:
        low = [token.lower() for token in tokens]
        phrase = next((n for n in (4, 3, 2, 1) if " ".join(low[:n]) in _OPENINGS and len(low) >= n), 0)
        marked = next((n for n in (3, 2, 1) if low[n - 1 : n + 1] == ["answer", ":"] and len(low) > n), 0)
        if marked and all(word in _EXACT or word == "the" for word in low[: marked - 1]):
            return _opened(tokens[marked + 1 :]) if len(tokens) > marked + 1 else []
        comma = next((i for i, token in enumerate(tokens) if token == ","), 0)
        if phrase and low[phrase : phrase + 1] not in (["is"], ["of"]):
            tokens = tokens[phrase + (low[phrase : phrase + 1] in ([","], [":"])) :]
        elif comma and (
            all(word in _STEPS or not word[0].isalpha() for word in low[:comma])
            or ({*low[comma + 1 : comma + 2]} & {"so", "thus", "hence", "therefore"} and idle(" ".join(tokens[:comma])))
        ):
            tokens = tokens[comma + 1 :]
        elif low in (["final", "answer"], ["answer"], ["the", "answer"], ["the", "final", "answer"]):
            return []
        else:
            return tokens
    return tokens


def _noun(word: str) -> str:
    """Return a listed noun in the singular, or ""."""
    low = word.lower()
    return low if low in _NOUNS else low.removesuffix("s") if low.removesuffix("s") in _NOUNS else ""


def _quantity(words: list[str], verb: str) -> Lead | None:
    """Read the subject of "is": a letter, or a noun of the list with what it is about."""
    if len(words) == 1 and _NAME.fullmatch(words[0]) and words[0].lower() != "a":
        return Lead(f"{words[0].strip('$')}=") if verb != ":" else None
    while words and (words[0].lower() in _DETERMINERS or re.fullmatch(r"[A-Z][a-z]+['’]s", words[0])):
        if _CHANGING.search(words[0]):
            return None
        words = words[1:]
    at = 0
    while at < len(words) and (_noun(words[at]) or words[at].lower() in _QUALITIES):
        at += 1
    phrase, tail = [word.lower() for word in words[:at]], words[at:]
    noun = _noun(phrase[-1]) if phrase else ""
    if not noun or (verb == ":" and noun not in _LABELS | _PLAIN | _KINDS):
        return None
    if noun in _PLAIN and tail and tail[0][0] in "$(":
        return None
    named = tail[:1] if tail and (_NAME.fullmatch(tail[0]) or tail[0][0] == "(") else []
    tail = tail[len(named) :]
    if tail and not (tail[0].lower() in _LINKS and len(tail) > 1 and _plain(noun, tail)):
        return None
    phrase = [word for word in phrase if word not in _EXACT]
    if len(named) == 1 and noun == "angle":
        return Lead(f"\\angle {named[0].strip('$')}=", noun)
    if phrase == ["value"] and len(tail) == 2 and tail[0] == "of" and re.search(r"(?<!\\)\b[A-Za-z]\b", tail[1]):
        return Lead(f"{tail[1].strip('$')}=", noun)
    labels = " ".join(word for word in (_noun(word) or word for word in phrase) if word in _LABELS - _PLAIN)
    simple = not named and noun in _PLAIN | _KINDS and phrase in ([phrase[-1]], [])
    if not labels and noun == "answer":
        return Lead("", "answer")
    said = f"\\text{{{labels}}}: " if verb == ":" else f"\\text{{{labels} value}}: "
    return Lead(said if labels else "" if simple else VALUE, noun)


def _plain(noun: str, tail: list[str]) -> bool:
    """Whether what a noun is about does not change the value."""
    text = " ".join(tail)
    if _CHANGING.search(re.sub(r"\bin (\w+)", lambda found: found[known(found[1])], text)):
        return False
    verbs = [i for i, word in enumerate(tail) if word in ("is", "are", "was", "were", "=", ":")]
    if not all(_CLAUSE.intersection(tail[:i]) for i in verbs):
        return False
    clause = tail[0] in _CLAUSE or (tail[0] == "to" and not _ASKED.intersection(tail[1:2]))
    if clause and noun in _PLAIN:
        return False  # "the root that fails is"
    if noun in _PLAIN and tail[0] in ("of", "to"):  # "the value of ten x"
        inner, at = tail[1:], 0
        listed = [_noun(word) or word in _QUALITIES | _ASKED or _NAME.fullmatch(word) for word in inner]
        while at < len(inner) and (listed[at] or (tail[at] in ("of", "to", *_ASKED) and not inner[at][0].isalpha())):
            at += 1
        return at > 0 and (at == len(inner) or inner[at] in _LINKS)
    return True


def _acts(words: list[str]) -> bool:
    """Whether somebody has, gets or spends the answer: "Maria has", "the farmer sells"."""
    low = [word.lower() for word in words]
    size = 3 if low[:3] == ["each", "of", "them"] else 2 if low[:1] in (["the"], ["each"]) else 1
    somebody = low[0] in _SOMEBODY or re.fullmatch(r"[A-Z][a-z]+", words[0])
    if (size == 2 and not counted(" ".join(low[1:2]))) or (size == 1 and not somebody):
        return False
    verb = _WHO.fullmatch(" ".join(low[size:]))
    if verb is None or _CHANGING.search(words[0]):
        return False
    return re.sub(r"needs? to (\w+)", r"\1s", verb[1]) in _VERBS  # "needs to pay"
