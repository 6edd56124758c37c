"""The commands that take a model or a tokenizer: talk to it, rank its answers, look inside, export and push it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from zero2chat.cli.command import JSON, Argument, arg, command, console, text, without_progress_bars
from zero2chat.core.errors import UserError

_FOLDER = "a folder, such as runs/quickstart/sft, or a Hub name"
_MODEL = arg(
    "model",
    nargs="?",
    metavar="MODEL",
    help=f"{_FOLDER} (default: the last model in runs/assistant, or else in runs/quickstart)",
)
_CONVERSATION = (
    arg("--system", type=text, metavar="TEXT", help="the system prompt"),
    arg(
        "--temperature",
        type=float,
        default=0.3,
        help="sampling temperature; 0 is greedy (default %(default)s: small models become incoherent at higher values)",
    ),
    arg("--top-k", type=int, default=0, help="sample from the k most likely tokens (0: all)"),
    arg("--top-p", type=float, default=1.0, help="nucleus sampling: keep tokens up to this total probability (1: all)"),
    arg("--seed", type=int, default=0),
    arg("--max-new-tokens", type=int, default=256, help="per answer (default %(default)s)"),
    arg(
        "--tools",
        metavar="NAMES",
        help="tools the model may call: search, python or search,python; none; or auto, the tools it was trained with "
        "(default: auto)",
    ),
    arg(
        "--search",
        metavar="WHERE",
        help="search backend: an index folder, a SearXNG URL or a .json table (with auto: library/index, beside the "
        "model)",
    ),
)

_ABSTAIN = arg(
    "--abstain-below",
    type=float,
    default=0.0,
    metavar="P",
    help="say that it does not know if the mean probability of an answer's tokens is below this; `zero2chat calibrate` "
    "prints a threshold (default: answer always)",
)


def _opened(args: argparse.Namespace) -> tuple[str, Any, Any]:
    """Return the model to talk to, how to sample, and its tools. A default model is printed on stderr."""
    from zero2chat.chat.defaults import default_model, tools_for
    from zero2chat.inference.session import Sampling
    from zero2chat.models.loading import refuse_reward_model

    below = getattr(args, "abstain_below", 0.0)  # the page shows each token as it comes, so it has no such option
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed, args.max_new_tokens, below)
    model = args.model
    if not model:
        model = default_model()
        print(f"opening {model}", file=sys.stderr, flush=True)
    refuse_reward_model(model)
    return model, sampling, tools_for(model, args.tools, args.search)


@command(
    "talk to a model in the terminal",
    _MODEL,
    *_CONVERSATION,
    _ABSTAIN,
    arg("--prompt", type=text, metavar="TEXT", help="answer this prompt and exit"),
)
def chat(args: argparse.Namespace) -> None:
    without_progress_bars()
    from zero2chat.chat import terminal

    model, sampling, tools = _opened(args)
    terminal.chat(model, sampling, args.system, args.prompt, tools=tools)


@command(
    "talk to a model in the browser: tokens, their alternatives, tool calls",
    _MODEL,
    arg("--against", metavar="MODEL2", help="ask this model too, and vote blind on the answers"),
    arg("--out", metavar="FILE.jsonl", help="append votes here, in the reward stage's format (default: not saved)"),
    *_CONVERSATION,
    arg(
        "--host",
        default="127.0.0.1",
        help="address to bind; 0.0.0.0 admits everybody who can reach this machine (default %(default)s: only you)",
    ),
    arg("--port", type=int, default=7860, help="0 picks a free port (default %(default)s)"),
)
def ui(args: argparse.Namespace) -> None:
    without_progress_bars()
    from zero2chat.chat import web
    from zero2chat.chat.defaults import tools_for

    model, sampling, tools = _opened(args)
    against_tools = tools_for(args.against, args.tools, args.search) if args.against else None
    web.ui(model, args.against, sampling, args.system, tools, args.host, args.port, args.out, against_tools)


@command(
    "serve a model over an OpenAI-compatible API",
    arg("model", metavar="MODEL", help=_FOLDER),
    arg("--host", default="127.0.0.1", metavar="H", help="address to bind (default %(default)s: this machine only)"),
    arg("--port", type=int, default=8000, metavar="P", help="0 picks a free port (default %(default)s)"),
    arg("--engine", default="transformers", metavar="E", help="inference engine (default %(default)s)"),
    _ABSTAIN,
)
def serve(args: argparse.Namespace) -> None:
    without_progress_bars()
    from zero2chat.chat import openai_server

    openai_server.serve(args.model, args.host, args.port, args.engine, args.abstain_below)


@command(
    "show the most likely next tokens after a text",
    arg("text", type=text, metavar="TEXT"),
    arg("--model", required=True, metavar="M", help="a folder or a Hub name"),
    arg("--top", type=int, default=10, metavar="N", help="number of tokens (default %(default)s)"),
    JSON,
)
def next_(args: argparse.Namespace) -> dict[str, Any]:
    without_progress_bars()
    from zero2chat.inference.next_token import next_tokens, show_next
    from zero2chat.models.loading import load_for_use

    tokens = next_tokens(*load_for_use(args.model), args.text, args.top)
    if not args.json:
        console().print(show_next(tokens))
    return {"text": args.text, "next": [token._asdict() for token in tokens]}


@command(
    "show the tokens of a text, in colour, with their ids",
    arg("text", type=text, metavar="TEXT"),
    arg(
        "--tokenizer",
        default="runs/quickstart/tokenizer",
        metavar="FOLDER",
        help="a folder or a Hub name (default %(default)s)",
    ),
    arg("--special", action="store_true", help="encode <|im_end|> and other special tokens as such, not as text"),
    JSON,
)
def tokens(args: argparse.Namespace) -> dict[str, Any]:
    from zero2chat.models.loading import load_tokenizer
    from zero2chat.models.tokenization import plain_ids, show_tokens, token_pieces

    tokenizer, size = load_tokenizer(args.tokenizer), len(args.text.encode())
    if args.special:
        ids = tokenizer.encode(args.text, add_special_tokens=False)
    else:
        ids = plain_ids(tokenizer, [args.text])[0]
    if not args.json:
        console().print(show_tokens(ids, tokenizer))
        print(f"{len(ids)} tokens, {size} bytes")
    pieces = zip(ids, token_pieces(tokenizer, ids), strict=True)
    return {"text": args.text, "bytes": size, "tokens": [{"id": token, "text": piece} for token, piece in pieces]}


@command(
    "rank a model's answers as preference data (see docs/labelling.md)",
    arg("model", nargs="?", metavar="MODEL", help=_FOLDER),
    Argument(
        one_of=(
            arg("--task", metavar="NAME", help="ask training rows of a task, such as lines"),
            arg("--prompts", metavar="FILE", help="ask prompts of a file: .txt, one per line, or .jsonl with `prompt`"),
            arg(
                "--review",
                metavar="FILE.jsonl",
                help="accept or reject rows that the distill stage wrote; needs no model",
            ),
        )
    ),
    arg("--n", type=int, metavar="N", help="number of prompts (default: 50 of a task, all of a file)"),
    arg("--seed", type=int, default=0, help="seed of the task's rows, the answers and their order on screen"),
    arg("--answers", type=int, default=4, metavar="K", help="answers per prompt (default %(default)s)"),
    arg("--temperature", type=float, default=1.0, help="sampling temperature (default %(default)s)"),
    arg("--max-new-tokens", type=int, default=256, help="per answer (default %(default)s)"),
    arg("--out", metavar="FILE.jsonl", help="append rankings here; prompts ranked in it are skipped"),
)
def rank(args: argparse.Namespace) -> None:
    without_progress_bars()
    if (args.review is None) != bool(args.model and args.out) or (args.review and (args.model or args.out)):
        raise UserError("rank: expected MODEL with --out, or --review FILE.jsonl alone")
    if args.review:
        from zero2chat.chat.review import review

        review(args.review)
        return
    from zero2chat.chat.ranking import rank_answers
    from zero2chat.data.prompts import read_prompts
    from zero2chat.inference.session import Sampling

    sampling = Sampling(args.temperature, seed=args.seed, max_new_tokens=args.max_new_tokens)
    prompts = read_prompts(args.task, args.prompts, args.n, args.seed)
    rank_answers(args.model, prompts, args.out, args.answers, sampling)


@command(
    "export a model for llama.cpp, Ollama and LM Studio, or merge an adapter",
    arg("run", metavar="RUN", help="a model folder, such as runs/quickstart/sft"),
    arg("--gguf", choices=("f32", "f16", "q8_0", "q4_k_m"), help="write GGUF of this type; needs `make gguf`"),
    arg("--merge", action="store_true", help="write a LoRA adapter merged into its base model"),
    arg("--out", metavar="FOLDER", help="a new folder for the output (default: in exports/)"),
    arg(
        "--packages",
        default=".gguf",
        metavar="FOLDER",
        help="where `make gguf` installed the converter (default %(default)s)",
    ),
    JSON,
)
def export(args: argparse.Namespace) -> dict[str, Any]:
    without_progress_bars()
    from zero2chat.hub.export import export

    made = export(args.run, args.gguf, args.merge, args.out, args.packages)
    if not args.json and not args.gguf:
        print(f"{made['out']}: the merged model")
    elif not args.json:
        types = ", ".join(f"{n} {kind}" for kind, n in made["types"].items())
        print(f"{made['file']}: {made['bytes'] / 1e6:,.1f} MB, tensors: {types}")
        if not made["template"]:
            print(f"{made['out']}/Modelfile: has no template, because the model has no ChatML chat template")
    return made


@command(
    "push a trained step's model, or one of its checkpoints, to the Hub",
    arg("run", metavar="RUN", help="a trained step's folder, such as runs/quickstart/grpo, or an exported one"),
    arg("--repo", required=True, metavar="NAME", help="repository, such as me/my-model; created if missing"),
    arg("--private", action="store_true", help="create the repository as private"),
    arg(
        "--revision",
        metavar="step-N",
        help="push the checkpoint of step N to a branch of that name; other names: a branch",
    ),
    arg("--license", metavar="L", help="license id for the model card, such as apache-2.0"),
    arg("--base", metavar="NAME", help="the base model's repository, if it was trained here too"),
    arg("--dry-run", action="store_true", help="print files and model card; needs no token or network"),
    JSON,
)
def push(args: argparse.Namespace) -> dict[str, Any]:
    if not sys.stderr.isatty():
        without_progress_bars()
    from zero2chat.hub import push as hub
    from zero2chat.stages import card_texts

    parcel = hub.pack(args.run, args.repo, args.revision, args.license, args.base, card_texts)
    about = {key: parcel.card.data.get(key) for key in ("base_model", "license")}
    result = {"repo": parcel.repo, "revision": parcel.branch or "main", "files": parcel.sizes, **about}
    for name, size in parcel.sizes.items():
        print(f"{size:>15,} bytes  {name}")
    if about["license"] is None:
        print("The model card names no license. Set one with --license, such as apache-2.0.")
    if args.dry_run:
        print(f"\n{parcel.card}", end="")
        return result | {"card": str(parcel.card)}
    sys.stdout.flush()
    try:
        result |= hub.send(parcel, args.private)
    except hub.NotPushed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"pushed to {result['url']}")
    return result
