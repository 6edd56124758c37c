"""Mechanism: which heads and hidden states an answer depends on, tested by switching them off or exchanging them.

    zero2chat run recipes/inside

Reads a model. Heads and layers are chosen on some names, people and numbers, and tested on others.

- **Copying**: three heads are switched off, those with the largest product of attention to a name in the text and
  direct effect on its logit (Wang et al. 2022, arXiv:2211.00593; Olsson et al. 2022, arXiv:2209.11895).
- **Facts**: hidden states of a statement about one subject replace those of the same statement about another subject
  (activation patching; Meng et al. 2022, arXiv:2202.05262).
- **Decimals**: which is larger, 9.9 or 9.11? Heads chosen likewise for the second number are switched off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Annotated, Any

from transformers import PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.inference.generate import encode_prompts
from zero2chat.models.tokenization import plain_ids
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat.stages.shared import MeasuringArguments
from zero2chat_lab.inside import plain, refuse_large
from zero2chat_lab.interventions import Asked, Parts
from zero2chat_practice import decimals
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic.stated_facts import VALUES, blended

_CHANGED = 0.8  # of answers have to change on the facts for choosing a layer
Samples = list[dict[str, Any]]


@dataclass
class MechanismArguments(MeasuringArguments):
    """The model, and how it is asked."""

    chat: bool = field(default=True, metadata={"help": "Ask in the model's chat format; false: as plain text."})
    n: Annotated[int, Range(min=2)] = field(default=200, metadata={"help": "Names for testing."})
    n_choose: Annotated[int, Range(min=2)] = field(default=60, metadata={"help": "Names and pairs for choosing."})
    pairs: Annotated[int, Range(min=2)] = field(default=100, metadata={"help": "Pairs of facts for testing."})
    triples: Annotated[int, Range(min=1)] = field(default=10, metadata={"help": "Random triples of other heads."})
    numbers: Annotated[int, Range(min=2)] = field(default=40, metadata={"help": "Pairs of decimals of each kind."})
    facts: str = field(default="facts", metadata={"help": "Task with the facts: subjects as `key`, and `answer`."})
    kind: str = field(default="birthplace", metadata={"help": "Kind of that task's rows."})
    rows: Annotated[int, Range(min=2)] = field(default=800, metadata={"help": "Rows of that task, for each split."})
    options: dict = field(default_factory=dict)
    statement: str = field(default="{} was born in the town of", metadata={"help": "The fact's words, {}: subject."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.statement.count("{}") != 1 or self.statement.endswith("{}"):
            raise ValueError(f"statement: '{self.statement}': expected one {{}}, the subject, and words after it")
        tasks.check_rows(self.facts, "test", self.seed, self.rows, self.options)


def text_of(args: MechanismArguments, tokenizer: PreTrainedTokenizerBase, turns: Sequence[str]) -> list[int]:
    """Return the ids of a conversation, which ends with the beginning of an answer."""
    if not args.chat:
        return plain(tokenizer, "\n".join(turns))
    if tokenizer.chat_template is None:
        raise UserError(f"{args.model_name_or_path} has no chat template: set `chat: false`")
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns[:-1])]
    (ids,) = encode_prompts(tokenizer, [messages], template={"enable_thinking": False})
    return ids + plain_ids(tokenizer, [turns[-1]])[0]


def place_of(part: Sequence[int], ids: Sequence[int]) -> int:
    """Return where the tokens stand in the text for the last time."""
    return next(i for i in range(len(ids) - len(part), -1, -1) if ids[i : i + len(part)] == part)


def switched_off(
    args: MechanismArguments, parts: Parts, rows: Sequence[Asked], test: Callable[[], Sequence[float]], token: str
) -> tuple[Sequence[float], list[Sequence[float]], Samples]:
    """Choose three heads on `rows`. Returns the test's results without them, those without each of the random triples
    of other heads, and the heads as samples, counted from 1 as on the page `inside`."""
    attention, effect = parts.scores(rows)
    every = [(layer, head) for layer in range(len(parts.layers)) for head in range(parts.heads)]
    best = sorted(every, key=lambda one: -float(attention[one] * effect[one]))
    rng, results = random.Random(f"mechanism {args.seed}"), list[Sequence[float]]()
    for heads in (best[:3], *(rng.sample(best[3:], 3) for _ in range(args.triples))):
        with parts.without(heads):
            results.append(test())
    samples: Samples = []
    for layer, head in best[:3]:
        values = {"attention": float(attention[layer, head]), "effect": float(effect[layer, head])}
        samples.append({"head": f"layer {layer + 1}, head {head + 1}", "token": token, **values})
    return results[0], results[1:], samples


def of_triples(values: Sequence[float]) -> dict[str, Any]:
    """Return the median over the random triples; the interval is their range."""
    value, low, high = (round(each(values), 4) for each in (median, min, max))
    return {"value": value, "n": len(values), "low": low, "high": high}


def copying(args: MechanismArguments, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> tuple[Metrics, Samples]:
    n, known = args.n_choose + args.n, {*VALUES["name"], *blended("name")}  # training has these names
    made = (name.capitalize() for name in blends(VALUES["name"], 3 * n + 400, "mechanism"))
    rows = []
    for name in [name for name in dict.fromkeys(made) if name not in known][:n]:
        turns = [f"My name is {name}.", "I will remember that.", "What is my name?", "Your name is"]
        ids, (answer,) = text_of(args, tokenizer, turns), plain_ids(tokenizer, [f" {name}"])
        rows.append(Asked(ids, answer, place_of(answer, ids)))
    choose, test = rows[: args.n_choose], rows[args.n_choose :]
    right = parts.says(test)
    without, triples, samples = switched_off(args, parts, choose, lambda: parts.says(test), "the name")
    metrics = {
        "accuracy_copy": stats.rate(sum(right), len(right), args.seed),
        "accuracy_copy_without_heads": stats.rate(sum(without), len(right), args.seed),
        "accuracy_lost_copy": stats.change(without, right, args.seed),
        "accuracy_lost_copy_random": of_triples([mean(right) - mean(one) for one in triples]),
    }
    return metrics, samples


def stated(args: MechanismArguments, tokenizer: PreTrainedTokenizerBase, subject: str, answer: str) -> Asked:
    """Return a statement up to its answer, with the places of the subject, of the subject's last token, of the tokens
    between the subject and the last token, and of the last token."""
    before, after = args.statement.split("{}")
    ids = [plain(tokenizer, text) for text in (before.rstrip(), before + subject, before + subject + after)]
    (answers,), (begin, end, n) = plain_ids(tokenizer, [f" {answer}"]), map(len, ids)
    places = {"subject": [*range(begin, end)], "subject_end": [end - 1]}
    return Asked(ids[2], answers, places=places | {"relation": [*range(end, n - 1)], "last": [n - 1]})


def knowing(args: MechanismArguments, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> tuple[Metrics, Samples]:
    metrics, pairs, known = Metrics(), dict[str, list[tuple[Asked, Asked]]](), list[Asked]()
    for split, n in (("train", args.n_choose), ("test", args.pairs)):
        rows = tasks.load(args.facts).rows(split, args.seed, args.rows, **args.options)
        facts = {row["key"]: row["answer"] for row in rows if row["kind"] == args.kind}
        if not facts:
            raise UserError(f"kind: no row of the task {args.facts} ({split}) is of the kind '{args.kind}'")
        those = [stated(args, tokenizer, *fact) for fact in facts.items()]
        right = parts.says(those)
        known = [fact for fact, yes in zip(those, right, strict=True) if yes]
        both = [(one, other) for one in known for other in known if one.answer[0] != other.answer[0]]
        alike = [pair for pair in both if len({len(one.places["subject"]) for one in pair}) == 1]
        pairs[split] = random.Random(f"mechanism {args.seed}").sample(alike, min(n, len(alike)))
        metrics[f"accuracy_facts_{split}"] = stats.rate(sum(right), len(right), args.seed)
    if not all(pairs.values()):
        return metrics, []
    # At layer 0 the subject itself is exchanged. The deepest layer says how far the answer depends on these positions.
    layers = range(len(parts.layers))
    shares = {layer: mean(parts.changed(pairs["train"], layer, "subject")) for layer in layers[1:]}
    enough = [layer for layer in shares if shares[layer] >= _CHANGED]
    layer = max(enough) if enough else max(shares, key=lambda one: shares[one])
    lens = [
        [parts.head(parts.norm(state[-1])).argmax() == one.answer[0] for state in parts.states(one.ids)]
        for one in known
    ]
    history: Samples = [{"step": i, "lens": mean(float(shown[i]) for shown in lens)} for i in layers]
    for line in history:
        for place in known[0].places:
            changed = parts.changed(pairs["test"], line["step"], place)
            line[f"changed_{place}"] = mean(changed)
            if line["step"] == layer:
                metrics[f"changed_rate_{place}"] = stats.rate(sum(changed), len(changed), args.seed)
    return metrics | {"layer_facts": {"value": layer}}, history


def questions(
    args: MechanismArguments, tokenizer: PreTrainedTokenizerBase, split: str, n: int
) -> list[tuple[str, Asked, Asked]]:
    """Return kind and question, n pairs of each kind, alternately with the larger number first and second: up to the
    token that decides, with the second number's token as the answer; and with the whole larger number."""
    examples = []
    for kind in decimals.KINDS:
        keys = [row["key"].split(" - ") for row in decimals.rows(split, args.seed, 300, [kind])]
        # One token decides if the numbers differ in the first decimal.
        differ = [pair for pair in keys if len({number.partition(".")[2][0] for number in pair}) == 2]
        for pair in differ[:n]:
            for a, b in (pair, pair[::-1]):
                ids = text_of(args, tokenizer, [f"Which is larger, {a} or {b}?", "The larger number is"])
                first, second, right = plain_ids(tokenizer, [f" {a}", f" {b}", f" {pair[0]}"])
                same = next(i for i, (x, y) in enumerate(zip(first, second, strict=False)) if x != y)
                place, other = place_of(second, ids) + same, [first[same]]
                row = Asked(ids + second[:same], [second[same]], place, other)
                examples.append((kind, row, Asked(ids, right)))
    return examples


def comparing(args: MechanismArguments, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> tuple[Metrics, Samples]:
    choose = [row for _, row, _ in questions(args, tokenizer, "validation", -(-args.n_choose // 6))]
    kinds, rows, whole = zip(*questions(args, tokenizer, "test", args.numbers), strict=True)

    def test() -> list[float]:
        """Return, by row, whether the larger number is more likely."""
        pairs = zip(parts.logits(rows), rows, strict=True)
        return [float((x[0, row.answer] > x[0, row.other]).item() == i % 2) for i, (x, row) in enumerate(pairs)]

    def rate(right: Sequence[float], kind: str = "") -> dict[str, Any]:
        those = [i for i, one in enumerate(kinds) if kind in ("", one)]
        return stats.clustered_rate([right[i] for i in those], [i // 2 for i in those], args.seed)

    right = test()
    without, triples, samples = switched_off(args, parts, choose, test, "the second number")
    metrics = {
        "accuracy_decimals": rate(right),
        "accuracy_decimals_greedy": rate(parts.says(whole)),
        **{f"accuracy_decimals_{kind}": rate(right, kind) for kind in decimals.KINDS},
        "accuracy_decimals_larger_first": stats.rate(sum(right[::2]), len(right[::2]), args.seed),
        "accuracy_decimals_larger_second": stats.rate(sum(right[1::2]), len(right[::2]), args.seed),
        "accuracy_gap_order": stats.change(right[::2], right[1::2], args.seed),
        "accuracy_gap_order_without_heads": stats.change(without[::2], without[1::2], args.seed),
        "accuracy_gap_order_random": of_triples([mean(one[1::2]) - mean(one[::2]) for one in triples]),
        "accuracy_decimals_without_heads": rate(without),
    }
    return metrics, samples


def measure(args: MechanismArguments, load: Load) -> Result:
    path = str(args.model_name_or_path)
    refuse_large(path)
    model, tokenizer = load(path)
    inputs = (args, parts := Parts(path, model), tokenizer)
    if (n := len(parts.layers)) < 2 or n * parts.heads < 6:  # three heads are compared with three others
        least = "give a model with at least 2 layers and, in all of them, 6 heads"
        raise UserError(f"{path}: layers: {n}, heads of each: {parts.heads}: {least}")
    facts, history = knowing(*inputs)
    copies, heads = copying(*inputs)
    comparisons, more = comparing(*inputs)
    return Result(copies | facts | comparisons, [*heads, *more], history=history)


STAGE = Stage(
    name="mechanism",
    story="Interventions: which heads a model needs to repeat a name, where it reads a fact, how it compares decimals.",
    kind="answers",
    arguments=(MechanismArguments,),
    measure=measure,
    section=Section(
        title="Heads switched off, and where a fact is read",
        story="Heads are switched off, or hidden states are replaced by those of another text. If they matter, the "
        "answer changes. Heads and layers are chosen on some examples and tested on others.",
        metrics={
            "accuracy_lost_copy": "of names lost without three heads, chosen by attention × effect",
            "accuracy_lost_copy_random": "lost without three random heads (median)",
            "changed_rate_subject": "of answers change with the subject's hidden states",
            "accuracy_decimals": "of decimals are compared correctly (chance: 50%)",
        },
        figures=(
            Curve(
                "Answers that change with another subject's hidden states, by position; and answers that the logit "
                "lens shows at the last position.",
                "answers",
                {"the subject's last token": "changed_subject_end", "{}": "changed_(.+)", "logit lens": "lens"},
                x="layers before",
                percent=True,
            ),
        ),
        samples=SampleTable(
            "The heads that are switched off, chosen by attention to a token × direct effect on its logit",
            columns={"head": "head", "token": "token", "attention": "attention", "direct effect": "effect"},
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
