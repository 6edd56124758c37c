"""Does an exported model behave the same in llama.cpp? Tokens, greedy answers, agreement, size, accuracy by type.

    python benchmarks/gguf.py runs/quickstart/grpo [--task word_problems] [--rows 300] [--threads 1] [--json]
    python benchmarks/gguf.py runs/assistant/grpo --questions recipes/assistant/evaluate.yaml

Needs `make gguf`. The model is exported at each type as `zero2chat export` does it, opened in llama-cpp-python in a
separate process, and compared with transformers in float32:

- prompts: how many of 50 texts and conversations have the same ids, read with control tokens and as plain text;
- greedy, at f32: how many of 50 prompts have the same 32 greedy tokens; for each other one it prints by how many logits
  transformers preferred its own token at the first difference;
- top-1: at how many positions of these prompts and transformers' continuations the most likely token is the same;
- accuracy: test rows of the task, answered greedily.

With `--questions` it compares nothing else: the questions of an evaluate config are answered greedily in a conversation
each, with the config's tools if it gives them, by transformers and by llama.cpp at f16; the answers, calls included,
should be the same.

llama.cpp keeps its KV cache in float16 by default; for f32 it is set to float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TYPES = ("f32", "f16", "q8_0", "q4_k_m")
PACKAGES = Path(__file__).parents[1] / ".gguf"
TOKENS = 32  # of each greedy continuation
CONTEXT = 512

TEXTS = (
    "The people of the United States",
    "Ada was born in Genoa in 1984 and works as a",
    "What is 12 + 30? First add the tens:",
    "It isn't that he'd've known; we'll see, they're DON'T and I'M",
    "0 1 12 123 1234 12345 3.14159 1,000,000 1e-9 0x7f",
    "7 * 8 = 56, 1/2 + 1/3 = 5/6, 2^10 = 1024, 50%",
    "2026-11-24T10:30:00Z, +49 (0)30 1234567, 192.168.0.1",
    "٣٤٥ १२३ ① ② ⅷ ½ ² ₃ 一二三",
    "naïve café, Straße, œuvre, Łódź, ångström, İstanbul",
    "Ελληνικά: Η ταχεία αλεπού",
    "Быстрая коричневая лиса перепрыгнула через ленивую собаку",
    "日本語の文章を書きます。東京は大きい。",
    "中文句子，没有空格。我们在学习！",
    "한국어 문장입니다. 서울은 큽니다",
    "العربية تكتب من اليمين إلى اليسار",
    "עברית נכתבת מימין לשמאל, שָׁלוֹם",
    "हिन्दी में एक वाक्य लिखिए।",
    "ภาษาไทยไม่มีช่องว่าง",
    "တစ်ခုခု រៀន தமிழ் ქართული հայերեն አማርኛ",
    "🙂 🚀🚀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ✅ ☕️",
    "a\u0301 e\u0308 n\u0303 \u1e9b\u0323 \ufb01 \u200b\u200d\u00ad",
    "\u00a0non-breaking\u2003em space\u3000ideographic",
    "   three spaces before, two  between, four at the end    ",
    "\ttab\t\ttwo tabs \t mixed",
    "one\n\ntwo\n\n\nthree\r\nwindows\n",
    "\n \n\n \t\n  trailing  \n",
    "def f(x):\n    return [i ** 2 for i in range(x) if i % 2 == 0]",
    '{"name": "search", "arguments": {"query": "a \\"b\\" c"}}',
    '<html><body class="x">&amp; <!-- c --></body></html>',
    "https://example.org/a/b?c=d&e=f#g user@example.org C:\\dir\\file",
    "((((((((((----------==========........!!!!!!!!!!??????",
    "$\\frac{1}{2}$ \\begin{cases} x^2 \\end{cases} #### 17",
)
CONTROL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<SEARCH_START>",
    "<|pad|>",
    "<unused>",
)


# ---- the half that runs with llama.cpp's packages


def serve(file: str, context: int, threads: int, whole_cache: bool) -> None:
    """Answers each line of stdin, `[method, arguments…]`, with one line."""
    import llama_cpp
    import numpy as np

    kind = llama_cpp.GGML_TYPE_F32 if whole_cache else None
    sizes = {"n_ctx": context, "n_batch": context, "n_threads": threads, "n_threads_batch": threads}
    model = llama_cpp.Llama(file, logits_all=True, verbose=False, type_k=kind, type_v=kind, **sizes)

    def ids(text: str, control: bool) -> list[int]:
        return list(model.tokenize(text.encode(), add_bos=False, special=control))

    def top(given: list[int]) -> list[int]:
        """The most likely next token after each of the ids."""
        model.reset()
        model.eval(given)
        return [int(token) for token in np.argmax(model.scores[: len(given)], axis=-1)]

    def greedy(given: list[int], n: int, ends: list[int]) -> list[int]:
        model.reset()
        said: list[int] = []
        while len(said) < n:
            model.eval(said[-1:] or given)
            said.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            if said[-1] in ends:
                break
        return said

    held: list[int] = []

    def following(given: list[int], muted: list[int]) -> list[int]:
        """The most likely token after the ids that is none of the muted ones. Ids that go on from the last call's are
        evaluated from there."""
        if not held or given[: len(held)] != held:
            model.reset()
            held.clear()
        model.eval(given[len(held) :])
        held[:] = given
        scores = model.scores[model.n_tokens - 1].copy()
        scores[muted] = -np.inf
        return [int(np.argmax(scores))]

    methods = {"ids": ids, "top": top, "greedy": greedy, "following": following}
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(methods[method](*arguments)), flush=True)


class Llama:
    """A GGUF file in llama.cpp, in a separate process."""

    def __init__(self, file: str, context: int, threads: int = 1, whole_cache: bool = False):
        given = [file, str(context), str(threads), "f32" if whole_cache else "f16"]
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(PACKAGES)},
        )

    def __call__(self, method: str, *arguments: Any) -> list[int]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps([method, *arguments]) + "\n")
        stdin.flush()
        answer: list[int] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


# ---- the half that runs with transformers


def prompts(tokenizer: Any, questions: Sequence[list[dict[str, str]]]) -> list[str]:
    """The texts above, control tokens in a row, and 15 questions, as conversations if there is a template."""
    known = set(tokenizer.get_vocab())
    control = [token for token in CONTROL if token in known]
    texts = [*TEXTS, " ".join(control), "".join(control), f"a{control[0]}b {control[-1]}\n{control[0]}12"]
    if not tokenizer.chat_template:
        return texts + [turns[-1]["content"] for turns in questions]
    asked = [[{"role": "system", "content": "Be brief."}, *questions[0]], *questions[1:]]
    options = {"tokenize": False, "add_generation_prompt": True}
    return texts + [tokenizer.apply_chat_template(turns, **options) for turns in asked]


def continued(model: Any, given: list[int]) -> tuple[list[int], list[list[tuple[float, int]]], list[int]]:
    """The next `TOKENS` greedy tokens, ignoring end tokens; and the most likely token after each position.

    Between them, the two largest logits of each token, and their ids.
    """
    import torch
    from transformers import DynamicCache

    cache, said, best = DynamicCache(config=model.config), [], []
    feed = torch.tensor([given])
    tops: list[int] = []
    while len(said) < TOKENS:
        out = model(feed, cache=cache, use_cache=True)
        tops += out.logits[0].argmax(-1).tolist()
        values, tokens = out.logits[0, -1].topk(2)
        best.append(list(zip(values.tolist(), tokens.tolist(), strict=True)))
        said.append(tokens[0].item())
        feed = tokens[:1][None]
    return said, best, tops


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        file, context, threads, cache = sys.argv[2:]
        serve(file, int(context), int(threads), cache == "f32")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, such as runs/quickstart/grpo")
    parser.add_argument("--task", default="word_problems", help="(default %(default)s)")
    parser.add_argument(
        "--options", type=json.loads, default='{"largest": 20}', help="the task's options (default %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=300, help="rows of the task; 0 skips it (default %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=96, help="longest completion (default %(default)s)")
    parser.add_argument("--questions", metavar="YAML", help="an evaluate config, whose questions are asked instead")
    parser.add_argument("--threads", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()

    import torch

    from zero2chat import tasks
    from zero2chat.core import stats
    from zero2chat.hub.export import export
    from zero2chat.inference.generate import answer
    from zero2chat.models.loading import context_length, end_ids, load_model
    from zero2chat.models.tokenization import neutral, plain_ids

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model, tokenizer = load_model(args.model)
    if args.questions:
        same_answers(args, model, tokenizer)
        return
    context = min(CONTEXT, context_length(model))
    task = tasks.load(args.task)
    rows = task.rows("test", 1, max(args.rows, 15), **args.options)
    questions = [neutral(task.prompt(row), tokenizer) for row in rows]
    texts = prompts(tokenizer, questions[:15])
    control = tokenizer(texts, add_special_tokens=False)["input_ids"]
    plain = plain_ids(tokenizer, texts)
    given = [ids[: context - TOKENS] for ids in control]
    theirs = [continued(model, ids) for ids in given]
    examined = rows[: args.rows] if tokenizer.chat_template else []
    table: list[dict[str, Any]] = [{"type": "transformers"}]
    table[0]["bytes"] = sum(path.stat().st_size for path in Path(args.model).glob("model*.safetensors"))
    if examined:
        found = answer(model, tokenizer, questions, args.max_new_tokens)
        right = sum(task.score(row, one.text) for row, one in zip(examined, found, strict=True))
        table[0]["accuracy"] = stats.rate(right, len(examined))
        asked = tokenizer.apply_chat_template(questions, add_generation_prompt=True, return_dict=True)["input_ids"]
    show(table[0], len(texts))

    for kind in TYPES:
        with tempfile.TemporaryDirectory() as scratch:
            made = export(args.model, kind, False, f"{scratch}/out", str(PACKAGES))
            llama = Llama(made["file"], context, args.threads, whole_cache=kind == "f32")
            line: dict[str, Any] = {"type": kind, "bytes": made["bytes"]}
            each = zip(texts, control, plain, strict=True)
            line["prompts"] = sum(
                llama("ids", text, True) == a and llama("ids", text, False) == b for text, a, b in each
            )
            if kind == "f32":
                line |= greedy_alike(llama, given, theirs)
            tops = [llama("top", ids + said[:-1]) for ids, (said, _, _) in zip(given, theirs, strict=True)]
            pairs = [
                pair for got, (_, _, best) in zip(tops, theirs, strict=True) for pair in zip(got, best, strict=True)
            ]
            line["top_1"] = stats.rate(sum(a == b for a, b in pairs), len(pairs))
            if examined:
                right = 0.0
                for row, ids in zip(examined, asked, strict=True):
                    room = min(args.max_new_tokens, context - len(ids))
                    said = llama("greedy", ids, room, sorted(end_ids(model, tokenizer)))
                    right += task.score(row, tokenizer.decode(said, skip_special_tokens=True))
                line["accuracy"] = stats.rate(right, len(examined))
            llama.close()
        table.append(line)
        show(line, len(texts))
    if args.json:
        print(json.dumps({"model": args.model, "prompts": len(texts), "tokens": TOKENS, "types": table}))


def same_answers(args: argparse.Namespace, model: Any, tokenizer: Any) -> None:
    """Print each question with both answers, or one if they are the same, and how many are."""
    from zero2chat.hub.export import export
    from zero2chat.inference.session import Sampling, Session
    from zero2chat.inference.tool_format import Call, ToolResult, make_tools
    from zero2chat.models.loading import context_length
    from zero2chat.stages.command_line import load_settings

    config = load_settings(args.questions)
    tools = make_tools(config["tools"]) if config.get("question_tools") else None

    class InLlama(Session):
        """The same conversation, each token drawn by llama.cpp."""

        def _next(self, ids: list[int], muted: list[int]) -> int:
            return llama("following", ids, muted)[0]

    def text(piece: str | Call | ToolResult) -> str:
        if isinstance(piece, str):
            return piece
        return f"[{piece.name}: {piece.argument}]" if isinstance(piece, Call) else f"[{piece.text}]"

    def answer(kind: type[Session], question: str) -> str:
        session = kind(model, tokenizer, Sampling(temperature=0, max_new_tokens=args.max_new_tokens), tools=tools)
        return "".join(text(piece) for piece in session.reply(question))

    with tempfile.TemporaryDirectory() as scratch:
        file = export(args.model, "f16", False, f"{scratch}/out", str(PACKAGES))["file"]
        llama = Llama(file, context_length(model), args.threads)
        alike = 0
        for question in config["questions"]:
            theirs, mine = answer(Session, question), answer(InLlama, question)
            alike += theirs == mine
            print(f"{question}\n  {theirs}" + (f"\n  llama.cpp: {mine}" if theirs != mine else ""), flush=True)
        llama.close()
    print(f"the same answer to {alike} of {len(config['questions'])} questions")


def greedy_alike(llama: Llama, given: Sequence[list[int]], theirs: Sequence[Any]) -> dict[str, Any]:
    """How many continuations are the same, and where the others diverge."""
    parted = []
    for number, (ids, (said, best, _)) in enumerate(zip(given, theirs, strict=True)):
        mine = llama("greedy", ids, TOKENS, [])
        if mine != said:
            at = next(i for i in range(TOKENS) if mine[i] != said[i])
            gap = best[at][0][0] - best[at][1][0]
            parted.append({"prompt": number, "token": at, "gap": gap, "second": mine[at] == best[at][1][1]})
    return {"greedy": len(given) - len(parted), "parted": parted}


def show(line: dict[str, Any], n: int) -> None:
    cells = [f"{line['type']:<12}", f"{line['bytes'] / 1e6:8.2f} MB"]
    if "prompts" in line:
        cells.append(f"prompts {line['prompts']}/{n}" + (f", greedy {line['greedy']}/{n}" if "greedy" in line else ""))
        cells.append(f"top-1 {line['top_1']['value']:.2%} of {line['top_1']['n']}")
    if accuracy := line.get("accuracy"):
        bounds = f"{accuracy['low']:.1%} to {accuracy['high']:.1%}"
        cells.append(f"accuracy {accuracy['value']:.1%} of {accuracy['n']} ({bounds})")
    print(" | ".join(cells), flush=True)
    for one in line.get("parted", []):
        which = "its second choice" if one["second"] else "another than its second choice"
        print(f"  prompt {one['prompt']}, token {one['token']}: {which}, {one['gap']:.2e} logits behind its first")


if __name__ == "__main__":
    main()
