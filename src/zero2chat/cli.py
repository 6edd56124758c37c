"""The command `zero2chat`. Each command imports what it needs when it runs: `--help` answers at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zero2chat import __version__
from zero2chat.errors import UserError, exit_on_mistake
from zero2chat.text import in_json, on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from zero2chat.stages import Stage


def _run(args: argparse.Namespace) -> None:
    from zero2chat.recipes import runner

    result = runner.run(
        args.recipe,
        only=args.only,
        from_=args.from_,
        restart=args.restart,
        overrides=args.set,
        accelerate_config=args.accelerate_config,
        dry_run=args.dry_run,
        seeds=args.seeds,
        jobs=args.jobs,
    )
    if args.json:
        _print_json(result)


def _preview(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from rich.console import Console

    from zero2chat.planning import preview

    stage, rows = preview.open_rows(args.config, args.stage, args.set)
    numbers = preview.chosen(rows, args.n, args.row)
    if args.json:
        _print_json(preview.as_json(stage, rows, numbers))
    else:
        preview.show(rows, numbers, Console(highlight=False))


def _plan(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.planning.plan import plan, show

    made = plan(args.recipe, args.gpu, args.gpus, args.nodes, args.mfu, args.price)
    if args.json:
        _print_json(made)
    else:
        from rich.console import Console

        show(made, Console(highlight=False))


def _chat(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.chat.defaults import tools_for
    from zero2chat.chat.terminal import chat
    from zero2chat.inference.session import Sampling
    from zero2chat.models.loading import refuse_reward_model

    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed, args.max_new_tokens)
    model = args.model or _default_model()
    refuse_reward_model(model)
    tools = tools_for(model, args.tools, args.search)
    chat(model, sampling, args.system, args.prompt, tools=tools)


def _ui(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.chat.defaults import tools_for
    from zero2chat.chat.web import ui
    from zero2chat.inference.session import Sampling
    from zero2chat.models.loading import refuse_reward_model

    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed, args.max_new_tokens)
    model = args.model or _default_model()
    refuse_reward_model(model)
    tools = tools_for(model, args.tools, args.search)
    against_tools = tools_for(args.against, args.tools, args.search) if args.against else None
    ui(model, args.against, sampling, args.system, tools, args.host, args.port, args.out, against_tools)


def _default_model() -> str:
    """Return the default model of a command without one, and print it on stderr."""
    from zero2chat.chat.defaults import default_model

    model = default_model()
    print(f"opening {model}", file=sys.stderr, flush=True)
    return model


def _serve(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.chat.openai_server import serve

    serve(args.model, args.host, args.port, args.engine)


def _export(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.export.command import export

    made = export(args.run, args.gguf, args.merge, args.out, args.packages)
    if args.json:
        _print_json(made)
    elif args.gguf:
        types = ", ".join(f"{n} {kind}" for kind, n in made["types"].items())
        print(f"{made['file']}: {made['bytes'] / 1e6:,.1f} MB, tensors: {types}")
        if not made["template"]:
            print(f"{made['out']}/Modelfile: has no template, because the model has no ChatML chat template")
    else:
        print(f"{made['out']}: the merged model")


def _rank(args: argparse.Namespace) -> None:
    _without_progress_bars()
    if (args.review is None) != bool(args.model and args.out) or (args.review and (args.model or args.out)):
        raise UserError("rank: expected MODEL with --out, or --review FILE.jsonl alone")
    if args.review:
        from zero2chat.annotation.review import review

        review(args.review)
        return
    from zero2chat.annotation.ranking import rank
    from zero2chat.data.prompts import read_prompts
    from zero2chat.inference.session import Sampling

    sampling = Sampling(args.temperature, seed=args.seed, max_new_tokens=args.max_new_tokens)
    prompts = read_prompts(args.task, args.prompts, args.n, args.seed)
    rank(args.model, prompts, args.out, args.answers, sampling)


def _next(args: argparse.Namespace) -> None:
    _without_progress_bars()
    from zero2chat.inference.next_token import next_tokens, show_next
    from zero2chat.models.loading import load_for_use

    tokens = next_tokens(*load_for_use(args.model), args.text, args.top)
    if args.json:
        _print_json({"text": args.text, "next": [token._asdict() for token in tokens]})
    else:
        _print_rich(show_next(tokens))


def _tokens(args: argparse.Namespace) -> None:
    from zero2chat.models.loading import load_tokenizer
    from zero2chat.models.tokenization import plain_ids, show_tokens, token_pieces

    tokenizer = load_tokenizer(args.tokenizer)
    if args.special:
        ids = tokenizer.encode(args.text, add_special_tokens=False)
    else:
        ids = plain_ids(tokenizer, [args.text])[0]
    if args.json:
        pieces = token_pieces(tokenizer, ids)
        tokens = [{"id": token_id, "text": piece} for token_id, piece in zip(ids, pieces, strict=True)]
        _print_json({"text": args.text, "bytes": len(args.text.encode()), "tokens": tokens})
    else:
        _print_rich(show_tokens(ids, tokenizer))
        print(f"{len(ids)} tokens, {len(args.text.encode())} bytes")


def _verify(args: argparse.Namespace) -> None:
    from zero2chat.math_verifier.rows import read_rows
    from zero2chat.math_verifier.verify import judge

    if (args.file is None) == (args.gold is None) or (args.gold is None) != (args.answer is None):
        raise UserError("verify: expected --gold with --answer, or --file")
    rows = [(args.gold, args.answer)] if args.file is None else read_rows(args.file)
    for gold, answer in rows:
        _print_json(judge(answer, gold)._asdict())


def _python(args: argparse.Namespace) -> None:
    from zero2chat.tools.python import LONGEST, Limits, run

    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("python: no program on stdin: use zero2chat python < code.py")
    try:
        code = sys.stdin.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"python: cannot read stdin: {error}") from error
    result = run(code, args.engine, Limits(seconds=args.timeout))
    if args.json:
        shown = {"stdout": result.stdout, "value": result.value, "error": result.error, "text": result.text}
        _print_json(shown)
    else:
        print(on_terminal(result.text))
    if result.error is not None:
        sys.stdout.flush()
        sys.exit(1)


def _index(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import track

    from zero2chat.data.documents import read_documents
    from zero2chat.tools.bm25 import write_index

    watched = sys.stderr.isatty()
    number, documents = read_documents(args.source, args.column, args.source_column, args.split)
    shown = track(documents, "reading", total=number, console=Console(stderr=True), disable=not watched)
    made = write_index(args.out, shown, args.source, args.characters, progress=watched)
    if args.json:
        _print_json({"index": args.out} | {key: made[key] for key in ("documents", "passages", "repeated")})
    else:
        repeated = f"; duplicates removed: {made['repeated']:,}" if made["repeated"] else ""
        print(f"{args.out}: {made['passages']:,} passages from {made['documents']:,} documents{repeated}")


def _search(args: argparse.Namespace) -> None:
    from zero2chat.tools.search import as_text, open_search
    from zero2chat.tools.search_types import SearchFailed

    try:
        found = open_search(args.where, args.passages, args.characters).search(args.query)
    except SearchFailed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if args.json:
        passages = [{"text": one.text, "source": one.source, "score": one.score} for one in found]
        _print_json({"query": args.query, "passages": passages})
    else:
        print(on_terminal(as_text(found)))


# Options that commands no longer have, or that are mappings now, and how to give the same. Until the next release.
_TASK = "--tasks '{task: lines, n: 200, options: {…}}'"
_ROWS = "--datasets '{task: facts, n: 200, options: {…}}'"
_DOCUMENTS = "--datasets '{path: FOLDER, column: text, n: 200}'"
_ENDPOINT = "--endpoint '{url: URL, model: NAME, key_variable: VARIABLE}'"
_RENAMED = {
    "arena": dict.fromkeys(("task", "n", "split", "samples", "option"), _TASK)
    | dict.fromkeys(("endpoint", "judge_model", "key_variable"), _ENDPOINT)
    | {"chat_template": "--chat_template_path FILE"},
    "interrogate": dict.fromkeys(("task", "n", "option"), _ROWS)
    | dict.fromkeys(("corpus", "column"), _DOCUMENTS)
    | dict.fromkeys(("endpoint", "endpoint_model", "key_variable"), _ENDPOINT)
    | {"judge": "--judge '{url: URL, model: NAME}'", "chat_template": "--chat_template_path FILE"},
    "regurgitate": {"corpus": "--dataset FOLDER"},
}


def _stage(args: argparse.Namespace) -> None:
    """Run a stage as its module does, or print what it finds, if it can do so and no run folder is named."""
    from zero2chat import stages

    words = list(args.words)
    named = {word.partition("=")[0].replace("-", "_") for word in words}
    prints = args.stage in stages.names("result") and not named & {"__config", "__output_dir"}
    if prints:
        _without_progress_bars()
    stage = stages.load(args.stage)
    if named & {"_h", "__help"}:
        print(stage.help())
        return
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if stage.positional and first:
        words.insert(0, f"--{stage.positional}")
    if prints:
        _print_result(stage, words)
    else:
        stage.main(words)


def _print_result(stage: Stage, words: Sequence[str]) -> None:
    from zero2chat import config
    from zero2chat.runs import write_atomically

    settings, _ = config.read_arguments(words)
    renamed = _RENAMED.get(stage.name, {})
    for key, value in settings.items():
        if key in renamed and not isinstance(value, dict):
            raise UserError(f"{stage.name}: --{key} has changed: use {renamed[key]}")
    as_json, out = settings.pop("json", None), settings.pop("out", None)
    arguments = stage.build(settings, stage.name)
    file = _new_file(out)
    assert stage.result is not None
    result = stage.result(*arguments)
    # Print before writing: the disk may have become full or read-only in the meantime.
    if as_json:
        _print_json(result.metrics)
    else:
        _print_rich(result.shown)
    if file is not None:
        write_atomically(file, result.lines)


def _new_file(path: str | None) -> Path | None:
    """Raises `UserError` if the file exists, or if its folder is missing or not writable."""
    from pathlib import Path

    if path is not None and (Path(path).exists() or not Path(path).parent.is_dir()):
        raise UserError(f"{path}: the file exists, or its folder does not: give a new file in an existing folder")
    if path is not None and not os.access(Path(path).parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the folder is not writable: give a file in another folder")
    return None if path is None else Path(path)


def _push(args: argparse.Namespace) -> None:
    if not sys.stderr.isatty():
        _without_progress_bars()
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
        result["card"] = str(parcel.card)
        print(f"\n{parcel.card}", end="")
    else:
        sys.stdout.flush()
        try:
            result |= hub.send(parcel, args.private)
        except hub.NotPushed as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        print(f"pushed to {result['url']}")
    if args.json:
        _print_json(result)


def _without_progress_bars() -> None:
    # Must be set before transformers and datasets are imported. Otherwise a progress bar precedes the answer.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def _print_rich(shown: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(shown)


def _print_json(result: Any) -> None:
    print(in_json(json.dumps(result, ensure_ascii=False)))


def _text(argument: str) -> str:
    """Decode an argument as text. Bytes that are not valid UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _answers_joined(argv: Sequence[str]) -> list[str]:
    """Join `--gold -x` to `--gold=-x`: argparse would read `-x` as an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[0] == "verify" and joined[-1] in ("--gold", "--answer"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _add_model(command: argparse.ArgumentParser) -> None:
    """Add the argument that names the model to talk to."""
    command.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a folder, such as runs/quickstart/sft, or a Hub name (default: the last model in runs/assistant, or "
        "else in runs/quickstart)",
    )


def _add_conversation(command: argparse.ArgumentParser) -> None:
    """Add the options for the system prompt, sampling and tools."""
    command.add_argument("--system", type=_text, metavar="TEXT", help="the system prompt")
    command.add_argument(
        "--temperature",
        type=float,
        default=0.3,
        help="sampling temperature; 0 is greedy (default %(default)s: small models become incoherent at higher values)",
    )
    command.add_argument("--top-k", type=int, default=0, help="sample from the k most likely tokens (0: all)")
    command.add_argument(
        "--top-p", type=float, default=1.0, help="nucleus sampling: keep tokens up to this total probability (1: all)"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--max-new-tokens", type=int, default=256, help="per answer (default %(default)s)")
    command.add_argument(
        "--tools",
        metavar="NAMES",
        help="tools the model may call: search, python or search,python; none; or auto, the tools it was trained "
        "with (default: auto)",
    )
    command.add_argument(
        "--search",
        metavar="WHERE",
        help="search backend: an index folder, a SearXNG URL or a .json table (with auto: library/index, beside the "
        "model)",
    )


def parser() -> argparse.ArgumentParser:
    from zero2chat import stages

    root = argparse.ArgumentParser(
        prog="zero2chat",
        description="Train an assistant from scratch, and talk to it.",
        epilog="The last commands, from arena on, are stages: zero2chat STAGE --config X.yaml [--key value …]",
    )
    root.add_argument("--version", action="version", version=f"zero2chat {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a recipe, step by step; finished steps are skipped")
    run.set_defaults(command=_run)
    run.add_argument("recipe", metavar="RECIPE", help="a folder, such as recipes/quickstart")
    run.add_argument("--only", metavar="STEP", help="run only this step, or all steps that this claim reads")
    run.add_argument("--from", dest="from_", metavar="STEP", help="start at this step")
    run.add_argument("--restart", metavar="STEP", help="run this step and all steps after it again")
    run.add_argument(
        "--set", action="append", default=[], metavar="STEP.KEY=VALUE", help="override a setting; repeatable"
    )
    run.add_argument("--accelerate-config", metavar="NAME", help="config in accelerate_configs/ for all steps")
    run.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="train with N seeds; needs a `claims` step (default 1)"
    )
    run.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="run up to N steps at once, sharing the cores (default 1)"
    )
    run.add_argument("--dry-run", action="store_true", help="print the commands without running them")
    run.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    preview = commands.add_parser("preview", help="show rows as the model sees them: tokens, loss mask, lengths")
    preview.set_defaults(command=_preview)
    preview.add_argument(
        "--config", required=True, metavar="X.yaml", help="a step's YAML, such as recipes/quickstart/sft.yaml"
    )
    preview.add_argument("--stage", metavar="S", help="the stage, if the YAML's first comment does not name it")
    preview.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable"
    )
    preview.add_argument("--n", type=int, default=3, metavar="N", help="number of rows (default %(default)s)")
    preview.add_argument("--row", type=int, metavar="I", help="show only row I")
    preview.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    plan = commands.add_parser("plan", help="estimate memory, time and cost of a recipe's training steps")
    plan.set_defaults(command=_plan)
    plan.add_argument("recipe", metavar="RECIPE", help="a folder, such as recipes/chat-qwen3-0.6b")
    plan.add_argument("--gpu", required=True, metavar="NAME", help="such as h100, a100, l40s or 4090")
    plan.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs per node (default %(default)s)")
    plan.add_argument("--nodes", type=int, default=1, metavar="N", help="number of nodes (default %(default)s)")
    plan.add_argument("--mfu", type=float, default=0.4, metavar="SHARE", help="assumed MFU (default %(default)s)")
    plan.add_argument("--price", type=float, metavar="DOLLARS", help="price of one GPU-hour")
    plan.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    chat = commands.add_parser("chat", help="talk to a model in the terminal")
    chat.set_defaults(command=_chat)
    _add_model(chat)
    _add_conversation(chat)
    chat.add_argument("--prompt", type=_text, metavar="TEXT", help="answer this prompt and exit")

    ui = commands.add_parser("ui", help="talk to a model in the browser: tokens, their alternatives, tool calls")
    ui.set_defaults(command=_ui)
    _add_model(ui)
    ui.add_argument("--against", metavar="MODEL2", help="ask this model too, and vote blind on the answers")
    ui.add_argument(
        "--out", metavar="FILE.jsonl", help="append votes here, in the reward stage's format (default: not saved)"
    )
    _add_conversation(ui)
    ui.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to bind; 0.0.0.0 admits everybody who can reach this machine (default %(default)s: only you)",
    )
    ui.add_argument("--port", type=int, default=7860, help="0 picks a free port (default %(default)s)")

    serve = commands.add_parser("serve", help="serve a model over an OpenAI-compatible API")
    serve.set_defaults(command=_serve)
    serve.add_argument("model", metavar="MODEL", help="a folder, such as runs/quickstart/sft, or a Hub name")
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to bind (default %(default)s: this machine only)"
    )
    serve.add_argument("--port", type=int, default=8000, metavar="P", help="0 picks a free port (default %(default)s)")
    serve.add_argument("--engine", default="transformers", metavar="E", help="inference engine (default %(default)s)")

    export = commands.add_parser(
        "export", help="export a model for llama.cpp, Ollama and LM Studio, or merge an adapter"
    )
    export.set_defaults(command=_export)
    export.add_argument("run", metavar="RUN", help="a model folder, such as runs/quickstart/sft")
    export.add_argument(
        "--gguf", choices=("f32", "f16", "q8_0", "q4_k_m"), help="write GGUF of this type; needs `make gguf`"
    )
    export.add_argument("--merge", action="store_true", help="merge a LoRA adapter into its base model")
    export.add_argument("--out", metavar="FOLDER", help="a new folder for the output (default: in exports/)")
    export.add_argument(
        "--packages",
        default=".gguf",
        metavar="FOLDER",
        help="where `make gguf` installed the converter (default %(default)s)",
    )
    export.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    rank = commands.add_parser("rank", help="rank a model's answers as preference data (see docs/labelling.md)")
    rank.set_defaults(command=_rank)
    rank.add_argument("model", nargs="?", metavar="MODEL", help="a folder, such as runs/quickstart/sft, or a Hub name")
    asked = rank.add_mutually_exclusive_group(required=True)
    asked.add_argument("--task", metavar="NAME", help="ask training rows of a task, such as lines")
    asked.add_argument(
        "--prompts", metavar="FILE", help="ask prompts of a file: .txt, one per line, or .jsonl with `prompt`"
    )
    asked.add_argument(
        "--review", metavar="FILE.jsonl", help="accept or reject rows that the distill stage wrote; needs no model"
    )
    rank.add_argument("--n", type=int, metavar="N", help="number of prompts (default: 50 of a task, all of a file)")
    rank.add_argument(
        "--seed", type=int, default=0, help="seed of the task's rows, the answers and their order on screen"
    )
    rank.add_argument("--answers", type=int, default=4, metavar="K", help="answers per prompt (default %(default)s)")
    rank.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default %(default)s)")
    rank.add_argument("--max-new-tokens", type=int, default=256, help="per answer (default %(default)s)")
    rank.add_argument("--out", metavar="FILE.jsonl", help="append rankings here; prompts ranked in it are skipped")

    following = commands.add_parser("next", help="show the most likely next tokens after a text")
    following.set_defaults(command=_next)
    following.add_argument("text", type=_text, metavar="TEXT")
    following.add_argument("--model", required=True, metavar="M", help="a folder or a Hub name")
    following.add_argument("--top", type=int, default=10, metavar="N", help="number of tokens (default %(default)s)")
    following.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    python = commands.add_parser("python", help="run a program from stdin in a sandbox; exits with 1 if it fails")
    python.set_defaults(command=_python)
    python.add_argument(
        "--engine",
        default="monty",
        metavar="E",
        help="monty (fast, a subset of Python) or bubblewrap (CPython; Linux; default %(default)s)",
    )
    python.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="time limit (default %(default)s)"
    )
    python.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    index = commands.add_parser("index", help="build a search index from documents; with --config X.yaml, the stage")
    index.set_defaults(command=_index)
    index.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder of .txt and .md files; a dataset: a folder such as runs/quickstart/corpus, "
        "a JSONL, CSV or Parquet file, a Hub name",
    )
    index.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for the index")
    index.add_argument("--column", default="text", metavar="C", help="dataset column with texts (default %(default)s)")
    index.add_argument("--source-column", metavar="C", help="dataset column with source names (default: row numbers)")
    index.add_argument("--split", default="train", metavar="S", help="dataset split (default %(default)s)")
    index.add_argument(
        "--characters", type=int, default=600, metavar="N", help="maximum passage length (default %(default)s)"
    )
    index.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    search = commands.add_parser("search", help="show what a model's search call returns; exits with 1 if it fails")
    search.set_defaults(command=_search)
    search.add_argument("query", type=_text, metavar="QUERY")
    search.add_argument(
        "--in",
        dest="where",
        required=True,
        metavar="WHERE",
        help="an index folder, a SearXNG URL, or a table: {query: text} in a .json file",
    )
    search.add_argument(
        "--passages", type=int, default=3, metavar="N", help="maximum number of passages (default %(default)s)"
    )
    search.add_argument(
        "--characters", type=int, default=1000, metavar="N", help="maximum length of the result (default %(default)s)"
    )
    search.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    push = commands.add_parser("push", help="push a trained step's model, or one of its checkpoints, to the Hub")
    push.set_defaults(command=_push)
    push.add_argument("run", metavar="RUN", help="a trained step's folder, such as runs/quickstart/grpo")
    push.add_argument(
        "--repo", required=True, metavar="NAME", help="repository, such as me/my-model; created if missing"
    )
    push.add_argument("--private", action="store_true", help="create the repository as private")
    push.add_argument(
        "--revision",
        metavar="step-N",
        help="push the checkpoint of step N to a branch of that name; other names: a branch",
    )
    push.add_argument("--license", metavar="L", help="license id for the model card, such as apache-2.0")
    push.add_argument("--base", metavar="NAME", help="the base model's repository, if it was trained here too")
    push.add_argument("--dry-run", action="store_true", help="print files and model card; needs no token or network")
    push.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    tokens = commands.add_parser("tokens", help="show the tokens of a text, in colour, with their ids")
    tokens.set_defaults(command=_tokens)
    tokens.add_argument("text", type=_text, metavar="TEXT")
    tokens.add_argument(
        "--tokenizer",
        default="runs/quickstart/tokenizer",
        metavar="FOLDER",
        help="a folder or a Hub name (default %(default)s)",
    )
    tokens.add_argument(
        "--special", action="store_true", help="encode <|im_end|> and other special tokens as such, not as text"
    )
    tokens.add_argument("--json", action="store_true", help="print one JSON object as the last line")

    verify = commands.add_parser("verify", help="check an answer against a gold answer; prints JSON with the reason")
    verify.set_defaults(command=_verify)
    verify.add_argument("--gold", type=_text, metavar="G", help="the reference answer")
    verify.add_argument("--answer", type=_text, metavar="A", help="an answer, or a text that ends with one")
    verify.add_argument(
        "--file", metavar="ROWS.jsonl", help="rows with the fields gold and answer; one result per line"
    )
    verify.add_argument("--json", action="store_true", help="has no effect: the output is always JSON")

    for name in stages.names():
        if name != "index":  # whose command needs no YAML
            # No character begins an option: the stage reads all words itself.
            stage = commands.add_parser(
                name, help=stages.described(name).summary.replace("%", "%%"), prefix_chars="\0", add_help=False
            )
            stage.set_defaults(command=_stage, stage=name)
            stage.add_argument("words", nargs="*")
    return root


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed or broken pipe, 2 user's mistake, 130 Ctrl-C."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if words[:1] == ["index"] and any(word.startswith("--config") for word in words):
            args = argparse.Namespace(command=_stage, stage="index", words=words[1:])
        else:
            args = parser().parse_args(_answers_joined(words))
        with exit_on_mistake():
            args.command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes stdout again at exit; redirect it, as the pipe is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
