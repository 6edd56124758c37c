"""Find the final answer in a text. Plain prose may stand around it, but no word or sign that may change it."""

from __future__ import annotations

import re

from zero2chat_verifier.sentence import VALUE, Lead, ends, foreign, idle, led, measure, titled, trails
from zero2chat_verifier.units import counted, scale

LONGEST = 4000  # characters of an answer: longer ones are not parsed
_LONGEST_PROSE = 3000  # characters at the end of a text that are searched for an unmarked answer
_BOXES = ("\\boxed", "\\fbox")
_BRACES = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]")  # the content of \boxed without braces
_REASONING = re.compile(r"<\|?(/?)(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)\|?>", re.IGNORECASE)
_NEAR = 400  # characters before an answer that are searched for the start of its sentence
# Text between \boxed{1} and \boxed{2} that joins them into one answer.
_JOINED = re.compile(r"(?:\s|\$|\\q?quad)*(?:\\text\{\s*)?(,|or|and|, ?and|, ?or)(?:\s*\})?(?:\s|\$|\\q?quad)*")
_OPENERS = {"$$": "$$", "$": "$", "\\[": "\\]", "\\(": "\\)"} | {
    f"\\begin{{{name}{star}}}": f"\\end{{{name}{star}}}"
    for name in ("align", "equation", "gather")
    for star in ("", "*")
}
_INLINE = re.compile(r"\\\( ?((?:(?!\\[()])[^\n])+?) ?\\\)")
_STRANGE = re.compile(
    r"[~!<>|:]|\\(?:neq?|not|neg|b?cancel|leq?|geq?|approx|sim|equiv|to|in|text|[dt]?frac\s*\Z)(?![A-Za-z])"
)
_SIGN = re.compile(r"(?:[-−–]|±|\\pm)\s*\Z")
_BESIDE = re.compile(r"\s*(\\?%|\^\{?\\circ\}?|°|π|\\pi(?![A-Za-z])|\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?)?")
_MATHS_END = re.compile(r" ?(?:\\text\{ ?\. ?\}|[.,])?(?: ?\\(?:q?quad|blacksquare|square)(?![A-Za-z]))* ?")
_UNIT = re.compile(r"\s*([A-Za-z/]+(?: [A-Za-z]+){0,2})(\^\{?[23]\}?)?")
# The part of a plain line that belongs to a formula: no words, but perhaps single letters.
_FORMULA = re.compile(r"(?:(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|\\[A-Za-z]+|[^A-Za-z$:])*\Z")
_HEADING = re.compile(r"(?i)#*\s*(?:(?:final )?answer:?|<answer>)?\Z")
# A sentence ends here; but not with "e.g." or "cf.". A colon ends none, and neither does a line with words.
_END = re.compile(
    r"```\s*\n|(?:\\\]|\$\$)(?:\s*\n\s*)?(?=[A-Z])|[\d)}]\s*[.,]?\s*(?:\\\]|\$\$)(?=\s)|\n\s*\n(?=\s*[A-Z])|\n[^A-Za-z\n…]*[\d)}](?=\n)"
    r"|(?<=[\w)\]}$])(?<!\bcf)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)[.!?;][\"')$]*(?=\s)(?!\s=)"
)
_ENDED, _WORD = re.compile(r"(?:\A|[\d%)$}>])\Z"), re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}")
_TITLE = re.compile(r"(?i)(?:\A|\n)\s*(?:#+ [^\n]*|(?:#+ )?step \d+[:.][^\n]*|(?:final )?answer:?|conclusion:?)\n")
_MARKS = re.compile(r"\^\{?\\circ\}?|°|\\?\$|\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\\?%")
# A unit, but neither "total" nor the dollar signs of "$5$".
_UNITED = re.compile(
    r"\\\$|\A[^$]*\$[^$]*\Z|[%°]|\\circ|(?<![\\A-Za-z])(?!total\b)[A-Za-z]{2}|\\(?:text|mbox|mathrm)\s*\{\s*[A-Za-z]\b"
)
_BULLET = re.compile(r"(?m)^\s*(?:#{1,6}|[-*•])\s+(?=[A-Za-z])")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z(])")  # a variable, and no function
_COMPUTED = re.compile(r"\A[^(]*[-+\d^/*]|\\(?:frac|cdot|times|sqrt)")  # 2x, but not f(2)
# Content that may have a label: no option, no list, no relation.
_SINGLE = re.compile(r"(?!\(?[A-Za-z]+\)?\Z|\\text|.*\\(?:leq?|geq?|neq?|in)\b)[^,=<>]*")
_CLOSING = re.compile(
    r"(?:,? ?and we are done|,? ?as (?:required|desired)|(?:left )?(?:in (?:total|all)|altogether)|left"
    r"|of them|is the (?:final )?answer)?(?: ?\\blacksquare)? ?\.?(?: ?</answer>)?"
    r"(?: ?(?:I hope it is correct|Done|QED)\.?)?"
)
_WORDS_BEFORE = re.compile(r"(?:\A|[A-Za-z=:,.\n]\s*)(?:\$+|\\[(\[])?\s*\Z")
_WORDS_AFTER = re.compile(r"\s*(?:\Z|[.,;]?\s*(?:\$|\\[)\]]|\Z|\s[A-Za-z]))")
# "The final answer is 5." after a box counts in its place.
_RESTATED = re.compile(
    r"(?i)[.$\])}*\s]*\s(?:(?:#+ |\*\*)?final answer:?(?:\*\*)?:?\s+)?"
    r"the (?:final )?answer is:? +([^\n]+?)\.?(?: I hope it is correct\.?)?\s*\Z"
)
_HOPED = re.compile(r"\s(?:I hope it is correct|Done|QED)\.?\s*\Z")
# A line of prose has three ordinary words in a row, outside of \text{}.
_PROSE = re.compile(r"(?:\b[A-Za-z]{2,}[,;:]?\s+){3,}[A-Za-z]{2,}")


def reference(gold: str) -> str:
    """Return a reference's final answer: what its last box or `####` (as in GSM8K) marks, or else all of it."""
    gold = str(gold)
    answer = final_answer(gold, named=False)
    if answer is None or not answer.endswith("\\beside"):
        return gold.strip() if answer is None else answer
    box, mark = _last_box(gold), gold.rfind("####")
    if box is None or mark > box[0]:
        return gold[mark + 4 :].strip().partition("\n")[0].strip()
    # A solution that is known to be right may have other words around its box, but no signs.
    return str(box[3]) if _WORDS_BEFORE.search(gold[: box[0]]) and _WORDS_AFTER.match(gold, box[1]) else answer


def is_expression(gold: str) -> bool:
    """Whether a reference is an expression with letters, without a relation or a unit: no name before it counts."""
    other = r"[=<>:$%]|\\(?:text|math|leq?|geq?|neq?|in|circ)|°|(?<![A-Za-z\\])[A-Za-z]{3,}"
    return bool(_LETTER.search(gold)) and not re.search(other, gold)


def final_answer(text: str, named: bool = True, measured: str = "") -> str | None:
    """Return the content of the last `\\boxed{}`, or the rest of the line after the last `####`, whichever comes last.

    "" if that is empty; None if the text has no mark, or if the box is not closed. Finished reasoning is skipped. The
    outermost of nested boxes counts, and boxes joined by "or" or "and" are one answer. The formula that ends with a box
    is the answer: `x=5` for `x=\\boxed{5}`. Beside other text, the answer is marked as unsupported.
    `named`: whether names in the prose count, as they do not in a reference; `measured`: a reference with a unit.
    """
    text = _INLINE.sub(r"$\1$", _shown(text))
    box, mark = _last_box(text), text.rfind("####")
    if box is not None and mark < box[0]:
        start, end, several, boxed = box
        if restated := _RESTATED.match(text, end):
            return restated[1]
        return boxed if not boxed else _around(text[:start], boxed, text[end:], several, named, measured)
    if mark < 0:
        return None
    answer, _, after = text[mark + 4 : mark + 4 + 2 * LONGEST].strip().partition("\n")
    line, _, own = _before(text, mark).rpartition("\n")
    line = line.rstrip()
    repeated, rest = line.rpartition(answer.strip(" $.") or "…")[1:]
    rest = _unit_of(rest.strip(" $)]}>\\*"))[1]
    formula = _ENDED.search(line) and not _WORD.search(line.rpartition("\n")[2])
    whole = formula or line.endswith((".", "!", "?")) or (repeated and _closes(rest))
    lead = Lead(unit="") if whole and idle(_END.split(line)[-1]) else None if whole else _led(line)
    united = not measured or _UNITED.search(answer) is not None
    said = lead is not None and (united or (lead.unit == "" and not foreign(text[:mark], measured)))
    return answer.strip() if not own.strip() and said and _closes(after) else _beside(answer)


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
    """Return start and end of the last outermost box and of the boxes joined to it, whether others before differ,
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
    return start, end, any(one != boxed for _, _, one in boxes), boxed


def _around(before: str, boxed: str, after: str, several: bool, named: bool, measured: str) -> str:
    """Return a box's content with its formula and its unit. `several`: whether another box stands before it."""
    shown, before = before, _before(before, len(before))
    if before.rstrip().endswith("\\$"):  # \$\boxed{5}
        before, boxed = before.rstrip()[:-2], f"\\${boxed}"
    prose, formula, rest, unit = before.replace("**", ""), "", after, ""
    opener = max(_OPENERS, key=lambda opener: (before.rfind(opener) + len(opener) * (opener in before), len(opener)))
    at, closer = before.rfind(opener), _OPENERS[opener]
    inside, closed, outside = after.partition(closer)
    if at >= 0 and closed and not _PROSE.search(before[at:]) and closer not in before[at + len(opener) :]:
        prose, formula = before[:at].replace("**", ""), before[at + len(opener) :]
        beside = _BESIDE.match(inside)
        assert beside is not None
        if not _MATHS_END.fullmatch(" ".join(inside[beside.end() :].split())):
            return _beside(boxed)
        unit, rest = beside[1] or "", outside
    signed = rest is after and prose.endswith(("-", "−", "–", "±"))  # the dash of "The answer – 5" is no sign
    if not formula.strip() and (signed or prose.rstrip().endswith("=")):
        formula = _FORMULA.search(_END.split(prose)[-1])[0].lstrip()  # type: ignore[index]
        prose = prose.rstrip()[: -len(formula.rstrip())]
        if formula.startswith("="):  # "Total = 3 + 4 ="
            prose, formula = f"{prose}=", formula[1:]
        elif "=" in formula and formula[0] in "-+*/^×·−–":  # "Total - 1 ="
            return _beside(boxed)
    if not unit and (beside := _BESIDE.match(rest)) and beside[1]:
        unit, rest = beside[1], rest[beside.end() :]
    if not unit:
        unit, rest = _unit_of(rest)
    lead, chain, bare = _led(prose), _chain(formula), measured and not _UNITED.search(f"{boxed}{unit}")
    if (
        lead is None
        or (bare and (lead.unit is None or foreign(shown, measured)))
        or chain is None
        or not _closes(rest, bool(unit) or boxed[:2] == "\\$")
        or (several and lead.noun != "answer")
    ):
        return _beside(boxed)
    (label, _, spoken), (name, sign, numeric) = lead, chain
    unit = unit or (bare and spoken) or ""
    if (not named and (numeric or _COMPUTED.search(name))) or (
        not numeric and (label or unit) and name and not _LETTER.search(name)  # f(1)+f(2)
    ):
        name, label = "", label or VALUE
    label = label if named and (numeric or not name) and _SINGLE.fullmatch(boxed) else ""
    if numeric and name:  # "the sum is 1+2=" has to be true
        label, name = label or VALUE, _with_marks(name, f"{boxed}{unit}")
    if sign or unit:
        boxed = f"{sign}{boxed if re.fullmatch(r'[A-Za-z0-9.]+', boxed) else f'({boxed})'}{unit}"
    return f"{label}{name}{boxed}"


def _unit_of(rest: str) -> tuple[str, str]:
    """Return the unit with which a text after an answer begins, if it is one, and what follows."""
    found = _UNIT.match(rest)
    names = found[1].split() if found else []
    for n in range(len(names), 0, -1):
        words, power = " ".join(names[:n]), (found and n == len(names) and found[2]) or ""
        follows = rest.lstrip()[len(words) + len(power) :]
        sized = scale(names[0]) and (n == 1 or counted(" ".join(names[1:n])))
        if (sized or counted(words) or words in ("degrees", "percent")) and _closes(follows, True):
            return f"\\text{{ {words}}}{power}", follows
    return "", rest


def _chain(formula: str) -> tuple[str, str, bool] | None:
    """Return the first member of a chain of equations with its equals sign, the sign after the last one, and whether
    that member is a number; None for any other formula."""
    sign = _SIGN.search(formula)
    rows = formula[: sign.start() if sign else None].split("\\\\")
    row = rows.pop().replace("&", " ").strip()
    while row.startswith("=") and rows:
        row = f"{rows.pop().replace('&', ' ').strip()} {row}"
    shown = "" if sign is None else "±" if sign[0].strip() in ("±", "\\pm") else "-"
    if not row:
        return "", shown, False
    name, *between = row.split("=")
    if not row.endswith("=") or any(not _balanced(part) or _STRANGE.search(part) for part in (name, *between)):
        return None
    whole = " ".join(name.split())
    numeric = not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", whole)) and re.search(r"[\d)}!%|]\Z", whole)
    return f"{name}=", shown, bool(numeric)


def _with_marks(name: str, answer: str) -> str:
    """Return a computation such as `9*2=` with the unit of the answer that it gives."""
    if re.search(r"\\[a-z]{3}(?![a-z])", name):  # \\sin 15^\\circ
        return name
    bare, marks = _MARKS.sub("", name.rstrip("= ")), _MARKS.findall(answer)
    if not marks or ("%" in marks[0] and "%" not in name):
        return f"{bare}="
    return f"{marks[0]}({bare})=" if "$" in marks[0] else f"({bare}){marks[0]}="


def _balanced(formula: str) -> bool:
    """Whether each bracket of a formula is closed in it."""
    return all(formula.count(left) == formula.count(right) for left, right in ("()", "[]", "{}"))


def _led(prose: str) -> Lead | None:
    """Return what the last sentence of a text says of the answer after it; None if it may change that answer."""
    start, at = [0, 0, *(end.end() for end in _END.finditer(prose))][-2:]
    sentence = " ".join(_BULLET.sub("", _TITLE.sub("", prose[at:])).split())
    titles = _TITLE.findall(prose[start:])
    if not idle(prose[start:at]) or not all(map(titled, titles)):
        return None
    if _HEADING.match(sentence):
        alone = sentence or "\n" in prose[at:] or "\n" in prose[start:at][-3:] or not prose[:at].strip(" \n")
        return Lead("", "answer", "") if alone else None
    lead = led(sentence)
    return lead and lead._replace(unit=measure(sentence))


def _closes(after: str, measured: bool = False) -> bool:
    """Whether the text after an answer only ends the sentence. After a unit, it may also say where or when."""
    rest = " ".join(after.replace("**", "").split()) if len(after) < LONGEST else "…"
    return _CLOSING.fullmatch(rest) is not None or (measured and len(rest) < _NEAR and trails(rest))


def unmarked_answer(text: str, measured: str = "") -> str | None:
    """Return the answer of a text without an answer mark, or None.

    The last sentence must state the answer, as in "The answer is 5."; or the last line, or the only one, is no prose.
    """
    text = _shown(text).strip()
    if any(name in text for name in (*_BOXES, "####")):
        return None  # a box that is not closed
    tail = _HOPED.sub("", _before(text, len(text))[:1] + text[-_LONGEST_PROSE:].replace("**", ""))
    at = ([0] + [end.end() for end in _END.finditer(f"{tail.rstrip(' .')} ")])[-1]
    last, stated = tail[at:].strip(), _led(f"{tail[:at]} We get") is not None
    for end in ends(last) if len(last) < _NEAR else ():
        said, answer = led(" ".join(last[:end].split())), last[end:].strip().removesuffix(".")
        if said and answer and (said.noun or last[end - 1] != "="):
            bare = measured and not _UNITED.search(answer)
            unit = measure(last[:end]) if bare else ""
            if not stated or unit is None or (bare and foreign(text[: -len(last)], measured)):
                return _beside(answer)
            return f"{said.name}{answer}{unit}" if not re.search(r"[A-Za-z]{3,}:", answer) else text
    if len(text) > LONGEST:
        return text
    before, _, last = text.rpartition("\n")
    if before and not _PROSE.search(text) and "\\begin" not in text and not text.startswith(("$$", "\\[")):
        return _beside(last)  # several answers, or a sum in several lines
    if _PROSE.search(last) or not (before.strip() and _PROSE.search(text)):
        formula = re.fullmatch(r"(?i)(?:so|thus|hence|therefore|then|finally),?\s+(\S.*)", last)
        return formula[1] if formula and not before.strip() else text or None
    return last if _led(f"{_before(before, len(before))}\n") is not None else _beside(last)
