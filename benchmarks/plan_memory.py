"""Does `zero2chat plan` predict a rank's peak memory? Two sizes and a mixture of experts, ZeRO-2 and ZeRO-3, on two
CPU ranks.

    python benchmarks/plan_memory.py [--sizes 60 120 50] [--stages 2 3] [--json]

Needs Linux. Each case trains the stage pretrain for three steps in fp32, as DeepSpeed does on a CPU, with AdamW. The
measured value is a rank's peak resident memory during training, minus its resident memory just before it built the
model; the larger of the two ranks counts. Exit code 1 if a prediction is more than 15% off. Takes minutes on two cores,
and up to 8 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ACCELERATE_CONFIG = Path("accelerate_configs/cpu_zero2.yaml")
RANKS = 2
CLOSE = 0.15
# By millions of parameters: layers, width, micro-batch of windows of 256 tokens. With ZeRO-2, activations cause the
# peak of the smaller model, and gradient reduction that of the larger one.
SIZES = {60: (8, 640, 4), 120: (12, 768, 2), 50: (4, 512, 4)}
# The size with experts; a token uses 22 of the 50 million parameters.
EXPERTS = {50: {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 768}}


def settings(folder: Path, size: int, stage: int) -> dict[str, Any]:
    """Settings of the stage pretrain. The vocabulary is larger than its tokenizer's, as large as a real one."""
    layers, width, batch = SIZES[size]
    model = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width, "head_dim": 64}
    model |= {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "tie_word_embeddings": True}
    return {
        "output_dir": str(folder / f"run-{size}-{stage}"),
        "dataset": str(folder / "corpus"),
        "tokenizer": str(folder / "tokenizer"),
        "model_type": "qwen3_moe" if size in EXPERTS else "qwen3",
        "model": model | EXPERTS.get(size, {}) | {"vocab_size": 16_384},
        "max_length": 256,
        "muon": False,
        "global_batch_size": RANKS * batch,
        "per_device_train_batch_size": batch,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def prepare(folder: Path) -> None:
    """Writes a corpus of made-up text, and a tokenizer of it."""
    from zero2chat.stages import tokenizer

    (folder / "corpus").mkdir()
    for split, n in (("train", 400), ("validation", 40), ("test", 40)):
        lines = [json.dumps({"text": " ".join(str(i * j) for j in range(200))}) for i in range(1, n)]
        (folder / "corpus" / f"{split}.jsonl").write_text("\n".join(lines))
    made = ["--dataset", str(folder / "corpus"), "--vocab_size", "266", "--output_dir", str(folder / "tokenizer")]
    tokenizer.main(made)


# ---- in each rank


def resident(name: str = "VmRSS") -> int:
    """Bytes of this process; with `VmHWM`, its peak since `forget_peak`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def measure(out: str, argv: list[str]) -> None:
    """Trains, and writes what the training took to `out`."""
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
        os._exit(0)  # nothing has to be saved

    vars(pretrain).update(build_model=watched_build, train=watched_train)
    pretrain.main(argv)


# ---- around them


def measured(folder: Path, size: int, stage: int) -> int:
    """Bytes of the rank that took more."""
    config, launch = folder / f"{size}-{stage}.yaml", folder / f"cpu_zero{stage}.yaml"
    config.write_text(yaml.safe_dump(settings(folder, size, stage)))
    launch.write_text(ACCELERATE_CONFIG.read_text().replace("zero_stage: 2", f"zero_stage: {stage}"))
    out = folder / f"peak-{size}-{stage}"
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file", str(launch)]
    command += [__file__, "--measure", str(out), "--config", str(config)]
    # Freed memory is returned at once, so that resident memory is what the tensors take.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
        raise SystemExit(f"plan_memory: {size} million with ZeRO-{stage} failed: see its output above")
    return max(int(Path(f"{out}.{rank}").read_text()) for rank in range(RANKS))


def predicted(folder: Path, size: int, stage: int) -> dict[str, float]:
    """Bytes by part."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from zero2chat.models.training_job import Group, Model, Work
    from zero2chat.planning.memory import per_rank

    chosen = settings(folder, size, stage)
    config = AutoConfig.for_model(chosen["model_type"], **chosen["model"])
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    model = Model(config, (Group(parameters),))
    batch = chosen["per_device_train_batch_size"]
    return per_rank(model, Work(chosen["max_length"]), batch, f"zero{stage}", RANKS, cpu=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--stages", type=int, nargs="+", choices=(2, 3), default=[2, 3])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        print("parameters  ZeRO  predicted MB  measured MB  ratio")
        for size in args.sizes:
            for stage in args.stages:
                parts = predicted(Path(scratch), size, stage)
                said, took = sum(parts.values()), measured(Path(scratch), size, stage)
                print(
                    f"{size:>8} M {stage:>5} {said / 1e6:>13,.0f} {took / 1e6:>12,.0f} {said / took:>6.2f}", flush=True
                )
                found.append(
                    {
                        "millions": size,
                        "zero": stage,
                        "predicted": said,
                        "measured": took,
                        "ratio": round(said / took, 3),
                    }
                    | {"parts": parts}
                )
    close = all(abs(case["ratio"] - 1) <= CLOSE for case in found)
    print(f"all within {CLOSE:.0%}" if close else f"not all within {CLOSE:.0%}")
    if args.json:
        print(json.dumps({"within": close, "cases": found}))
    return 0 if close else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
