"""GOLD: on-policy distillation from a teacher with another tokenizer, with the loss of TRL's experimental GOLDTrainer.

The teacher reads the student's answer as text, in its own tokens and chat template. Where the tokens of both end at
the same byte, those since the last such place are a group. The distributions of the two groups are compared: over the
tokens that both vocabularies have by the generalised divergence of GKD, and over the others sorted by probability
(universal logit distillation, Boizard et al. 2024, arXiv:2402.12030). Every answer counts as much as another.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DistillationTrainer
from trl.experimental.gold.gold_trainer import ULDLoss
from trl.models import prepare_deepspeed

from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import control_ids, plain_ids, token_bytes

_NO_LABEL = -100
Offsets = list[tuple[int, int]]  # of each token: where its bytes start and end in the answer


class Spelling:
    """The text of ids, and the bytes of each token in it.

    Raises `UserError` if the tokenizer is not a byte-level BPE, whose tokens are bytes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer, self._table = tokenizer, token_bytes(tokenizer)
        self._control = control_ids(tokenizer)

    def offsets(self, ids: list[int]) -> Offsets:
        return list(pairwise([0, *accumulate(len(self._table[i]) for i in ids)]))

    def text(self, ids: list[int]) -> tuple[str, int]:
        """Return the text of the first ids, and how many they are.

        It ends before the first control token, because that is no text, and before a character of which only some
        bytes are there.
        """
        plain = [i < len(self._table) and bool(self._table[i]) and i not in self._control for i in ids]
        ids = ids[: plain.index(False)] if False in plain else ids
        data = b"".join(self._table[i] for i in ids)
        try:
            return data.decode(), len(ids)
        except UnicodeDecodeError as error:
            whole = sum(end <= error.start for _, end in self.offsets(ids))
            return b"".join(self._table[i] for i in ids[:whole]).decode(), whole

    def read(self, text: str) -> list[int] | None:
        """Return the ids of a text, in which control tokens are characters; None if its normaliser changes the
        text."""
        (ids,) = plain_ids(self._tokenizer, [text])
        return ids if b"".join(self._table[i] for i in ids) == text.encode() else None


class Divergence(ULDLoss):
    """TRL's loss, whose divergence has its minimum where student and teacher agree.

    The distributions of groups do not sum to 1, and those of the tokens of both vocabularies do not either. The KL
    divergence of such is ∑ p log(p / q) - p + q. Without the last two terms, which TRL leaves out, the minimum is
    elsewhere; between `beta` 0 and 1 they cancel out.
    """

    def _compute_jsd_loss_for_matched_tokens(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        loss: Tensor = super()._compute_jsd_loss_for_matched_tokens(student_logits, teacher_logits)
        surplus = (student_logits - teacher_logits).sum() / max(len(student_logits), 1)
        return loss + {0: surplus, 1: -surplus}.get(self.beta, 0.0)


class _Row(NamedTuple):
    """What the teacher reads: the prompt in its template, and the answer, with the offsets of both models' tokens."""

    prompt: list[int]
    answer: list[int]
    offsets: Offsets
    student_offsets: Offsets


class GoldTrainer(DistillationTrainer):
    """TRL's DistillationTrainer with a teacher of another tokenizer, whose EOS is what ends its turns."""

    def __init__(
        self, *args: Any, other_teacher: PreTrainedModel, teacher_tokenizer: PreTrainedTokenizerBase, **kwargs: Any
    ) -> None:
        super().__init__(*args, teacher_model=None, **kwargs)
        self._room = context_length(other_teacher)
        if self.is_deepspeed_enabled:
            self.teacher_model = prepare_deepspeed(other_teacher, self.accelerator)
        else:
            self.teacher_model = self.accelerator.prepare_model(other_teacher, evaluation_mode=True)
        self._of_teacher = teacher_tokenizer
        self._spelled, self._spelled_by_teacher = Spelling(self._tokenizer), Spelling(teacher_tokenizer)
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
        self._loss = Divergence(settings, self._tokenizer, teacher_tokenizer)
        self._pair_ends()

    def _pair_ends(self) -> None:
        """Pair the two tokens that end a turn, whatever their names are."""
        ends = (self._of_teacher.eos_token_id, self._tokenizer.eos_token_id)
        loss = self._loss
        mapping = {a: b for a, b in loss._vocab_mapping.items() if a != ends[0] and b != ends[1]} | dict([ends])
        loss._vocab_mapping = mapping
        loss._teacher_matched_ids, loss._student_matched_ids = set(mapping), set(mapping.values())
        table = torch.full((max(mapping) + 1,), -1)
        table[list(mapping)] = torch.tensor(list(mapping.values()))
        loss.mapping_tensor = table.to(self.accelerator.device)

    def _for_teacher(self, prompt: list[dict[str, str]], ids: list[int]) -> _Row:
        """An answer that the teacher cannot read is empty, and one that is too long for it is cut."""
        kwargs = self.chat_template_kwargs
        given = self._of_teacher.apply_chat_template(prompt, add_generation_prompt=True, **kwargs)["input_ids"]
        text, n = self._spelled.text(ids)
        answer = self._spelled_by_teacher.read(text)
        if answer is None:
            return _Row(given, [], [], [])
        own, offsets = self._spelled.offsets(ids[:n]), self._spelled_by_teacher.offsets(answer)
        if n < len(ids) and ids[n] in self.eos_token_ids:  # the ends have no bytes, so they are a group of their own
            end = (len(text.encode()),) * 2
            answer, own, offsets = [*answer, self._of_teacher.eos_token_id], [*own, end], [*offsets, end]
        if (room := self._room - len(given)) < len(answer):
            answer, offsets = answer[:room], offsets[:room]
            bytes_read = offsets[-1][1] if offsets else 0
            own = [one for one in own if one[1] <= bytes_read]
        return _Row(given, answer, offsets, own)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Generate, and add what the teacher reads as tensors with one row for each answer."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(1).tolist()
        rows = [
            self._for_teacher(one["prompt"], ids[:n])
            for one, ids, n in zip(inputs, output["completion_ids"].tolist(), lengths, strict=True)
        ]
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["unread"].append(sum(not row.offsets for row in rows) / len(rows))
        before, after = max(len(row.prompt) for row in rows), max(1, *(len(row.answer) for row in rows))
        labels = torch.full((len(rows), after), _NO_LABEL)
        ids = torch.full((len(rows), before + after), self._of_teacher.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        offsets = torch.zeros(len(rows), after, 2, dtype=torch.long)
        own = torch.zeros(*output["completion_ids"].shape, 2, dtype=torch.long)
        compared = torch.zeros_like(own[..., 0])
        for i, row in enumerate(rows):
            start, end = before - len(row.prompt), before + len(row.answer)
            ids[i, start:end], mask[i, start:end] = torch.tensor([*row.prompt, *row.answer]), 1
            if row.answer and row.student_offsets:
                labels[i, : len(row.answer)] = torch.tensor(row.answer)
                offsets[i, : len(row.answer)] = torch.tensor(row.offsets)
                own[i, : len(row.student_offsets)] = torch.tensor(row.student_offsets)
                compared[i, : len(row.student_offsets)] = 1
        found = {"teacher_ids": ids, "teacher_mask": mask, "teacher_labels": labels, "teacher_offsets": offsets}
        found |= {"offsets": own, "compared": compared}
        return output | {name: tensor.to(self.accelerator.device) for name, tensor in found.items()}

    def _compute_loss(
        self, unwrapped_student: PreTrainedModel, inputs: dict[str, Tensor], num_items_in_batch: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return GOLD's loss, and the sum and the count of the entropies of the student's tokens, as TRL's does."""
        answer, kept = inputs["completion_ids"], inputs["completion_mask"]
        student = unwrapped_student(
            input_ids=torch.cat([inputs["prompt_ids"], answer], dim=1),
            attention_mask=torch.cat([inputs["prompt_mask"], kept], dim=1),
            logits_to_keep=answer.shape[1] + 1,
            use_cache=False,
        ).logits.float()  # (rows, 1 + answer, vocabulary): the first predicts the answer's first token
        labels, offsets = inputs["teacher_labels"], inputs["teacher_offsets"]
        ids = inputs["teacher_ids"][:, -labels.shape[1] - 1 :]
        self.teacher_model.eval()
        with torch.no_grad():
            teacher = self.teacher_model(
                input_ids=inputs["teacher_ids"],
                attention_mask=inputs["teacher_mask"],
                logits_to_keep=ids.shape[1],
                use_cache=False,
            ).logits.float()
        loss = self._loss(
            student,
            teacher,
            _after_prompt(answer.masked_fill(inputs["compared"] == 0, _NO_LABEL), _NO_LABEL),
            _after_prompt(labels, _NO_LABEL),
            _after_prompt(answer, 0),
            ids,
            student_byte_offsets=_after_prompt(inputs["offsets"], 0),
            teacher_byte_offsets=_after_prompt(offsets, 0),
        )
        chances = torch.log_softmax(student.detach()[:, :-1], dim=-1)
        entropies = -(chances.exp() * chances).sum(-1) * kept
        # A mean over the answers of one pass: the trainer adds up the passes of a step.
        return loss.mean() / self.current_gradient_accumulation_steps, entropies.sum(), kept.sum()


def _after_prompt(values: Tensor, fill: int) -> Tensor:
    """Put the place of the prompt's last token, whose logits predict the answer's first one, before an answer's
    values."""
    return torch.cat([torch.full_like(values[:, :1], fill), values], dim=1)
