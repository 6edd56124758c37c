"""What an evaluation found, written into the evaluated model's card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard

from zero2chat.runs import METRICS, RUN, write_atomically


def add_scores(model: str | Path, evaluation: Path, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """A section and the `model-index` of the card of a finished run of ours; of other models nothing is touched.

    The same evaluation, made again, takes the place of what it wrote before. A card that cannot be read is left as it
    is, with a line that says so.
    """
    folder, name = Path(model), f"{evaluation.parent.name}/{evaluation.name}"
    path = folder / "README.md"
    if not all((folder / file).is_file() for file in (RUN, METRICS, path.name)):
        return
    try:
        card = ModelCard.load(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"{path}: cannot be read ({' '.join(str(error).split())}): the scores are not in it", flush=True)
        return
    scores = {key: metric for key, metric in metrics.items() if "n" in metric}
    kept = [result for result in card.data.eval_results or [] if result.dataset_name != name]
    card.data.model_name = card.data.model_name or folder.name
    card.data.eval_results = kept + [
        EvalResult(
            "text-generation",
            name,
            name,
            key,
            metric["value"],
            metric_name=key,
            metric_args={part: metric[part] for part in ("n", "low", "high", "contaminated") if part in metric},
        )
        for key, metric in scores.items()
    ]
    begin, end = f"<!-- scores of {name} -->", f"<!-- end of scores of {name} -->"
    section = f"{begin}\n## Evaluated by {name}\n\n{_table(scores)}\n{end}"
    text = re.sub(rf"\n*{re.escape(begin)}.*?{re.escape(end)}\n*", "\n", card.text, flags=re.DOTALL)
    card.text = f"{text.rstrip()}\n\n{section}\n"
    write_atomically(path, str(card))


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| metric | value | n | 95% interval | questions seen in training |", "|---|---|---|---|---|"]
    for name, metric in scores.items():
        interval = f"{metric['low']:.4g} to {metric['high']:.4g}" if "low" in metric else ""
        seen = metric.get("contaminated", "not checked")
        lines.append(f"| {name} | {metric['value']:.4g} | {metric['n']} | {interval} | {seen} |")
    return "\n".join(lines)
