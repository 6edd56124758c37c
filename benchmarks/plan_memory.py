"""Does `zero2chat plan` predict a rank's peak memory? Pretraining, SFT and LoRA on two CPU ranks.

    python benchmarks/plan_memory.py [--cases pretrain sft lora] [--launches zero2 zero3 ddp] [--json]

Needs Linux. Each case trains for three steps in fp32, as on a CPU, with AdamW. SFT packs conversations of 20 to 250
tokens. The measured value is a rank's peak resident memory during training, minus its resident memory just before it
made the model; the larger of the two ranks counts. Exit code 1 if a prediction is more than 10% off. Takes minutes on
two cores, and up to 8 GB.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path("accelerate_configs")
TEMPLATE = "chat_templates/chatml.jinja"
RANKS = 2
CLOSE = 0.1
# The vocabulary is larger than the tokenizer's, as large as a real one.
VOCABULARY, LENGTH = 16_384, 256
# Layers, width. A token uses 22 of the 50 million parameters of the mixture of experts.
SHAPES = {"60M": (8, 640), "120M": (12, 768), "50M-experts": (4, 512)}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 768}
LORA = {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": "all-linear"}
# Stage, shape, micro-batch of windows or packed rows, other settings, accelerate configs. In pretraining with ZeRO-2,
# activations cause the peak of the smaller model, and gradient reduction that of the larger one.
CASES: dict[str, tuple[str, str, int, dict[str, Any], tuple[str, ...]]] = {
    "pretrain": ("pretrain", "60M", 4, {}, ("zero2", "zero3")),
    "pretrain-120M": ("pretrain", "120M", 2, {}, ("zero2", "zero3")),
    "experts": ("pretrain", "50M-experts", 4, {}, ("zero2", "zero3")),
    "sft": ("sft", "60M", 4, {}, ("zero2", "ddp")),
    "lora": ("sft", "120M", 2, LORA, ("zero2", "ddp")),
}
# By stage, the functions in its module that make the model and that train it
WATCHED = {"pretrain": ("open_model", "train"), "sft": ("open_chat_model", "train_with_tasks")}


def shape(name: str) -> dict[str, Any]:
    """Fields of the model's config."""
    layers, width = SHAPES[name]
    model = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width, "head_dim": 64}
    model |= {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "tie_word_embeddings": True}
    return model | {"vocab_size": VOCABULARY} | (EXPERTS if name == "50M-experts" else {})


def settings(folder: Path, case: str) -> dict[str, Any]:
    """Settings of the case's stage."""
    stage, size, batch, more, _ = CASES[case]
    own: dict[str, Any]
    if stage == "pretrain":
        own = {"dataset": str(folder / "corpus"), "tokenizer": str(folder / "tokenizer"), "model": shape(size)}
        own |= {"model_type": "qwen3_moe" if size == "50M-experts" else "qwen3"}
    else:
        own = {"model_name_or_path": str(folder / size), "chat_template_path": TEMPLATE, "packing": True}
        own |= {"datasets": [{"path": str(folder / "conversations.jsonl")}], "gradient_checkpointing": False}
    return (
        own
        | more
        | {
            "output_dir": str(folder / f"run-{case}"),
            "max_length": LENGTH,
            "muon": False,
            "global_batch_size": RANKS * batch,
            "per_device_train_batch_size": batch,
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
    )


def prepare(folder: Path) -> None:
    """Writes a corpus of made-up text, a tokenizer of it, conversations, and models with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from zero2chat.stages import tokenizer

    (folder / "corpus").mkdir()
    for split, n in (("train", 400), ("validation", 40), ("test", 40)):
        lines = [
            json.dumps({"text": "user\nassistant\n" + " ".join(str(i * j) for j in range(200))}) for i in range(1, n)
        ]
        (folder / "corpus" / f"{split}.jsonl").write_text("\n".join(lines))
    made = ["--dataset", str(folder / "corpus"), "--vocab_size", "277", "--output_dir", str(folder / "tokenizer")]
    tokenizer.main(made)
    # A character is a token, and the template adds 10: 60 tokens in the median, 250 at most.
    drawn = random.Random(0)
    rows = []
    for _ in range(400):
        length = min(240, max(6, round(drawn.lognormvariate(3.9, 0.6))))
        text = "".join(drawn.choices("0123456789 ", k=length))
        turns = {"user": text[: length // 6], "assistant": text[length // 6 :]}
        rows.append(json.dumps({"messages": [{"role": role, "content": said} for role, said in turns.items()]}))
    (folder / "conversations.jsonl").write_text("\n".join(rows))
    for size in sorted({size for stage, size, *_ in CASES.values() if stage == "sft"}):
        config = AutoConfig.for_model("qwen3", **shape(size), max_position_embeddings=LENGTH)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / size)
        AutoTokenizer.from_pretrained(folder / "tokenizer").save_pretrained(folder / size)


# ---- in each rank


def resident(name: str = "VmRSS") -> int:
    """Bytes of this process; with `VmHWM`, its peak since `forget_peak`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def measure(out: str, stage: str, argv: list[str]) -> None:
    """Trains, and writes what the training took to `out`."""
    from accelerate import PartialState

    module = importlib.import_module(f"zero2chat.stages.{stage}")
    before = 0
    build, train = (getattr(module, name) for name in WATCHED[stage])

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

    vars(module).update(zip(WATCHED[stage], (watched_build, watched_train), strict=True))
    module.main(argv)


# ---- around them


def measured(folder: Path, case: str, launch: str) -> int:
    """Bytes of the rank that took more."""
    name = f"{case}-{launch}"
    config, launched, out = folder / f"{name}.yaml", folder / f"cpu_{launch}.yaml", folder / f"peak-{name}"
    config.write_text(yaml.safe_dump(settings(folder, case)))
    shipped = CONFIGS / ("cpu_ddp.yaml" if launch == "ddp" else "cpu_zero2.yaml")
    launched.write_text(shipped.read_text().replace("zero_stage: 2", f"zero_stage: {launch[-1]}"))
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file", str(launched)]
    command += [__file__, "--measure", str(out), CASES[case][0], "--config", str(config)]
    command += ["--output_dir", str(folder / f"run-{name}")]
    # Freed memory is returned at once, so that resident memory is what the tensors take.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
        raise SystemExit(f"plan_memory: {case} with {launch} failed: see its output above")
    return max(int(Path(f"{out}.{rank}").read_text()) for rank in range(RANKS))


def predicted(folder: Path, case: str, launch: str) -> dict[str, float]:
    """Bytes by part."""
    from zero2chat.recipes.memory import per_rank
    from zero2chat.recipes.recipe import Step
    from zero2chat.recipes.training_cost import read_job

    stage, _, batch, *_ = CASES[case]
    step = Step(case, stage, folder / f"{case}.yaml", (), launch, {}, settings(folder, case))
    job, _, _ = read_job(step, [step])
    return per_rank(job.model, job.work, batch, launch, RANKS, cpu=True, accumulates=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--launches", nargs="+", choices=("zero2", "zero3", "ddp"), default=["zero2", "zero3", "ddp"])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        print("case           launch  predicted MB  measured MB  ratio")
        for case in args.cases:
            for launch in CASES[case][-1]:
                if launch not in args.launches:
                    continue
                parts = predicted(folder, case, launch)
                said, took = sum(parts.values()), measured(folder, case, launch)
                ratio = said / took
                print(f"{case:<14} {launch:<6} {said / 1e6:>13,.0f} {took / 1e6:>12,.0f} {ratio:>6.2f}", flush=True)
                one = {"case": case, "launch": launch, "predicted": said, "measured": took, "ratio": round(ratio, 3)}
                found.append(one | {"parts": parts})
    close = all(abs(one["ratio"] - 1) <= CLOSE for one in found)
    print(f"all within {CLOSE:.0%}" if close else f"not all within {CLOSE:.0%}")
    if args.json:
        print(json.dumps({"within": close, "cases": found}))
    return 0 if close else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main())
