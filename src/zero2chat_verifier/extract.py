"""Find the final answer in a text. Only a closed list of sentences may stand around it: other text may change it."""

from __future__ import annotations

import re

from zero2chat_verifier.lexer import TooLarge, Unreadable
from zero2chat_verifier.parser import read
from zero2chat_verifier.units import WORDS, counted, scale

LONGEST = 4000  # characters of an answer: longer ones are not parsed
_LONGEST_PROSE = 3000  # characters at the end of a text that are searched for an unmarked answer
_BOXES = ("\\boxed", "\\fbox")
_BRACES = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]")  # the content of \boxed without braces
_REASONING = re.compile(r"<\|?(/?)(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)\|?>", re.IGNORECASE)
_NEAR = 400  # characters before an answer that are searched for the start of its sentence
# Text between \boxed{1} and \boxed{2} that joins them into one answer.
_JOINED = re.compile(r"\s*\$?\s*(,|or|and|, ?and|, ?or)\s*\$?\s*")
_OPENERS = {"$$": "$$", "$": "$", "\\[": "\\]", "\\(": "\\)"} | {
    f"\\begin{{{name}{star}}}": f"\\end{{{name}{star}}}"
    for name in ("align", "equation", "gather")
    for star in ("", "*")
}
_SIGN = re.compile(r"(?:[-−–]|±|\\pm)\s*\Z")
_BESIDE = re.compile(r"\s*(\\?%|\^\{?\\circ\}?|°|π|\\pi(?![A-Za-z])|\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?)?")
_MATHS_END = re.compile(r" ?(?:\\text\{ ?\. ?\}|[.,])?(?: ?\\(?:q?quad|blacksquare|square)(?![A-Za-z]))* ?")
_UNIT = re.compile(r"\s*([A-Za-z/]+(?: [A-Za-z]+){0,2})(\^\{?[23]\}?)?")
# The part of a plain line that belongs to a formula: no words, but perhaps single letters.
_FORMULA = re.compile(r"(?:(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|\\[A-Za-z]+|[^A-Za-z$:*])*\Z")
_PLAIN = ("answer", "result", "solution", "solutions", "root", "roots", "value", "values", "option", "choice")
_KINDS = (*_PLAIN, "statement", "range", "domain", "interval", "set", "equation", "expression")
_EXACT = ("final", "correct", "required", "desired")
_STATED = (
    r"(?:(?:so|thus|hence|therefore|then|finally|now)\b,?\s*)*"
    rf"(?:(?:(?:the|our|all)\s+)?(?P<noun>(?:(?:{'|'.join(_EXACT)}|minimum|maximum|total)\s+)*"
    rf"(?:{'|'.join((*_KINDS, *WORDS['labels']))}))(?:\s+of\s+(?:the\s+|all\s+)?(?P<of>[a-z]+|\$[^$\n]{{1,20}}\$))?"
    r"(?:\s+(?:is|are|equals|is equal to|simplifies to)\b\s*:?|\s*[:=])"
    r"|we\s+(?:get|have|find|obtain|conclude)\b(?:\s+that\b)?:?|(?:it|this|that)\s+(?:is|gives|equals|yields)\b:?"
    r"|there\s+(?:is|are)\b(?:\s+exactly\b)?"
    r"|(?:he|she|they|it|we|you)\s+(?:has|have|had|earns?|pays?|needs?|spends?|makes?|takes?|sells?|buys?|eats?)\b)"
)
_LEAD = re.compile(rf"(?i)(?:{_STATED}|(?:so|thus|hence|therefore|then|finally),?)?\s*")
_STATEMENT = re.compile(rf"(?i)(?<![^\s$(]){_STATED}\s*(?=\S)")
_HEADING = re.compile(r"(?i)#*\s*(?:(?:final )?answer:?|<answer>)?\Z")
# A sentence ends here; but not with "e.g." or "cf.". A colon ends none, and neither does a line with words.
_END = re.compile(
    r"[\d)}]\s*[.,]?\s*(?:\\\]|\$\$)(?=\s)|\n[^A-Za-z\n…]*[\d)}](?=\n)"
    r"|(?<=[\w)\]}$])(?<!\bcf)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)[.!?;][\"')$]*(?=\s)"
)
# What may not end the line before `####`, as that line leads on.
_UNFINISHED = re.compile(r"(?i)\b(?:not|never|no|is|are|that|than|of)\b|n't|…|[^\w.%)$}>:\s]\s*\Z")
_DOUBTED = re.compile(
    r"(?i)\b(?:if|wrong\w*|false\w*|incorrect\w*|untrue|mistake\w*|suppos\w+|assum\w+|pretend\w*|imagin\w+|following|"
    r"contradict\w+|ignor\w+|claim\w*|next|below|naive\w*|guess\w*|approx\w*|estimat\w+)\b"
)
_CLOSING = re.compile(
    r"(?:,? ?and we are done|,? ?as (?:required|desired)|in (?:total|all)|altogether|left|is the (?:final )?answer)?"
    r"(?: ?\\blacksquare)? ?\.?(?: ?</answer>)?(?: ?(?:I hope it is correct|Done|QED)\.?)?"
)
_WORDS_BEFORE = re.compile(r"(?:\A|[A-Za-z=:,.\n]\s*)(?:\$+|\\[(\[])?\s*\Z")
_WORDS_AFTER = re.compile(r"\s*(?:\Z|[.,;]?\s*(?:\$|\\[)\]]|\Z|\s[A-Za-z]))")
_HOPED = re.compile(r"\s(?:I hope it is correct|Done|QED)\.?\s*\Z")
# A line of prose has three ordinary words in a row, outside of \text{}.
_PROSE = re.compile(r"(?:\b[A-Za-z]{2,}[,;:]?\s+){3,}[A-Za-z]{2,}")


def reference(gold: str) -> str:
    """Return a reference's final answer: what its last box or `####` (as in GSM8K) marks, or else all of it."""
    gold = str(gold)
    answer = final_answer(gold)
    if answer is None or not answer.endswith("\\beside"):
        return gold.strip() if answer is None else answer
    box, mark = _last_box(gold), gold.rfind("####")
    if box is None or mark > box[0]:
        return gold[mark + 4 :].strip().partition("\n")[0].strip()
    # A solution that is known to be right may have other words around its box, but no signs.
    return str(box[3]) if _WORDS_BEFORE.search(gold[: box[0]]) and _WORDS_AFTER.match(gold, box[1]) else answer


def final_answer(text: str) -> str | None:
    """Return the content of the last `\\boxed{}`, or the rest of the line after the last `####`, whichever comes last.

    "" if that is empty; None if the text has no mark, or if the box is not closed. Finished reasoning is skipped. The
    outermost of nested boxes counts, and boxes joined by "or" or "and" are one answer. The formula that ends with a box
    is the answer: `x=5` for `x=\\boxed{5}`. Beside other text, the answer is marked as unsupported.
    """
    text = _shown(text)
    box, mark = _last_box(text), text.rfind("####")
    if box is not None and mark < box[0]:
        start, end, several, boxed = box
        return boxed if not boxed else _around(_before(text, start), boxed, text[end:], several)
    if mark < 0:
        return None
    answer, _, after = text[mark + 4 : mark + 4 + 2 * LONGEST].strip().partition("\n")
    line, _, own = _before(text, mark).rpartition("\n")
    led = not _UNFINISHED.search(_END.split(f"{line.rstrip()}\n")[-1])
    return answer.strip() if not own.strip() and led and _closes(after) else _beside(answer)


def _before(text: str, at: int) -> str:
    """Return the text before a place, beginning with a line break, or with a mark if there is more."""
    return f"…{text[at - _NEAR : at]}" if at > _NEAR else f"\n{text[:at]}"


def _beside(answer: str) -> str:
    """Return an answer that no grammar reads, as the text around it may change it."""
    return f"{answer} \\beside"


def _shown(text: str) -> str:
    """Remove finished reasoning. Text before a lone </think> is reasoning, which the prompt may have opened."""
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


def _last_box(text: str) -> tuple[int, int, bool, str | None] | None:
    """Return start and end of the last outermost box and of the boxes joined to it, whether there are others before,
    and the content: None if the box is not closed."""
    if not any(name in text for name in _BOXES):
        return None
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
        return last, last, False, None
    start, end, boxed = boxes.pop()
    while boxes:
        between = text[boxes[-1][1] : start]
        joined = _JOINED.fullmatch(between) if len(between) < 40 else None
        if joined is None:
            break
        start, _, before = boxes.pop()
        boxed = f"{before} {joined[1].strip(', ') or ','} {boxed}"
    return start, end, bool(boxes), boxed


def _around(before: str, boxed: str, after: str, several: bool) -> str:
    """Return a box's content with its formula and its unit. `several`: whether another box stands before it."""
    prose, formula, rest, unit = before.replace("**", ""), "", after, ""
    opener = max(_OPENERS, key=lambda opener: (before.rfind(opener) + len(opener) * (opener in before), len(opener)))
    at, closer = before.rfind(opener), _OPENERS[opener]
    inside, closed, outside = after.partition(closer)
    if at >= 0 and closed and not _PROSE.search(before[at:]) and closer not in before[at + len(opener) :]:
        prose, formula = before[:at].replace("**", ""), before[at + len(opener) :]
        beside = _BESIDE.match(inside)
        assert beside is not None
        if not _MATHS_END.fullmatch(" ".join(f" {inside[beside.end() :]} ".split(" \n"))):
            return _beside(boxed)
        unit, rest = beside[1] or "", outside
    elif prose.rstrip().endswith(("=", "-", "−", "–", "±")):
        formula = _FORMULA.search(_END.split(prose)[-1])[0]  # type: ignore[index]
        prose = prose[: len(prose) - len(formula)]
        if formula.strip() == "=":
            prose, formula = f"{prose}=", ""
    if not unit and (beside := _BESIDE.match(rest)) and beside[1]:
        unit, rest = beside[1], rest[beside.end() :]
    if not unit and (named := _UNIT.match(rest)):
        for n in range(named[1].count(" ") + 1, 0, -1):
            words = named[1].split()[:n]
            power = named[2] or "" if n == named[1].count(" ") + 1 else ""
            follows = rest[named.start(1) + len(" ".join(words)) + len(power) :]
            measured = counted(" ".join(words)) or words in (["degrees"], ["percent"])
            if (measured or (scale(words[0]) and (n == 1 or counted(" ".join(words[1:]))))) and _closes(follows):
                unit, rest = f"\\text{{ {' '.join(words)}}}{power}", follows
                break
    named_as = _led(prose)
    chain = _chain(formula)
    if named_as is None or chain is None or not _closes(rest) or (several and named_as[1] != "answer"):
        return _beside(boxed)
    name, sign = chain
    if sign or unit:
        boxed = f"{sign}{boxed if re.fullmatch(r'[A-Za-z0-9.]+', boxed) else f'({boxed})'}{unit}"
    return f"{named_as[0]}{name}{boxed}" if not (named_as[0] and name) else _beside(boxed)


def _chain(formula: str) -> tuple[str, str] | None:
    """Return the first member of a chain of equations with its equals sign, and the sign after the last one; None for
    any other formula."""
    sign = _SIGN.search(formula)
    rows = formula[: sign.start() if sign else None].split("\\\\")
    row = rows.pop().replace("&", " ").strip()
    while row.startswith("=") and rows:
        row = f"{rows.pop().replace('&', ' ').strip()} {row}"
    shown = "" if sign is None else "±" if sign[0].strip() in ("±", "\\pm") else "-"
    if not row:
        return "", shown
    try:
        tree = read(f"{row}1") if row.endswith("=") and not re.search(r"[~!]", row) else ("nothing",)
    except (Unreadable, TooLarge, RecursionError):
        return None
    if tree[0] != "relation" or set(tree[1]) != {"="} or row.count("=") != len(tree[1]):
        return None
    return f"{row.partition('=')[0]}=", shown


def _led(prose: str) -> tuple[str, str] | None:
    """Return the name that a sentence gives to its answer, and its noun; None if it is not known to state an answer.

    "The area is" gives `\\text{area}:`, "the value of x is" gives `x=`, and "we get" gives no name."""
    start, at = [0, 0, *(end.end() for end in _END.finditer(prose))][-2:]
    sentence = " ".join(prose[at:].split())
    if _DOUBTED.search(prose[start:at]):
        return None
    lead = _LEAD.fullmatch(sentence)
    if lead is None:
        return ("", "answer") if _HEADING.match(sentence) else None
    noun = " ".join(word for word in (lead["noun"] or "").lower().split() if word not in _EXACT)
    of = lead["of"]
    if of and (of[0] == "$" or len(of) == 1):
        return (f"{of.strip('$')}=", noun) if noun == "value" else None
    if of and ((not counted(of) and of != "expression") or noun in _PLAIN[:3]):
        return None
    label = " ".join(word for word in noun.split() if word not in _KINDS)
    return f"\\text{{{label}}}: " if label else "", noun


def _closes(after: str) -> bool:
    """Whether the text after an answer leaves it as it is."""
    return len(after) < LONGEST and _CLOSING.fullmatch(" ".join(after.replace("**", "").split())) is not None


def unmarked_answer(text: str) -> str | None:
    """Return the answer of a text without an answer mark, or None.

    The last sentence must state the answer, as in "The answer is 5."; or the last line, or the only one, is no prose.
    """
    text = _shown(text).strip()
    if any(name in text for name in (*_BOXES, "####")):
        return None  # a box that is not closed
    tail = _HOPED.sub("", _before(text, len(text))[:1] + text[-_LONGEST_PROSE:].replace("**", ""))
    found = list(_STATEMENT.finditer(tail))
    listed = len(found) > 1 and "\n" not in text and all(one[0].rstrip()[-1] == ":" for one in found)
    for statement in found[-1:] if not listed else ():  # Minimum: 1, Maximum: 3
        answer, *after = re.split(r"\.(?=\s|\Z)|\n", tail[statement.end() :], maxsplit=1)
        said = _led(_before(tail, statement.end()))
        if said is None or not _closes(" ".join(after)):
            return _beside(answer)
        return f"{said[0]}{answer.strip()}"
    if len(text) > LONGEST:
        return text
    before, _, last = text.rpartition("\n")
    if _PROSE.search(last) or not (before.strip() and _PROSE.search(text)):
        formula = re.fullmatch(r"(?i)(?:so|thus|hence|therefore|then|finally),?\s+(\S.*)", last)
        return formula[1] if formula and not before.strip() else text or None
    return last if _led(f"{_before(before, len(before))}\n") is not None else _beside(last)
