"""Novelty: does a base model copy its training text, or recombine it?

    zero2chat run recipes/claims --only novelty

Reads a model and its training corpus. Prompts the model many times with the first tokens of held-out documents, and
samples continuations. Measures how many samples are distinct, the share of n-grams that do not occur in the training
text, and the longest run copied from it. The true continuations of the held-out documents are the control: text that
somebody else wrote (McCoy et al. 2021, arXiv:2111.09509).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.inference.fast_generate import fast_sample
from zero2chat.inference.generate import complete, generating
from zero2chat.models.tokenization import plain_ids
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.memorization import check_fits, copied_runs, start_of_document
from zero2chat_lab.shared import DocumentArguments

_SHOWN = 4  # prompts shown, with as many samples each


@dataclass
class NoveltyArguments(DocumentArguments):
    prompts: Annotated[int, Range(min=1)] = field(
        default=32, metadata={"help": "Held-out documents whose beginnings are the prompts."}
    )
    prefix: Annotated[int, Range(min=1)] = field(default=8, metadata={"help": "Prompt length in tokens."})
    samples: Annotated[int, Range(min=2)] = field(default=32, metadata={"help": "Samples per prompt."})
    max_new_tokens: Annotated[int, Range(min=1)] = 64
    temperature: Annotated[float, Range(above=0, why="temperature 0 would not sample")] = 1.0
    lengths: list[int] = field(default_factory=lambda: [2, 4, 8, 16], metadata={"help": "N-gram lengths in tokens."})
    n: int = field(default=500, metadata={"help": "Held-out documents for the control."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < self.prompts:
            raise ValueError(f"n {self.n} is below prompts {self.prompts}: raise n")
        for length in self.lengths:
            if not 1 <= length <= self.max_new_tokens:
                raise ValueError(f"lengths: {length}: expected 1 to max_new_tokens ({self.max_new_tokens})")


def measure(args: NoveltyArguments, load: Load) -> Result:
    """Return the metrics, and the first samples of the first prompts. Every rank must call this.

    `longest_run` is the mean length of the longest copied run of tokens, and `longest_run_of_all` its maximum. Metrics
    with `_held_out` are the control's. Samples of one prompt are correlated, so intervals are over prompts, and over
    documents for the control.
    """
    model, tokenizer = load(args.model_name_or_path)
    start = start_of_document(tokenizer)
    check_fits(model, tokenizer, prefix=args.prefix, max_new_tokens=args.max_new_tokens)
    train = plain_ids(tokenizer, args.rows("train")[args.column][:])
    texts = list(args.held_out_texts())
    random.Random(f"novelty {args.seed}").shuffle(texts)
    # One document per prompt: documents of one form may have the same beginning.
    documents = {tuple(ids[: args.prefix]): ids for ids in plain_ids(tokenizer, texts) if len(ids) > args.prefix}
    if len(documents) < args.prompts:
        raise UserError(
            f"{args.dataset}: {len(documents)} held-out documents have distinct {args.prefix}-token beginnings, but "
            f"prompts is {args.prompts}: lower prompts or prefix"
        )
    control = [ids[args.prefix :][: args.max_new_tokens] for ids in list(documents.values())[: args.n]]
    prompts = list(documents)[: args.prompts]
    outputs = draw(model, tokenizer, [[*start, *prompt] for prompt in prompts], args)
    written = [sample for some in outputs for sample in some]
    copied = copied_runs(written + control, train)
    by_prompt = [copied[i : i + args.samples] for i in range(0, len(written), args.samples)]

    distinct = [len(set(map(tuple, some))) / args.samples for some in outputs]
    metrics: Metrics = {"distinct_rate": stats.rate(sum(distinct), len(prompts), args.seed)}
    for suffix, groups in (("", by_prompt), ("_held_out", [[runs] for runs in copied[len(written) :]])):
        for size in args.lengths:
            grams = [sum(max(0, len(runs) - size + 1) for runs in group) for group in groups]
            old = [sum(int((runs >= size).sum()) for runs in group) for group in groups]
            if sum(grams):
                novel = [all_ - some for all_, some in zip(grams, old, strict=True)]
                metrics[f"novel_rate_{size}{suffix}"] = stats.ratio(novel, grams, args.seed)
        whole = [sum(0 < len(runs) == _longest(runs) for runs in group) / len(group) for group in groups]
        longest = [[_longest(runs) for runs in group] for group in groups]
        metrics[f"verbatim_rate{suffix}"] = stats.rate(sum(whole), len(groups), args.seed)
        metrics[f"longest_run{suffix}"] = stats.mean([sum(some) / len(some) for some in longest], args.seed)
        metrics[f"longest_run_of_all{suffix}"] = {"value": max(map(max, longest)), "n": sum(map(len, groups))}
    samples = [
        {"prompt": tokenizer.decode(prompt), "completion": tokenizer.decode(sample), "longest_run": _longest(runs)}
        for prompt, some, group in zip(prompts[:_SHOWN], outputs, by_prompt, strict=False)
        for sample, runs in zip(some[:_SHOWN], group, strict=False)
    ]
    return Result(metrics, samples)


def _longest(runs: np.ndarray) -> int:
    return int(runs.max(initial=0))


def draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], args: NoveltyArguments
) -> list[list[list[int]]]:
    """Sample continuations of each prompt, up to the end of the document. Each rank samples its share."""
    state = PartialState()
    end = tokenizer.eos_token_id
    settings = GenerationConfig(
        do_sample=True,
        temperature=args.temperature,
        top_k=0,
        max_new_tokens=args.max_new_tokens,
        eos_token_id=end,
        pad_token_id=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    outputs = []
    with generating(model, args.seed * 1_000_003 + state.process_index):
        for i in range(state.process_index, len(prompts), state.num_processes):
            written = complete(model, [prompts[i]] * args.samples, settings, custom_generate=fast_sample)
            outputs.append((i, [[token for token in row if token != end] for row in written]))
    everyones = dict(gather_object(outputs))
    return [everyones[i] for i in range(len(prompts))]


STAGE = Stage(
    name="novelty",
    story="Whether the samples of a base model copy its training text or are new.",
    kind="answers",
    arguments=(NoveltyArguments,),
    measure=measure,
    section=Section(
        title="It remixes what it read",
        story="The model continues the same prompt many times, and each sample is a new draw from its distribution. "
        "Short n-grams of its samples occur in the training text, as they do in anybody's text; longer ones are new "
        "combinations. Held-out documents are the control: they show how novel other people's text is.",
        metrics={
            "distinct_rate": "of samples from one prompt are distinct",
            "novel_rate_8": "of 8-grams of tokens do not occur in the training text",
            "verbatim_rate": "of samples occur verbatim in the training text",
            "longest_run": "tokens: longest run copied from the training text",
        },
        figures=(
            Bars(
                "Share of n-grams of tokens that do not occur in the training text, by n.",
                {"the model": r"novel_rate_(\d+)", "held-out text": r"novel_rate_(\d+)_held_out"},
                "novel_rate",
            ),
        ),
        samples=SampleTable(
            "One prompt, many samples",
            columns={
                "prompt": "prompt",
                "continuation": "completion",
                "longest run copied from the training text": "longest_run",
            },
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
