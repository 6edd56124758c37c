"""Trainers: subclasses of transformers' and TRL's, and what they share.

Short imports, such as `from zero2chat.trainers import PPOTrainer`, load a trainer's module when it is first named.
"""

from importlib import import_module
from typing import Any

_SHORT = {"PPOConfig": "ppo.config", "PPOTrainer": "ppo.trainer"}


def __getattr__(name: str) -> Any:
    if name not in _SHORT:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_SHORT[name]}"), name)
