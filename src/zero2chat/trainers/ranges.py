"""Ranges of settings that transformers and TRL accept unchecked. (Our own ranges are declared with their fields.)

For example, `max_steps: -5` counts as not set, and a negative learning rate increases the loss. Only settings that a
recipe sets are checked.
"""

from __future__ import annotations

from zero2chat.core.config import Range

_POSITIVE, _NOT_NEGATIVE, _COUNT, _SHARE = Range(above=0), Range(min=0), Range(min=1), Range(min=0, max=1)
RANGES = {
    "max_steps": Range(min=1, also=-1, why="-1 is for whole epochs"),
    "top_p": Range(above=0, max=1),
    **dict.fromkeys(("max_length", "max_completion_length", "num_generations", "num_iterations"), _COUNT),
    **dict.fromkeys(("steps_per_generation", "gradient_accumulation_steps"), _COUNT),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "save_total_limit"), _COUNT),
    **dict.fromkeys(("logging_steps", "save_steps", "eval_steps", "num_train_epochs"), _POSITIVE),
    **dict.fromkeys(("temperature", "adam_epsilon"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm"), _NOT_NEGATIVE),
    **dict.fromkeys(("beta", "epsilon", "epsilon_high"), _NOT_NEGATIVE),
    **dict.fromkeys(("min_p", "label_smoothing", "lmbda"), _SHARE),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Range(min=0, below=1)),
}
