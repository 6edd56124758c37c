"""All private parts of TRL that `PPOTrainer` uses. `tests/contracts` checks that they still work as expected.

No other file in this package imports from TRL.
"""

from __future__ import annotations

from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration
from trl.models import prepare_deepspeed, unwrap_model_for_generation
from trl.models.utils import add_hooks, remove_hooks
from trl.trainer.base_config import _BaseConfig as BaseConfig
from trl.trainer.base_trainer import _BaseTrainer as BaseTrainer
from trl.trainer.utils import RepeatSampler, disable_dropout_in_model, identity

__all__ = [
    "BaseConfig",
    "BaseTrainer",
    "DistributedBackend",
    "RepeatSampler",
    "VLLMGeneration",
    "add_hooks",
    "disable_dropout_in_model",
    "identity",
    "is_conversational",
    "parse_response",
    "prepare_deepspeed",
    "remove_hooks",
    "unwrap_model_for_generation",
]
