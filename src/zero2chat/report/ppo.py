"""RLHF: how reward and the distance from the start went, whether taste followed, and lines before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zero2chat.report import probe
from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Points, Step

TITLE = "Learning to be liked"
KEY = {
    "win_rate": "of its answers better than the start model's",
    "gold_gain": "gain in true taste, in standard deviations",
    "gold_before": "true taste before",
    "gold_after": "true taste after",
    "kl": "nats an answer from where it began",
    "stopped_at": "the step at which its KL budget was spent",
    "answers_left_out": "answers that no reward function judged",
    "best_step": "the step whose model was kept",
}


def held_out(step: Step, name: str, in_deviations: bool = False) -> Points:
    """(√KL, mean reward `name`) of the evaluations on held-out prompts, in their order.

    `in_deviations` gives the gain since the first one, in standard deviations of the answers then.
    """
    kls = dict(step.curve("eval_kl_sequence"))
    means, spreads = (step.curve(f"eval_rewards/{name}/{kind}") for kind in ("mean", "std"))
    first, spread = (means[0][1], spreads[0][1]) if means and spreads and in_deviations else (0.0, 1.0)
    return [(math.sqrt(max(kls[at], 0.0)), (y - first) / (spread or 1.0)) for at, y in means if at in kls]


def together(steps: Sequence[Step]) -> tuple[str, str] | None:
    """How far each reward model could be followed, by PPO and by picking the best of n: a title and its content.

    True taste is the reward with the label `gold`.
    """
    led = {step.name: held_out(step, "gold") for step in steps if step.stage == "ppo"}
    picked = {step.name: probe.best_of_n(step, "gold") for step in steps if step.stage == "probe"}
    led, picked = ({name: line for name, line in lines.items() if line} for lines in (led, picked))
    if len(led) < 2:
        return None
    text = paragraph(
        "Each model below was led by a reward model. True taste, which none of them was shown, is drawn over the "
        "distance from the start; a star marks where a line turned down.",
        "story",
    )
    caption = "True taste on held-out prompts, by distance from the start: {}."
    return "Followed too far", text + gallery(
        curves("limits-ppo", caption.format("PPO"), led, "taste", x="√KL, nats"),
        curves("limits-best-of-n", caption.format("best of n"), picked, "taste", x="√KL, nats"),
    )


def section(step: Step) -> str:
    text = paragraph(
        "The reward model now stands in for people: the model answers, the reward model gives a mark, and what was "
        "marked higher becomes likelier. People are asked no more. That goes well as long as the reward model is "
        "right about what it sees; led too far from where it learned, it likes what nobody does. So distance costs.",
        "story",
    )
    text += cards(step, KEY)
    names = [name.removeprefix("eval_") for name in step.curves("eval_rewards/.+/mean")]
    text += gallery(
        curves(
            f"{step.anchor}-limits",
            "Held-out prompts: gain of each reward over the distance from the start; a star where a line turned down.",
            {name.split("/")[1]: held_out(step, name.split("/")[1], in_deviations=True) for name in names},
            "standard deviations",
            x="√KL, nats",
        ),
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
