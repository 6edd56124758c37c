"""Where in a text its final answer stands."""

from __future__ import annotations

import re

LONGEST = 4000  # characters of an answer: longer ones are not read
_LONGEST_PROSE = 3000  # characters from the end in which an unmarked answer is looked for
_BOXES = ("\\boxed", "\\fbox")
# "the final answer is: X", "Answer: X"; what follows, to the end of the line, is the answer.
_PHRASE = re.compile(
    r"(?i)\b(?:answer|result|solution|option|choice)\s*(?:\*\*)?\s*(?:is|are|=|:|(?=\\[\[(]|\$))(?:\*\*)?[ \t]*:?\s*"
)
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z]|\s*$)|\n")
# A line of prose: three ordinary words in a row, outside of \text{}.
_PROSE = re.compile(r"(?:\b[A-Za-z]{2,}[,;:]?\s+){3,}[A-Za-z]{2,}")
_LAST_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)\s*([^=]+)$")


def reference(gold: str) -> str:
    """The final answer of a reference: what its last box or `####` marks, as in GSM8K, or all of it."""
    gold = str(gold)
    found = final_answer(gold)
    return gold.strip() if found is None else found


def final_answer(text: str) -> str | None:
    """What stands in the last `\\boxed{}`, or after the last `####` on its line, whichever comes last.

    "" where nothing stands there; None where there is neither, or a box that is not closed.
    """
    mark = text.rfind("####")
    box, start = max((text.rfind(name), text.rfind(name) + len(name)) for name in _BOXES)
    if mark > box:
        return text[mark + 4 : mark + 4 + 2 * LONGEST].strip().split("\n")[0].strip()
    if box < 0:
        return None
    rest = text[start:].lstrip()
    if not rest.startswith("{"):  # \boxed 5
        return rest[:1] if rest[:1].isalnum() else None
    depth, escaped = 0, False
    for i, character in enumerate(rest):
        if escaped or character == "\\":
            escaped = not escaped
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:i].strip()
    return None


def unmarked_answer(text: str) -> str | None:
    """The answer of a text that marks none: all of it where it is short and no prose, or what follows the last
    "the answer is", or the last equals sign of its last line. None where there is nothing of the kind."""
    if any(name in text for name in (*_BOXES, "####")):
        return None  # a box that is not closed
    text = text.strip()
    phrases = list(_PHRASE.finditer(text, max(0, len(text) - _LONGEST_PROSE)))
    if phrases:
        rest = text[phrases[-1].end() :].lstrip(" }")  # \text{The answer is } 5
        return _SENTENCE_END.split(rest, maxsplit=1)[0].strip() or None
    if len(text) > LONGEST or not ("\n" in text or _PROSE.search(text)):
        return text or None
    last = text.rsplit("\n", 1)[-1].strip()
    if not _PROSE.search(last):
        return last or None
    equals = _LAST_EQUALS.search(last)
    return equals[1].strip(" .$*") if equals else text
