"""The section of surprise: correct completions after RL, and their probability before it."""

from __future__ import annotations

from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import cards, esc, lacks, paragraph, table
from zero2chat.report.steps import Points, Step, finite

TITLE = "Right, and nobody would have bet on it"
KEY = {
    "improbable_rate_1000000": "of correct answers had a probability below 1 in a million before training",
    "beyond_rate": "of correct answers were less likely before than 99 of 100 correct answers of that model",
    "unsolved_rate": "of correct answers are to questions never answered correctly before",
    "right_rate": "of answers are correct",
    "right_rate_reference": "of answers were correct before training",
}
_LINES = {
    "after practice": "surprisal",
    "before it (control)": "surprisal_reference",
    "after, by the later model": "own_surprisal",
}


def chance(bits: object) -> str:
    """Format a probability as `1 in 2,300`, with two significant digits."""
    value = finite(bits)
    if value is None:
        return ""
    odds = 2.0**value
    return f"1 in {float(f'{odds:.2g}'):,.0f}" if odds >= 10 else f"1 in {odds:.1f}"


def _lines(step: Step, names: dict[str, str]) -> dict[str, Points]:
    return {label: step.curve(name) for label, name in names.items()}


def section(step: Step) -> str:
    text = paragraph(
        "A model that only imitates plays the moves that its teacher would have played. Move 37 of AlphaGo's second "
        "game against Lee Sedol had a probability of one in ten thousand under its network of human games; self-play "
        "had found it, and AlphaGo won. Here the correct answers of a model after RL are scored by the model from "
        "before RL: how probable did it find them?",
        "story",
    )
    text += cards(step, KEY)
    if step.history:
        text += gallery(
            curves(
                f"{step.anchor}-bits",
                "Surprisal of correct answers under the model from before training, by percentile; 10 bits are a "
                "probability of about one in a thousand. Its own correct answers are the control: a long answer is "
                "improbable in any wording.",
                _lines(step, _LINES),
                "bits per answer",
                x="percentile of correct answers",
            ),
            curves(
                f"{step.anchor}-per-token",
                "The same per token, so that longer answers do not have more surprisal only by their length.",
                _lines(
                    step,
                    {"after practice": "surprisal_per_token", "before it (control)": "surprisal_per_token_reference"},
                ),
                "bits per token",
                x="percentile of correct answers",
            ),
        )
    else:
        text += lacks("history.jsonl", "curves are")
    text += "<h3>Answers that training made likely</h3>\n"
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
        "The correct answers whose probability grew most, one per question. These are selected; the curves show all.",
        "aside",
    )
    return text + table(("question", "correct answer", "probability before", "after"), rows)
