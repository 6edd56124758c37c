"""Select the best checkpoint by what evaluations of held-out prompts measure.

With several reward models (some may have weight 0), the log has the lowest of their means as `reward_worst`. With
`metric_for_best_model: reward_worst`, `load_best_model_at_end: true` and `early_stopping_patience`, training stops when
it no longer rises, and the best evaluated checkpoint is kept (the starting model does not count). This selection always
uses validation rows, whatever `held_out` says.
"""

from __future__ import annotations

from zero2chat.core.errors import UserError
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.ppo.rewards import Rewards


def check_selection(training: PPOConfig, rewards: Rewards) -> None:
    """Raises `UserError` if the best model's metric or checkpoint would be missing.

    Fewer than two reward models with a scale to compare them have no worst one.
    """
    selects = training.load_best_model_at_end and training.eval_strategy != "no"
    if training.early_stopping_patience is not None and not selects:
        raise UserError("early_stopping_patience: set eval_strategy, metric_for_best_model and load_best_model_at_end")
    if training.metric_for_best_model is None and not training.load_best_model_at_end:
        return
    measured = ["reward", "reward_worst", *(f"rewards/{name}/mean" for name in rewards.names)]
    metric = str(training.metric_for_best_model).removeprefix("eval_")
    if metric not in measured:
        raise UserError(f"metric_for_best_model: '{metric}' is not one of {', '.join(measured)}")
    if training.save_strategy == "steps" and training.save_steps != training.eval_steps:
        raise UserError(
            f"save_steps {training.save_steps:g} and eval_steps {training.eval_steps:g} differ: the best model might "
            "not be saved: set them to the same value"
        )
    if metric == "reward_worst" and len(rewards.known_scales) < 2:
        raise UserError(
            "metric_for_best_model: reward_worst needs two or more reward models with a saved score scale, as the "
            f"stage `reward` writes them; found {len(rewards.known_scales)}: add another to rewards, with weight 0"
        )
