"""A trained model's folder made whole: its card, and its way to the Hub where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from transformers import PreTrainedTokenizerBase, Trainer

from zero2chat.errors import UserError
from zero2chat.runs import RUN, Run

_STORY = {
    "pretrain": "A language model trained from random weights to guess the next token. It continues text.",
    "sft": "A language model fine-tuned on conversations. It answers as the assistant in them does.",
    "dpo": "A language model trained on comparisons: answers that people preferred became likelier beside the others.",
    "reward": "A reward model trained on comparisons. It gives an answer a score; of two, the higher is liked better.",
    "ppo": "A language model trained to be liked: answers that its reward model valued higher became likelier.",
    "grpo": "A language model trained by practice: answers that were rewarded more than their peers became likelier.",
}
_LIMITS = {
    "reward": "It has learned what people preferred of answers like those it saw. Elsewhere its scores mean little: "
    "a model trained to raise them finds what pleases it and nobody else.",
    "dpo": "It has learned what people preferred of answers like those it saw. The preferred ones, too, are often less "
    "likely than before: all that was learned is the distance between two.",
    "ppo": "It has learned to please a reward model, which is not the same as to please people, nor to be right.",
}


def finish_model_folder(
    run: Run,
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write weights, tokenizer, card and the metrics, and then push if `push_to_hub` says so. Every rank must call it.

    Raises `UserError` where the Hub does not take it; the run is done then.
    """
    # The Trainer's own push would come before our card, replace it, and carry a pickle along.
    push, trainer.args.push_to_hub = trainer.args.push_to_hub, False
    trainer.save_model(str(run.folder))
    if not trainer.is_world_process_zero():
        return
    if getattr(trainer.model, "generation_config", None) is not None:  # a reward model has none
        trainer.model.generation_config.save_pretrained(run.folder)  # with an adapter the Trainer saves none
    tokenizer.save_pretrained(run.folder)
    (run.folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json says the same
    write_card(run, settings, metrics)
    run.finish(metrics)
    if push:
        try:
            HfApi().upload_folder(
                repo_id=trainer.hub_model_id,
                folder_path=run.folder,
                ignore_patterns=["checkpoint-*", "_*", RUN],  # run.json has paths of this machine
                revision=trainer.args.hub_revision,
            )
        except OSError as error:
            raise UserError(
                f"{run.folder}: is done, but the Hub did not take it: {error}; to try again: "
                f"hf upload {trainer.hub_model_id} {run.folder} --exclude 'checkpoint-*' '_*' {RUN}"
            ) from error


def write_card(run: Run, settings: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """`README.md`: what the model is, from what it was made, by which settings, and what was measured."""
    stage = run.identity["fingerprint"]["stage"]
    kind = "text-classification" if stage == "reward" else "text-generation"
    results = [
        EvalResult(kind, "held-out rows", "held-out rows", name, metric["value"], metric_name=name)
        for name, metric in metrics.items()
        if "n" in metric
    ]
    base = settings.get("model_name_or_path")
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=kind,
        tags=["zero2chat", stage],
        model_name=run.folder.name,
        base_model=base if base and not base.startswith(("runs/", ".", "/")) else None,
        eval_results=results or None,
    )
    rows = "\n".join(
        f"| {name} | {m['value']} | {m.get('n', '')} | {m['low']} to {m['high']} |"
        if "low" in m
        else f"| {name} | {m['value']} | {m.get('n', '')} | |"
        for name, m in metrics.items()
    )
    text = f"""---
{data.to_yaml()}
---

# {run.folder.parent.name}/{run.folder.name}

{_STORY.get(stage, "")}

Made by the stage `{stage}` of zero2chat.

## Measured

| metric | value | n | 95% interval |
|---|---|---|---|
{rows}

## Settings

```yaml
{yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True).rstrip()}
```

## Limits

{_LIMITS.get(stage, "What it says may be wrong: it has learned what is likely, not what is true.")}
"""
    ModelCard(text).save(run.folder / "README.md")
