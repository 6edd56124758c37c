"""The section of PPO: reward and KL to the starting model, the gold reward, and answers before and after."""

from __future__ import annotations

import math

from zero2chat.report.evaluate import scores_part
from zero2chat.report.figures import (
    charts,
    curves,
    entropy_figure,
    history_curves,
    length_figure,
    reward_figure,
)
from zero2chat.report.parts import answers, opening
from zero2chat.report.steps import Points, StepResult

TITLE = "Learning to be liked"
KEY = {
    "win_rate": "win rate against the starting model",
    "gold_gain": "gain in gold reward, in standard deviations",
    "gold_before": "gold reward before training",
    "gold_after": "gold reward after training",
    "gold_peak": "highest mean of the reward `gold` in the evaluations during training",
    "kl_peak": "nats per completion: KL at that peak",
    "gold_lost": "lost of it from that peak to the end",
    "kl": "nats per completion: KL from the starting model",
    "stopped_at": "step at which the KL budget was reached",
    "unscored_completions": "completions without any reward",
    "best_step": "step of the checkpoint that was kept",
}
STORY = (
    "The reward model now replaces the people: the model answers, the reward model scores, and answers with higher "
    "scores become more likely. That works as long as the reward model judges correctly. Far from its training data "
    "it prefers answers that nobody likes, so a KL penalty limits the distance."
)


def held_out(step: StepResult, name: str, in_deviations: bool = False) -> Points:
    """Return (√KL, mean reward `name`) of the evaluations on held-out prompts, in order.

    `in_deviations` gives the gain since the first one, in standard deviations of the answers then.
    """
    kls = dict(step.curve("eval_kl_sequence"))
    means, spreads = (step.curve(f"eval_rewards/{name}/{kind}") for kind in ("mean", "std"))
    first, spread = (means[0][1], spreads[0][1]) if means and spreads and in_deviations else (0.0, 1.0)
    return [(math.sqrt(max(kls[at], 0.0)), (y - first) / (spread or 1.0)) for at, y in means if at in kls]


def section(step: StepResult) -> str:
    names = [key.split("/")[1] for key in step.curves("eval_rewards/.+/mean")]
    gains = {name: held_out(step, name, in_deviations=True) for name in names}
    gain = "Gain of each reward on held-out prompts, by KL from the starting model. A star marks a peak."
    clipped = "Tokens whose log-ratio was clipped, and completions that were truncated at the length limit."
    shares = {"clipped": "clip_ratio/region_mean", "truncated": "completions/clipped_ratio"}
    figures = charts(
        step,
        curves(f"{step.anchor}-limits", gain, gains, "standard deviations", x="√KL, nats"),
        reward_figure(step),
        history_curves(step, "kl_sequence", "KL from the starting model.", "KL, nats per completion"),
        history_curves(step, "explained_variance", "Explained variance of the value model (1 is perfect).", "share"),
        history_curves(step, "clipped", clipped, "share", shares, percent=True),
        length_figure(step),
        entropy_figure(step),
    )
    return opening(step, STORY, KEY) + figures + scores_part(step) + answers(step, "Before and after")
