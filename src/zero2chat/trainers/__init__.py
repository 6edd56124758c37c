"""Trainers: subclasses of the trainers of transformers and TRL, and what these subclasses share.

A short import, such as `from zero2chat.trainers import PPOTrainer`, loads only this trainer's module.
"""

from importlib import import_module
from typing import Any

_SHORT = {"PPOConfig": "ppo.config", "PPOTrainer": "ppo.trainer"}


def __getattr__(name: str) -> Any:
    if name not in _SHORT:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_SHORT[name]}"), name)
