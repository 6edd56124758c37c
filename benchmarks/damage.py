"""Does a run survive kills at random moments and damaged files?

    python benchmarks/damage.py [--folder runs/damage] [--kills 200] [--damages 50] [--minutes 60] [--seed 0] [--json]

Trains five stages of a tiny model, each once without interruption. Then kills runs of these stages with SIGKILL at
random moments and starts them again, until they end. Then damages a checkpoint, or another file, of killed runs, and
starts these runs again. Each run must end bit-identical to the uninterrupted run, or refuse to start with one line.
Trials are written to FOLDER/trials.jsonl. The same command resumes after an interruption, or after `--minutes`.

Exit code 1 if a run ended otherwise; the trial then has the run's output. The processes are forked from this one, which
has imported everything: a start takes a second instead of ten.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import yaml

from zero2chat.core.runs import read_jsonl
from zero2chat.stages import load

STAGES = ("pretrain", "sft", "dpo", "grpo", "ppo")
TEMPLATE = Path(__file__).parents[1] / "chat_templates" / "chatml.jinja"
TIMES = ("seconds", "per_second", "mfu", "runtime", "step_time", "eval_num_tokens")  # endings of keys that may differ
MANIFEST = "checkpoint.json"


def settings(made: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each tiny stage, without `output_dir`; `made` has what they read."""
    short = {"max_steps": 12, "logging_steps": 1, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 3}
    short |= {"bf16": False, "disable_tqdm": True, "lr_scheduler_type": "constant"}
    tuned = {"model_name_or_path": str(made / "pretrain"), "chat_template_path": str(TEMPLATE), **short}
    tuned |= {"learning_rate": 2.0e-3, "gradient_checkpointing": False}
    eight = {"global_batch_size": 8, "per_device_train_batch_size": 8}
    online = {"datasets": [{"task": "facts", "n": 24}], "max_completion_length": 12}
    online |= {"rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}]}
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}
    worlds = [{"task": "facts", "n": 500, "label": "world"}, {"task": "word_problems", "n": 200, "label": "textbook"}]
    best = {"load_best_model_at_end": True, "metric_for_best_model": "reward", "eval_strategy": "steps"}
    return {
        "corpus": {"datasets": worlds, "validation_fraction": 0.05, "test_fraction": 0.05},
        "tokenizer": {"dataset": str(made / "corpus"), "vocab_size": 400},
        "pretrain": {
            **{"dataset": str(made / "corpus"), "tokenizer": str(made / "tokenizer"), "model": shape},
            **{"max_length": 128, "learning_rate": 5.0e-3, "sample_prompts": ["There are"], "sample_steps": 3},
            **{"sample_tokens": 4, **eight, **short},
        },
        "sft": {"datasets": [{"task": "facts", "n": 120}], "max_length": 128, "packing": True, **eight, **tuned},
        "dpo": {
            "datasets": [{"path": str(made / "pairs.jsonl")}],
            "test_fraction": 0.3,
            "max_length": 128,
            **eight,
            **tuned,
        },
        "grpo": {**online, "num_generations": 4, **eight, **tuned},
        "ppo": {
            **{**online, "held_out": {"task": "facts", "n": 8}, "num_ppo_epochs": 1, **eight, **tuned},
            **{**best, "eval_steps": 3},
        },
    }


def launch(stage: str, config: Path, log: Path, ends: Callable[[], bool] = lambda: False) -> int | None:
    """Run a stage in a process that is killed once `ends()`. Return its exit code, or None if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            sys.argv = [stage, "--config", str(config)]
            load(stage).command()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if ends():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.002)


def outcome(run: Path) -> dict[str, Any]:
    """Return what a run has made, without its times."""

    def digest(name: str) -> str:
        return hashlib.sha256((run / name).read_bytes()).hexdigest() if (run / name).exists() else ""

    def untimed(line: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in line.items() if not key.endswith(TIMES)}

    return {
        "files": [digest(name) for name in ("model.safetensors", "samples.jsonl")],
        "history": [untimed(line) for line in read_jsonl(run / "history.jsonl")],
        "metrics": untimed(json.loads((run / "metrics.json").read_text())),
        "checkpoints": sorted(path.parent.name for path in run.glob(f"checkpoint-*/{MANIFEST}")),
    }


# ---- damages: each changes a killed run


def _newest(run: Path) -> Path:
    sealed = [path.parent for path in run.glob(f"checkpoint-*/{MANIFEST}")]
    return max(sealed, key=lambda path: int(path.name.split("-")[1]))


def _file(run: Path, rng: random.Random) -> Path:
    """A file of the newest checkpoint."""
    return rng.choice(sorted(path for path in _newest(run).rglob("*") if path.is_file() and path.stat().st_size))


def flip(run: Path, rng: random.Random) -> None:
    file = _file(run, rng)
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def zero(run: Path, rng: random.Random) -> None:
    file = _file(run, rng)
    file.write_bytes(bytes(file.stat().st_size))


def truncate(run: Path, rng: random.Random) -> None:
    file = _file(run, rng)
    os.truncate(file, rng.randrange(file.stat().st_size))


def remove(run: Path, rng: random.Random) -> None:
    _file(run, rng).unlink()


def manifest(run: Path, rng: random.Random) -> None:
    (_newest(run) / MANIFEST).write_text(rng.choice(("", "[]", "{}", "null", '{"config.json": 3}')))


def all_checkpoints(run: Path, rng: random.Random) -> None:
    for path in run.glob("checkpoint-*/model.safetensors"):
        path.write_bytes(bytes(path.stat().st_size))


def a_file(run: Path, rng: random.Random) -> None:
    (run / "checkpoint-999").write_text("a file")


def identity(run: Path, rng: random.Random) -> None:
    written = (run / "run.json").read_text()
    (run / "run.json").write_text(rng.choice(("", "[]", written[: rng.randrange(len(written) - 1)])))


def history(run: Path, rng: random.Random) -> None:
    lines = (run / "history.jsonl").read_text().splitlines()
    lines[rng.randrange(len(lines))] = rng.choice(("{", "[1]", "\0" * 40))
    (run / "history.jsonl").write_text("\n".join(lines) + "\n")


def metrics(run: Path, rng: random.Random) -> None:
    (run / "metrics.json").write_text(rng.choice(("", "[]", '{"loss": {"val')))


DAMAGES = (
    flip,
    flip,
    flip,
    zero,
    zero,
    truncate,
    remove,
    manifest,
    all_checkpoints,
    a_file,
    identity,
    history,
    metrics,
)


class Trials:
    """The trials of a folder. A reference run, and the run that is killed or damaged, are made when first needed."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.path = folder / "trials.jsonl"
        self.done = read_jsonl(self.path)
        made = folder / "made"
        made.mkdir(parents=True, exist_ok=True)
        self.settings = settings(made)
        rng = random.Random(0)
        words = "red blue green grey".split()  # noqa: SIM905
        pairs = [
            {"prompt": f"Is it {i}?", "chosen": f"yes {rng.choice(words)}", "rejected": f"no {rng.choice(words)}"}
            for i in range(100)
        ]
        (made / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        for stage in ("corpus", "tokenizer", *STAGES):
            if not (made / stage / "metrics.json").exists():
                started = time.monotonic()
                shutil.rmtree(made / stage, ignore_errors=True)
                if self.start(stage, made / stage):
                    sys.exit(f"{stage} failed: see {self.log}")
                (made / f"{stage}.seconds").write_text(str(time.monotonic() - started))
        self.whole = {stage: outcome(made / stage) for stage in STAGES}
        self.seconds = {stage: float((made / f"{stage}.seconds").read_text()) for stage in STAGES}

    @property
    def log(self) -> Path:
        return self.folder / "last.log"

    def start(self, stage: str, run: Path, ends: Callable[[], bool] = lambda: False) -> int | None:
        self.log.write_text("")  # the run may be killed before it opens its log
        config = run.with_suffix(".yaml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump({"output_dir": str(run), **self.settings[stage]}))
        return launch(stage, config, self.log, ends)

    def verdict(self, stage: str, run: Path, code: int | None) -> str:
        """Return "killed", "identical" or "refused", or else what is wrong."""
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if "Traceback (most recent call last):" in lines:
            return "a traceback"
        if code is None:
            return "killed"
        if code == 0:
            ended, whole = outcome(run), self.whole[stage]
            differs = [key for key in whole if ended[key] != whole[key]]
            if differs:
                shutil.copytree(run, self.folder / "wrong" / f"{stage}-{len(self.done)}")
            return f"another result: {', '.join(differs)}" if differs else "identical"
        return "refused" if code == 2 and len(errors) == 1 else f"exit code {code}"

    def keep(self, kind: str, stage: str, verdict: str, **more: Any) -> None:
        trial = {"kind": kind, "stage": stage, "verdict": verdict, **more}
        if verdict not in ("killed", "identical", "refused"):
            trial["output"] = self.log.read_text(errors="replace")[-4000:]
        self.done.append(trial)
        with self.path.open("a") as file:
            file.write(json.dumps(trial) + "\n")

    def count(self, kind: str) -> int:
        return sum(trial["kind"] == kind for trial in self.done)

    def kill(self, n: int) -> None:
        """Kill a run at a random moment. If it ends before that moment, check it and begin another one."""
        stage, rng = STAGES[n % len(STAGES)], random.Random(f"{self.seed} kill {n}")
        run = self.folder / "killed" / stage
        while True:
            end = time.monotonic() + rng.uniform(0, self.seconds[stage])
            verdict = self.verdict(stage, run, self.start(stage, run, lambda end=end: time.monotonic() > end))
            self.keep("kill" if verdict == "killed" else "end", stage, verdict)
            if verdict == "killed":
                return
            shutil.rmtree(run)

    def end(self, stage: str) -> None:
        """Let the run end that the last kill of this stage has left."""
        run = self.folder / "killed" / stage
        if run.exists():
            self.keep("end", stage, self.verdict(stage, run, self.start(stage, run)))
            shutil.rmtree(run)

    def damage(self, n: int) -> None:
        """Damage a run that was killed with two checkpoints or more, and start it again."""
        stage, rng = STAGES[n % len(STAGES)], random.Random(f"{self.seed} damage {n}")
        run, cut = self.folder / "damaged" / stage, self.folder / "cut" / stage
        while not cut.exists():
            shutil.rmtree(run, ignore_errors=True)
            if self.start(stage, run, lambda: len([*run.glob(f"checkpoint-*/{MANIFEST}")]) >= 2) is None:
                shutil.copytree(run, cut)
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(cut, run)
        what = rng.choice(DAMAGES)
        what(run, rng)
        self.keep("damage", stage, self.verdict(stage, run, self.start(stage, run)), what=what.__name__)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/damage"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    for stage in ("corpus", "tokenizer", *STAGES):
        load(stage)  # imported once, before all forks
    trials = Trials(given.folder.resolve(), given.seed)
    for kind, most in (("kill", given.kills), ("damage", given.damages)):
        while trials.count(kind) < most and time.monotonic() < end:
            getattr(trials, kind)(trials.count(kind))
    complete = trials.count("kill") >= given.kills and trials.count("damage") >= given.damages
    for stage in STAGES if complete else ():
        trials.end(stage)
    counts = Counter(f"{trial['kind']}: {trial['verdict']}" for trial in trials.done)
    wrong = [trial for trial in trials.done if trial["verdict"] not in ("killed", "identical", "refused")]
    for trial in wrong:
        print(json.dumps(trial))
    for line, n in sorted(counts.items()):
        print(f"{n:>5}  {line}")
    if not complete:
        print("the time is up: run the same command again to resume")
    if given.json:
        print(json.dumps({"trials": dict(counts), "wrong": len(wrong), "complete": complete}))
    return int(bool(wrong) or not complete)


if __name__ == "__main__":
    sys.exit(main())
