"""Corpora, models that have learned some rows by heart, and runs of a stage in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from stage_fixtures import main
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_corpus(folder: Path, sources: list[str] | None = None, **splits: list[str]) -> Path:
    """The texts of each split, as a run of the stage corpus has them."""
    (folder / "data").mkdir(parents=True)
    for split, texts in splits.items():
        rows = {"text": texts} | ({"source": sources} if sources else {})
        Dataset.from_dict(rows).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    rows: list[list[int]],
    given: list[int],
    steps: int = 120,
) -> Path:
    """Train the model on all but the first `given` ids of each row, and save it."""
    batch = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    places, ends = torch.arange(batch.shape[1]), torch.tensor([[len(row)] for row in rows])
    labels = batch.masked_fill((places >= ends) | (places < torch.tensor(given)[:, None]), -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        model(input_ids=batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_other_tokenizer(model: Path, folder: Path) -> Path:
    """Copy a model, with two words of its vocabulary exchanged."""
    shutil.copytree(model, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def run_stage(stage: str, folder: Path, **settings: Any) -> Path:
    """Run a stage with these settings, and return its folder."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"output_dir": str(folder), **settings}))
    return main(stage, path)
