"""Find the final answer in a text. Plain prose may stand around it, but no word or sign that may change it."""

from __future__ import annotations

import re

from zero2chat_verifier.units import WORDS, counted, known, scale

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
_PLAIN = ("answer", "result", "solution", "solutions", "root", "roots", "value", "values", "option", "choice")
_KINDS = (*_PLAIN, "statement", "range", "domain", "interval", "set", "equation", "expression")
_EXACT = ("final", "correct", "required", "desired")


def _any(*lists: str) -> str:
    """Return a pattern for the words of lists in `words.txt`, with `*` for any letters and `_` for a space."""
    words = "|".join(word for name in lists for word in WORDS[name])
    return rf"(?<!\\)\b(?:{words.replace('*', '[a-z]*').replace('_', ' ')})\b"


_STATED = (
    r"(?:(?:so|thus|hence|therefore|then|finally|now|we (?:see|find|conclude) that)\b,?\s*)*"
    rf"(?:(?:(?:the|our|my|all)\s+)?(?P<noun>(?:(?:{'|'.join(_EXACT)}|minimum|maximum|total)\s+)*"
    rf"(?:{'|'.join((*_KINDS, *WORDS['labels']))}))(?:\s+of\s+(?:the\s+|all\s+)?(?P<of>[a-z]+|\$[^$\n]{{1,20}}\$)"
    r"|\s+to\s+(?:the|this|our)\s+(?:problem|question))?"
    r"(?:\s+(?:is|are|is therefore|equals|is equal to|simplifies to)\b\s*:?|\s*[:=])"
    r"|we\s+(?:get|have|find|obtain|conclude)\b(?:\s+that\b)?:?|(?:it|this|that)\s+(?:is|gives|equals|yields)\b:?"
    r"|there\s+(?:is|are)\b(?:\s+exactly\b)?"
    r"|(?:he|she|they|it|we|you)\s+(?:has|have|had|earns?|pays?|needs?|spends?|makes?|takes?|sells?|buys?|eats?)\b)"
)
_LEAD = re.compile(rf"(?i)(?:{_STATED}|(?:so|thus|hence|therefore|then|finally),?)?\s*")
_STATEMENT = re.compile(rf"(?i)(?<![^\s$(]){_STATED}\s*(?=\S)")
_HEADING = re.compile(r"(?i)#*\s*(?:(?:final )?answer:?|<answer>)?\Z")
# A sentence ends here; but not with "e.g." or "cf.". A colon ends none, and neither does a line with words.
_END = re.compile(
    r"```\s*\n|(?:\\\]|\$\$)(?:\s*\n\s*)?(?=[A-Z])|[\d)}]\s*[.,]?\s*(?:\\\]|\$\$)(?=\s)|\n\s*\n(?=\s*[A-Z])|\n[^A-Za-z\n…]*[\d)}](?=\n)"
    r"|(?<=[\w)\]}$])(?<!\bcf)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)[.!?;][\"')$]*(?=\s)"
)
# What may not end the line before `####`, as that line leads on.
_UNFINISHED = re.compile(r"(?i)\b(?:not|never|no|is|are|that|than|of)\b|n't|…|[^\w.%)$}>:\s]\s*\Z")
# "integers greater than 10 that are not prime", in "the number of integers … is": what a noun is about may have words
# that would change an answer.
_BOUND = re.compile(
    r"(?i)\b(?<=\w )(?:of|that|such|in|for|with|from|when|where|between|which|who|on)\b"
    r"(.*?\w+ \w+(?<!\bof)(?<!\bor)(?<!\band)(?<!\bthan)(?<!\bnot))(?=,? (?:is|are|was|were|equals)\Z)"
)
_DESCRIBING = re.compile(rf"(?i){_any('describing')}")
_DOUBTED = re.compile(rf"(?i){_any('doubts')}")
_CHANGED = re.compile(
    rf"(?i){_any('doubts', 'changing')}|n['’]t\b|(?-i:\bmay\b)|\\(?:l?not|neg|b?cancel)"
    r"|(?-i:\bIn) \w+s(?: of \w+)?,|[\d$}]\)? of (?:the|it|th\w+|our)\b"
)
_WORD, _AMOUNT = r"(?:\d+-)?[A-Za-z]+(?:-[A-Za-z]+)*(?:['’]s?)?", r"\\?\$?\d[\d.,]*%?"
# Words, computed numbers and formulas between dollar signs. They may not end with a number, a letter, or a word that
# joins the answer to what stands before it, but for `_LEADS_ON`.
_PLAIN_PROSE = re.compile(
    rf"(?:(?:{_WORD}|\([a-z]+\)|\$[^$]{{1,80}}\$|{_AMOUNT}(?: ?[-+*/×=] ?{_AMOUNT})*)[,:]?(?: |\Z))*+\Z"
)
_BULLET = re.compile(r"(?m)^\s*(?:#{1,6}|[-*•])\s+(?=[A-Za-z])")
_SO = re.compile(
    r"(?i)(.*), (?:(?=(?:so|thus|hence|therefore|we (?:see|find|conclude) that) )|and (?=the (?:final )?answer ))"
)
_LAST = re.compile(rf"(?i){_any('last', 'numbers')}[,:]?\Z|\b(?!a\b)[a-z][,:]?\Z|[^a-z,: ][,:]?\Z|can be\Z")
_LEADS_ON = re.compile(
    r"(?i)(?:(?:equal|equivalent|comes|amounts|simplif\w+|evaluat\w+|reduc\w+) to|given by|(?:written|expressed) as"
    rf"|arrive at|\ban? (?:[a-z]+ )?(?:{'|'.join(WORDS['labels'])}) of)\Z"
)
_VERB = re.compile(
    r"(?i)\b(?:is|are|was|were|equals|indeed|ha(?:s|ve|d)|gets?|yields?|gives?|makes?|that|total of|so|thus):?\Z"
    rf"|{_LEADS_ON.pattern[4:]}"
)
_NUMBER = re.compile(r"(?:\\[dt]?frac|\\sqrt|\\pi|[\d.,{}+/ -])*")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z(])")  # a variable, and no function
_COMPUTED = re.compile(r"\A[^(]*[-+\d^/*]|\\(?:frac|cdot|times|sqrt)")  # 2x, but not f(2)
# Content that may have a label: no option, no list, no relation.
_SINGLE = re.compile(r"(?!\(?[A-Za-z]+\)?\Z|\\text|.*\\(?:leq?|geq?|neq?|in)\b)[^,=<>]*")
_ANSWER = re.compile(r"(?i)\b(?:answer|result)s?\b")
_VALUE = "\\text{value}: "  # a name that no reference has
_NAMED = re.compile(
    rf"(?i)\b({'|'.join(WORDS['labels'])})\b|\$([^$]+)\$|\b([b-hj-z]|least|[a-z]+est|first|last|other)\b"
)
_COUNTED = re.compile(r"(?i)\b(?:(number of |how many )(?:the |these |different |distinct )?)?(\w{3,})")
_CHANGED_AFTER = re.compile(rf"(?i){_any('after', 'numbers')}|\b(?!a\b)[a-z]\b")
_SAYS = rf"(?:{_WORD}|\$(?:\(?[a-zA-Z](?:, ?[a-zA-Z])*\)?|[a-z]\([a-z]\))\$)"
_CLOSING = re.compile(
    r"(?:,? ?and we are done|,? ?as (?:required|desired)|in (?:total|all)|is the (?:final )?answer"
    rf"|(?P<said>{_SAYS}(?:,? {_SAYS})*+))?"
    r"(?: ?\\blacksquare)? ?\.?(?: ?</answer>)?(?: ?(?:I hope it is correct|Done|QED)\.?)?"
)
# What the words after an answer, and those after the noun that it counts, begin with.
_FREE = re.compile(r"(?:for|(?:in|at)(?! \$)|altogether|left|total)\b")
_COUNTING = re.compile(r"(?:of|from|to|that|who|each|together|during|on|remaining|old)\b|\$\(")
_WORDS_BEFORE = re.compile(r"(?:\A|[A-Za-z=:,.\n]\s*)(?:\$+|\\[(\[])?\s*\Z")
_WORDS_AFTER = re.compile(r"\s*(?:\Z|[.,;]?\s*(?:\$|\\[)\]]|\Z|\s[A-Za-z]))")
# "The final answer is 5." after a box counts in its place.
_RESTATED = re.compile(
    r"(?i)[.$\])}]\s+(?:(?:#+ |\*\*)?final answer:?(?:\*\*)?:?\s+)?"
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


def final_answer(text: str, named: bool = True) -> str | None:
    """Return the content of the last `\\boxed{}`, or the rest of the line after the last `####`, whichever comes last.

    "" if that is empty; None if the text has no mark, or if the box is not closed. Finished reasoning is skipped. The
    outermost of nested boxes counts, and boxes joined by "or" or "and" are one answer. The formula that ends with a box
    is the answer: `x=5` for `x=\\boxed{5}`. Beside other text, the answer is marked as unsupported.
    `named`: whether names and units in the prose count, as they do not in a reference.
    """
    text = _INLINE.sub(r"$\1$", _shown(text))
    box, mark = _last_box(text), text.rfind("####")
    if box is not None and mark < box[0]:
        start, end, several, boxed = box
        if restated := _RESTATED.search(text, end):
            return restated[1]
        return boxed if not boxed else _around(_before(text, start), boxed, text[end:], several, named)
    if mark < 0:
        return None
    answer, _, after = text[mark + 4 : mark + 4 + 2 * LONGEST].strip().partition("\n")
    line, _, own = _before(text, mark).rpartition("\n")
    led: bool = not _UNFINISHED.search(_END.split(f"{line.rstrip()}\n")[-1])
    led = led and (not line.rstrip().endswith(":") or _led(line) is not None)
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


def _around(before: str, boxed: str, after: str, several: bool, named: bool) -> str:
    """Return a box's content with its formula and its unit. `several`: whether another box stands before it."""
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
    if not formula.strip() and prose.rstrip().endswith(("=", *("-−–±" if rest is after else ()))):
        formula = _FORMULA.search(_END.split(prose)[-1])[0].lstrip()  # type: ignore[index]
        prose = prose.rstrip()[: -len(formula.rstrip())]
        if formula.startswith("="):  # "Total = 3 + 4 ="
            prose, formula = f"{prose}=", formula[1:]
        elif "=" in formula and formula[0] in "-+*/^×·−–":  # "Total - 1 ="
            return _beside(boxed)
    if not unit and (beside := _BESIDE.match(rest)) and beside[1]:
        unit, rest = beside[1], rest[beside.end() :]
    if not unit and (found := _UNIT.match(rest)):
        for n in range(found[1].count(" ") + 1, 0, -1):
            words = found[1].split()[:n]
            power = found[2] or "" if n == found[1].count(" ") + 1 else ""
            follows = rest[found.start(1) + len(" ".join(words)) + len(power) :]
            measured = counted(" ".join(words)) or words in (["degrees"], ["percent"])
            if (measured or (scale(words[0]) and (n == 1 or counted(" ".join(words[1:]))))) and _closes(follows, True):
                unit, rest = f"\\text{{ {' '.join(words)}}}{power}", follows
                break
    led, chain = _led(prose, True, bool(unit) or boxed.startswith("\\$")), _chain(formula)
    if led is None or chain is None or not _closes(rest, bool(unit)) or (several and led[1] != "answer"):
        return _beside(boxed)
    (label, _, counts), (name, sign, numeric) = led, chain
    if counts and named and not unit and _NUMBER.fullmatch(boxed):
        unit = f"\\text{{ {counts}}}"
    numeric = numeric or bool(name and not _LETTER.search(name))  # f(1)+f(2)
    if (numeric and (label or unit or not named)) or (_COMPUTED.search(name) and not named):
        name, label = "", label or _VALUE  # "the sum is 1+2="
    label = label if named and not name and _SINGLE.fullmatch(boxed) else ""
    if sign or unit:
        boxed = f"{sign}{boxed if re.fullmatch(r'[A-Za-z0-9.]+', boxed) else f'({boxed})'}{unit}"
    return f"{label}{name}{boxed}"


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


def _balanced(formula: str) -> bool:
    """Whether each bracket of a formula is closed in it."""
    return all(formula.count(left) == formula.count(right) for left, right in ("()", "[]", "{}"))


def _led(prose: str, plain: bool = False, counted_after: bool = False) -> tuple[str, str, str] | None:
    """Return the name that a sentence gives to its answer, its noun, and what it counts; None if it may not lead to an
    answer. `plain`: whether any plain sentence may; it ends with a verb such as "is" unless a unit follows the answer.

    "The area is" gives `\\text{area}:`, "the value of x is" gives `x=`, and "we get" gives no name."""
    start, at = [0, 0, *(end.end() for end in _END.finditer(prose))][-2:]
    sentence = " ".join(_BULLET.sub("", prose[at:]).split())
    if _DOUBTED.search(prose[start:at]) or _CHANGED.search(_BOUND.sub(_described, sentence)):
        return None
    counts = ([""] + [word for of, word in _COUNTED.findall(sentence) if known(word) or (of and counted(word))])[-1]
    if plain and (said := _SO.match(sentence)) and _PLAIN_PROSE.match(said[1]):
        sentence = sentence[said.end() :]
    sentence = re.sub(r"(?i)\A(?:final )?answer(?::| (?=the )) *(?=\S)", "", sentence)
    lead = _LEAD.fullmatch(sentence)
    if lead is None and _HEADING.match(sentence):
        return "", "answer", ""
    noun = " ".join(word for word in ((lead and lead["noun"]) or "").lower().split() if word not in _EXACT)
    of = (lead and lead["of"]) or ""
    if lead and (len(of) == 1 or of[:1] == "$") and noun == "value":
        return f"{of.strip('$')}=", noun, ""
    if lead and (not of or ((counted(of) or of == "expression") and noun not in _PLAIN[:3])):
        label = " ".join(word for word in noun.split() if word not in _KINDS)
        return f"\\text{{{label}}}: " if label else "", noun, counts
    equals = sentence.endswith("=")
    sentence = sentence.rstrip("= ")
    joined = re.search(r"[\d$\\]", sentence) if equals else not _LEADS_ON.search(sentence) and _LAST.search(sentence)
    if not (equals or counted_after or not sentence or _VERB.search(sentence)):
        return None
    if not plain or joined or not _PLAIN_PROSE.match(sentence) or _ANSWER.search(sentence):
        return None
    named = list(dict.fromkeys(_NAMED.findall(sentence)))
    labels = " ".join(word.lower() for word, _, _ in named if word)
    letter = "".join(named[0][1:]) if len(named) == 1 else ""
    label = f"\\text{{{labels}}}: " if labels else f"{letter}=" if len(letter) == 1 else _VALUE
    return label if named or equals else "", "", counts


def _described(match: re.Match[str]) -> str:
    """Return what a noun is about without the words that may describe it."""
    return _DESCRIBING.sub("", match[0])


def _closes(after: str, noun: bool = False) -> bool:
    """Whether the text after an answer, or after the noun that it counts, leaves the answer as it is."""
    closing = _CLOSING.fullmatch(" ".join(after.replace("**", "").split())) if len(after) < LONGEST else None
    said = (closing and closing["said"]) or ""
    starts = not said or _FREE.match(said) or (noun and _COUNTING.match(said))
    if closing is None or not starts or (not noun and any(map(known, re.findall(r"\w{3,}", said)))):
        return False
    return not (_CHANGED.search(said) or _CHANGED_AFTER.search(re.sub(r"\$[^$]*\$", "", said)))


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
    if before and not _PROSE.search(text) and "\\begin" not in text and not text.startswith(("$$", "\\[")):
        return _beside(last)  # several answers, or a sum in several lines
    if _PROSE.search(last) or not (before.strip() and _PROSE.search(text)):
        formula = re.fullmatch(r"(?i)(?:so|thus|hence|therefore|then|finally),?\s+(\S.*)", last)
        return formula[1] if formula and not before.strip() else text or None
    return last if _led(f"{_before(before, len(before))}\n") is not None else _beside(last)
