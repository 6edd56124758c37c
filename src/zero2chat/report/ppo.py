"""RLHF: how reward and the distance from the start went, whether taste followed, and lines before and after."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Step

TITLE = "Learning to be liked"
KEY = {
    "win_rate": "of its answers better than the start model's",
    "gold_gain": "gain in true taste, in standard deviations",
    "gold_before": "true taste before",
    "gold_after": "true taste after",
    "kl": "nats an answer from where it began",
    "stopped_at": "the step at which its KL budget was spent",
    "answers_left_out": "answers that no reward function judged",
}


def section(step: Step) -> str:
    text = paragraph(
        "The reward model now stands in for people: the model answers, the reward model gives a mark, and what was "
        "marked higher becomes likelier. People are asked no more. That goes well as long as the reward model is "
        "right about what it sees; led too far from where it learned, it likes what nobody does. So distance costs.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(f"{step.anchor}-reward", "Reward on prompts being learned from.", step.rewards(), "mean reward"),
        curves(
            f"{step.anchor}-kl",
            "Distance from where it began.",
            {"KL": step.curve("kl_sequence")},
            "KL, nats an answer",
        ),
        curves(
            f"{step.anchor}-value",
            "How much of the differences in reward the value foresaw: 1 is all.",
            {"explained variance": step.curve("explained_variance")},
            "share",
        ),
        curves(
            f"{step.anchor}-clipped",
            "Tokens whose ratio left the range, and answers that reached the length limit.",
            {"clipped": step.curve("clip_ratio/region_mean"), "cut": step.curve("completions/clipped_ratio")},
            "share",
            percent=True,
        ),
        length_figure(step),
        entropy_figure(step),
    )
    if not step.history:
        text += lacks("history.jsonl", "curves are")
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    return text + "<h3>Before and after</h3>\n" + answers(step)
