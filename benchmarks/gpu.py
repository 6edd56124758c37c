"""How fast is this GPU in each stage, and how much memory does it take? Each figure beside that of `zero2chat plan`.

    python benchmarks/gpu.py [--only pretrain sft …] [--out build/gpu.json] [--json]
    python benchmarks/gpu.py --table benchmarks/gpu/*.json

Needs one GPU, and no network: models have random weights in the sizes that `plan` knows, and the data is generated. The
stages are the repository's own, with the settings of its recipes. A section that is not installed, does not fit in
memory or finds no time left is skipped, with the reason. It stops after `--minutes`. `--tiny` runs every section with
tiny shapes, also on a CPU. `--table` prints the Markdown of docs/gpus.md from files that `--out` wrote.

Runs from a checkout, without installing it: torch, transformers, accelerate, trl and datasets are enough, and
peft for LoRA.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

SMALL, LARGE = "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-8B-Base"
MFU = 0.4  # that `zero2chat plan` assumes
LONGEST = 30.0  # seconds of measured training steps in a section
# Shapes of `--tiny`, by the fields of GPT-2's config and of the others'
_TINY_GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 512}
_TINY: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_TINY |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 512, "max_position_embeddings": 256}

Rows = list[dict[str, Any]]  # each with `what`, `measured`, and `plan` (None where `plan` has no such figure)


class Skipped(Exception):
    """A section that cannot run here. The message says why."""


class _Measured(BaseException):
    """Ends a stage after its training: nothing has to be evaluated or saved."""


class _TimeIsUp(BaseException):
    """Ends a section, whatever handlers of errors it is in."""


def row(what: str, measured: float | None, plan: float | None = None) -> dict[str, Any]:
    return {"what": what, "measured": measured, "plan": plan}


@dataclass
class Bench:
    """The device, and a folder for models, data and runs."""

    folder: Path
    tiny: bool
    device: Any  # torch.device
    gpu: Any  # zero2chat.models.hardware.Gpu
    name: str

    def of(self, whole: Any, tiny: Any) -> Any:
        return tiny if self.tiny else whole

    def wait(self) -> None:
        """Wait for the GPU, so that the clock counts its work."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], times: int = 1) -> float:
        """Seconds of one call of `work`, the best of `times`."""
        best = float("inf")
        for _ in range(times):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            best = min(best, time.perf_counter() - start)
        return best

    def peak(self) -> Rows:
        """The peak memory since `forget_peak`, in GB; none on a CPU."""
        import torch

        return [row("peak memory, GB", torch.cuda.max_memory_allocated() / 1e9)] if self.device.type == "cuda" else []

    def forget_peak(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def free(self) -> None:
        """Free what an earlier trainer held: it is referenced in circles, and by torch.compile."""
        import torch

        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---- models and data

    def shape(self, name: str) -> str:
        """A folder with the config and a tokenizer of the model `name`, without weights."""
        from transformers import AutoConfig

        from zero2chat.recipes.model_sizes import DIMENSIONS

        folder = self.folder / name.rpartition("/")[2]
        if not folder.exists():
            fields = DIMENSIONS[name][0] | (_TINY if self.tiny else {})
            config = AutoConfig.for_model(fields.pop("model_type"), **fields)
            config.save_pretrained(folder)
            write_tokenizer(folder, config.vocab_size)
        return str(folder)

    def build(self, path: str, dtype: str | None, **options: Any) -> tuple[Any, Any]:
        """The model of a folder with random weights, made on the device, and the folder's tokenizer."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from zero2chat.models.loading import load_tokenizer

        config = AutoConfig.from_pretrained(path)
        known = dtype if dtype not in (None, "auto") else "float32"
        with self.device:
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, str(known)), **options)
        model.config._name_or_path = path
        return model.eval(), load_tokenizer(path)

    def open_model(self, model_args: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """What the stages call to load a model, without a file of weights."""
        return self.build(
            model_args.model_name_or_path, model_args.dtype, attn_implementation=model_args.attn_implementation
        )

    def text(self, rng: random.Random, size: int) -> str:
        """About `size` characters, each a token."""
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(50)]
        return " ".join(rng.choices(words, k=max(1, round(size / 6.5))))

    def write(self, name: str, rows: Sequence[dict[str, Any]]) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        return str(path)

    # ---- a training stage

    def train(
        self, name: str, stage: str, settings: dict[str, Any], warm: int, steps: int, rollout: str = ""
    ) -> tuple[_Clock, dict[str, Any]]:
        """Run a training stage for `warm` steps and then for `steps` that are measured. `rollout` is the trainer's
        method that generates. Returns the clock and the plan.

        Raises `Skipped` if `plan` finds no batch that fits.
        """
        import yaml
        from transformers import Trainer

        from zero2chat import stages
        from zero2chat.trainers import start

        settings |= {"output_dir": str(self.folder / "runs" / name), "max_steps": warm + steps, "report_to": "none"}
        settings |= {"save_strategy": "no", "disable_tqdm": True}
        path = self.folder / f"{name}.yaml"
        planned = self.plan(stage, settings, path)
        memory = planned["memory"]["single_gpu"]
        if not memory["largest_micro_batch"]:
            needed, room = memory["peak"], self.gpu.memory / 1e9
            raise Skipped(f"does not fit: plan says {needed:.0f} GB, and this device has {room:.0f}")
        while settings["per_device_train_batch_size"] > memory["largest_micro_batch"]:
            settings["per_device_train_batch_size"] //= 2
            planned = self.plan(stage, settings, path)
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")

        self.free()
        clock = _Clock(self, warm, rollout)
        real = Trainer.train

        def watched(trainer: Any, *rest: Any, **more: Any) -> None:
            clock.watch(trainer)
            real(trainer, *rest, **more)
            clock.rows += self.peak()
            raise _Measured

        # vLLM reads the weights from files
        opened = {} if settings.get("use_vllm") else {"open_model": self.open_model}
        with replaced(Trainer, train=watched), replaced(start, **opened), contextlib.suppress(_Measured):
            stages.load(stage).main(["--config", str(path)])
        for one in clock.rows:
            if one["what"] == "peak memory, GB":
                one["plan"] = planned["memory"]["single_gpu"]["peak"]
        return clock, planned

    def plan(self, stage: str, settings: dict[str, Any], path: Path) -> dict[str, Any]:
        from zero2chat.recipes.plan import plan_step
        from zero2chat.recipes.recipe import Step

        step = Step(path.stem, stage, path, (), "single_gpu", {}, settings)
        return plan_step(step, [step], self.gpu, gpus=1, mfu=MFU)


class _Clock:
    """Times a trainer's steps after the first `warm` ones, and counts their tokens."""

    def __init__(self, bench: Bench, warm: int, rollout: str):
        self.bench, self.warm, self.rollout = bench, warm, rollout
        self.rows: Rows = []
        self.steps = self.processed = 0  # `tokens` are the `processed` ones without padding
        self.tokens: Any = 0
        self.seconds = self.generating = 0.0

    def watch(self, trainer: Any) -> None:
        from transformers import TrainerCallback

        clock = self
        start = 0.0

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock.bench.forget_peak()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                nonlocal start
                if state.global_step < clock.warm:
                    return
                if state.global_step == clock.warm:
                    clock.bench.wait()
                    start = time.perf_counter()
                    clock.generating, clock.tokens, clock.processed = 0.0, 0, 0
                    return
                control.should_training_stop |= time.perf_counter() - start > LONGEST
                if control.should_training_stop or state.global_step >= state.max_steps:
                    clock.bench.wait()
                    clock.seconds, clock.steps = time.perf_counter() - start, state.global_step - clock.warm

        trainer.add_callback(Callback())
        training_step = trainer.training_step

        def counted(model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            if "input_ids" in inputs:  # prompts to generate from are a list
                size, mask = inputs["input_ids"].numel(), inputs.get("attention_mask")
                clock.processed += size
                clock.tokens += size if mask is None else mask.sum()  # read only when the clock has stopped
            return training_step(model, inputs, *rest, **more)

        trainer.training_step = counted
        if self.rollout:
            generate = getattr(trainer, self.rollout)

            def timed(*args: Any, **more: Any) -> Any:
                found: list[Any] = []
                self.generating += self.bench.seconds(lambda: found.append(generate(*args, **more)))
                return found[0]

            setattr(trainer, self.rollout, timed)

    @property
    def tokens_per_second(self) -> float:
        return int(self.tokens) / self.seconds


@contextlib.contextmanager
def replaced(module: Any, **names: Any) -> Iterator[None]:
    before = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def write_tokenizer(folder: Path, size: int) -> None:
    """Save a tokenizer of `size` tokens, which splits text into bytes: a text has as many tokens as it has bytes. The
    further tokens make sure that a sample of random weights can be decoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from zero2chat.models.tokenization import PAD, SPECIAL_TOKENS, TURN_END, set_chat_template

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    more = size - len(letters) - len(SPECIAL_TOKENS)
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"word{i}" for i in range(more))])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=TURN_END, pad_token=PAD)
    set_chat_template(fast, ROOT / "chat_templates" / "chatml.jinja")
    fast.save_pretrained(folder)


def recipe(path: str, *without: str, **changes: Any) -> dict[str, Any]:
    """The settings of a stage's YAML or of a recipe's step (`chat/qwen3-8b.yaml#sft`), without some keys and with some
    changes."""
    from zero2chat.recipes.recipe import load_recipe
    from zero2chat.stages.command_line import load_settings

    file, _, name = path.partition("#")
    of_step = {step.name: step.settings for step in load_recipe(ROOT / "recipes" / file)} if name else {}
    settings = of_step[name] if name else load_settings(ROOT / "recipes" / file)
    return {key: value for key, value in settings.items() if key not in without} | changes


# ---- the sections


def device(bench: Bench) -> Rows:
    """Rates of the device itself."""
    import torch

    n, size = bench.of(8192, 128), bench.of(2**29, 2**16)
    a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in "ab")
    out = torch.empty_like(a)
    matmul = bench.seconds(lambda: torch.mm(a, b, out=out), times=20)
    source = torch.zeros(size, device=bench.device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = bench.seconds(lambda: target.copy_(source), times=20)
    return [
        row("bf16 matrix product, TFLOP/s", 2 * n**3 / matmul / 1e12, bench.gpu.peak / 1e12),
        row("copy, GB/s read and written", 2 * source.nbytes / copy / 1e9),
    ]


def pretrain(bench: Bench) -> Rows:
    """GPT-2 124M, as in recipes/gpt2/124m.yaml."""
    warm, steps, batch, length = bench.of((3, 10, 128, 1024), (1, 2, 4, 64))
    rng = random.Random(0)
    sizes = {"train": (warm + steps + 1) * batch * length, "validation": 2 * length}
    for split, size in sizes.items():
        texts = [{"text": bench.text(rng, 2000)} for _ in range(size // 1500 + 1)]
        corpus = str(Path(bench.write(f"corpus/{split}.jsonl", texts)).parent)
    write_tokenizer(bench.folder / "gpt2", bench.of(50_257, 512))
    changes: dict[str, Any] = {"dataset": corpus, "tokenizer": str(bench.folder / "gpt2"), "sample_prompts": []}
    changes |= {"global_batch_size": batch, "max_length": length, "dataset_num_proc": None}
    if bench.tiny or find_spec("triton") is None:
        changes["torch_compile"] = False
    settings = recipe("gpt2/pretrain.yaml", **changes)
    if bench.tiny:
        settings |= {"model": settings["model"] | _TINY_GPT2, "per_device_train_batch_size": 2}
    clock, planned = bench.train("pretrain", "pretrain", settings, warm, steps)
    compiled = "compiled" if settings.get("torch_compile") else "not compiled"
    mfu = clock.tokens_per_second * planned["flops_per_token"] / bench.gpu.peak
    rows = [row(f"tokens/s, {compiled}", clock.tokens_per_second, planned["tokens_per_second"])]
    return [*rows, row("MFU, %", 100 * mfu, 100 * MFU), *clock.rows]


def _conversations(bench: Bench, n: int, longest: int) -> str:
    """Conversations of generated text, whose lengths are spread as those of chat data: a few are many times longer than
    most."""
    rng = random.Random(1)
    rows = []
    for _ in range(n):
        size = min(rng.lognormvariate(0, 0.8) * longest / 3, 0.7 * longest)
        texts = bench.text(rng, 0.3 * size), bench.text(rng, 0.7 * size)
        turns = zip(("user", "assistant"), texts, strict=True)
        rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return bench.write("conversations.jsonl", rows)


def _sft(bench: Bench, name: str, path: str, model: str, steps: tuple[int, int], batch: int, **changes: Any) -> Rows:
    without = ("load_in_4bit", "use_bnb_nested_quant", "merge_adapter", "optim")
    if changes.get("packing"):
        without = (*without, "train_sampling_strategy")
    length = bench.of(2048, 128)
    # Each step needs rows of its own; in packed rows there are about three conversations.
    rows = sum(steps) * batch * (4 if changes.get("packing") else 1)
    changes |= {"model_name_or_path": bench.shape(model), "max_length": length, "global_batch_size": batch}
    changes |= {"datasets": [{"path": _conversations(bench, rows, length)}]}
    settings = recipe(path, *without, **changes)
    if bench.tiny:
        settings["per_device_train_batch_size"] = 2
    clock, planned = bench.train(name, "sft", settings, *steps)
    rate = row("tokens/s without padding", clock.tokens_per_second, planned["tokens_per_second"])
    return [rate, row("padding, %", 100 * (1 - int(clock.tokens) / clock.processed)), *clock.rows]


def sft(bench: Bench) -> Rows:
    """SFT of Qwen3-0.6B's shape, as in recipes/chat: rows of similar length together, and packed rows."""
    steps, batch = bench.of((2, 8), (1, 2)), bench.of(64, 4)
    found: Rows = []
    for name, packing in (("not packed", False), ("packed", True)):
        made = _sft(
            bench,
            f"sft-{name.replace(' ', '-')}",
            "chat/sft.yaml",
            SMALL,
            steps,
            batch // (2 * packing or 1),
            packing=packing,
            **({} if packing else {"train_sampling_strategy": "group_by_length"}),
        )
        found += [one | {"what": f"{name}: {one['what']}"} for one in made]
    return found


def lora(bench: Bench) -> Rows:
    """LoRA of Qwen3-8B's shape on bf16 weights, else as in recipes/chat."""
    from zero2chat.models.hardware import bf16_is_fast

    if find_spec("peft") is None:
        raise Skipped("PEFT is not installed")
    if bench.device.type == "cuda" and not bf16_is_fast():
        raise Skipped("this GPU has no bf16")
    steps, batch = bench.of((1, 5), (1, 2)), bench.of(16, 8)
    return _sft(bench, "lora", "chat/qwen3-8b.yaml#sft", LARGE, steps, batch // 2, packing=True)


def _prompts(bench: Bench) -> str:
    rng = random.Random(2)
    rows = [{"prompt": bench.text(rng, bench.of(128, 16)), "answer": "none"} for _ in range(512)]
    return bench.write("prompts.jsonl", rows)


def _reinforce(bench: Bench, name: str, stage: str, rollout: str, settings: dict[str, Any], at_once: int) -> Rows:
    """Time a stage that generates with one model of Qwen3-0.6B's shape; `at_once` completions a rollout."""
    new = bench.of(256, 8)
    path = bench.shape(SMALL)
    settings |= {"model_name_or_path": path, "max_completion_length": new, "global_batch_size": at_once, "tasks": []}
    settings |= {"datasets": [{"path": _prompts(bench)}], "chat_template_path": "chat_templates/chatml.jinja"}
    settings |= {"rewards": [{"function": "zero2chat.rewards.length.short_answer"}]}
    if bench.tiny:
        settings |= {"per_device_train_batch_size": 2}
    if settings.get("use_vllm"):  # it reads the weights from files
        model, _ = bench.build(path, "bfloat16")
        model.save_pretrained(path)
        del model
    epochs = settings.get("num_ppo_epochs", 1)  # optimizer steps on one rollout
    clock, planned = bench.train(name, stage, settings, epochs, bench.of(3, 1) * epochs, rollout)
    rollouts = clock.steps / epochs
    a_rollout, a_step = clock.generating / rollouts, (clock.seconds - clock.generating) / clock.steps
    return [
        row("completions/s in all", at_once * rollouts / clock.seconds),
        row(f"a rollout of {at_once} × {new} tokens, s", a_rollout),
        row("tokens/s in rollouts", at_once * new / a_rollout),
        row("a step without its rollout, s", a_step, planned["tokens_per_step"] / planned["tokens_per_second"]),
        *clock.rows,
    ]


def grpo(bench: Bench) -> Rows:
    """GRPO of Qwen3-0.6B's shape, as in recipes/gsm8k-qwen3-0.6b but with our own rollouts."""
    settings = recipe("gsm8k-qwen3-0.6b/grpo.yaml", "vllm_mode", "vllm_gpu_memory_utilization", use_vllm=False)
    settings |= bench.of({}, {"num_generations": 2})
    return _reinforce(bench, "grpo", "grpo", "_generate_and_score_completions", settings, bench.of(64, 4))


def grpo_vllm(bench: Bench) -> Rows:
    """The same with vLLM in the trainer's process."""
    if find_spec("vllm") is None:
        raise Skipped("vLLM is not installed")
    if bench.device.type == "cpu":
        raise Skipped("vLLM needs a GPU to share the trainer's process")
    settings = recipe("gsm8k-qwen3-0.6b/grpo.yaml", **bench.of({}, {"num_generations": 2}))
    return _reinforce(bench, "grpo-vllm", "grpo", "_generate_and_score_completions", settings, bench.of(64, 4))


def ppo(bench: Bench) -> Rows:
    """PPO of Qwen3-0.6B's shape with a value head and a reward function, else as in recipes/rlhf."""
    settings = recipe("rlhf/ppo.yaml", "kl_budget", "max_prompt_length")
    return _reinforce(bench, "ppo", "ppo", "_roll_out", settings, bench.of(64, 4))


def evaluate(bench: Bench) -> Rows:
    """The stage evaluate with Qwen3-0.6B's shape, greedily, with its defaults."""
    from zero2chat.models.chat_template import end_turn

    module = importlib.import_module("zero2chat.stages.evaluate")
    n, new = bench.of((256, 128), (4, 4))
    found: Rows = []
    evaluate_tasks = module.evaluate_tasks

    def opened(path: str, args: Any, *_: Any) -> tuple[Any, Any]:
        usual = "bfloat16" if bench.device.type == "cuda" else "float32"
        model, tokenizer = bench.build(path, args.dtype or usual)
        end_turn(model, tokenizer)
        return model, tokenizer

    def watched(*args: Any, **more: Any) -> None:
        bench.forget_peak()
        seconds = bench.seconds(lambda: evaluate_tasks(*args, **more))
        found.extend(
            (row(f"answers/s of {new} tokens", n / seconds), row("tokens/s", n * new / seconds), *bench.peak())
        )
        raise _Measured

    words = ["--output_dir", str(bench.folder / "runs" / "evaluate"), "--model_name_or_path", bench.shape(SMALL)]
    words += ["--tasks", json.dumps([{"task": "sums", "n": n, "max_new_tokens": new}])]
    with replaced(module, open_evaluated=opened, evaluate_tasks=watched), contextlib.suppress(_Measured):
        module.STAGE.main(words)
    return found


def decode(bench: Bench) -> Rows:
    """Decoding with Qwen3-0.6B's shape in bf16."""
    import torch

    prompt, new = bench.of((128, 128), (8, 4))
    model, tokenizer = bench.build(bench.shape(SMALL), bench.of("bfloat16", "float32"))
    found: Rows = []
    for batch in (1, 8, 64, 256):
        ids = torch.randint(256, (batch, prompt), device=bench.device)

        def sample(tokens: int, ids: Any = ids) -> None:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=True,
                top_k=0,
                eos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
            )

        bench.forget_peak()
        try:
            sample(2)
            rows = [row("tokens/s", batch * new / bench.seconds(lambda: sample(new))), *bench.peak()]
        except torch.OutOfMemoryError:
            rows = [row("out of memory", None)]
        found += [one | {"what": f"batch {batch}: {one['what']}"} for one in rows]
    return found


SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    "device": device,
    "pretrain": pretrain,
    "sft": sft,
    "lora": lora,
    "grpo": grpo,
    "grpo_vllm": grpo_vllm,
    "ppo": ppo,
    "evaluate": evaluate,
    "decode": decode,
}


# ---- running them


def open_bench(folder: Path, tiny: bool) -> Bench:
    import psutil
    import torch

    from zero2chat.models.hardware import Gpu, bf16_is_fast, peak_flops

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    memory = torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    peak = peak_flops(device, torch.bfloat16 if bf16_is_fast() else torch.float32)
    return Bench(folder, tiny, device, Gpu(peak, memory), name)


def _stop(*_: Any) -> None:
    raise _TimeIsUp


def measured(section: str, bench: Bench, until: float) -> dict[str, Any]:
    """One section's `rows`, or why it was `skipped` or `failed`, and its seconds."""
    import torch

    started = time.perf_counter()
    found: dict[str, Any]
    left = until - time.time()  # read once: a timer takes no negative time, and 0 would stop it
    try:
        if left <= 0:
            raise Skipped("no time left")
        signal.signal(signal.SIGALRM, _stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, left)
            with contextlib.redirect_stdout(sys.stderr):
                found = {"rows": SECTIONS[section](bench)}
        finally:  # before an error is handled, which the timer must not interrupt
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Skipped as reason:
        found = {"skipped": str(reason)}
    except torch.OutOfMemoryError as error:
        found = {"skipped": f"out of memory: {str(error).splitlines()[0]}"}
    except _TimeIsUp:
        found = {"skipped": "the time ran out"}
    except Exception as error:  # the other sections may still run
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"}
    bench.free()
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def run(sections: Sequence[str], tiny: bool, minutes: float) -> dict[str, Any]:
    """Run the sections and return the report."""
    until = time.time() + 60 * minutes
    with tempfile.TemporaryDirectory() as scratch:
        # Of several GPUs, transformers' Trainer would use all in one process.
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        # Before datasets is imported: its cache of the generated data goes with the folder.
        os.environ |= {"HF_DATASETS_CACHE": f"{scratch}/cache", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        started = time.time()
        import torch

        from zero2chat.core.fingerprints import versions

        bench = open_bench(Path(scratch), tiny)
        report: dict[str, Any] = {
            "device": bench.name,
            "memory": round(bench.gpu.memory / 1e9, 1),
            "versions": versions() | {"cuda": torch.version.cuda},
            "tiny": tiny,
            "sections": {},
        }
        for section in sections:
            found = report["sections"][section] = measured(section, bench, until)
            print(f"{section}: {found['seconds']} s", *_outcome(found), file=sys.stderr, flush=True)
        return report | {"seconds": round(time.time() - started, 1)}


# ---- tables


def _outcome(found: dict[str, Any]) -> list[str]:
    return [f"{kind}: {found[kind]}" for kind in ("skipped", "failed") if kind in found]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _lines(report: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(section, what, measured, plan) of each row."""
    for section, found in report["sections"].items():
        for reason in _outcome(found):
            yield section, reason.splitlines()[0], "–", "–"
        for one in found.get("rows", ()):
            yield section, one["what"], _number(one["measured"]), _number(one["plan"])


def show(report: dict[str, Any]) -> None:
    rows = [("section", "what", "measured", "plan"), *_lines(report)]
    widths = [max(len(cells[i]) for cells in rows) for i in range(4)]
    print(_title(report))
    for cells in rows:
        left = (f"{cell:<{width}}" for cell, width in zip(cells[:2], widths, strict=False))
        right = (f"{cell:>{width}}" for cell, width in zip(cells[2:], widths[2:], strict=True))
        print("  ".join((*left, *right)))


def _title(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    size = "tiny shapes; " if report["tiny"] else ""
    return f"{report['device']}, {report['memory']:.0f} GB: {size}{versions}; {report['seconds']:.0f} s"


def table(files: Sequence[str | Path]) -> str:
    """The Markdown of docs/gpus.md for the reports in `files`, a table for each."""
    if not files:
        return "**Not yet run on a GPU.**"
    tables = []
    for file in files:
        report = json.loads(Path(file).read_text(encoding="utf-8"))
        lines = ["| section | what | measured | `plan` |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in _lines(report)]
        tables.append(f"{_title(report)}\n\n" + "\n".join(lines))
    return "\n\n".join(tables)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="the sections to run")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to see that everything runs")
    parser.add_argument("--minutes", type=float, default=8.0, help="what is not measured by then is skipped")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu.json", help="the report's file")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object last")
    parser.add_argument("--table", nargs="*", metavar="FILE", help="print the Markdown of these reports, and run none")
    args = parser.parse_args()
    if args.table is not None:
        print(table(args.table))
        return 0
    out = args.out.resolve()
    os.chdir(ROOT)  # recipes name their files from here
    report = run(args.only, args.tiny, args.minutes)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)
    print(f"written to {out}")
    if args.json:
        print(json.dumps(report))
    return 1 if any("failed" in found for found in report["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
