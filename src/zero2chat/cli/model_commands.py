"""The commands that take a model or a tokenizer: chat, rank answers, look inside the model, export it, push it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from zero2chat.cli.command import add, decoded, limit_of_thought, option
from zero2chat.core.errors import UserError

_MODULE = "cli.model_commands"
_BELOW = "decline if an answer's mean token probability is below this (default: the model's, by `calibrate`; 0: never)"
_THINKING = "whether the model thinks first, or the most tokens of a thought (default: as its template has it)"
_FOLDER = "a folder, such as runs/quickstart/sft, or a Hub name"
_LAST = "the last in runs/assistant or runs/quickstart"


def add_to(commands: Any) -> None:
    chat = add(commands, _MODULE, "chat", "talk to a model in the terminal", as_json=False)
    _add_conversation(chat)
    option(chat, "--prompt", "TEXT", "answer this prompt and exit", type=decoded)
    option(chat, "--by-hand", False, "with --env: act yourself, without a model")

    ui = add(commands, _MODULE, "ui", "talk to a model in the browser: tokens, alternatives, tool calls", as_json=False)
    _add_conversation(ui)
    option(ui, "--host", "H", "address to bind; 0.0.0.0: everybody who can reach this machine", default="127.0.0.1")
    option(ui, "--port", 7860, "0 picks a free port")

    serve = add(commands, "chat.openai_server", "serve", "serve a model over an OpenAI-compatible API", as_json=False)
    option(serve, "path", "MODEL", _FOLDER)
    option(serve, "--host", "H", "address to bind", default="127.0.0.1")
    option(serve, "--port", 8000, "0 picks a free port")
    option(serve, "--abstain-below", "P", _BELOW, type=float)
    option(serve, "--thinking", "on|off|TOKENS", _THINKING, type=limit_of_thought)
    option(serve, "--env", "NAME", "mark calls of this world's methods that need a person's consent")

    next_ = add(commands, _MODULE, "next_", "show the most likely next tokens after a text", "show_next")
    option(next_, "text", "TEXT", "", type=decoded)
    option(next_, "--model", "M", "a folder or a Hub name", required=True)
    option(next_, "--top", 10, "number of tokens")

    tokens = add(commands, _MODULE, "tokens", "show the tokens of a text, in colour, with their ids", "show_tokens")
    option(tokens, "text", "TEXT", "", type=decoded)
    option(tokens, "--model", "M", f"{_FOLDER} (default: {_LAST})")
    option(tokens, "--special", False, "encode <|im_end|> and other special tokens as such, not as text")

    rank = add(
        commands, _MODULE, "rank", "rank a model's answers as preference data (see docs/labelling.md)", as_json=False
    )
    option(rank, "model", "MODEL", _FOLDER)
    source = rank.add_mutually_exclusive_group(required=True)
    option(source, "--task", "NAME", "ask training rows of a task, such as lines")
    option(source, "--prompts", "FILE", "ask prompts of a file: .txt, one per line, or .jsonl with `prompt`")
    option(rank, "--n", "N", "number of prompts (default: 50 of a task, all of a file)", type=int)
    option(rank, "--seed", 0, "seed of the task's rows, the answers and their order on screen")
    option(rank, "--answers", 4, "answers per prompt")
    option(rank, "--temperature", 1.0, "sampling temperature")
    option(rank, "--max-new-tokens", 256, "per answer")
    option(rank, "--out", "FILE.jsonl", "append rankings here; prompts ranked in it are skipped", required=True)

    export = add(commands, "hub.export", "export", "export for llama.cpp, Ollama and LM Studio, or merge an adapter")
    option(export, "run", "RUN", "a model folder, such as runs/quickstart/sft")
    option(export, "--gguf", "", "write GGUF of this type; needs `make gguf`", choices=("f32", "f16", "q8_0", "q4_k_m"))
    option(export, "--merge", False, "write a LoRA adapter merged into its base model")
    option(export, "--out", "FOLDER", "a new folder for the output (default: in exports/)")
    option(export, "--packages", "FOLDER", "where `make gguf` installed the converter", default=".gguf")

    push = add(commands, _MODULE, "push", "push a trained step's model to the Hub")
    option(push, "run", "RUN", "a trained step's folder, such as runs/quickstart/grpo, or an exported one")
    option(push, "--repo", "NAME", "repository, such as me/my-model; created if missing", required=True)
    option(push, "--private", False, "create the repository as private")
    option(push, "--revision", "BRANCH", "push to this branch; created if missing")
    option(push, "--license", "L", "license id for the model card, such as apache-2.0")
    option(push, "--base", "NAME", "the base model's repository, if it was trained here too")
    option(push, "--dry-run", False, "print files and model card; needs no token or network")


def _add_conversation(parser: Any) -> None:
    option(parser, "model", "MODEL", f"{_FOLDER} (default: {_LAST})", nargs="?")
    option(parser, "--system", "TEXT", "the system prompt", type=decoded)
    option(parser, "--temperature", 0.3, "0 is greedy; small models become incoherent at high temperatures")
    option(parser, "--top-k", 0, "sample from the k most likely tokens (0: all)")
    option(parser, "--top-p", 1.0, "nucleus sampling: keep tokens up to this total probability (1: all)")
    option(parser, "--seed", 0, "")
    option(parser, "--max-new-tokens", 256, "per answer")
    option(parser, "--abstain-below", "P", _BELOW, type=float)
    option(parser, "--thinking", "on|off|TOKENS", _THINKING, type=limit_of_thought)
    option(parser, "--tools", "NAMES", "search, python, search,python or none (default: those it was trained with)")
    option(parser, "--search", "WHERE", "an index folder (default: the model's index)")
    option(parser, "--env", "NAME", "act in a world, such as rooms, instead of calling tools; --seed chooses it")
    option(parser, "--horizon", 4, "with --env: actions in its shortest plan (default 4)", default=None)


def _open(
    model: str | None, tools: str | None, search: str | None, abstain_below: float | None, **sampling: Any
) -> tuple[str, Any, Any]:
    """Return a chat's model, sampling settings and tools."""
    from zero2chat.chat.defaults import declines_below, default_model, tools_for
    from zero2chat.inference.session import Sampling
    from zero2chat.models.loading import refuse_reward_model

    chosen = Sampling(abstain_below=abstain_below or 0.0, **sampling)
    model = model or default_model()
    refuse_reward_model(model)
    chosen = replace(chosen, abstain_below=declines_below(model, abstain_below, chosen.temperature))
    return model, chosen, tools_for(model, tools, search)


def _world(options: dict[str, Any], prompt: str | None = None, by_hand: bool = False) -> dict[str, Any] | None:
    """Take the options of a world, and return its row, or None. Raises `UserError` for options without effect."""
    from zero2chat.tools.environments import STEPS, make_row

    env, horizon = options.pop("env"), options.pop("horizon")
    if not env:
        if name := "by-hand" if by_hand else "horizon" if horizon is not None else "":
            raise UserError(f"--{name}: no world to act in: add --env, such as --env rooms")
        return None
    for name, value in {"prompt": prompt, "tools": options["tools"], "search": options["search"]}.items():
        if value is not None:
            raise UserError(f"--{name}: a world has its own question and tools: remove --{name}, or --env")
    options |= {"tools": "none", "max_new_tokens": options["max_new_tokens"] * STEPS}  # an answer is a whole episode
    return make_row(env, options["seed"], 4 if horizon is None else horizon)


def chat(system: str | None, prompt: str | None, by_hand: bool, **options: Any) -> None:
    from zero2chat.chat import terminal

    row = _world(options, prompt, by_hand)
    model, sampling, tools = ("", None, None) if by_hand else _open(**options)
    if row:
        terminal.play(row, model, sampling, system)
    else:
        terminal.chat(model, sampling, system, prompt, tools=tools)


def ui(system: str | None, host: str, port: int, **options: Any) -> None:
    from zero2chat.chat import web

    row = _world(options)
    model, sampling, tools = _open(**options)
    web.ui(model, host, port, sampling, system, tools, row)


def next_(text: str, model: str, top: int) -> dict[str, Any]:
    from zero2chat.inference.next_token import next_tokens
    from zero2chat.models.loading import load_for_use

    return {"text": text, "next": [token._asdict() for token in next_tokens(*load_for_use(model), text, top)]}


def show_next(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("token", "id", "probability", "", box=None)
    for token in result["next"]:
        bar = "█" * round(30 * token["probability"] / result["next"][0]["probability"])  # of the most likely one's
        table.add_row(Text(f"'{token['text']}'"), str(token["id"]), f"{token['probability']:.2%}", bar)
    console.print(table)


def tokens(text: str, model: str | None, special: bool) -> dict[str, Any]:
    from zero2chat.chat.defaults import default_model
    from zero2chat.models.loading import load_tokenizer
    from zero2chat.models.tokenization import plain_ids, token_pieces

    loaded = load_tokenizer(model or default_model("--model"))
    ids = loaded.encode(text, add_special_tokens=False) if special else plain_ids(loaded, [text])[0]
    pieces = [{"id": token, "text": piece} for token, piece in zip(ids, token_pieces(loaded, ids), strict=True)]
    return {"text": text, "bytes": len(text.encode()), "tokens": pieces}


def show_tokens(result: dict[str, Any], console: Any) -> None:
    from zero2chat.models.tokenization import show_tokens

    console.print(show_tokens([(token["id"], token["text"]) for token in result["tokens"]]))
    print(f"{len(result['tokens'])} tokens, {result['bytes']} bytes")


def rank(model: str, task: str, prompts: str, n: int, answers: int, out: str, **sampling: Any) -> None:
    from zero2chat.chat.ranking import rank_answers
    from zero2chat.data.prompts import read_prompts
    from zero2chat.inference.session import Sampling

    rank_answers(model, read_prompts(task, prompts, n, sampling["seed"]), out, answers, Sampling(**sampling))


def push(run: str, repo: str, private: bool, dry_run: bool, **named: Any) -> dict[str, Any]:
    from zero2chat.hub import push as hub

    parcel = hub.pack(run, repo, **named)
    about = {key: parcel.card.data.get(key) for key in ("base_model", "license")}
    result = {"repo": parcel.repo, "revision": parcel.branch or "main", "files": parcel.sizes, **about}
    for name, size in parcel.sizes.items():
        print(f"{size:>15,} bytes  {name}")
    if about["license"] is None:
        print("The model card names no license. Set one with --license, such as apache-2.0.")
    if dry_run:
        print(f"\n{parcel.card}", end="")
        return result | {"card": str(parcel.card)}
    sys.stdout.flush()
    result |= hub.send(parcel, private)
    print(f"pushed to {result['url']}")
    return result
