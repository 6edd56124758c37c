"""Fast rollouts: a lean decode loop behind `model.generate`.

It serves Qwen3 and Llama models on a CPU. On a small model `generate` loses time: at batch size 64, half of it in
`torch.multinomial`, which draws a random number for each row *and token of the vocabulary*; at batch size 1, in the
many small operations between the matrix products. Here each row uses one random number (inverse transform), weights are
read directly, products of the same input are fused, oneDNN multiplies, equal prompts are processed once, keys and
values go into a buffer, and finished rows leave the batch. Within `reusing_cache`, the next turn of a conversation
processes only its new tokens. The weights are read again at each call, so that no optimizer step is missed. On a GPU,
copied weights and full-length buffers would cost memory: use vLLM there.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation import EosTokenCriteria, GenerationMode, MaxLengthCriteria
from transformers.generation.utils import GENERATION_MODES_MAPPING
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module

from zero2chat.core.errors import UserError
from zero2chat.models.thinking import EndThoughts
from zero2chat.models.weights import NotReadable, is_supported, read_layer, read_linear, read_norm, read_table

# These processors use each row's scores independently, so rows may leave the batch and move. (A repetition penalty
# stores one number per row.)
_PROCESSORS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper, EndThoughts)
_CRITERIA = (MaxLengthCriteria, EosTokenCriteria)
# Arguments of `generate`, besides generation config settings, that `fast_sample` handles.
_INPUTS = {"inputs", "input_ids", "attention_mask", "generation_config", "logits_processor", "stopping_criteria"}
# The generation settings that say what a token is, not how one is chosen
_TOKENS = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"}


class _Cache(NamedTuple):
    """The keys and values of a finished call."""

    ids: torch.Tensor  # (rows, columns): the tokens that they belong to, without padding on the left; -1 after them
    starts: torch.Tensor  # (rows,): each row's padding in `keys` and `values`
    keys: list[torch.Tensor]  # of each layer: (rows, key heads, columns, head dim)
    values: list[torch.Tensor]


# Holds at most one cache, of the last call. None outside of `reusing_cache`.
_last: ContextVar[list[_Cache] | None] = ContextVar("_last", default=None)


@contextlib.contextmanager
def reusing_cache(active: bool = True) -> Iterator[None]:
    """Within the block, `fast_sample` computes only what follows the longest prefix that each row shares with a row of
    the call before: the new tokens of a conversation's next turn. All calls must have the same model and weights, and
    prompts padded on the left. One call's keys and values stay in memory until the block ends.
    """
    token = _last.set([] if active else None)
    try:
        yield
    finally:
        _last.reset(token)


@contextlib.contextmanager
def without_own_settings(model: PreTrainedModel) -> Iterator[None]:
    """Keep only special tokens of the model's own generation settings; restore the settings afterwards.

    Otherwise `generate` would take settings that its caller leaves unset, such as `min_p`, from the model's
    `generation_config.json`.
    """
    settings = vars(model.generation_config)  # in place: an adapter shares its base's
    its_own = dict(settings)
    settings.update({name: None for name in its_own if name not in _TOKENS and not name.startswith("_")})
    try:
        yield
    finally:
        settings.clear()
        settings.update(its_own)


def use_fast_rollouts(model: PreTrainedModel) -> None:
    """Make `model.generate` use `fast_sample` from now on, without the model's own generation settings. Pass the bare
    model, before a trainer or PEFT wraps it.

    Greedy tokens stay the same up to rounding; sampling keeps its distribution but draws other samples. `generate`
    handles whatever `fast_sample` cannot.

    - Training mode: decoding works as in `eval()`, without dropout. Gradient checkpointing and autocast have no effect,
      because no module's forward is called. Weights are used in their own precision.
    - PEFT: plain LoRA works. Models with any other adapter fall back to `generate`'s own loop.
    - DDP, ZeRO-1 and ZeRO-2: weights are complete. ZeRO-3: TRL's `unwrap_model_for_generation` gathers them. Outside of
      that, and under FSDP, generation falls back, with synchronized ranks.
    """
    # A bound method, unlike a closure, follows a `deepcopy` of the model.
    model.generate = types.MethodType(_generate, model)


def _generate(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
    known = _INPUTS | vars(GenerationConfig()).keys()
    if len(args) <= 2 and all(key in known or value is None for key, value in kwargs.items()):
        kwargs["custom_generate"] = fast_sample
    with without_own_settings(self):  # a rollout is drawn from the policy that is trained
        return type(self).generate(self, *args, **kwargs)


def fast_sample(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    synced_gpus: bool | None = None,
    **model_kwargs: Any,
) -> Any:
    """Decode greedily or sample, for `generate(custom_generate=fast_sample)`; returns prompts with completions.

    Shapes are `generate`'s: (rows, prompt length) in, left-padded; (rows, prompt length + longest completion) out,
    padded after an EOS token. Samples use torch's global generator. Generation falls back to transformers' own loop for
    other architectures, other devices, adapters other than LoRA, sharded or quantized weights, and for features that it
    lacks: beams, returned scores, an existing cache, other stopping criteria or logits processors.
    """
    mode = generation_config.get_generation_mode()
    mask = model_kwargs.get("attention_mask")
    decoder = None
    if (
        input_ids.device.type == "cpu"
        and mode in (GenerationMode.SAMPLE, GenerationMode.GREEDY_SEARCH)
        and not generation_config.return_dict_in_generate
        and all(type(processor) in _PROCESSORS for processor in logits_processor)
        and all(type(criterion) in _CRITERIA for criterion in stopping_criteria)
        and stopping_criteria.max_length is not None
        and input_ids.numel() > 0
        and (mask is None or mask.shape == input_ids.shape)
        and not getattr(model_kwargs.get("cache"), "_is_user_defined", False)
    ):
        decoder = _read(model, rows=len(input_ids))
    if decoder is None:
        # `generate` does not tell a custom loop whether ranks must stay synchronized. If the caller does not either,
        # apply the rule of `generate`.
        if synced_gpus is not None:
            model_kwargs["synced_gpus"] = synced_gpus
        elif torch.distributed.is_initialized() and (is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model)):
            model_kwargs["synced_gpus"] = torch.distributed.get_world_size() > 1
        return getattr(type(model), GENERATION_MODES_MAPPING[mode])(
            model,
            input_ids,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            **model_kwargs,
        )
    ends = next((c.eos_token_id for c in stopping_criteria if isinstance(c, EosTokenCriteria)), None)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return _decode(
            decoder,
            input_ids,
            None if mask is None or mask.all() else mask.bool(),
            logits_processor,
            max(1, stopping_criteria.max_length - input_ids.shape[1]),
            ends,
            generation_config,
        )


def draw_tokens(scores: torch.Tensor) -> torch.Tensor:
    """Sample one token per row from the softmax of fp32 scores (rows, vocabulary), by inverse transform.

    A token's probability is exact to 2⁻²⁴, the precision of fp32. A score of -inf has probability 0.
    """
    shares = scores.softmax(-1).cumsum(-1)
    # u < 1 and the rounded u · total < total, so there is always a share above it.
    u = torch.rand(len(scores), 1, device=scores.device) * shares[:, -1:]
    return torch.searchsorted(shares, u, right=True).squeeze(1)


def _decode(
    decoder: _Decoder,
    prompts: torch.Tensor,
    mask: torch.Tensor | None,
    processors: LogitsProcessorList,
    steps: int,
    ends: torch.Tensor | None,
    config: GenerationConfig,
) -> torch.Tensor:
    """Run the decode loop. `mask`: (rows, prompt length), or None without padding; `ends`: EOS tokens, if any."""
    rows, length = prompts.shape
    ids = prompts.new_empty(rows, length + steps)
    ids[:, :length] = prompts
    # The row at each place of the batch. When rows finish, later ones take their places.
    row = torch.arange(rows)
    alive = torch.ones(rows, dtype=torch.bool)
    last = _last.get()
    logits = decoder.prefill(prompts, mask, length + steps, last.pop() if last else None)
    # Rows that left the batch stay in the places after it. `columns`: how many of each place have keys and values.
    order, keys, values, columns = row, [*decoder.keys], [*decoder.values], torch.empty_like(row)
    if config.do_sample and not logits.isfinite().all():
        raise UserError("the model's logits are not finite, so no token can be sampled: lower the learning rate")
    for end in range(length, length + steps):
        scores = logits.float()
        if processors:
            scores = processors(ids[row, :end], scores)
        tokens = draw_tokens(scores) if config.do_sample else scores.argmax(-1)
        ids[row, end] = tokens
        if end + 1 == length + steps:
            break
        if ends is not None:
            alive &= (tokens[:, None] != ends).all(-1)
            left = int(alive.sum())
            if left == 0:
                break
            # Moving rows has a cost too: only move if at least a sixteenth of them are finished.
            if (len(row) - left) * 16 >= len(row):
                places = alive[left:].nonzero().squeeze(1) + left, (~alive[:left]).nonzero().squeeze(1)
                columns[left : len(row)] = decoder.length
                decoder.move(*places, left)
                row, tokens = (_moved(tensor, *places, left) for tensor in (row, tokens))
                alive = torch.ones_like(row, dtype=torch.bool)
        logits = decoder.step(tokens)
    ids = ids[:, : end + 1]
    if last is not None:
        columns[: len(row)] = decoder.length
        starts = (torch.zeros_like(order) if mask is None else length - mask.sum(1))[order]
        at = torch.arange(end + 1) + starts[:, None]
        read = ids[order].gather(1, at.clamp(max=end)).masked_fill(at >= columns[:, None], -1)
        last.append(_Cache(read, starts, keys, values))
    if ends is not None:
        completions = ids[:, length:]
        is_end = torch.isin(completions, ends).long()
        # After its first EOS token a row may hold further samples from before it left the batch: mask them.
        after = is_end.cumsum(1) > is_end
        longest = int((~after).sum(1).max())
        pad = config.pad_token_id if config._pad_token_tensor is None else config._pad_token_tensor
        completions.masked_fill_(after, pad)
        ids = ids[:, : length + longest]
    return ids


def _moved(tensor: torch.Tensor, source: torch.Tensor, target: torch.Tensor, left: int) -> torch.Tensor:
    """Return the first `left` rows, after exchanging rows `source` and `target` in place."""
    tensor[torch.cat([target, source])] = tensor[torch.cat([source, target])]
    return tensor[:left]


def _read(model: PreTrainedModel, rows: int) -> _Decoder | None:
    """Return the decoder; None for unsupported architectures, or sharded, quantized or mixed-precision weights."""
    dtype = model.get_input_embeddings().weight.dtype
    weights = [p for name, p in model.named_parameters() if "lora_" not in name]
    if not is_supported(model) or any((p.device.type, p.dtype) != ("cpu", dtype) for p in weights):
        return None
    try:
        return _Decoder(model, rows)
    except NotReadable:
        return None


class _Decoder:
    """The current weights of a model, and the keys and values of one rollout."""

    def __init__(self, model: PreTrainedModel, rows: int):
        """Raises `NotReadable` if the weights are not complete and dense."""
        config, body = model.config, model.model
        self.eps, self.dim = config.rms_norm_eps, body.layers[0].self_attn.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.rotary = body.rotary_emb
        self.embedding, self.norm = read_table(body.embed_tokens), read_norm(body.norm)
        self.head = read_linear([model.lm_head], rows)
        self.layers = [read_layer(layer, self.heads, self.kv_heads, rows) for layer in body.layers]

    def prefill(
        self, prompts: torch.Tensor, mask: torch.Tensor | None, capacity: int, last: _Cache | None = None
    ) -> torch.Tensor:
        """Process the prompts (rows, length), equal ones once, without the columns that `last` knows in every row.
        Returns the logits (rows, vocabulary) after them."""
        rows, length = prompts.shape
        dtype = self.embedding.dtype
        seen = prompts if mask is None else torch.cat([prompts, mask.long()], 1)
        _, back, counts = seen.unique(dim=0, return_inverse=True, return_counts=True)
        # The first of each group of equal rows.
        first = torch.sort(back, stable=True).indices[counts.cumsum(0) - counts]

        cos, sin = self.rotary(self.embedding[:1], torch.arange(capacity)[None])
        cos, sin = cos[0], sin[0]
        # x · cos + rotate_half(x) · sin, where rotate_half negates the first half: the sign goes into sin.
        sin = torch.cat([-sin[:, : self.dim // 2], sin[:, self.dim // 2 :]], -1)
        self.cos, self.sin = cos[:, None], sin[:, None]  # (position, 1, head dim)
        self.positions: torch.Tensor | None = None  # (rows,): of the next token; None if it is `length` in every row
        self.bias: torch.Tensor | None = None  # (rows, 1, 1, capacity), on attention's scores
        if mask is not None:
            self.bias = torch.zeros(rows, 1, 1, capacity, dtype=dtype)
            self.bias[..., :length].masked_fill_(~mask[:, None, None], -torch.inf)
            self.positions = mask.sum(1)
        prompts, real = prompts[first], torch.ones(1, length, dtype=torch.bool) if mask is None else mask[first]
        self.keys, self.values = (
            [torch.empty(len(first), self.kv_heads, length, self.dim, dtype=dtype) for _ in self.layers] for _ in "kv"
        )
        self.length = start = 0 if last is None else self._reuse(last, prompts, length - real.sum(1))
        bias = None
        if mask is not None or start:
            # Padding attends to itself, because a softmax over nothing would be NaN.
            eye = torch.eye(length, dtype=torch.bool)
            visible = torch.ones_like(eye).tril()[start:] & (real[:, None, None] | eye[start:])
            bias = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -torch.inf)
        positions = (real.cumsum(1) - 1).clamp(min=0)[:, start:]
        logits = self._forward(prompts[:, start:], self.cos[positions], self.sin[positions], bias)
        # Memory that is never written to is not allocated on a CPU.
        for caches in (self.keys, self.values):
            for i, few in enumerate(caches):
                many = few.new_empty(rows, self.kv_heads, capacity, self.dim)
                many[:, :, :length] = few[back]
                caches[i] = many
        return logits[back]

    def _reuse(self, last: _Cache, prompts: torch.Tensor, padding: torch.Tensor) -> int:
        """Copy keys and values from `last`, which is emptied, to the first columns. Returns the number of columns: so
        many are padding, or known, in every row."""
        length, places, start = prompts.shape[1], [], prompts.shape[1] - 1
        padding = padding.expand(len(prompts))
        for ids, n in zip(prompts, padding.tolist(), strict=True):
            width = min(length - n, last.ids.shape[1])
            common, place = (last.ids[:, :width] == ids[n : n + width]).cumprod(1).sum(1).max(0)
            places.append(place)
            start = min(start, n + int(common))
        place = torch.stack(places)
        # Keys are rotated by position, which does not count padding. What is copied to padding is finite and masked.
        at = (torch.arange(start) + (last.starts[place] - padding)[:, None]).clamp(min=0)
        for new, old in ((self.keys, last.keys), (self.values, last.values)):
            for one in new:
                one[:, :, :start] = old.pop(0).transpose(1, 2)[place[:, None], at].transpose(1, 2)
        return start

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Process one token per row. Returns the logits (rows, vocabulary) after it."""
        if self.positions is None or self.bias is None:
            position, bias = slice(self.length, self.length + 1), None
            cos, sin = self.cos[None, position], self.sin[None, position]
        else:
            cos, sin = self.cos[self.positions][:, None], self.sin[self.positions][:, None]
            bias = self.bias[..., : self.length + 1]
            self.positions += 1
        return self._forward(tokens[:, None], cos, sin, bias)

    def move(self, source: torch.Tensor, target: torch.Tensor, left: int) -> None:
        """Keep the first `left` rows in the batch, after exchanging rows `source` and `target`."""
        for caches in (self.keys, self.values):
            for i, cache in enumerate(caches):
                _moved(cache[:, :, : self.length], source, target, left)
                caches[i] = cache[:left]
        if self.positions is not None and self.bias is not None:
            self.positions = _moved(self.positions, source, target, left)
            self.bias = _moved(self.bias, source, target, left)

    def _forward(
        self, ids: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) after ids (rows, n); `cos`, `sin`: (rows or 1, n, 1, dim); `bias`: of attention."""
        rows, n = ids.shape
        start, self.length = self.length, self.length + n
        dim, heads, rotated = self.dim, self.heads, self.heads + self.kv_heads
        x = F.embedding(ids, self.embedding)
        width = (x.shape[-1],)
        for layer, keys, values in zip(self.layers, self.keys, self.values, strict=True):
            qkv = layer.qkv(F.rms_norm(x, width, layer.norm1, self.eps)).view(rows, n, -1, dim)
            qk = qkv[:, :, :rotated]
            if layer.qk_norm is not None:
                qk = F.rms_norm(qk, (dim,), None, self.eps) * layer.qk_norm
            qk = torch.addcmul(qk * cos, qk.roll(dim // 2, -1), sin)
            keys[:, :, start : self.length] = qk[:, :, heads:].transpose(1, 2)
            values[:, :, start : self.length] = qkv[:, :, rotated:].transpose(1, 2)
            k, v = keys[:, :, : self.length], values[:, :, : self.length]
            if n == 1:
                # All query heads of a key head side by side, as if they were positions.
                q = qk[:, 0, :heads].unflatten(1, (self.kv_heads, -1))
                y = F.scaled_dot_product_attention(q, k, v, bias)
            else:
                q, grouped = qk[:, :, :heads].transpose(1, 2), heads > self.kv_heads
                y = F.scaled_dot_product_attention(q, k, v, bias, is_causal=bias is None, enable_gqa=grouped).transpose(
                    1, 2
                )
            x = x + layer.o(y.reshape(rows, n, heads * dim))
            gate, up = layer.gate_up(F.rms_norm(x, width, layer.norm2, self.eps)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        return self.head(F.rms_norm(x[:, -1], width, self.norm, self.eps))
