"""Answer a word problem as a person would: `Tom has 12 marbles.`, in the question's own words."""

from __future__ import annotations

import re

# What is asked for ends before these words: "How many red apples | did Tom eat?"
_END = re.compile(
    r"(?:^|(?<= ))(?:an?|the|do|does|did|is|are|was|were|will|would|can|could|should|must|may|has|have|had|be|I|we|he|"
    r"she|they|you|it|there|in|at|of|from|for|to|on|with|left|remain|get|got|after|before|if|when|than|each|per|by|now|"
    r"together|altogether|still|[0-9]+)\b",
    re.I,
)
_MOST_WORDS = 4  # of what is asked for
_ASKED = re.compile(r"\bhow (many|old)\b ?([^?.!,;:]*)", re.IGNORECASE)
_HAS = re.compile(r"(do|does) ((?:(?:the|my|her|his|their) )?[\w']+(?: and [\w']+)?) (?:now |still )?have\b", re.I)
_IS = re.compile(r"(are|were) (there|left)\b", re.I)
_UNITS = re.compile(
    r"\b(?:[0-9]+|[a-z]+) (dollars|euros|pounds|rupees|cents|minutes|hours|days|weeks|years|kilometres|metres|miles|"
    r"kilos|litres|inches|degrees)\b",
    re.I,
)
_MEASURED = re.compile(r"how (?:much|long|far|tall|high|heavy)|money|cost|price|pay|change|total time", re.I)


def short_answer(question: str, answer: str) -> str:
    """Return a sentence with the number; a general one if the question's form is not known."""
    asked = list(_ASKED.finditer(question))
    units = {unit.lower() for unit in _UNITS.findall(question)} if _MEASURED.search(question) else set()
    if answer != "1" and asked and asked[-1][1].lower() == "many":
        return _counted(asked[-1][2], answer)
    if answer != "1" and asked:
        return f"{answer} years old."
    if "$" in question and not units:
        return f"${answer}."
    return f"{answer} {units.pop()}." if answer != "1" and len(units) == 1 else f"The answer is {answer}."


def _counted(text: str, answer: str) -> str:
    """Return the answer to "How many", which this text follows."""
    end = _END.search(text)
    counted, after = (text[: end.start()], text[end.start() :]) if end else (text, "")
    words = counted.split()[:_MOST_WORDS]
    things = " ".join([answer, *words])
    if has := _HAS.match(after):
        who = "you" if has[2].lower() in ("i", "we") else has[2]
        return f"{who[0].upper()}{who[1:]} {'has' if has[1].lower() == 'does' else 'have'} {things}."
    if is_ := _IS.match(after):
        verb = is_[1].lower()
        return f"There {verb} {things}." if is_[2].lower() == "there" else f"{things} {verb} left."
    return f"{things}." if words else f"The answer is {answer}."
