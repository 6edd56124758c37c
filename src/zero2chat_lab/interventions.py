"""Interventions on a model: heads are switched off, and hidden states exchanged. The weights stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from zero2chat.core.errors import UserError
from zero2chat_lab.inside_numbers import final_norm

_OUTPUTS = ("self_attn.o_proj", "attn.c_proj")  # of Qwen and Llama, GPT-2


class Asked(NamedTuple):
    """A text and its answer; where the answer's tokens already stand in the text; tokens that the answer competes with,
    by default the whole vocabulary; and positions of hidden states, by name."""

    ids: list[int]
    answer: list[int]
    source: int = 0
    other: Sequence[int] = ()
    places: Mapping[str, list[int]] = MappingProxyType({})


class Parts:
    """A model's parts that hooks are set on. Raises `UserError` for a model whose parts do not have the usual names."""

    def __init__(self, path: str, model: PreTrainedModel):
        if getattr(model, "_hf_peft_config_loaded", False) or getattr(model, "is_quantized", False):
            raise UserError(f"{path}: an adapter or a quantized model: give whole weights (`zero2chat export --merge`)")
        stack, head = final_norm(model), model.get_output_embeddings()
        named = [dict(layer.named_modules()) for layer in stack[0]] if stack else []
        self.outputs = [layer[name] for layer in named for name in _OUTPUTS if name in layer]
        if stack is None or head is None or len(self.outputs) != len(named):
            raise UserError(f"{path}: unknown module names: expected layers with {' or '.join(_OUTPUTS)}, then a norm")
        self.model, (self.layers, self.norm), self.head = model, stack, head
        model.set_attn_implementation("eager")  # the only one that returns attentions
        self.heads = model.config.get_text_config().num_attention_heads
        self._states = dict[tuple[int, ...], list[Tensor]]()  # of texts that are exchanged many times

    def without(self, heads: Sequence[tuple[int, int]]) -> ExitStack:
        """Within the block, these heads (layer and head, counted from 0) write nothing: the output projection reads
        zeros in their place."""

        def silence(head: int, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            split = inputs[0].unflatten(-1, (self.heads, -1)).clone()
            split[..., head, :] = 0
            return (split.flatten(-2), *inputs[1:])

        stack = ExitStack()
        for layer, head in heads:
            stack.enter_context(self.outputs[layer].register_forward_pre_hook(partial(silence, head)))
        return stack

    def patched(self, layer: int, states: Sequence[Tensor], places: Sequence[list[int]]) -> RemovableHandle:
        """Within the block, row i of a batch has these hidden states at these places, after `layer` layers."""

        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0].clone()
            for row, (state, place) in enumerate(zip(states, places, strict=True)):
                hidden[row, place] = state
            return (hidden, *inputs[1:])

        return [*self.layers, self.norm][layer].register_forward_pre_hook(hook)

    @torch.no_grad()
    def logits(self, rows: Sequence[Asked]) -> list[Tensor]:
        """Return, for each row, the logits at the positions that predict its answer's tokens."""
        texts = [torch.tensor(row.ids + row.answer, device=self.model.device) for row in rows]
        ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)  # a causal model does not see what follows a text
        states = zip(self.model.base_model(input_ids=ids, use_cache=False)[0], rows, strict=True)
        return [self.head(state[len(row.ids) - 1 : len(row.ids) + len(row.answer) - 1]) for state, row in states]

    def says(self, rows: Sequence[Asked]) -> list[bool]:
        """Whether the likeliest tokens (greedy decoding) are exactly the answer."""
        return [logits.argmax(-1).tolist() == row.answer for logits, row in zip(self.logits(rows), rows, strict=True)]

    @torch.no_grad()
    def states(self, ids: list[int]) -> list[Tensor]:
        """Return a text's hidden states after 0, 1, … layers, without the last: transformers has it after the norm."""
        if tuple(ids) not in self._states:
            tokens = torch.tensor([ids], device=self.model.device)
            output = self.model.base_model(input_ids=tokens, output_hidden_states=True, use_cache=False)
            self._states[tuple(ids)] = [state[0] for state in output.hidden_states[:-1]]
        return self._states[tuple(ids)]

    def changed(self, pairs: Sequence[tuple[Asked, Asked]], layer: int, place: str) -> list[bool]:
        """Whether the second text gets the first text's answer, if it has the first text's hidden states there."""
        states = [self.states(one.ids)[layer][one.places[place]] for one, _ in pairs]
        with self.patched(layer, states, [other.places[place] for _, other in pairs]):
            return self.says([Asked(other.ids, one.answer) for one, other in pairs])

    @torch.no_grad()
    def scores(self, rows: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """Return each head's mean attention (layers, heads) from the position before each token of the answer to that
        token's place in the text, and its mean direct effect on the token's logit, relative to that of `other`: what
        the final norm and the LM head lose without the head's output, if the other layers do not change."""
        attention, effect = torch.zeros(2, len(self.layers), self.heads, device=self.model.device)
        seen, own = dict[int, Tensor](), torch.eye(self.heads, device=self.model.device)[:, :, None]
        mean, n = self.head.weight.mean(0), sum(len(row.answer) for row in rows)
        for row in rows:
            tokens = torch.tensor([row.ids + row.answer], device=self.model.device)
            with ExitStack() as stack:
                for i, part in enumerate([*self.outputs, self.norm]):
                    hook = partial(lambda i, _, inputs: seen.update({i: inputs[0][0]}), i)
                    stack.enter_context(part.register_forward_pre_hook(hook))
                output = self.model(input_ids=tokens, output_attentions=True, use_cache=False)
            for i, token in enumerate(row.answer):
                at = len(row.ids) - 1 + i
                direction = self.head.weight[token] - (self.head.weight[row.other[i]] if row.other else mean)
                for layer, part in enumerate(self.outputs):
                    alone = (own * seen[layer][at].unflatten(0, (self.heads, -1))).flatten(1)
                    rest = seen[len(self.layers)][at] - part(alone) + part(torch.zeros_like(alone))
                    effect[layer] += (self.norm(seen[len(self.layers)][at]) - self.norm(rest)) @ direction / n
                    attention[layer] += output.attentions[layer][0, :, at, row.source + i] / n
        return attention, effect
