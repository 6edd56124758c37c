"""Direct preference optimisation: how often the model prefers what people do, and what that does to both answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import cards, lacks, paragraph
from zero2chat.report.reward import accuracy_bars, pairs_table
from zero2chat.report.steps import Step, finite

TITLE = "Learning to prefer"
KEY = {
    "accuracy": "of unseen pairs preferred as people did",
    "accuracy_before": "in which the model before thought people's choice likelier",
    "accuracy_length": "judged right by length alone",
    "margin": "of implicit reward between the two answers",
    "chosen_change": "nats: how the preferred answer's log-probability moved",
    "rejected_change": "nats: how the other's moved",
    "pairs_train": "comparisons learned from",
}
_BARS = {"accuracy": "implicit reward", "accuracy_before": "likelier before", "accuracy_length": "length alone"}


def _given(sample: Mapping[str, Any], side: str) -> list[str]:
    reward = finite(sample.get(f"reward_{side}"))
    return [f"implicit reward {reward:+.2f}"] if reward is not None else []


def section(step: Step) -> str:
    text = paragraph(
        "Comparisons can teach the model itself. Of two answers the preferred one is made likelier beside the other, "
        "measured by how far each has moved from where the model began. No reward model stands between, and no "
        "answer is sampled. Often both become less likely, the worse one more so: only their distance is learned.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        accuracy_bars(step, _BARS, "Held-out pairs judged as people did, with 95% intervals."),
        curves(f"{step.anchor}-loss", "Loss: 0.69 is a coin's.", {"training": step.curve("loss")}, "loss"),
        curves(
            f"{step.anchor}-margins",
            "Implicit rewards of training pairs: the preferred answers', the others', and between them.",
            {
                "preferred": step.curve("rewards/chosen"),
                "other": step.curve("rewards/rejected"),
                "margin": step.curve("rewards/margins"),
            },
            "implicit reward",
        ),
    )
    if not step.history:
        text += lacks("history.jsonl", "the curves are")
    text += "<h3>Pairs and their implicit rewards</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "pairs are")
    story = "The first held-out pairs; none was picked. Above 0 an answer has become likelier."
    return text + paragraph(story, "aside") + pairs_table(step, _given)
