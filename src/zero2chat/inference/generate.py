"""Answers to many prompts at once: each rank answers its share, with tools where they are at hand, and all get all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.errors import UserError
from zero2chat.inference.fast_generate import fast_sample
from zero2chat.inference.tool_calls import Unfolding
from zero2chat.inference.tool_format import CallFormat, Tools
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import neutral


@dataclass
class Answer:
    text: str  # with calls: what was said after the last one
    stopped: bool  # ended by itself, not by the length limit
    tokens: int  # that the model drew
    calls: int = 0
    whole: str = ""  # with calls: all of it, with what the tools said
    ids: list[int] = field(default_factory=list)  # all that follows the prompt, the token that ended it included


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[Mapping[str, str]]], tools: Tools | None = None
) -> list[list[int]]:
    """The ids of each conversation up to where an answer begins. Control tokens in a message are neutralised."""
    safe = [neutral(messages, tokenizer) for messages in prompts]
    ids: list[list[int]] = tokenizer.apply_chat_template(
        safe, tools=tools.schemas if tools else None, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return ids


@torch.inference_mode()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 128,
    seed: int = 0,
    tools: Tools | None = None,
) -> list[Answer]:
    """An answer to each conversation, in order; greedy at temperature 0. Global random state is left as it was.

    With `tools` generation pauses at a call, the tool runs, and generation goes on, as in a chat; `max_new_tokens` is
    then the most between two calls. Every rank must call it; each answers its share, and all get all. Control tokens in
    a message are neutralised. Raises `UserError` for a question that the context cannot hold, a model or tokenizer
    without end or padding, and tools where weights are sharded.
    """
    state = PartialState()
    if tokenizer.pad_token_id is None:
        raise UserError("the tokenizer has no pad token: set pad_token and save the tokenizer")
    ends = model.generation_config.eos_token_id
    if ends is None or ends == []:
        raise UserError("the model has no EOS token: set eos_token_id in its generation_config.json")
    ends = set(ends if isinstance(ends, list) else [ends])
    written = CallFormat(tools, tokenizer, ends) if tools else None
    if written:
        ends = written.ends
    encoded = encode_prompts(tokenizer, prompts, tools)
    room = context_length(model)
    if max(map(len, encoded)) >= room:
        raise UserError(f"a question of {max(map(len, encoded))} tokens does not fit the model's context of {room}")
    batches = _batches(encoded, range(len(encoded)), max_new_tokens, room, batch_size)
    # Weights that FSDP has sharded come together in each forward pass, which all ranks must then make as often.
    sharded = state.num_processes > 1 and any(isinstance(p, DTensor) for p in model.parameters())
    if sharded and tools:
        raise UserError("tools: sharded weights cannot generate with tool calls: use ddp or zero2")
    if sharded:
        batches += [batches[-1]] * (-len(batches) % state.num_processes)
    generation = GenerationConfig(
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_k=0 if temperature else None,
        eos_token_id=sorted(written.stops if written else ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    turns = [Unfolding(ids, tokenizer, written, room) for ids in encoded]
    mine = batches[state.process_index :: state.num_processes]
    asked = {i for batch in mine for i in batch}
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed * 1_000_003 + state.process_index)
        while mine:
            for batch in mine:
                inputs = tokenizer.pad(
                    {"input_ids": [turns[i].ids for i in batch]}, padding_side="left", return_tensors="pt"
                ).to(model.device)
                length = inputs["input_ids"].shape[1]
                generation.max_new_tokens = min(max_new_tokens, room - len(turns[batch[0]].ids))
                # Said, for under ZeRO-3, where weights are whole here, the default waits for ranks with fewer batches.
                output = model.generate(
                    **inputs,
                    generation_config=generation,
                    synced_gpus=sharded,
                    custom_generate=None if sharded else partial(fast_sample, synced_gpus=False),
                )[:, length:].tolist()
                for i, ids in zip(batch, output, strict=True):
                    turns[i].read(ids, ends)
            called = [i for batch in mine for i in batch if turns[i].goes_on]
            mine = _batches([turn.ids for turn in turns], called, max_new_tokens, room, batch_size)
    model.train(was_training)
    everyones = dict(gather_object([(i, _answer(turns[i], tokenizer)) for i in sorted(asked)]))
    return [everyones[i] for i in range(len(encoded))]


def _answer(turn: Unfolding, tokenizer: PreTrainedTokenizerBase) -> Answer:
    ids = turn.ids[turn.prompt :]
    whole = tokenizer.decode(ids) if turn.made else ""
    ended = [] if turn.end is None else [turn.end]
    return Answer(turn.text, turn.end is not None, sum(turn.mask), turn.made, whole, ids + ended)


def _batches(
    contexts: Sequence[Sequence[int]], chosen: Collection[int], max_new_tokens: int, room: int, batch_size: int
) -> list[list[int]]:
    """The chosen contexts by number. Alike lengths share a batch, the longest first: less padding, and memory runs out
    at once or never."""
    order = sorted(chosen, key=lambda i: (-len(contexts[i]), i))
    # And alike limits: near the context's end a longer neighbour would cut the answer short.
    alike = [list(rows) for _, rows in groupby(order, key=lambda i: min(max_new_tokens, room - len(contexts[i])))]
    return [rows[start : start + batch_size] for rows in alike for start in range(0, len(rows), batch_size)]


def answer_each(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    k: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int = 128,
    seed: int = 0,
    tools: Tools | None = None,
) -> list[list[Answer]]:
    """k answers to each conversation, as `answer` gives one."""
    asked = [prompt for prompt in prompts for _ in range(k)]
    found = answer(model, tokenizer, asked, max_new_tokens, temperature, batch_size, seed, tools)
    return [found[i * k : (i + 1) * k] for i in range(len(prompts))]
