"""TRL's SFTTrainer on rows with an assistant mask; packing works with any attention."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel
from transformers.utils import is_flash_attn_2_available
from transformers.utils.generic import is_flash_attention_requested
from trl import ModelConfig, SFTConfig, SFTTrainer

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.packing import PackedRows
from zero2chat.models.hardware import is_on_cpu
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.start import unmasked_layers
from zero2chat.trainers.trainer import LossTrainer


class SftTrainer(LossTrainer, SFTTrainer):
    """With `muon`, trains with Muon; `embedding_lr` is the embedding's learning rate under Muon."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        muon: bool = False,
        embedding_lr: float | None = None,
        **more: Any,
    ):
        args.assistant_only_loss = False  # TRL makes the labels from the rows' own `assistant_masks`
        args.chat_template_path = None  # already applied; TRL would add the tokens of another tokenizer
        optimizer = use_muon(model, args, embedding_lr) if muon else None
        super().__init__(model=model, args=args, optimizer_cls_and_kwargs=optimizer, **more)
        if not args.packing:
            return
        if not is_flash_attention_requested(self.model.config):
            self.data_collator = PackedRows(self.processing_class.pad_token_id)
        if is_main_process():
            rows, kernel = len(self.train_dataset), model.config._attn_implementation
            print(f"packed into {rows:,} rows; attention: {kernel}", flush=True)


def choose_attention(model_args: ModelConfig, training: SFTConfig, evaluates: bool) -> bool:
    """Choose FlashAttention for packed rows, if possible, and return whether it was chosen. It skips attention between
    conversations. It cannot run in fp32, so it is not chosen if training `evaluates` tasks, which takes fp32."""
    can_be_flash = training.bf16 and not evaluates and not is_on_cpu() and is_flash_attn_2_available()
    if not (training.packing and model_args.attn_implementation is None and can_be_flash):
        return False
    model_args.attn_implementation = "flash_attention_2"
    return True


def require_packable(model: PreTrainedModel) -> None:
    """Raises `UserError` if the model has layers that would read across packed conversations, despite the mask."""
    if others := ", ".join(unmasked_layers(model)):
        raise UserError(
            f"packing: the model's layers of type {others} would read across conversations: set `packing: false`"
        )
