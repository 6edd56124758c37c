"""Digests of the rows that each trainer receives, so that a refactor can show that they are unchanged.

    python tests/digests.py --check [--fast] [--only PATTERN]     compare with tests/digests.json
    python tests/digests.py --write [--only PATTERN]              write them

Each training step of each recipe runs as `zero2chat STAGE --config …` does, but instead of `transformers.Trainer.train`
a function hashes the dataset, the first batches and the evaluation rows, and saves the untrained model for later steps.
Corpora, tokenizers and indexes are made by their stages. A digest has one hash per column, so that a difference names
the column. Hashes do not depend on dtypes, on the order of columns or on nulls.

Left out: steps that need the Hub or other data that is not here (`--write` names them), and stages that have no Trainer
(distill, memories, probe). What a trained model would choose or write is replaced: `comparisons`
and the rows of distill, interrogate and probe by fixtures; `pass_rate` keeps all prompts; `tasks` are not evaluated.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import gc
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import digest_fixtures
import yaml

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path(__file__).with_suffix(".json")
MAKES = ("attribution_corpus", "corpus", "tokenizer", "index")  # these stages run completely
BATCHES = 20
FAST = "fixture/*@1"
TWO_RANKS = (  # these steps also run on two ranks
    *("quickstart/pretrain", "quickstart/sft", "fixture/sft/packed", "fixture/sft/options"),
    *(f"fixture/{name}" for name in ("dpo/pairs", "kto/pairs", "reward/pairs")),
    *(f"fixture/{name}/problems" for name in ("grpo", "ppo", "gkd")),
)
CAPS = {"assistant/sft": 600}  # at most this many rows of each dataset: all of them run 21,500 programs

Settings = dict[str, Any]


class Step(NamedTuple):
    stage: str
    settings: Settings


# ---- what knows the project: module names and the files of recipes


def stage_of(name: str) -> Any:
    from zero2chat.stages import load

    return load(name)


def trains(stage: str) -> bool:
    return bool(stage_of(stage).kind == "trains")


def read_settings(path: Path) -> Settings:
    """Return a YAML's settings; those of its `base`, if it has one, come first."""
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    return merged(read_settings(path.parent / own.pop("base")), own) if "base" in own else own


def merged(settings: Settings, more: Settings) -> Settings:
    both = {key: settings[key] | more[key] for key in more if isinstance(more[key] and settings.get(key), dict)}
    return settings | more | both


def recipe_steps() -> dict[str, Step]:
    steps = {}
    for path in sorted((ROOT / "recipes").glob("*/*.yaml")):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = path.parent.name if path.name == "recipe.yaml" else f"{path.parent.name}-{path.stem}"
        for entry in recipe.get("steps", ()):
            if entry["stage"] in MAKES or trains(entry["stage"]):
                settings = read_settings(path.parent / entry["config"]) if "config" in entry else {}
                steps[f"{name}/{entry['name']}"] = Step(entry["stage"], merged(settings, entry.get("set", {})))
    return steps


# ---- hashes


def plain(value: Any) -> Any:
    """Return a value for JSON that does not depend on dtypes, or on keys without a value."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return float(f"{value:.5g}") if isinstance(value, float) else value


def hash_rows(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the hash of each column that has a value."""
    hashes: dict[str, Any] = {}
    filled = set()
    for row in rows:
        for key, value in row.items():
            text = json.dumps(plain(value), sort_keys=True)
            hashes.setdefault(key, hashlib.sha256()).update(text.encode() + b"\n")
            filled |= {key} if value is not None else set()
    return {f"{name}.{key}": hashes[key].hexdigest()[:10] for key in sorted(filled)}


def rows_of_batches(trainer: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the first batches, or their rows if these are prompts, with the ids of each prompt."""
    template = {"tools": getattr(trainer, "tools", None) or None, **(getattr(trainer, "chat_template_kwargs", 0) or {})}
    for batch in itertools.islice(trainer.get_train_dataloader(), BATCHES):
        if isinstance(batch, Mapping):
            yield batch
            continue
        encode = functools.partial(trainer.processing_class.apply_chat_template, add_generation_prompt=True, **template)
        yield from (row | {"prompt_ids": encode(row["prompt"])["input_ids"]} for row in batch)


def digest_of(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = hash_rows("batches", rows_of_batches(trainer))
    for name, rows in (("train", trainer.train_dataset), ("eval", trainer.eval_dataset)):
        if hasattr(rows, "with_format"):
            found |= {f"{name} rows": len(rows)} | hash_rows(name, rows.with_format(None))
    return found


# ---- running a step


class Digested(BaseException):
    """Ends a stage, which must not catch it."""


def digest_instead_of_training(trainer: Any, *_: Any, **__: Any) -> None:
    found = digest_of(trainer)
    folder = Path(trainer.args.output_dir)
    (folder / f"digest-{trainer.args.process_index}.json").write_text(json.dumps(found))
    if trainer.args.world_size == 1:
        if getattr(trainer.model.config, "num_labels", 2) == 1:  # the scale of a reward model's scores
            trainer.model.config.score_mean, trainer.model.config.score_std = 0.0, 1.0
        trainer.save_model(str(Path("models", *folder.parts[1:])))
    raise Digested


def run_stage(name: str, step: Step) -> None:
    import transformers

    config = Path("configs", f"{name}.yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    own = config.with_suffix(f".{os.environ.get('RANK', 0)}")  # neither rank may see it half written
    own.write_text(yaml.safe_dump(step.settings, sort_keys=False))
    own.replace(config)
    before, transformers.Trainer.train = dict(os.environ), digest_instead_of_training
    with Path(f"log-{os.environ.get('RANK', 0)}.txt").open("a") as log, contextlib.redirect_stdout(log):
        try:
            stage_of(step.stage).main(["--config", str(config)])
        except Digested:
            pass
        finally:
            os.environ.clear()
            os.environ.update(before)
            gc.collect()


class Missing(Exception):
    """The data of a step is not here."""


class Runner:
    """Runs steps in the working folder, each after those that it reads."""

    def __init__(self, steps: Mapping[str, Step]):
        self.steps, self.failed = steps, dict[str, Exception]()

    def digest(self, name: str, ranks: int) -> dict[str, Any]:
        if ranks == 1:
            self.make(name)
        if name in self.failed:
            raise self.failed[name]
        files = sorted(Path(f"out{ranks}/{name}").glob("digest-*.json"))
        if len(files) != ranks:
            raise RuntimeError(f"{len(files)} of {ranks} ranks came to training: see above")
        first, *others = [json.loads(file.read_text()) for file in files]
        batches = [{key: value for key, value in other.items() if key.startswith("batches")} for other in others]
        return first | {f"rank {n}: {key}": one[key] for n, one in enumerate(batches, 1) for key in one}

    def make(self, name: str) -> None:
        done = Path("done", name)
        if not done.exists() and name not in self.failed:
            try:
                run_stage(name, self.prepare(name))
                done.mkdir(parents=True)
            except Exception as error:
                self.failed[name] = error
        if name in self.failed:
            raise self.failed[name]

    def launch(self, names: Sequence[str], ranks: int) -> None:
        """Run steps on several ranks, one after the other in the same processes."""
        steps: dict[str, Step] = {}
        for name in names:
            shutil.rmtree(f"out{ranks}/{name}", ignore_errors=True)
            try:
                steps[name] = self.prepare(name, ranks)
            except Exception as error:
                self.failed[name] = error
        Path("launched.json").write_text(json.dumps(steps))
        launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file"]
        config = str(ROOT / "accelerate_configs/cpu_ddp.yaml")
        subprocess.run([*launch, config, __file__, "--launched"], stdout=subprocess.DEVNULL, check=False)

    def prepare(self, name: str, ranks: int = 1) -> Step:
        """Return the step as it runs here, after making what it reads."""
        stage, settings = self.steps[name]
        settings = self.read({key: value for key, value in settings.items() if key != "output_dir"})
        if not trains(stage):
            return Step(stage, settings | {"output_dir": f"runs/{name}"})
        for key in {"tasks", "tasks_steps", "pass_rate"} & settings.keys():  # need the trained model's answers
            settings[key] = [] if key == "tasks" else None
        if settings.pop("comparisons", None):  # of the model's own answers
            settings["datasets"] = [{"path": "fixtures/ranked.jsonl"}, *settings.get("datasets", [])]
        for entry in settings["datasets"] if name in CAPS else ():
            entry["n"] = min(entry["n"], CAPS[name])
        return Step(stage, settings | {"output_dir": f"out{ranks}/{name}"})

    def read(self, value: Any) -> Any:
        """Return settings with the paths of what earlier steps make here, after making it."""
        if isinstance(value, dict):
            if value.get("task") == "countries":
                self.read("data/almanac")
            return {key: self.read(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if not isinstance(value, str) or not value.startswith(("runs/", "data/")):
            return value
        if value.startswith("data/"):
            if not Path(*Path(value).parts[:2]).exists():
                raise Missing(f"{value} is not here")
            return value
        if value.endswith(".jsonl"):  # rows that a trained model writes
            return f"fixtures/{'distilled' if '/data/' in value else 'ranked'}.jsonl"
        name = next((name for name in self.steps if f"{value}/".startswith(f"runs/{name}/")), "")
        if not name:
            raise Missing(f"no stage here makes {value}")
        self.make(name)
        return value.replace("runs/", "models/", 1) if trains(self.steps[name].stage) else value


def cases(steps: Mapping[str, Step], pattern: str, fast: bool) -> dict[str, tuple[str, int]]:
    every = [(name, 1) for name, step in steps.items() if trains(step.stage)] + [(name, 2) for name in TWO_RANKS]
    named = {f"{name}@{ranks}": (name, ranks) for name, ranks in every}
    fits = [pattern, FAST] if fast else [pattern]
    return {key: case for key, case in named.items() if all(fnmatch.fnmatch(key, each) for each in fits)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--write", "--check", "--fast", "--launched"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--work", help="a folder to keep: a later call does not make again what is there")
    parser.add_argument("--only", default="*", help="such as 'quickstart/*@1': STEP@RANKS")
    args = parser.parse_args()
    sys.path[0] = str(ROOT / "src")  # not tests/, whose folders have the names of packages
    if args.launched:
        for name, step in json.loads(Path("launched.json").read_text()).items():
            run_stage(name, Step(*step))
        return 0
    reference = json.loads(REFERENCE.read_text())
    failed = 0
    if args.work:
        Path(args.work).mkdir(exist_ok=True)
    with (
        contextlib.nullcontext(args.work) if args.work else tempfile.TemporaryDirectory() as work,
        contextlib.chdir(work),
    ):
        quiet = {"HF_HOME": f"{work}/hf", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        os.environ.update(quiet | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
        if not Path("fixtures").exists():
            for folder in ("data", "chat_templates", "recipes"):
                Path(folder).symlink_to(ROOT / folder)
            digest_fixtures.write(Path("fixtures"))
        steps = recipe_steps() | {
            name: Step(*step) for name, step in digest_fixtures.steps().items()
        }  # imports stages, with these variables
        runner = Runner(steps)
        chosen = {
            key: case for key, case in cases(steps, args.only, args.fast).items() if args.write or key in reference
        }
        if launched := [name for name, ranks in chosen.values() if ranks == 2]:
            runner.launch(launched, 2)
        for key, case in chosen.items():
            began = time.monotonic()
            try:
                found = runner.digest(*case)
                known = reference.get(key, {})
                changed = sorted(name for name in found | known if found.get(name) != known.get(name))
                said = f"differs in {', '.join(changed)}" if changed else "equal"
                failed += bool(changed)
                if args.write:
                    save({key: found}, cases(steps, "*", False))
            except Missing as error:
                said = f"left out: {error}"
            except Exception as error:
                said = f"failed: {type(error).__name__}: {error}"
                failed += 1
            print(f"{key}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
    return 0 if args.write else int(failed > 0)


def save(digests: Mapping[str, Any], known: Container[str]) -> None:
    """Add digests to the file, and remove those of steps that no longer exist."""
    every = {key: value for key, value in json.loads(REFERENCE.read_text()).items() if key in known} | digests
    lines = [f"{json.dumps(key)}: {json.dumps(every[key])}" for key in sorted(every)]
    REFERENCE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main())
