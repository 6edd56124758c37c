"""Inside a model: one page that shows how the model computed its answer, token by token.

    zero2chat inside runs/quickstart/grpo "What is 12 + 30?"

Reads a model and answers the prompt with the likeliest tokens, or takes the answer that is given. The page, one HTML
file that works offline, shows for each token: the probabilities of the next token, what the model would say after each
layer, what each attention head reads, and similar tokens. It compares other models on the same text (`compare`), shows
sampled answers as GRPO sees them (`right`), traces the answer to training documents (`corpus`), and shows how one step
of gradient descent on the answer changes the probabilities. The numbers are made in `inside_numbers.py` and
`inside_training.py`; the page is `inside.html`, `inside.css` and `inside.js`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process, write_atomically
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import Source
from zero2chat.inference.generate import complete, encode_prompts, generating
from zero2chat.models.loading import context_length, end_ids, load_model
from zero2chat.models.tokenization import control_ids, plain_ids, token_pieces
from zero2chat.report.page import CSS
from zero2chat.report.parts import esc, paragraph
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Section
from zero2chat.report.steps import StepResult
from zero2chat.stages import Load, Result, Stage
from zero2chat.stages.shared import MeasuringArguments
from zero2chat_lab.inside_numbers import MOST_PARAMETERS, Inside, most_tokens, of_next, rounded
from zero2chat_lab.inside_training import compared, documents, group, with_values


@dataclass
class InsideArguments(MeasuringArguments):
    """The model, the text, and what is compared."""

    needs = ("model_name_or_path", "prompt")

    prompt: str | None = field(default=None, metadata={"help": "The question, or the text to continue."})
    answer: str | None = field(default=None, metadata={"help": "The answer to look at (default: the model's own)."})
    max_new_tokens: Annotated[int, Range(min=1)] = field(default=64, metadata={"help": "Most tokens that it writes."})
    compare: list[str] = field(
        default_factory=list, metadata={"help": "Models to compare: earlier stages, or a checkpoint of PPO."}
    )
    right: str | None = field(
        default=None, metadata={"help": "The right answer, for sampled answers as GRPO sees them."}
    )
    corpus: str | None = field(default=None, metadata={"help": "Training documents (column text) to trace tokens to."})
    nudge: Annotated[float, Range(min=0)] = field(
        default=0.003, metadata={"help": "Learning rate of one gradient step on the answer; 0 for no step."}
    )
    page: str | None = field(
        default=None, metadata={"help": "The HTML file (default: inside.html, or output_dir with .html)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt or not self.prompt.strip():
            raise ValueError("prompt is empty: give a question, or a text to continue")
        if self.right is not None and not self.right.strip():
            raise ValueError("right is empty: give the right answer")
        if not str(self.file).endswith(".html"):
            raise ValueError(f"page: {self.page}: expected the name of an .html file")

    @property
    def file(self) -> Path:
        return Path(self.page or (f"{self.output_dir}.html" if self.output_dir else "inside.html"))


def text_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: InsideArguments) -> tuple[list[int], int]:
    """Return the ids of prompt and answer, and the index at which the answer begins.

    A model with a chat template gets the prompt as a user's message, other models continue it. Raises `UserError` if
    the text is longer than a page can show.
    """
    prompt, most = str(args.prompt), most_tokens(model)
    chat = tokenizer.chat_template is not None
    if chat:
        (ids,) = encode_prompts(tokenizer, [[{"role": "user", "content": prompt}]])
    else:
        ids = plain(tokenizer, prompt)
    end = [tokenizer.eos_token_id] if chat and tokenizer.eos_token_id is not None else []
    given = [] if args.answer is None else plain_ids(tokenizer, [args.answer])[0] + end
    if len(ids) + max(len(given), 1) > most:
        raise UserError(
            f"the text has {len(ids) + len(given)} tokens, and a page of {args.model_name_or_path} shows at most "
            f"{most}, with at least one for the answer: shorten the prompt or the answer"
        )
    if not given:
        with generating(model, args.seed):
            (given,) = complete(model, [ids], greedy(model, tokenizer, min(args.max_new_tokens, most - len(ids))))
    return ids + given, len(ids)


def plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a plain text, after the token that begins a text, if the model needs one."""
    start = [tokenizer.bos_token_id] if getattr(tokenizer, "add_bos_token", False) else []
    return start + plain_ids(tokenizer, [text])[0]


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: int) -> GenerationConfig:
    """Return the settings of an answer of at most `tokens` tokens."""
    ends = [one for one in end_ids(model, tokenizer) if one is not None]
    return GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )


def refuse_large(path: str) -> None:
    """Raise `UserError` for a model without attention heads, or with too many parameters, before it is loaded."""
    model, _ = load_model(path, weights=False)
    try:
        most_tokens(model)
    except AttributeError as error:
        raise UserError(f"{path}: its config lacks the layers or heads of a transformer ({error})") from error
    if (size := model.num_parameters()) > MOST_PARAMETERS:
        most = f"{MOST_PARAMETERS / 1e9:g} billion"
        raise UserError(f"{path}: has {size / 1e9:.1f} billion parameters, more than {most}: give a smaller model")


def exact(load: Load, path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer, in 32 bits unless it is quantized."""
    model, tokenizer = load(path)
    return model if getattr(model, "is_quantized", False) else model.float(), tokenizer


def others(args: InsideArguments, load: Load, inside: Inside, vocabulary: dict[str, int]) -> list[dict[str, Any]]:
    """Return how other models, and then this one, read the text. Raises `UserError` for another tokenizer."""
    ids, own = inside.ids[0], inside.logits[:, : len(vocabulary)].float().log_softmax(-1)  # without padding
    models = []
    for path in args.compare:
        other, tokenizer = exact(load, folder := with_values(path))
        if tokenizer.get_vocab() != vocabulary:
            raise UserError(f"compare: {path}: has another tokenizer than {args.model_name_or_path}: remove it")
        models.append({"name": path, **compared(folder, other, ids, own)})
    return [*models, {"name": args.model_name_or_path, "log_p": rounded(of_next(own, ids))}]


def measure(args: InsideArguments, load: Load) -> Result:
    path = str(args.model_name_or_path)
    corpus = Source(path=args.corpus, split="train", label=f"corpus {args.corpus}") if args.corpus else None
    texts = load_documents(corpus)["text"] if corpus else []
    for one in (path, *args.compare):
        refuse_large(one)
    model, tokenizer = exact(load, path)
    ids, start = text_of(model, tokenizer, args)
    inside = Inside(model, tokenizer, ids)
    numbers = inside.numbers | {"model": path, "tokens": ids, "start": start}
    numbers["compare"] = others(args, load, inside, tokenizer.get_vocab()) if args.compare else []
    settings = greedy(model, tokenizer, min(args.max_new_tokens, context_length(model) - start))
    numbers["group"] = args.right and group(model, tokenizer, ids[:start], settings, args.right, args.seed)
    numbers["documents"] = None
    try:
        numbers["documents"] = args.corpus and documents(*exact(load, path), ids, start, texts, str(args.prompt))
    except UserError as error:  # such as of a quantized model
        inside.missing.append(f"the documents behind the answer: {error}")
    numbers["nudge"] = inside.nudge(start, args.nudge) if args.nudge else None  # last: it changes the weights
    answers = numbers["group"]["answers"] if numbers["group"] else []
    shown = sorted(inside.shown.union(*(one["ids"] for one in answers)))
    pieces = dict(zip(shown, token_pieces(tokenizer, shown), strict=True))
    numbers |= {"pieces": pieces, "missing": inside.missing, "special": sorted(control_ids(tokenizer) & set(ids))}
    numbers["given"] = args.answer is not None
    page = render(numbers)
    if is_main_process():
        try:
            replaced = ", in place of the earlier file (--page names another)" * args.file.exists()
            args.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.file, page)
        except OSError as error:
            raise UserError(f"page: {args.file}: not writable ({error.strerror}): name another file") from error
        lines = [*(f"left out: {line}" for line in inside.missing), f"wrote {args.file}{replaced}"]
        print("\n".join(lines), flush=True)
    metrics = {name: {"value": numbers["sizes"][name]} for name in ("parameters", "layers", "heads")}
    last = numbers["lens"][-1]
    samples = [
        {"token": pieces[ids[i]], "p": last["next"][i - 1], "guess": pieces[last["ids"][i - 1][0]]}
        | {"guess_p": last["p"][i - 1][0]}
        for i in range(start, len(ids))
    ]
    return Result(metrics | {"text_tokens": {"value": len(ids)}}, samples)


def render(numbers: dict[str, Any]) -> str:
    """Return the page. The browser runs no script but ours, and requests nothing, whatever a text contains."""
    page, css, script = (
        Path(__file__).with_name(f"inside.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # In a script element, only `<` can end the data.
    try:
        data = json.dumps(numbers, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    except ValueError as error:  # a browser would show an empty page
        raise UserError(f"{numbers['model']}, or a model in compare, computes NaN: give one that works") from error
    parts = {"ALLOWED": allowed, "CSS": CSS + css, "TITLE": esc(numbers["model"]), "SCRIPT": script, "DATA": data}
    for name, part in parts.items():  # the data last: nothing is replaced in it
        page = page.replace(f"[[{name}]]", part)
    return page


def _where(step: StepResult) -> str:
    file = step.settings.get("page") or f"{step.folder.name}.html"
    return paragraph(f"The page is the file <code>{esc(str(file))}</code>; it works offline.")


STAGE = Stage(
    name="inside",
    story="A page that shows how a model computed an answer: next tokens, layers, attention and a gradient step.",
    kind="answers",
    arguments=(InsideArguments,),
    positional="model_name_or_path prompt",
    measure=measure,
    section=Section(
        title="Inside the model",
        story="One answer, as the model computed it. At each token the model gives every token of its vocabulary a "
        "probability to come next. A separate page shows how these probabilities arise, layer by layer and head by "
        "head.",
        metrics={
            "text_tokens": "tokens of question and answer",
            "layers": "layers",
            "heads": "attention heads per layer",
            "parameters": "parameters",
        },
        extra=_where,
        samples=SampleTable(
            "The answer, token by token",
            columns={"token": "token", "its probability": "p", "likeliest": "guess", "with probability": "guess_p"},
            n=12,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
