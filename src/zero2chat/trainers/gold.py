"""GOLD: on-policy distillation from a teacher with another tokenizer (Patiño et al. 2025, "General On-Policy Logit
Distillation", after Boizard et al. 2024, arXiv:2402.12030), with TRL's experimental loss.

The teacher reads the student's answer as text, in its own tokens and its own chat template. Where both tokenizations
end at the same byte, the tokens since the last such place are a group, and the distributions of two groups are
compared: tokens of both vocabularies by the generalised divergence of GKD, the others sorted by probability.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DistillationTrainer
from trl.experimental.gold.gold_trainer import ULDLoss
from trl.experimental.utils import encode_with_byte_offsets, is_byte_level_tokenizer, piece_byte_len
from trl.models import prepare_deepspeed

from zero2chat.errors import UserError

_NO_LABEL = -100
Offsets = list[tuple[int, int]]  # of each token: where its bytes start and end in the answer


class _Row(NamedTuple):
    """The student's answer in the teacher's tokens, after the prompt in the teacher's template."""

    prompt: list[int]
    answer: list[int]
    offsets: Offsets
    student_offsets: Offsets  # of as many of the student's tokens as are whole text


def check_tokenizers(*tokenizers: PreTrainedTokenizerBase) -> None:
    """Raises `UserError` if a tokenizer's tokens are not bytes, as those of SentencePiece."""
    for tokenizer in tokenizers:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not is_byte_level_tokenizer(backend):
            raise UserError(
                f"{tokenizer.name_or_path}: not a byte-level BPE tokenizer, which distillation across tokenizers "
                "needs: use a teacher with the student's tokenizer, or `zero2chat distill`"
            )


def bytes_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[str, Offsets]:
    """Return an answer's text without special tokens, and the bytes of each token in it, of special ones none.

    Tokens after the last whole character are left out, as when an answer was cut within one.
    """
    special = set(tokenizer.all_special_ids)
    ends = [0]
    for token in ids:
        ends.append(ends[-1] + (0 if token in special else piece_byte_len(tokenizer.convert_ids_to_tokens(token))))
    for n in range(len(ids), -1, -1):
        text = tokenizer.decode(ids[:n], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if len(text.encode()) == ends[n] and not text.endswith("\ufffd"):  # what stands for broken characters
            return text, list(pairwise(ends[: n + 1]))
    raise AssertionError("an empty answer has an empty text")


class GoldTrainer(DistillationTrainer):
    """TRL's DistillationTrainer with a teacher of another tokenizer. What ends the student's turn is, for the teacher,
    the end of its own."""

    def __init__(
        self, *args: Any, other_teacher: PreTrainedModel, teacher_tokenizer: PreTrainedTokenizerBase, **kwargs: Any
    ) -> None:
        super().__init__(*args, teacher_model=None, **kwargs)
        if self.is_deepspeed_enabled:
            self.teacher_model = prepare_deepspeed(other_teacher, self.accelerator)
        else:
            self.teacher_model = self.accelerator.prepare_model(other_teacher, evaluation_mode=True)
        self._of_teacher = teacher_tokenizer
        ends = other_teacher.generation_config.eos_token_id
        self._teacher_end = ends[0] if isinstance(ends, list) else ends or teacher_tokenizer.eos_token_id
        settings = SimpleNamespace(
            beta=self.beta,
            use_extended_uld=True,
            uld_token_merge_strategy="bayesian",  # the chain rule
            uld_use_hybrid_loss=True,
            uld_hybrid_matched_weight=1.0,
            uld_hybrid_unmatched_weight=1.0,
            uld_crossentropy_weight=0.0,
            uld_distillation_weight=1.0,
            uld_student_temperature=self.temperature,
            uld_teacher_temperature=self.temperature,
            uld_skip_student_eos=False,
            uld_skip_teacher_eos=False,
        )
        self._loss = ULDLoss(settings, self._tokenizer, teacher_tokenizer)
        self._match_ends()

    def _match_ends(self) -> None:
        """Make the teacher's end of turn the student's, whatever their texts are."""
        loss, end = self._loss, self._tokenizer.eos_token_id
        mapping = {a: b for a, b in loss._vocab_mapping.items() if b != end and a != self._teacher_end}
        mapping[self._teacher_end] = end
        loss._vocab_mapping = mapping
        loss._teacher_matched_ids, loss._student_matched_ids = set(mapping), set(mapping.values())
        loss.mapping_tensor = torch.full((max(mapping) + 1,), -1)
        for a, b in mapping.items():
            loss.mapping_tensor[a] = b
        loss.mapping_tensor = loss.mapping_tensor.to(self.accelerator.device)

    def _for_teacher(self, prompt: list[dict[str, str]], ids: list[int]) -> _Row:
        finished = bool(ids) and ids[-1] in self.eos_token_ids
        text, student_offsets = bytes_of(self._tokenizer, ids)
        ((answer, offsets),) = encode_with_byte_offsets(self._of_teacher.backend_tokenizer, [text])
        if finished:  # both ends have no bytes, so they are a group of their own
            answer, offsets = [*answer, self._teacher_end], [*offsets, (len(text.encode()),) * 2]
        given = self._of_teacher.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        return _Row(given, answer, offsets, student_offsets)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Generate, and add what the teacher reads as tensors of one row for each answer."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(1).tolist()
        rows = [
            self._for_teacher(one["prompt"], ids[:n])
            for one, ids, n in zip(inputs, output["completion_ids"].tolist(), lengths, strict=True)
        ]
        before, after = (max(len(getattr(row, part)) for row in rows) for part in ("prompt", "answer"))
        width = output["completion_ids"].shape[1]
        shape = (len(rows), before + max(after, 1))
        ids = torch.full(shape, self._of_teacher.pad_token_id or 0)
        mask, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, _NO_LABEL)
        offsets, own = torch.zeros(*shape, 2, dtype=torch.long), torch.zeros(len(rows), width, 2, dtype=torch.long)
        whole = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            end = before + len(row.answer)
            ids[i, before - len(row.prompt) : end] = torch.tensor([*row.prompt, *row.answer])
            mask[i, before - len(row.prompt) : end] = 1
            if row.answer:
                labels[i, before:end] = ids[i, before:end]
                offsets[i, before:end] = torch.tensor(row.offsets)
            if row.student_offsets:
                own[i, : len(row.student_offsets)] = torch.tensor(row.student_offsets)
                whole[i, : len(row.student_offsets)] = 1
        found = {"teacher_ids": ids, "teacher_mask": mask, "teacher_labels": labels, "teacher_offsets": offsets}
        found |= {"offsets": own, "whole": whole}
        return output | {name: tensor.to(self.accelerator.device) for name, tensor in found.items()}

    def _compute_loss(
        self, unwrapped_student: PreTrainedModel, inputs: dict[str, Tensor], num_items_in_batch: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return GOLD's loss, and the sum and the count of the entropies of the student's tokens, as TRL's does."""
        answer, kept = inputs["completion_ids"], inputs["completion_mask"]
        width = answer.shape[1]
        student = unwrapped_student(
            input_ids=torch.cat([inputs["prompt_ids"], answer], dim=1),
            attention_mask=torch.cat([inputs["prompt_mask"], kept], dim=1),
            logits_to_keep=width + 1,
            use_cache=False,
        ).logits.float()  # (rows, 1 + answer, vocabulary): the first predicts the answer's first token
        self.teacher_model.eval()
        with torch.no_grad():
            teacher = self.teacher_model(
                input_ids=inputs["teacher_ids"], attention_mask=inputs["teacher_mask"], use_cache=False
            ).logits.float()
        first = inputs["prompt_ids"][:, -1:]
        ids = torch.cat([first, answer], dim=1)
        labels = torch.cat([torch.full_like(first, _NO_LABEL), answer.masked_fill(inputs["whole"] == 0, _NO_LABEL)], 1)
        offsets = torch.cat([torch.zeros_like(inputs["offsets"][:, :1]), inputs["offsets"]], dim=1)
        loss = self._loss(
            student,
            teacher,
            labels,
            inputs["teacher_labels"],
            ids,
            inputs["teacher_ids"],
            student_byte_offsets=offsets,
            teacher_byte_offsets=inputs["teacher_offsets"],
        )
        chances = torch.log_softmax(student.detach()[:, :-1], dim=-1)
        entropies = -(chances.exp() * chances).sum(-1) * kept
        # A mean over the answers of one pass: the trainer adds up the passes of a step.
        return loss.mean() / self.current_gradient_accumulation_steps, entropies.sum(), kept.sum()
