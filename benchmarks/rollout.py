"""How fast are rollouts? Decoding tokens/s of our loop, of plain `generate`, and of nanochat's engine.

    python benchmarks/rollout.py [--threads 2] [--peer PATH_TO_A_NANOCHAT_CHECKOUT] [--json]

A Qwen3 with random weights in the school's size, fp32 on the CPU, generates 64 tokens after prompts of 48, including
the prefill. Rows share one prompt (a GRPO group, the only case that nanochat's engine supports) or have different ones.
The contestants take turns in one process, and the best of several turns counts. On a busy machine compare the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from zero2chat.core.errors import exit_on_mistake
from zero2chat.inference.fast_generate import fast_sample

VOCABULARY, LAYERS, WIDTH, HEADS = 4096, 4, 256, 4  # recipes/school/pretrain.yaml
PROMPT, NEW, CONTEXT = 48, 64, 256


def ours() -> tuple[Callable[[torch.Tensor], Any], Callable[[torch.Tensor], Any]]:
    """Plain `generate`, and `generate` with the fast loop."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH // HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config).eval()

    def generate(prompts: torch.Tensor, **more: Any) -> Any:
        mask = torch.ones_like(prompts)
        settings = {"max_new_tokens": NEW, "do_sample": True, "top_k": 0}
        return model.generate(input_ids=prompts, attention_mask=mask, **settings, **more)

    return generate, lambda prompts: generate(prompts, custom_generate=fast_sample)


def nanochat(path: str) -> Callable[[torch.Tensor], Any]:
    """nanochat's engine. Its MLP has no gate and is 4 × as wide: 4.2 million weights, ours has 4.5."""
    sys.path.insert(0, path)
    import nanochat.common
    from nanochat.engine import Engine
    from nanochat.gpt import GPT, GPTConfig

    class NoEnd:
        """A tokenizer whose special tokens the model cannot generate."""

        def encode_special(self, text: str) -> int:
            return -1

        def get_bos_token_id(self) -> int:
            return -1

    sizes = {"n_layer": LAYERS, "n_head": HEADS, "n_kv_head": HEADS, "n_embd": WIDTH}
    config = GPTConfig(sequence_len=CONTEXT, vocab_size=VOCABULARY, **sizes)
    if issubclass(GPT, torch.nn.Module):
        model = GPT(config)
        model.init_weights()
        model.eval()
    else:  # newer versions: not a module, initialized by its constructor
        model = GPT(config, device="cpu")
    engine = Engine(model, NoEnd())
    # Before it supported the CPU, its embeddings were bf16 and its callers set autocast.
    knows_cpu = hasattr(nanochat.common, "COMPUTE_DTYPE")

    def generate(prompts: torch.Tensor) -> None:
        with contextlib.nullcontext() if knows_cpu else torch.autocast("cpu", torch.bfloat16):
            columns = list(engine.generate(prompts[0].tolist(), num_samples=len(prompts), max_tokens=NEW))
        assert len(columns) == NEW

    return generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int, help="default: torch's own number")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peer", metavar="PATH", help="a checkout of nanochat")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    plain, fast = ours()
    contestants = {"generate": plain, "fast": fast}
    if args.peer:
        contestants["nanochat"] = nanochat(args.peer)
    rows: list[dict[str, Any]] = []
    for batch_size in args.batch_sizes:
        for kind in ("one", "different")[: 1 + (batch_size > 1)]:
            prompts = torch.randint(1, VOCABULARY, (batch_size if kind == "different" else 1, PROMPT))
            prompts = prompts.expand(batch_size, -1)
            speed = {}
            for turn in range(args.turns + 1):
                for name, generate in contestants.items():
                    if name == "nanochat" and kind == "different":
                        continue
                    start = time.perf_counter()
                    generate(prompts)
                    found = batch_size * NEW / (time.perf_counter() - start)
                    if turn:  # the first turn is warm-up
                        speed[name] = max(speed.get(name, 0.0), found)
            rows.append({"batch_size": batch_size, "prompts": kind} | {k: round(v, 1) for k, v in speed.items()})

    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"tokens/s, best of {args.turns}; {threads} threads on {os.cpu_count()} cores, load {load:.1f}")
    print(f"{'batch':>5}  {'prompts':<9}" + "".join(f"{name:>10}" for name in contestants) + "   fast is")
    for row in rows:
        ratios = [f"{row['fast'] / row[name]:.1f} × {name}" for name in contestants if name in row and name != "fast"]
        cells = [f"{row[name]:,.0f}" if name in row else "–" for name in contestants]
        print(
            f"{row['batch_size']:>5}  {row['prompts']:<9}"
            + "".join(f"{c:>10}" for c in cells)
            + f"   {', '.join(ratios)}"
        )
    if args.json:
        print(json.dumps({"threads": threads, "cores": os.cpu_count(), "load": round(load, 1), "speeds": rows}))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
