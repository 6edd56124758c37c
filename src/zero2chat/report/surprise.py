"""Surprise: right answers after practice, and how improbable they were before."""

from __future__ import annotations

from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import cards, esc, lacks, paragraph, table
from zero2chat.report.steps import Points, Step, finite

TITLE = "Right, and nobody would have bet on it"
KEY = {
    "improbable_rate_1000000": "of right answers had less than one chance in a million before",
    "beyond_rate": "of right answers were less likely before than 99 in 100 right ones of that time",
    "unsolved_rate": "of right answers are to questions that it never got right before",
    "right_rate": "of its answers are right",
    "right_rate_reference": "of its answers were right before",
}
_LINES = {
    "after practice": "surprisal",
    "before it (control)": "surprisal_reference",
    "after, by the later model": "own_surprisal",
}


def chance(bits: object) -> str:
    """`1 in 2,300`, with two figures that count."""
    value = finite(bits)
    if value is None:
        return ""
    odds = 2.0**value
    return f"1 in {float(f'{odds:.2g}'):,.0f}" if odds >= 10 else f"1 in {odds:.1f}"


def _lines(step: Step, names: dict[str, str]) -> dict[str, Points]:
    return {label: step.curve(name) for label, name in names.items()}


def section(step: Step) -> str:
    text = paragraph(
        "Who only imitates plays the moves that a teacher would have played. The 37th move of AlphaGo's second game "
        "with Lee Sedol had, by its network of human games, one chance in ten thousand; practice against itself had "
        "found it, and the game was won. Here are the right answers of a model that has practised, as the model that "
        "it was before reads them: how probable did it find them?",
        "story",
    )
    text += cards(step, KEY)
    if step.history:
        text += gallery(
            curves(
                f"{step.anchor}-bits",
                "Bits of surprise to the model before practice, of so many in a hundred right answers at most; 10 bits "
                "are a chance of about one in a thousand. Its own right answers are the control: a long answer is "
                "improbable in any wording.",
                _lines(step, _LINES),
                "bits an answer",
                x="right answers, percent",
            ),
            curves(
                f"{step.anchor}-per-token",
                "The same for each token, so that longer answers are not more surprising for their length.",
                _lines(
                    step,
                    {"after practice": "surprisal_per_token", "before it (control)": "surprisal_per_token_reference"},
                ),
                "bits a token",
                x="right answers, percent",
            ),
        )
    else:
        text += lacks("history.jsonl", "curves are")
    text += "<h3>What practice made likely</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "answers are")
    rows = [
        (
            esc(s.get("prompt"), 300),
            esc(s.get("completion"), 400),
            chance(s.get("surprisal")),
            chance(s.get("own_surprisal")),
        )
        for s in step.samples
    ]
    text += paragraph(
        "The right answers whose chance has grown most, one a question. These were picked; the curves are of all.",
        "aside",
    )
    return text + table(("asked", "answered, and right", "before practice", "after"), rows)
