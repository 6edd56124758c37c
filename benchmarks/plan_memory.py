"""Is the peak memory that `zero2chat plan` predicts what a rank takes? Two sizes, ZeRO-2 and ZeRO-3, on two CPU ranks.

    python benchmarks/plan_memory.py [--sizes 60 120] [--stages 2 3] [--json]

Needs Linux. Each case trains four steps of the stage pretrain in fp32, as DeepSpeed does on a CPU, with AdamW. Measured
is a rank's peak of resident memory while it trains, less what was resident when its model was about to be built; the
larger of the two ranks. About a minute a case on two cores, and at most 8 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ACCELERATE_CONFIG = Path("accelerate_configs/cpu_zero2.yaml")
RANKS = 2
# By millions of parameters
SHAPES: dict[int, dict[str, int]] = {
    30: {"hidden_size": 448, "num_hidden_layers": 8},
    60: {"hidden_size": 640, "num_hidden_layers": 8},
    120: {"hidden_size": 768, "num_hidden_layers": 12},
}


def settings(folder: Path, size: int) -> dict[str, Any]:
    """Of the stage pretrain: a Qwen3 of so many million parameters, whose vocabulary exceeds its tokenizer's."""
    shape = SHAPES[size]
    heads = shape["hidden_size"] // 64
    model = shape | {"intermediate_size": 4 * shape["hidden_size"], "head_dim": 64, "vocab_size": 16_384}
    model |= {"num_attention_heads": heads, "num_key_value_heads": heads, "tie_word_embeddings": True}
    return {
        "output_dir": str(folder / f"run-{size}"),
        "dataset": str(folder / "corpus"),
        "tokenizer": str(folder / "tokenizer"),
        "model": model,
        "max_length": 128,
        "muon": False,
        "global_batch_size": 4,
        "per_device_train_batch_size": 2,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def prepare(folder: Path) -> None:
    """A corpus of made-up text, and a tokenizer of it."""
    from zero2chat.stages import tokenizer

    (folder / "corpus").mkdir()
    for split, n in (("train", 400), ("validation", 40), ("test", 40)):
        lines = [json.dumps({"text": " ".join(str(i * j) for j in range(200))}) for i in range(1, n)]
        (folder / "corpus" / f"{split}.jsonl").write_text("\n".join(lines))
    made = ["--dataset", str(folder / "corpus"), "--vocab_size", "266", "--output_dir", str(folder / "tokenizer")]
    tokenizer.main(made)


# ---- in each rank


def resident(name: str = "VmRSS") -> int:
    """Bytes of this process; `VmHWM` for the most since `forget_peak`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def measure(out: str, argv: list[str]) -> None:
    """Train, and write what the training took to `out`."""
    from accelerate import PartialState

    from zero2chat.stages import pretrain

    before = 0
    build, train = pretrain.build_model, pretrain.train

    def watched_build(*args: Any) -> Any:
        nonlocal before
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        return build(*args)

    def watched_train(*args: Any) -> None:
        train(*args)
        Path(f"{out}.{os.environ['RANK']}").write_text(str(resident("VmHWM") - before))
        PartialState().wait_for_everyone()
        os._exit(0)  # nothing of it is kept

    pretrain.build_model, pretrain.train = watched_build, watched_train
    pretrain.main(argv)


# ---- around them


def measured(folder: Path, size: int, stage: int) -> int:
    """Bytes."""
    config, launch = folder / f"{size}.yaml", folder / f"cpu_zero{stage}.yaml"
    config.write_text(yaml.safe_dump(settings(folder, size) | {"output_dir": str(folder / f"run-{size}-{stage}")}))
    launch.write_text(ACCELERATE_CONFIG.read_text().replace("zero_stage: 2", f"zero_stage: {stage}"))
    out = folder / f"peak-{size}-{stage}"
    program = Path(sys.executable).with_name("accelerate")
    command = [str(program), "launch", "--quiet", "--config_file", str(launch), __file__, "--measure", str(out)]
    # What is freed is given back at once, so that resident memory is what the tensors take.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run([*command, "--config", str(config)], env=environment, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"plan_memory: {size} million with ZeRO-{stage} failed: what it says stands above")
    return max(int(Path(f"{out}.{rank}").read_text()) for rank in range(RANKS))


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(sys.argv[2], sys.argv[3:])
    else:
        with tempfile.TemporaryDirectory() as t:
            prepare(Path(t))
            for st in (2, 3):
                print(st, measured(Path(t), 30, st))
