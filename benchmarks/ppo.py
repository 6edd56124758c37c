"""Our PPO compared with TRL 1.12.0's, its last: seconds, memory, and time to a gold reward.

    make peer-ppo && python benchmarks/ppo.py [--rollouts 20] [--tune] [--json]

Needs the school's `sft` and `reward`, and Linux. TRL's trainer is `trl.experimental.ppo`. Each side is a separate
process with this interpreter and its own TRL. Threads, allocator, precision, models, prompts, reward and settings are
those of recipes/school/ppo.yaml on both sides, with a constant learning rate. The sides take turns, one rollout of 64
completions each, so that other load on the machine affects both. Peak memory is the process's peak resident memory
(VmHWM), including libraries.

TRL has a separate value model, ours a value head on the policy. `--tune`: both sides try the same 8 settings on
validation rows. The best of each runs again with other seeds until the gold reward of held-out lines has gained GAIN;
evaluation does not count as time. About 2 minutes, and 20 with `--tune`, on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback

PEER = Path(".peers/trl-1.12")
POLICY, REWARD = "runs/school/sft", "runs/school/reward"
SIDES = {"theirs": "TRL 1.12.0", "ours": "ours"}

PROMPTS, LONGEST, ANSWERS = 4000, 40, 64
WARM_UP = 3  # rollouts, not counted
# Keys with the same name in both configs
SETTINGS = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",  # the two count warm-up in different steps
    "num_ppo_epochs": 2,
    "num_mini_batches": 1,
    "per_device_train_batch_size": ANSWERS,
    "kl_coef": 0.05,
    "cliprange": 0.2,
    "vf_coef": 0.1,
    "gamma": 1.0,
    "lam": 0.95,
    "temperature": 1.0,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "disable_tqdm": True,
}
# Of --tune
GRID = [{"learning_rate": rate, "num_ppo_epochs": epochs} for rate in (4e-4, 8e-4, 2e-4, 1.6e-3) for epochs in (2, 4)]
GAIN = 0.25  # of gold, from 0 to 1, over the SFT model's
CAP = 60  # most rollouts of a trial
LOOK_EVERY, HELD_OUT = 2, 128  # rollouts between two evaluations of gold, and lines per evaluation
SEEDS = (1, 2, 3)


# ---- a side's process: it trains one rollout per order


def run_side(job: dict[str, Any]) -> None:
    """Trains as the job says: one rollout and one line of JSON on stdout for each line on stdin."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # stdout is for messages only, not for what the trainers print
    from datasets import Dataset
    from transformers import TrainerCallback

    from zero2chat.inference.generate import answer
    from zero2chat.models.loading import load_model
    from zero2chat.tasks import ask
    from zero2chat_practice import lines

    model, tokenizer = load_model(POLICY)
    prompts = [ask(row) for row in lines.rows("train", 0, PROMPTS)]
    held_out = lines.rows(job["split"], 0, HELD_OUT) if job["split"] else []

    class Turns(TrainerCallback):
        done = 0  # rollouts
        steps = 0

        def report(self, **said: Any) -> None:
            if held_out and self.done % LOOK_EVERY == 0:
                asked = [ask(row) for row in held_out]
                answers = answer(model, tokenizer, asked, LONGEST, temperature=1.0)
                said["gold"] = statistics.mean(
                    lines.taste(row, a.text) for row, a in zip(held_out, answers, strict=True)
                )
            (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
            print(json.dumps(said | {"mib": int(peak.split()[1]) / 1024}), file=channel, flush=True)
            if not sys.stdin.readline():
                os._exit(0)
            self.start = time.perf_counter()

        def on_train_begin(self, *args: Any, **more: Any) -> None:
            self.report()

        def on_step_end(self, *args: Any, **more: Any) -> None:
            self.steps += 1
            if self.steps % job["steps_per_rollout"] == 0:
                seconds = time.perf_counter() - self.start
                self.done += 1
                self.report(seconds=seconds)

    if job["side"] == "theirs":
        ids = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_dict=True)["input_ids"]
        train_theirs(job, model, tokenizer, Dataset.from_dict({"input_ids": ids}), Turns())
    else:
        train_ours(job, model, tokenizer, Dataset.from_dict({"prompt": prompts}), Turns())


def train_ours(job: dict[str, Any], model: Any, tokenizer: Any, prompts: Any, turns: TrainerCallback) -> None:
    """Trains as stages/ppo.py does."""
    from zero2chat.inference.fast_generate import use_fast_rollouts
    from zero2chat.models.chat_template import end_turn
    from zero2chat.models.reward_model import load_reward_model
    from zero2chat.trainers.ppo.config import PPOConfig
    from zero2chat.trainers.ppo.rewards import RewardModel
    from zero2chat.trainers.ppo.trainer import PPOTrainer

    end_turn(model, tokenizer)
    use_fast_rollouts(model)
    epochs = job["settings"]["num_ppo_epochs"]
    config = PPOConfig(
        **job["settings"],
        cliprange_value=None,
        max_completion_length=LONGEST,
        max_steps=job["rollouts"] * epochs,
        logging_steps=epochs,  # one line per rollout, as in TRL
    )
    reward, reward_tokenizer = load_reward_model(REWARD)
    PPOTrainer(
        model=model,
        args=config,
        rewards=[RewardModel("reward", reward, reward_tokenizer)],
        train_dataset=prompts,
        processing_class=tokenizer,
        callbacks=[turns],
    ).train()


def train_theirs(job: dict[str, Any], model: Any, tokenizer: Any, prompts: Any, turns: TrainerCallback) -> None:
    """Trains as TRL's example does, with `stop_token="eos"` and the value model from the reward model."""
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    assert trl.__version__ == "1.12.0", trl.__version__
    config = PPOConfig(
        **job["settings"],
        cliprange_value=1e9,  # TRL cannot disable it
        response_length=LONGEST,
        stop_token="eos",
        total_episodes=job["rollouts"] * ANSWERS,
        num_sample_generations=0,
    )
    reward, value = (AutoModelForSequenceClassification.from_pretrained(REWARD, dtype="float32") for _ in range(2))
    for head in (reward.score, value.score):  # in standard deviations of the scores, as in ours
        head.weight.data /= reward.config.score_std
    PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(POLICY, dtype="float32"),
        reward_model=whole_conversation(reward, tokenizer),
        value_model=value,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(ANSWERS)),  # required by TRL, and unused
        callbacks=[turns],
    ).train()


def whole_conversation(reward: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The reward model for TRL, which reads the score at a completion's last token.

    It was trained to score at the end of the chat template, one line break later. Truncated completions end there too.
    """
    import torch
    from torch import nn

    end, line_break = tokenizer.eos_token_id, tokenizer("\n")["input_ids"][0]

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = reward.model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> Any:
            rows, mask = torch.arange(len(input_ids)), nn.functional.pad(attention_mask.long(), (0, 2))
            last = (mask * torch.arange(mask.shape[1])).argmax(1)
            ids = nn.functional.pad(input_ids, (0, 2))
            final = last + 1 + (ids[rows, last] != end)
            ids[rows, last + 1], mask[rows, last + 1] = end, 1
            ids[rows, final], mask[rows, final] = line_break, 1
            more |= {"position_ids": mask.cumsum(1) - mask}
            output = self.model(input_ids=ids, attention_mask=mask, **more)
            hidden = output.hidden_states[-1]
            hidden[rows, last] = hidden[rows, final]
            return output

    class Reward(nn.Module):
        base_model_prefix = "backbone"

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.score = Backbone(), reward.score

    return Reward().eval()


# ---- the comparison


class Failed(SystemExit):
    """A side's process has ended; the message is its last output."""


class Contender:
    """One side's process, which waits for the order to do a rollout."""

    def __init__(self, name: str, folder: Path, rollouts: int, split: str = "", seed: int = 0, **changed: Any):
        settings = SETTINGS | machine() | changed | {"output_dir": str(folder / name), "seed": seed}
        # A rollout is one step of TRL's trainer.
        steps = 1 if name == "theirs" else settings["num_ppo_epochs"] * settings["num_mini_batches"]
        job = {"side": name, "rollouts": rollouts, "split": split, "steps_per_rollout": steps, "settings": settings}
        environment = dict(launch_environment())
        if name == "theirs":
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PEER), environment.get("PYTHONPATH")]))
            # TRL's Accelerator reads this variable of `accelerate launch`, not the settings' bf16.
            environment["ACCELERATE_MIXED_PRECISION"] = "bf16" if settings["bf16"] else "no"
        self.name, self.log = name, folder / f"{name}.log"
        self.seconds: list[float] = []  # of each rollout
        self.golds: list[float] = []  # of the start model, and after each LOOK_EVERY rollouts
        self.mib = 0.0
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--side", json.dumps(job)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def listen(self) -> None:
        """Waits until the process has started, or has done a rollout."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"ppo: {SIDES[self.name]} failed:\n{self.log.read_text()[-3000:]}")
        said = json.loads(line)
        self.mib = said["mib"]
        self.seconds += [said["seconds"]] if "seconds" in said else []
        self.golds += [said["gold"]] if "gold" in said else []

    def roll_out(self) -> None:
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        self.listen()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@functools.cache
def machine() -> dict[str, Any]:
    """The settings that the stages derive from the machine."""
    from zero2chat.trainers.arguments import for_this_machine

    return for_this_machine({})


@functools.cache
def launch_environment() -> dict[str, str]:
    """The environment that launches the recipe's step."""
    from zero2chat.recipes.recipe import load_recipe
    from zero2chat.recipes.runner import environment

    (step,) = (step for step in load_recipe("recipes/school") if step.name == "ppo")
    return environment(step) | {"HF_HUB_OFFLINE": "1"}


@contextlib.contextmanager
def started(changed: dict[str, dict[str, Any]], **more: Any) -> Iterator[list[Contender]]:
    """The sides by name, with their changes, ready for the first rollout."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        sides = []
        for name, settings in changed.items():
            sides.append(Contender(name, Path(scratch), **settings, **more))
            stack.callback(sides[-1].close)
        for side in sides:
            side.listen()
        yield sides


def speed_and_memory(rollouts: int) -> dict[str, dict[str, float]]:
    """Seconds per episode, and MiB, of each contestant."""
    with started({name: {} for name in SIDES}, rollouts=WARM_UP + rollouts) as sides:
        for _ in range(WARM_UP + rollouts):
            for side in sides:
                side.roll_out()
        return {
            side.name: {"seconds_an_episode": statistics.median(side.seconds[WARM_UP:]) / ANSWERS, "peak_mib": side.mib}
            for side in sides
        }


def race(changed: dict[str, dict[str, Any]], limits: dict[str, float], **more: Any) -> dict[str, float]:
    """Seconds of training that each side needs to reach the target; infinite if it fails, or beyond limit or CAP."""
    found = dict.fromkeys(changed, math.inf)
    with started(changed, rollouts=CAP, **more) as sides:
        target = sides[0].golds[0] + GAIN
        while sides:
            for side in list(sides):
                try:
                    side.roll_out()
                    over = len(side.seconds) == CAP or sum(side.seconds) >= limits[side.name]
                except Failed as failure:  # ours aborts if KL explodes
                    print(failure, flush=True)
                    over = True
                else:
                    if side.golds[-1] >= target:
                        found[side.name], over = sum(side.seconds), True
                if over:
                    side.close()
                    sides.remove(side)
    return found


def tune() -> dict[str, dict[str, Any]]:
    """Each side's best setting, and its seconds to the target with each of SEEDS."""
    best = {"theirs": math.inf, "ours": math.inf}
    chosen = dict.fromkeys(best, GRID[0])
    for settings in GRID:
        # A trial that has taken longer than the best cannot win.
        found = race(dict.fromkeys(best, settings), best, split="validation")
        print(f"{named(settings)}: " + ", ".join(f"{SIDES[name]} {shown(s)}" for name, s in found.items()), flush=True)
        for name, seconds in found.items():
            if seconds < best[name]:
                best[name], chosen[name] = seconds, settings
    unbounded = dict.fromkeys(best, math.inf)
    again = [race(chosen, unbounded, split="test", seed=seed) for seed in SEEDS]
    return {name: {"settings": chosen[name], "seconds": [found[name] for found in again]} for name in best}


def named(settings: dict[str, Any]) -> str:
    return f"learning rate {settings['learning_rate']:g}, {settings['num_ppo_epochs']} epochs"


def shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if math.isfinite(seconds) else "not in time"  # of the best trial, or CAP rollouts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20, help="measured rollouts per side (default 20)")
    parser.add_argument("--tune", action="store_true", help="also measure the time to the same gold reward")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_side(json.loads(args.side))
        return
    school = "zero2chat run recipes/school"
    for needed, maker in ((PEER, "make peer-ppo"), (POLICY, school), (REWARD, school)):
        if not Path(needed).exists():
            raise SystemExit(f"ppo: {needed} does not exist: run `{maker}` first")

    found: dict[str, Any] = speed_and_memory(args.rollouts)
    theirs = found["theirs"]
    print(f"{'':<18} {'ms per episode':>13} {'ratio':>6} {'peak MiB':>9} {'ratio':>6}")
    for name, label in SIDES.items():
        it = found[name]
        it |= {f"{key}_ratio": it[key] / theirs[key] for key in ("seconds_an_episode", "peak_mib")}
        speed = f"{1000 * it['seconds_an_episode']:>13.1f} {it['seconds_an_episode_ratio']:>6.2f}"
        print(f"{label:<18} {speed} {it['peak_mib']:>9,.0f} {it['peak_mib_ratio']:>6.2f}")
    if args.tune:
        tuned = tune()
        for name, it in tuned.items():
            each = ", ".join(map(shown, it["seconds"]))
            print(f"{SIDES[name]}: best with {named(it['settings'])}; gold + {GAIN} after {each}")
        medians = [statistics.median(tuned[name]["seconds"]) for name in ("ours", "theirs")]
        ratio = medians[0] / medians[1] if math.isfinite(medians[0]) else math.inf
        print(f"seconds to the same gold, medians: ratio {ratio:.2f}")
        for it in tuned.values():
            it["seconds"] = [seconds if math.isfinite(seconds) else None for seconds in it["seconds"]]
        found["to_gold"] = tuned | {"ratio": ratio if math.isfinite(ratio) else None}
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
