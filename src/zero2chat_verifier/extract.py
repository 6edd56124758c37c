"""Find the final answer in a text."""

from __future__ import annotations

import re

from zero2chat_verifier.units import known, scale

LONGEST = 4000  # characters of an answer: longer ones are not parsed
_LONGEST_PROSE = 3000  # characters at the end of a text that are searched for an unmarked answer
_BOXES = ("\\boxed", "\\fbox")
_BRACES = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]")  # the content of \boxed without braces
_MODULO = re.compile(r"%\s*\(?[0-9]+\)?\s*=")  # N % 10 = 4
_REASONING = re.compile(r"<\|?(/?)(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)\|?>", re.IGNORECASE)
_MOST_PERCENTS = 50  # of a line: the first ones
_COMMENT = re.compile(r"<!--.*?(?:-->|$)|\\begin\{comment\}.*?(?:\\end\{comment\}|$)", re.DOTALL)
_NEAR = 200  # characters before and after a box that may change its meaning
_GAP = r"(?:[ \t]|\\[,;:! ]|\\[hv]space\*?\{[^{}]*\})*"
_OPERATOR = r"times|cdot|ast|div|pm|mp|bmod|cup|cap|setminus|sin|cos|tan|ln|lg|log|exp|pi|sqrt|[dtc]?frac"
# Adjacent text that makes a box part of a formula: \boxed{5}^2, -\boxed{5}, 2\cdot\boxed{5}. In prose "- \boxed{5}" is
# a list item, and \boxed{5}! is an exclamation.
_AFTER = re.compile(
    rf"[A-Za-z0-9⁰¹²³⁴-⁹½¼¾π√∞]|\{{\s*\d|[.:]\d|(?:,|\\?[ ]|\\,|\{{,\}})\d{{3}}(?!\d)|{_GAP}\d+/\d"
    r"|(?:\$|\\[)\]]|\*\*)?\\?%"
    rf"|(?:\\[!,]|\\hspace\{{[^{{}}]*\}})+\d|{_GAP}(?:[\^_]{_GAP}[A-Za-z0-9{{\\]|\\%|[*/+−-]{_GAP}[\d({{\\]"
    rf"|\\(?:{_OPERATOR}|infty|[lcd]?dots|circ|choose|over|overline|alpha|beta|theta)(?![A-Za-z]))"
)
# Unicode's operators. A cross may also be a list's, and a dash a list's or a sentence's.
_SIGNS_BEFORE = str.maketrans({"×": "*", "÷": "/", "±": "\\pm ", "∓": "\\mp "})
_SIGNS_AFTER = str.maketrans({"×": "*", "÷": "/", "±": "+"})
_DASH_BEFORE = re.compile(rf"((?:\A|[=($\[{{<>,:\d)}}])[ \t]*)–(?={_GAP}\Z)")
_AFTER_IN_FORMULA = re.compile(rf"{_GAP}(?:!(?!=)|[A-Za-z]|\((?!\\text|[A-Za-z]{{2}})|[*/+−-]{_GAP}[A-Za-z])")
_UNIT_AFTER = re.compile(rf"{_GAP}\\(?:text|mathrm|textrm|mbox)\s*\{{\s*([A-Za-z]+)\s*\}}")
_BEFORE = re.compile(
    rf"(?:\d\.?|(?<!-)[-−]|[=(<>,]\s*[-−]{_GAP}|(?:[\d)}}]|(?<![A-Za-z])[A-Za-z])\s?[*/+<>^_]{_GAP}|(?:[≠¬√½¼¾]|!=){_GAP}|\\sqrt\s*\["
    rf"|\\(?:{_OPERATOR}|sum|prod|int|neq?|not(?:\s*=)?|neg|lnot|[lg]t){_GAP}(?:[_^](?:\{{[^{{}}]*\}}|\w){_GAP})*)\Z"
)
_BEFORE_IN_FORMULA = re.compile(rf"[-−]{_GAP}\Z")
_FORMULA_START = re.compile(r"\$|\\[(\[]|\n|&|\\\\|(?<![<>!])=|[.,;:]\s|(?<![A-Za-z\\])[A-Za-z]{2,}(?=[\s:*])")
_FORMULA_END = re.compile(r"\$|\\[)\]]|\n|&|\\\\|\\(?:text|q?quad|end)\b|[.,;:](?=\s|$)|\s(?=[A-Za-z]{2,})")
# Commands whose braces make their content part of a number, strike it out, or hide it.
_PART = re.compile(
    r"(?:[\^_]|\\(?:[dtc]?frac|[dt]?binom)\s*(?:\{[^{}]*\}|\w)?|\\sqrt\s*(?:\[[^\]]*\])?"
    r"|\\(?:log|overline|bar|hat))\s*\Z"
)
_GONE = re.compile(r"(?:\\(?:[bx]?cancel|sout|st|not|[hv]?phantom)\s*|~~|<(?:del|s)>)\Z")
_TAGS = re.compile(r"(?:<[^<>]*>\s*)+\Z")
_BRACKETS = (("\\left(", "\\right)"), ("(", ")"), ("{", "}"))
_TUPLE_BEFORE = re.compile(rf"(?:[(\[]|\\\{{)[^()\[\]A-Za-z$]*,{_GAP}\Z")
_TUPLE_AFTER = re.compile(rf"{_GAP},[^()\[\]A-Za-z$]*(?:[)\]]|\\\}})")
# Adjacent words that change the number in a box, or deny it. Bounds and rounding ("at least", "about") do neither.
_WORDS_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|cannot|minus|negative|except|twice|(?:half|thirds?|quarters?|root|square|cube|opposite|negative|inverse|reciprocal"
    r"|absolute value|double|triple|complement|conjugate|factorial) of"
    r"|(?:more|less|fewer|greater|larger|smaller) than)|n't)(?: be| equal(?: to)?| the answer)?[ \t$*}]{0,4}\Z",
    re.IGNORECASE,
)
_WORDS_AFTER = re.compile(
    r"(?:\$|\\[\])]|\*\*|[ \t]|\\[,; ])*(?:\\(?:text|mathrm|textrm|mbox)\s*\{)?\s*\(?"
    r"(?P<words>(?P<first>[A-Za-z]+)(?:[ '-]+[A-Za-z]+){0,3})"
)
_CHANGED = re.compile(
    r"(?:wrong|incorrect|half|percent|per cent|per mille|squared|cubed|factorial|below zero|basis points"
    r"|and (?:a|one|two|three|four) [a-z]*(?:half|halves|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?"
    r"|(?:isn't|wasn't|is not|was not) (?:right|correct|true|it|the answer)|degrees below"
    r"|(?:is|was|cannot be) (?:wrong|incorrect|false|rejected|excluded|the wrong))\b"
)
_OPERATED = re.compile(
    r"[ \t$*]*(?:times|plus|minus|(?:divided|multiplied) by|(?:more|less|fewer|greater) than)\s+[$(\\-]{0,3}\d"
)
_CHOICE = re.compile(r"\(?[A-J]\)?")
_OTHER_CHOICE = re.compile(r"or\s+\(?(?!I\s+[a-z])([A-J])\b")
_ALTERNATIVE = re.compile(r"(?:or\s*\}?|and\s*\})\s*\$?\s*(?:-?\d|\\(?!text))")
# Text between \boxed{1} and \boxed{2} that joins them into one answer.
_JOINED = re.compile(r"[\s$]*(?:\\text\{)?\s*(,|;|or|and|, ?and|, ?or|\\quad)?\s*\}?[\s$]*")
# "the final answer is: X", "Answer: X": the rest of the line is the answer.
_PHRASE = re.compile(
    r"(?i)\b(?<!wrong )(?<!incorrect )(?:answer|result|solution|option|choice)\s*(?:\*\*)?\s*"
    r"(?:is|are|=|:|(?=\\[\[(]|\$))(?:\*\*)?[ \t]*:?\s*"
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
        text = _without_comments(text)
        box, mark = max(text.rfind(name) for name in _BOXES), text.rfind("####")
    if box >= 0:
        start, boxed = _last_box(text)
        if mark < start:
            return boxed
    if mark < 0:
        return None
    return text[mark + 4 : mark + 4 + 2 * LONGEST].strip().split("\n")[0].strip()


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


def _without_comments(text: str) -> str:
    """Remove LaTeX comments that contain an answer mark. A percent sign after a number or directly after a word does
    not start a comment, unless an answer is marked before it on the same line."""
    lines = []
    for line in text.split("\n"):
        marks = (*_BOXES, "####")
        last = max(map(line.rfind, marks))
        first = min((at for at in map(line.find, marks) if at >= 0), default=-1)
        at = line.find("%", 0, max(last, 0))
        for _ in range(_MOST_PERCENTS):
            if at < 0:
                break
            before = line[max(0, at - 2) : at]
            marked = first < at and line.count("{", 0, at) <= line.count("}", 0, at)
            percent = before.strip()[-1:].isdigit() or before[-1:] not in ("", " ") or _MODULO.match(line, at)
            if before[-1:] != "\\" and (marked or not percent):
                line = line[: at + (before[-1:] == "}")]  # \boxed{5}% is a percentage
                break
            at = line.find("%", at + 1, last)
        lines.append(line)
    return "\n".join(lines)


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
    """Return a box's content, extended by adjacent text that changes its value; "" if the box is struck out."""
    before = _DASH_BEFORE.sub(r"\1−", text[max(0, start - _NEAR) : start].translate(_SIGNS_BEFORE))
    after = text[end : end + _NEAR].translate(_SIGNS_AFTER)
    stop = _FORMULA_END.search(after)
    blank = "=" in re.sub("[<>!]=", "", after[: stop.start()] if stop else after)  # \boxed{3} + 2 = 5
    for opened in (before, *_before_braces(before)):
        if _GONE.search(opened) or (opened is not before and not blank and _PART.search(opened)):
            return ""
    denied = _WORDS_BEFORE.search(before)
    if denied:
        return f"{denied[0].strip(' $*')} {boxed}"
    words = _WORDS_AFTER.match(after)
    if words and scale(words["first"]) is not None:
        return f"{boxed}\\text{{ {words['first']}}}"
    if words:
        at = words.start("words")
        choice = _OTHER_CHOICE.match(after, at) if _CHOICE.fullmatch(boxed) else None
        other = choice[1] not in boxed if choice else _ALTERNATIVE.match(after, at)
        if other or _CHANGED.match(words["words"].lower()):
            return f"{boxed} {words['words']}"
    operated = _OPERATED.match(after)
    if operated:  # \boxed{5} times 2
        return f"{boxed} {operated[0]}"
    bars = before.endswith("|") and after.startswith("|")
    if bars and text[text.rfind("\n", 0, start) + 1 : end + 1].count("|") == 2:  # not a row of a table
        boxed, before, after = f"|{boxed}|", before[:-1], after[1:]
    inside = _in_formula(text, start)
    before, inner = _TAGS.sub("", before), boxed
    for opening, closing in _BRACKETS:  # (\boxed{5})^2
        if before.endswith(opening) and after.startswith(closing) and not blank:
            boxed, before, after = f"({boxed})", before[: -len(opening)], after[len(closing) :]
    left = _BEFORE.search(before) or (_BEFORE_IN_FORMULA.search(before) if inside else None)
    unit = _UNIT_AFTER.match(after)
    right = unit if unit and known(unit[1]) else _AFTER.match(after)
    right = right or (_AFTER_IN_FORMULA.match(after) if inside else None) or _TUPLE_AFTER.match(after)
    left = left or _TUPLE_BEFORE.search(before)
    if blank or not boxed or not (left or right):
        return inner
    whole = boxed if boxed.isalnum() and not after[:1].isdigit() and not before[-1:].isdigit() else f"{{{boxed}}}"
    if left:
        starts = [match.end() for match in _FORMULA_START.finditer(before) if match.end() <= left.start() + 1]
        whole = before[max(starts, default=0) :] + whole
    if right:
        stop = _FORMULA_END.search(after, max(1, right.end() - 1))
        whole += after[: stop.start()] if stop else after
    return whole.strip()


def _before_braces(before: str) -> list[str]:
    """Return the text before each brace that is still open at the end."""
    opened: list[int] = []
    for match in re.finditer(r"\\.|[{}]", before, re.DOTALL):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            opened.pop()
    return [before[:at] for at in opened]


def _in_formula(text: str, at: int) -> bool:
    """Whether a position in a text is between dollar signs, or in \\( \\) or \\[ \\]. A dollar sign without a partner
    in its paragraph means money."""
    before = text[:at].replace("\\$", "").replace("$$", "\\$")
    closes = "$" in text[at:].replace("\\$", "").split("\n\n", 1)[0]
    if closes and ((before.count("$") - before.count("\\$")) % 2 or before.count("\\$") % 2):
        return True
    return any(before.rfind(f"\\{start}") > before.rfind(f"\\{end}") for start, end in ("()", "[]"))


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
        return _SENTENCE_END.split(rest, maxsplit=1)[0].strip() or None
    if len(text) > LONGEST or not ("\n" in text or _PROSE.search(text)):
        return text or None
    last = text.rsplit("\n", 1)[-1].strip()
    if not _PROSE.search(last):
        return last or None
    equals = _LAST_EQUALS.search(last)
    return equals[1].strip(" .$*") if equals else text
