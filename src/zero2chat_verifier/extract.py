"""Find the final answer in a text."""

from __future__ import annotations

import re

from zero2chat_verifier.units import WORDS, counted, scale

LONGEST = 4000  # characters of an answer: longer ones are not parsed
_LONGEST_PROSE = 3000  # characters at the end of a text that are searched for an unmarked answer
_BOXES = ("\\boxed", "\\fbox")
_BRACES = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]")  # the content of \boxed without braces
_REASONING = re.compile(r"<\|?(/?)(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)\|?>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|$)|\\begin\{comment\}.*?(?:\\end\{comment\}|$)", re.DOTALL)
# A percent sign after a number or a word does not start a comment, nor does that of N % 10 = 4.
_LATEX_COMMENT = re.compile(r"(?m)(^|[^\d\s\\][ \t]+)%(?!\s*\(?\d+\)?\s*=)[^\n]*")
_NEAR = 200  # characters before and after a box that may change its meaning
_GAP = r"(?:[ \t]|\\[,;:! ]|\\[hv]space\*?\{[^{}]*\})*"
# A sign before a box and a percent sign, degrees or pi after it are read. In prose "- \boxed{5}" is a list item.
_SIGN = re.compile(rf"(?:(?P<minus>(?<![-−])[-−]|(?:[=:($][ \t]*)[-−–]{_GAP}|[$=]{_GAP}–)|(?P<both>±|\\pm){_GAP})\Z")
_FACTOR = re.compile(rf"{_GAP}(?:\$|\\[)\]]|\*\*)?(?P<sign>\\?%|\^\{{?\\circ\}}?|°|π|\\pi(?![A-Za-z]))")
# Text beside an answer that leaves it as it is. With any other text, the answer is returned with that text.
_ANGLES = ("degrees", "degree", "percent")
_LEADS = frozenset(WORDS["leads"])
_SUBJECTS = _LEADS.union(WORDS["subjects"])
_CLOSING = frozenset(WORDS["closing"])
_CLAUSE = re.compile(
    r"[.!?;](?=\s|\Z)|(?:\A|\n)####[^\n]*\n|\n(?=[^\n]*[A-Za-z]{2})"
)  # a line without words goes on with the line before
_NOISE = re.compile(
    rf"{_GAP}(?:\$|\\[(\[]|\*\*|\\(?:displaystyle|quad|qquad)|\\text\s*\{{[^{{}}]*[.,:]\s*\}}|<(?:answer|final|b|strong)>"
    r"|\\begin\{[a-z]+\*?\}|\s|(?:\A|\n)(?:\|[^\n$]*\||[|>&#]+)|(?<=:)\s*\n\s*[-*•–])\Z"
)
_LAST = re.compile(
    r"(?:\A|(?<![!<>~=≠\\])=|[:.!?;✓]|\\(?:implies|Rightarrow|therefore|to)|(?:\A|[\s({])(?P<word>[A-Za-z]+)[},]*)\Z"
)
_CORRECTED = re.compile(r"(?i)[^.\n]*\b(?:(?:no|wait|actually)[,:]|rather|mean)\s+\Z")  # \boxed{1}, no, \boxed{2}
_EQUAL_TO = re.compile(r"\b(?:equal|simplifies|reduces|evaluates|leads|comes|amounts) to\Z")
_LISTED = re.compile(r"\s*(?:[-*•–]|\d+\.|\(\d+\))?\s*\Z")
_CLOSED = re.compile(
    rf"(?:\s|\$|\\[)\]]|\*\*|\}}|</(?:answer|final|b|strong)>|&|\||{_GAP}\\(?:q?quad|text\{{\s*[.,]?\s*\}}|blacksquare|square|end\{{[a-z]+\*?\}}))*"
)
_COUNTED = re.compile(r"(?:\\(?:text|mathrm|textrm|mbox)\s*\{)?\s*(?P<unit>[A-Za-z/]+(?: [A-Za-z]+){0,2})\}?")
_POWER = re.compile(r"(?:\}?(\^\{?[23]\}?))?")
_OF_ANSWER = r"of (?:the|our|this|my) (?:final |correct )?(?:answer|result)"
_DENIED = re.compile(rf"(?i)\b(?:{'|'.join(WORDS['denials'])}|\w+n't|rul\w+ out|other than|{_OF_ANSWER})\b")
# Text between \boxed{1} and \boxed{2} that joins them into one answer.
_JOINED = re.compile(r"[\s$]*(?:\\text\{)?\s*(,|;|or|and|, ?and|, ?or|\\quad)?\s*\}?[\s$]*")
# "the final answer is: X", "Answer: X": the rest of the line is the answer.
_PHRASE = re.compile(
    r"(?i)\b(?<!wrong )(?<!incorrect )(?:answer|result|solution|option|choice)\s*(?:\*\*)?\s*"
    r"(?:is|are|=|:|(?=\\[\[(]|\$))(?:\*\*)?[ \t]*:?\s*"
)
_TOLD = re.compile(r"([A-Za-z ,:.'-]*)(?:\$([^$]+)\$|\\\((.+?)\\\))([A-Za-z ,:.'!-]*)")
_SAYING = re.compile(
    r"(?i)\A(?:(?:so|thus|hence|therefore|then|finally|we|it|that|get|have|find|conclude|obtain|is|this|gives)\b[,:]?\s+)+"
)
_SENTENCE_END = re.compile(r"\.(?=\s+[A-Z]|\s*$)|\n")
# A line of prose has three ordinary words in a row, outside of \text{}.
_PROSE = re.compile(r"(?:\b[A-Za-z]{2,}[,;:]?\s+){3,}[A-Za-z]{2,}")
_LAST_EQUALS = re.compile(r"(?<![<>!=\\])=(?!=)\s*([^=]+)$")


def reference(gold: str) -> str:
    """Return a reference's final answer: what its last box or `####` (as in GSM8K) marks, or else all of it."""
    gold = str(gold)
    answer = final_answer(gold)
    return gold.strip() if answer is None else answer


def final_answer(text: str) -> str | None:
    """Return the content of the last `\\boxed{}`, or the rest of the line after the last `####`, whichever comes last.

    "" if that is empty; None if the text has no mark, or if the box is not closed. Finished reasoning and LaTeX
    comments are skipped. The outermost of nested boxes counts, and boxes joined by "or" or "and" are one answer. If a
    box is part of a formula, as in `-\\boxed{5}`, the formula is the answer.
    """
    text = _shown(text)
    box = max(text.rfind(name) for name in _BOXES)
    mark = text.rfind("####")
    if box < 0 and mark < 0:
        return None
    if "%" in text:
        text = _LATEX_COMMENT.sub(r"\1", text)
        box, mark = max(text.rfind(name) for name in _BOXES), text.rfind("####")
    if box >= 0:
        start, boxed = _last_box(text)
        if mark < start:
            return boxed
    if mark < 0:
        return None
    answer, _, after = text[mark + 4 : mark + 4 + 2 * LONGEST].strip().partition("\n")
    return answer.strip() if _closes(after) else f"{answer.strip()} {after} \\beside"


def _shown(text: str) -> str:
    """Remove finished reasoning. Text before a lone </think> is reasoning, which the prompt may have opened."""
    if "<!--" in text or "{comment}" in text:
        text = _COMMENT.sub(" ", text)
    if "</" not in text and "<|/" not in text:
        return text
    shown, at, depth = "", 0, 0
    for mark in _REASONING.finditer(text):
        if mark[1]:
            if depth == 0:
                shown = ""
            depth, at = 0, mark.end()
        elif depth == 0:
            shown += text[at : mark.start()]
            depth, at = 1, mark.start()
    return shown + text[at:]


def _last_box(text: str) -> tuple[int, str | None]:
    """Return the start of the last outermost box, and its content with the contents of the boxes joined to it.

    The content is None if the box is not closed."""
    boxes: list[tuple[int, int, str]] = []  # closed boxes: start, end, content
    opened: list[tuple[int, int]] = []  # open braces: start of the box, or -1 if it is no box's, and of the content
    last = -1
    for match in _BRACES.finditer(text, min(at for at in map(text.find, _BOXES) if at >= 0)):
        brace = match["open"]
        if brace == "":  # \boxed 5
            bare = _BARE.match(text, match.end())
            last = match.start()
            if bare:
                boxes.append((match.start(), bare.end(), bare[0]))
        elif brace or match[0] == "{":
            last = match.start() if brace else last
            opened.append((match.start() if brace else -1, match.end()))
        elif match[0] == "}" and opened:
            start, content = opened.pop()
            if start >= 0:
                while boxes and boxes[-1][0] > start:
                    boxes.pop()  # it is inside this box
                boxes.append((start, match.end(), text[content : match.start()].strip()))
    if not boxes or boxes[-1][1] <= last:
        return last, None
    start, end, boxed = boxes.pop()
    single = len(boxes)
    while boxes:
        between = text[boxes[-1][1] : start]
        joined = _JOINED.fullmatch(between) if len(between) < 40 else None
        if joined is None or joined[1] is None:
            break
        start, _, before = boxes.pop()
        sign = joined[1].strip(", ") or ","
        boxed = f"{before} {',' if sign.startswith(chr(92)) else sign} {boxed}"
    if len(boxes) < single and text[:start].endswith("(") and text.startswith(")", end) and "," in boxed:
        return start, f"({boxed})"  # (\boxed{1}, \boxed{2})
    return start, _with_neighbours(text, start, end, boxed)


def _with_neighbours(text: str, start: int, end: int, boxed: str) -> str:
    """Return a box's content with the sign before it and the unit after it, and with other text that may change it."""
    before, after = text[max(0, start - _NEAR) : start], text[end:]
    if not boxed or not (before.strip() or after):
        return boxed
    sign, factor = _SIGN.search(before), _FACTOR.match(after[:_NEAR])
    if factor:
        boxed, after = f"{boxed if boxed.isalnum() else f'({boxed})'}{factor['sign']}", after[factor.end() :]
    if sign:
        at = sign.end() - len(sign[0].lstrip("=:($ \t"))
        boxed = boxed if boxed.isalnum() else f"({boxed})"
        boxed, before = f"{'-' if sign['minus'] else '±'}{boxed}", before[:at]
    return _beside(before, boxed, after)


def _led(before: str) -> bool:
    """Whether a sentence begins as one that states the answer."""
    words = re.findall(r"[A-Za-z']+", _CLAUSE.split(re.sub(r"\\text\b", " ", before))[-1].rpartition(":")[2])
    return _SUBJECTS.issuperset(word.lower() for word in words)


def _beside(before: str, answer: str, after: str) -> str:
    """Return an answer with its unit, and with the text beside it unless that text leaves the answer as it is."""
    before = _CORRECTED.sub("", before)
    clause = _CLAUSE.split(before)[-1]
    rest = before
    while noise := _NOISE.search(rest):
        rest = rest[: noise.start()]
    last = _LAST.search(_EQUAL_TO.sub("is", rest))
    led = _LISTED.match(clause) or (last and (last["word"] is None or last["word"].lower() in _LEADS))
    if not led or before.endswith(tuple("!¬~.,;?")) or _DENIED.search(clause):
        return f"{clause.strip()} {answer} \\beside"
    rest = after[_CLOSED.match(after).end() :]  # type: ignore[union-attr]
    if _closes(rest):
        return answer
    named = _COUNTED.match(rest)
    words = named["unit"].split() if named else []
    for n in range(len(words), 0, -1):
        unit = " ".join(words[:n])
        power = _POWER.match(rest, rest.index(unit) + len(unit))
        scaled = scale(words[0]) and (n == 1 or counted(" ".join(words[1:n])))
        if power and (scaled or counted(unit) or unit in _ANGLES) and _closes(rest[power.end() :]):
            return f"{answer}\\text{{ {unit}}}{power[1] or ''}"
    return f"{answer} {after.strip()} \\beside"


def _closes(after: str) -> bool:
    """Whether the text after an answer has only words that leave the answer as it is, and neither numbers nor
    formulas."""
    if not after.strip():
        return True
    text = _CLOSED.sub(lambda m: " " if m[0] else "", after[:LONGEST])
    words = ("" if word == "i" else word.lower() for word in re.findall(r"[A-Za-z]+", text))
    return not re.search(r"[^A-Za-z\s.,!:)]|!\s*[$\\]", text) and "!$" not in after and _CLOSING.issuperset(words)


def unmarked_answer(text: str) -> str | None:
    """Return the answer of a text without an answer mark, or None.

    The answer follows the last "the answer is". Without this phrase, a single line that is not prose is the answer;
    else the last line, or, if that is prose, what follows its last equals sign.
    """
    text = _shown(text).strip()
    if any(name in text for name in (*_BOXES, "####")):
        return None  # a box that is not closed
    phrases = list(_PHRASE.finditer(text, max(0, len(text) - _LONGEST_PROSE)))
    if phrases:
        rest = text[phrases[-1].end() :].lstrip(" }")  # \text{The answer is } 5
        answer, *after = _SENTENCE_END.split(rest, maxsplit=1)
        told = _led(text[: phrases[-1].start()]) and _closes(" ".join(after))
        return answer.strip() if told or not answer else f"{rest} \\beside"
    if len(text) > LONGEST:
        return text
    last = text.rsplit("\n", 1)[-1].strip()
    formula = _TOLD.fullmatch(last)
    if formula and _led(formula[1]):  # The value of x is $5$.
        return _beside(formula[1], formula[2] or formula[3], formula[4])
    text = last if "\n" in text and not _PROSE.search(last) else text
    if not _PROSE.search(text):
        return _SAYING.sub("", text) or None
    equals = _LAST_EQUALS.search(last)
    return equals[1].strip(" .$*") if equals and not _DENIED.search(last) else text
