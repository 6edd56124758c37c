"""Can a small model decline the questions that it answers wrong? By confidence, and by agreement of several answers.

    python benchmarks/abstain.py [MODEL] [--asked capital] [--keep 0.9] [--samples 4] \\
        [--rows FILE.jsonl] [--json]

Asks SmolLM2-135M-Instruct (`make smollm`), without search, for the capitals of the almanac's countries (`make
almanac`). The countries of the task's train split, half of all by a hash of the name, fit the threshold; the others are
measured. That leaves 46 right answers to fit a threshold that loses a tenth of them. So all countries are measured too
(`_of_all`), each by a threshold fitted on the other four fifths; among them are those on which the question was chosen.
The population is a proxy for how well known a country is. Target, set before any measured country was looked at: wrong
answers halved while at most 10% of the right ones are lost. Answers are kept in --rows, so that an interrupted run
continues there. About 10 minutes of one core.

The question asks for the name only, so that fewer answers tell of other things, whose probability says nothing about
the capital. It was chosen among four, on the countries that fit the threshold, after two other methods had missed the
target on the measured ones: the plain question, by two answers, and asking in several wordings. The controls:
- plain: the same question without that request
- agreement: the share of samples that state the same by the task, which knows the names of all capitals: a help that a
  chat has not
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zero2chat import tasks
from zero2chat.core import runs, stats
from zero2chat.core.errors import exit_on_mistake
from zero2chat.inference.confidence import confidence, log_probabilities
from zero2chat.inference.generate import answer, answer_each, encode_prompts
from zero2chat.models.loading import load_for_use
from zero2chat_lab.calibrate import Judged, calibrate, threshold_for
from zero2chat_lab.questions import DECLINED, RIGHT, WRONG, Question
from zero2chat_practice.countries import PATH, SHARES

ASKED = {
    "capital": ("What is the capital of {name}?", "Answer with the name of the city only."),
    "currency": ("What is the currency of {name}?", "Answer with the name of the currency only."),
}
LONGEST = 24  # tokens; a whole sentence with the answer is shorter
BATCH = 24
FOLDS = 5
SIZES = ("least", "middle", "most")
SCORES = {"": "by confidence", "_plain": "by confidence, asked plainly", "_agreement": "by samples"}
TARGETS = {"_of_all": "all countries by confidence", "_of_all_plain": "all countries by confidence, asked plainly"}


def questions(asked: Sequence[str]) -> list[dict[str, Any]]:
    """The task's rows, with the plain question and the country's population."""
    countries = [json.loads(line) for line in Path(PATH).read_text(encoding="utf-8").splitlines()]
    people = {one["name"]: int(one["population"].replace(",", "")) for one in countries if "population" in one}
    rows = []
    for country in countries:
        for kind in asked:
            if kind in country and country["name"] in people:
                name = country["name"]
                plain, request = ASKED[kind]
                plain = plain.format(name=name)
                row = {"key": name, "question": f"{plain} {request}", "kind": kind}
                row |= {"answer": country[kind], "almanac": PATH, "invented": 0}
                rows.append({"row": row, "plain": plain, "people": people[name]})
    return rows


def right(row: tasks.Row, text: str) -> bool:
    """Whether the answer is right. The task also wants its source named, which a model without search cannot do."""
    return tasks.load("countries").score(row, f"{text} (almanac)") >= 1


def greedy(model: Any, tokenizer: Any, asked: Sequence[str]) -> list[dict[str, Any]]:
    """The greedy answers with their confidence."""
    prompts = [[{"role": "user", "content": one}] for one in asked]
    found = []
    answers = answer(model, tokenizer, prompts, LONGEST, batch_size=BATCH)
    for question, one, context in zip(asked, answers, encode_prompts(tokenizer, prompts), strict=True):
        sure = confidence(log_probabilities(model, context, one.ids[:-1] if one.stopped else one.ids))
        found.append({"question": question, "text": one.text, "confidence": sure})
    return found


def ask(path: str, rows: Sequence[Mapping[str, Any]], samples: int, file: Path) -> list[dict[str, Any]]:
    """The greedy answers to the question and to the plain one, and samples. Answers of this model in the file, with as
    many samples, are not asked for again."""
    known = {}
    for line in runs.read_jsonl(file):
        if line.get("model") == path and len(line["samples"]) >= samples:
            known[line["question"]] = line
    file.parent.mkdir(parents=True, exist_ok=True)
    todo = [row for row in rows if row["row"]["question"] not in known]
    model, tokenizer = load_for_use(path) if todo else (None, None)
    for at in range(0, len(todo), BATCH):
        some = todo[at : at + BATCH]
        lines = greedy(model, tokenizer, [one["row"]["question"] for one in some])
        plain = greedy(model, tokenizer, [one["plain"] for one in some])
        prompts = [[{"role": "user", "content": line["question"]}] for line in lines]
        drawn = answer_each(model, tokenizer, prompts, samples, LONGEST, 1.0, BATCH * samples) if samples else None
        with file.open("a", encoding="utf-8") as out:
            for i, line in enumerate(lines):
                line["samples"] = [other.text for other in drawn[i]] if drawn else []
                line |= {"plain": plain[i], "model": path}
                known[line["question"]] = line
                out.write(json.dumps(line) + "\n")
        print(f"{min(at + BATCH, len(todo))} of {len(todo)} questions asked", flush=True)
    return [known[one["row"]["question"]] for one in rows]


def judge(row: tasks.Row, found: Mapping[str, Any], samples: int) -> Judged:
    task = tasks.load("countries")
    assert task.said is not None
    said = task.said(row, found["text"])
    agree = [said is not None and task.said(row, other) == said for other in found.get("samples", [])[:samples]]
    verdict = RIGHT if right(row, found["text"]) else DECLINED if said is None else WRONG
    question = Question("countries", [{"role": "user", "content": row["question"]}], row["answer"], "countries", row)
    same = sum(agree) / len(agree) if agree else None
    fits = tasks.in_split(row["key"], "train", SHARES)
    return Judged(row["key"], fits, question, found["text"], verdict, found["confidence"], same)


def given_of_all(judged: Sequence[Judged], keep: float) -> list[bool]:
    """Whether each answer is given, by a threshold that the countries of the other folds fitted."""
    folds = [int(tasks.place(f"fold {one.key}") * FOLDS) for one in judged]
    right = [(fold, one.confidence) for fold, one in zip(folds, judged, strict=True) if one.verdict == RIGHT]
    thresholds = [threshold_for([sure for other, sure in right if other != fold], keep) for fold in range(FOLDS)]
    return [
        one.verdict != DECLINED and one.confidence >= thresholds[fold] for fold, one in zip(folds, judged, strict=True)
    ]


def of_all(judged: Sequence[Judged], given: Sequence[bool]) -> dict[str, dict[str, Any]]:
    right, wrong = (
        [yes for one, yes in zip(judged, given, strict=True) if one.verdict == verdict] for verdict in (RIGHT, WRONG)
    )
    kept = sum(right)
    return {
        "accuracy_of_all": stats.rate(len(right), len(judged)),
        "right_kept_rate_of_all": stats.rate(kept, len(right)),
        "wrong_declined_rate_of_all": stats.rate(len(wrong) - sum(wrong), len(wrong)),
        "selective_accuracy_of_all": stats.rate(kept, kept + sum(wrong)),
    }


def by_population(judged: Sequence[Judged], people: Mapping[str, int], given: Sequence[bool]) -> list[dict[str, Any]]:
    """For each third of all countries by population: right answers before, and answers given after."""
    order = sorted(people, key=people.__getitem__)
    third = {name: SIZES[min(i * 3 // len(order), 2)] for i, name in enumerate(order)}
    table = []
    for size in SIZES:
        some, yes = zip(*[pair for pair in zip(judged, given, strict=True) if third[pair[0].key] == size], strict=True)
        table.append(
            {
                "people": size,
                "accuracy": stats.rate(sum(one.verdict == RIGHT for one in some), len(some)),
                "confidence": stats.mean([one.confidence for one in some]),
                "coverage": stats.rate(sum(yes), len(some)),
            }
        )
    return table


def shown(metric: Mapping[str, Any]) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f}; n = {metric['n']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="data/smollm2-135m/model", metavar="MODEL")
    parser.add_argument("--asked", nargs="+", default=["capital"], choices=list(ASKED), help="default: capital")
    parser.add_argument("--keep", type=float, default=0.9, help="share of right answers to keep (default %(default)s)")
    parser.add_argument("--samples", type=int, default=4, help="per question, for agreement (default %(default)s)")
    parser.add_argument("--rows", default="runs/abstain.jsonl", metavar="FILE.jsonl", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    for needed, make in ((PATH, "almanac"), (args.model, "smollm")):
        if not Path(needed).exists():
            raise SystemExit(f"abstain: {needed} does not exist: run `make {make}` first")
    rows = questions(args.asked)
    found = ask(args.model, rows, args.samples, Path(args.rows))
    judged = [judge(one["row"], said, args.samples) for one, said in zip(rows, found, strict=True)]
    plain = [judge(one["row"], said["plain"], 0) for one, said in zip(rows, found, strict=True)]
    given = given_of_all(judged, args.keep)
    metrics = calibrate(judged, args.keep) | of_all(judged, given)
    more = calibrate(plain, args.keep) | of_all(plain, given_of_all(plain, args.keep))
    metrics |= {f"{name}_plain": metric for name, metric in more.items()}
    table = by_population(judged, {one["row"]["key"]: one["people"] for one in rows}, given)

    for name, metric in metrics.items():
        if "_at_" not in name:
            print(f"{name:<33} {shown(metric) if 'low' in metric else metric['value']}")
    for suffix, by in (SCORES | TARGETS).items():
        if f"right_kept_rate{suffix}" in metrics:
            names = ("right_kept_rate", "wrong_declined_rate")
            kept, declined = (metrics[name + suffix]["value"] for name in names)
            met = "met" if kept >= args.keep and declined >= 0.5 else "not met"
            print(f"target {by}: {met} ({kept:.0%} of right answers kept, {declined:.0%} of wrong ones declined)")
    print(f"\n{'population':<11} {'right':<40} {'confidence':<40} answered")
    for line in table:
        print(f"{line['people']:<11} " + " ".join(f"{shown(line[key]):<40}" for key in list(line)[1:]))
    if args.json:
        print(json.dumps({"model": args.model, "metrics": metrics, "population": table}))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
