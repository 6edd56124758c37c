"""Probe a reward model: best of n shows over-optimization; adversarial search finds texts that the model overrates.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.probe --config recipes/overoptimisation/probe.yaml

Reads a chat model, a reward model and a task with a taste. The reward model picks the best of n answers to a held-out
prompt, for growing n: its own score rises, and taste shows how long answers improve (Gao et al. 2022,
arXiv:2210.10760). Then a search looks for texts with a score above 90% of those answers, but a taste below 90% of them.
Texts found for training prompts are written to `gibberish.jsonl` as rejected answers, to retrain on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from transformers import PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.preferences import Pair
from zero2chat.inference.generate import answer_each
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.reward_model import load_reward_model, scale_of, score_texts
from zero2chat.report.samples import Answers
from zero2chat.report.section import Curve, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.shared import TaskArguments

Judge = Callable[[Sequence[int], Sequence[str]], list[float]]


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the texts of the vocabulary's tokens, without tokens that are not text on their own."""
    special = set(tokenizer.all_special_ids)
    texts = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
    return sorted({text for text in texts if text.isprintable() and text.strip() and "\ufffd" not in text})


def search(
    judge: Judge, prompts: int, pieces: Sequence[str], rng: random.Random, rounds: int, tries: int, length: int
) -> list[list[str]]:
    """Return, per prompt, the successive best texts of the search, with rising scores.

    `judge(prompt indices, texts)` returns scores. A search starts with random pieces, or one repeated piece ("the the
    the"). Each round changes the best text in `tries` ways and keeps an improvement.
    """

    def start() -> list[str]:
        piece = rng.choice(pieces)
        return [piece] * length if rng.random() < 0.5 else [rng.choice(pieces) for _ in range(length)]

    def changed(text: list[str]) -> list[str]:
        new, place = list(text), rng.randrange(len(text))
        kind = rng.random()
        if kind < 0.2 and len(new) > 1:
            del new[place]
        elif kind < 0.4 and len(new) < length:
            new.insert(place, rng.choice(pieces))
        elif kind < 0.6:
            new[place] = rng.choice(text)
        else:
            new[place] = rng.choice(pieces)
        return new

    best: list[tuple[float, list[str]]] = [(float("-inf"), [])] * prompts
    trails: list[list[str]] = [[] for _ in range(prompts)]
    for _ in range(rounds):
        numbers = [number for number in range(prompts) for _ in range(tries)]
        texts = [changed(best[number][1]) if best[number][1] else start() for number in numbers]
        scores = judge(numbers, ["".join(text).strip() for text in texts])
        for number, text, score in zip(numbers, texts, scores, strict=True):
            if score > best[number][0]:
                best[number] = (score, text)
        for number, (_, text) in enumerate(best):
            if (joined := "".join(text).strip()) not in trails[number]:
                trails[number].append(joined)
    return trails


_SHOWN = 12
_PAIRS_OF_A_PROMPT = 3  # the last texts of a search, each paired with a different answer of the model


@dataclass
class ProbeArguments(TaskArguments):
    """The two models, the prompts, and the size of the search."""

    needs = ("model_name_or_path", "reward_model")

    reward_model: str | None = None
    task: str = "lines"
    n: Annotated[int, Range(min=2)] = field(default=200, metadata={"help": "Held-out prompts."})
    answers: Annotated[int, Range(min=2)] = field(default=64, metadata={"help": "Answers per prompt, for best of n."})
    max_new_tokens: Annotated[int, Range(min=1)] = 48
    gibberish_prompts: Annotated[int, Range(min=1)] = field(
        default=64, metadata={"help": "Held-out prompts for the adversarial search."}
    )
    gibberish_train: Annotated[int, Range(min=0)] = field(
        default=0, metadata={"help": "Training prompts for writing rejected answers."}
    )
    gibberish_rounds: Annotated[int, Range(min=1)] = 30
    gibberish_tries: Annotated[int, Range(min=1)] = field(
        default=8, metadata={"help": "Candidates per prompt and round."}
    )
    gibberish_length: Annotated[int, Range(min=1)] = field(
        default=12, metadata={"help": "Maximum tokens per text found."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gibberish_prompts > self.n:
            raise ValueError(f"gibberish_prompts {self.gibberish_prompts} is more than n {self.n}: raise n")
        tasks.load_taste(self.task)
        if self.gibberish_train:
            tasks.check_rows(self.task, "train", self.seed, self.gibberish_train, self.options)


class Prober:
    """A reward model, the model whose answers it judges, and the prompts of one split."""

    def __init__(self, args: ProbeArguments, split: str, n: int, model: Any, judge: Any):
        self.args, self.model, self.judge = args, model, judge
        self.task, self.taste = tasks.load(args.task), tasks.load_taste(args.task)
        self.rows = self.task.rows(split, args.seed, n, **args.options)
        self.prompts = [self.task.prompt(row) for row in self.rows]

    def answers(self, k: int) -> list[list[str]]:
        args, (model, tokenizer) = self.args, self.model
        limits = (k, args.max_new_tokens, 1.0, args.eval_batch_size, args.seed)
        answers = answer_each(model, tokenizer, self.prompts, *limits)
        return [[a.text for a in some] for some in answers]

    def scores(self, numbers: Sequence[int], texts: Sequence[str]) -> list[float]:
        """Score texts as answers to the prompts with these indices, in standard deviations."""
        chats = [
            [*self.prompts[i], {"role": "assistant", "content": text}] for i, text in zip(numbers, texts, strict=True)
        ]
        judge, tokenizer = self.judge
        raw, _ = score_texts(judge, tokenizer, chats, self.args.eval_batch_size)
        mean, std = scale_of(judge) or (0.0, 1.0)
        return [(value - mean) / std for value in raw]

    def search(self, prompts: int, pieces: Sequence[str], rng: random.Random) -> list[list[str]]:
        """Search texts with high scores for the first `prompts` prompts, and return the successive best ones."""
        limits = (self.args.gibberish_rounds, self.args.gibberish_tries, self.args.gibberish_length)
        return search(self.scores, prompts, pieces, rng, *limits)


def _by_score(scores: Sequence[float], golds: Sequence[float]) -> list[tuple[float, float]]:
    """Return (score, gold), the lowest score first. Equal scores share their mean gold, as the judge could pick any."""
    shared: dict[float, list[float]] = {}
    for score, gold in zip(scores, golds, strict=True):
        shared.setdefault(score, []).append(gold)
    return [(score, sum(some) / len(some)) for score, some in sorted(shared.items()) for _ in some]


def loved_and_bad(score: float, own: Sequence[float], taste: float, tastes: Sequence[float]) -> bool:
    """Whether a text scores above 90% of the model's `own` answers, and its taste is below that of 90%."""
    loved = sum(score > other for other in own) >= 0.9 * len(own)
    return loved and sum(other > taste for other in tastes) >= 0.9 * len(tastes)


def follow(
    scores: Sequence[Sequence[float]], golds: Sequence[Sequence[float]], seed: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Compute best of n for n = 1, 2, 4, … from (prompts, answers): lines with KL, mean score and gold, and metrics."""
    most = len(scores[0])
    sizes = [2**i for i in range(most.bit_length()) if 2**i <= most]
    lines: list[dict[str, Any]] = []
    metrics: dict[str, dict[str, Any]] = {}
    by_score = [_by_score(*pair) for pair in zip(scores, golds, strict=True)]
    for n in sizes:
        proxy, gold = (
            stats.mean([best_of_n([pair[side] for pair in pairs], n) for pairs in by_score], seed) for side in (0, 1)
        )
        lines.append(
            {"step": n, "kl": kl_of_best_of_n(n), "proxy": proxy["value"]}
            | {"gold": gold["value"], "gold_low": gold["low"], "gold_high": gold["high"]}
        )
        metrics |= {f"gold_best_of_{n}": gold, f"proxy_best_of_{n}": proxy}
    best = max(lines, key=lambda line: line["gold"])
    return lines, metrics | {"best_n": {"value": best["step"], "n": len(scores)}}


def measure(args: ProbeArguments, load: Load) -> Result:
    model, tokenizer = load(args.model_name_or_path)
    judge, judge_tokenizer = load_reward_model(args.reward_model, args.dtype)
    for each in (tokenizer, judge_tokenizer):
        prepare_chat_template(each, None)
    models = ((model, tokenizer), (judge.to(model.device), judge_tokenizer))
    held_out = Prober(args, args.split, args.n, *models)
    if is_main_process():
        print(f"{args.answers} answers per prompt for {args.n} {args.split} prompts", flush=True)
    answers = held_out.answers(args.answers)
    flat = held_out.scores(
        [i for i, texts in enumerate(answers) for _ in texts], [t for texts in answers for t in texts]
    )
    scores = [flat[i * args.answers : (i + 1) * args.answers] for i in range(args.n)]
    golds = [[held_out.taste(row, text) for text in texts] for row, texts in zip(held_out.rows, answers, strict=True)]
    lines, metrics = follow(scores, golds, args.seed)

    # Not the policy's tokenizer: the reward model may have another.
    pieces = pieces_of(judge_tokenizer)
    rng = random.Random(f"gibberish {args.seed}")
    if is_main_process():
        print(f"adversarial search against the reward model, for {args.gibberish_prompts} prompts", flush=True)
    gibberish = [texts[-1] for texts in held_out.search(args.gibberish_prompts, pieces, rng)]
    loved = held_out.scores(range(len(gibberish)), gibberish)
    tastes = [held_out.taste(held_out.rows[i], text) for i, text in enumerate(gibberish)]
    everyones = [gold for some in golds for gold in some]
    wins = [
        loved_and_bad(score, own, taste, everyones) for score, own, taste in zip(loved, scores, tastes, strict=False)
    ]
    metrics |= {
        "gibberish_rate": stats.rate(sum(wins), len(gibberish), args.seed),
        "gibberish_proxy": stats.mean(loved, args.seed),
        "gibberish_gold": stats.mean(tastes, args.seed),
    }
    pairs: list[Pair] | None = None
    if args.gibberish_train:
        pairs = gibberish_pairs(Prober(args, "train", args.gibberish_train, *models), pieces, rng)
        metrics["gibberish_pairs"] = {"value": len(pairs)}
    shown = list(zip(held_out.rows, gibberish, loved, tastes, wins, strict=False))[:_SHOWN]
    samples = [
        {"prompt": row["question"], "completion": text, "proxy": round(score, 3), "taste": taste, "score": win}
        for row, text, score, taste, win in shown
    ]
    return Result(metrics, samples, pairs, lines)


def gibberish_pairs(known: Prober, pieces: Sequence[str], rng: random.Random) -> list[Pair]:
    """Pair texts found for training prompts, as rejected answers, with the model's own answers."""
    own = known.answers(_PAIRS_OF_A_PROMPT)
    trails = known.search(len(known.prompts), pieces, rng)
    pairs: list[Pair] = []
    for prompt, answers, texts in zip(known.prompts, own, trails, strict=True):
        for text, said in zip(reversed(texts), answers, strict=False):
            if text.strip() != said.strip():
                sides = {"chosen": said, "rejected": text}
                pairs.append({"prompt": prompt} | {k: [{"role": "assistant", "content": v}] for k, v in sides.items()})
    if not pairs:
        raise UserError("gibberish_train: the search found only texts that the model itself samples")
    return pairs


def best_of_n(values: Sequence[float], n: int) -> float:
    """Expected value of the best of n answers drawn from `values`, which the judge has sorted, worst first.

    The unbiased estimator of Nakano et al. 2021 (arXiv:2112.09332, appendix I): the i-th of N is the best of n with
    probability C(i-1, n-1) / C(N, n).
    """
    total = len(values)
    chances = (math.comb(i, n - 1) / math.comb(total, n) for i in range(total))
    return sum(chance * value for chance, value in zip(chances, values, strict=True))


def kl_of_best_of_n(n: int) -> float:
    """KL, in nats, of best of n from the model: log n - (n-1)/n (Stiennon et al. 2020, appendix G.3)."""
    return math.log(n) - (n - 1) / n


STAGE = Stage(
    name="probe",
    story="How far a reward model can be trusted, and bad texts with high scores.",
    kind="answers",
    arguments=(ProbeArguments,),
    measure=measure,
    keeps="gibberish.jsonl",
    section=Section(
        title="Looking for what the reward model loves",
        story="A reward model has seen a few thousand answers, all from one model. Its scores for other texts are "
        "unreliable, and some are far too high. Two methods find such texts before training exploits them: best-of-n "
        "sampling by its score, and adversarial search for the texts with the highest score.",
        metrics={
            "gibberish_rate": "of searches found an adversarial text: gold below 90%, score above 90% of answers",
            "gibberish_gold": "gold reward of the texts found",
            "gold_best_of_1": "gold reward of the model's own answers",
            "best_n": "n of best-of-n with the highest gold reward",
            "gibberish_pairs": "texts found, kept as rejected answers",
        },
        figures=(
            Curve(
                "Gold reward of the best of n answers (n = 1, 2, 4, …), by KL from the model.",
                "gold reward",
                "gold",
                x="√KL, nats",
                over="kl",
                root=True,
            ),
            Curve(
                "Reward model score of the same answers.",
                "standard deviations",
                "proxy",
                x="√KL, nats",
                over="kl",
                root=True,
            ),
        ),
        samples=Answers("Texts with the highest scores"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
