"""Tokenizer: train a byte-level BPE on the corpus.

    python -m zero2chat.stages.tokenizer --config recipes/quickstart/tokenizer.yaml

Reads a corpus, and trains a byte-level BPE on its training documents (with `tokenizers`). Adds the special tokens for
chat, search and python. Compares bytes per token with GPT-2's and GPT-4's tokenizers on the test documents. Writes a
tokenizer folder for `AutoTokenizer.from_pretrained`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.data.rows import load_source, require_text
from zero2chat.data.sources import Source
from zero2chat.models.tokenization import PRETOKENIZER_PATTERN, SPECIAL_TOKENS, plain_ids
from zero2chat.report.parts import esc
from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.report.steps import StepResult
from zero2chat.stages import Stage

# cl100k_base as tiktoken defines it; its own constructor would fetch the ranks from the network.
GPT4_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)


@dataclass
class TokenizerArguments:
    output_dir: str | None = None
    dataset: str | None = None
    column: str = "text"
    vocab_size: int = 4096
    documents: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Train on the first N documents only."}
    )
    gpt2_vocab: str | None = None
    gpt2_merges: str | None = None
    gpt4_ranks: str | None = None

    def __post_init__(self) -> None:
        if self.dataset is None:
            raise ValueError("dataset is not set: set it to the corpus folder")
        if (self.gpt2_vocab is None) != (self.gpt2_merges is None):
            raise ValueError("gpt2_vocab and gpt2_merges go together: set both or neither")
        if self.vocab_size < 256 + len(SPECIAL_TOKENS):
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens "
                f"need {256 + len(SPECIAL_TOKENS)}"
            )


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of `vocab_size` tokens, including special tokens. Digits are split one by one."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in ("<|endoftext|>", "<|pad|>")],
        clean_up_tokenization_spaces=False,
    )


def gpt4_token_count(ranks: str, texts: Sequence[str]) -> tuple[int, int]:
    """Return the texts' number of tokens with GPT-4's tokenizer (`ranks` is its file), and its vocabulary size."""
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    encoding = tiktoken.Encoding(
        "cl100k_base", pat_str=GPT4_PATTERN, mergeable_ranks=load_tiktoken_bpe(ranks), special_tokens={}
    )
    return sum(len(ids) for ids in encoding.encode_ordinary_batch(list(texts))), encoding.n_vocab


def run(run: Run, args: TokenizerArguments) -> None:
    run.clear()

    train, test = (load_source(Source(path=args.dataset, split=split)) for split in ("train", "test"))
    for split, rows in (("train", train), ("test", test)):
        require_text(rows, args.column, f"{args.dataset} ({split})", filled=True)
    read = train if args.documents is None else train.select(range(min(args.documents, len(train))))
    tokenizer = train_tokenizer((text for text in read[args.column]), args.vocab_size)
    if len(tokenizer) < args.vocab_size:
        raise UserError(
            f"{args.dataset}: the text yields only {len(tokenizer)} tokens, fewer than vocab_size {args.vocab_size}: "
            "give more text, or lower vocab_size"
        )
    texts = test[args.column][:]
    size = sum(len(text.encode()) for text in texts)
    counts = {"": (sum(map(len, plain_ids(tokenizer, texts))), len(tokenizer))}  # (tokens, size of the vocabulary)
    if args.gpt2_vocab:
        try:
            gpt2 = GPT2TokenizerFast(vocab=args.gpt2_vocab, merges=args.gpt2_merges)
        except Exception as error:  # tokenizers has no narrower class
            raise UserError(f"gpt2_vocab {args.gpt2_vocab}, gpt2_merges {args.gpt2_merges}: {error}") from error
        counts["_gpt2"] = sum(map(len, plain_ids(gpt2, texts))), len(gpt2)
    if args.gpt4_ranks:
        try:
            counts["_gpt4"] = gpt4_token_count(args.gpt4_ranks, texts)
        except (OSError, ValueError) as error:
            raise UserError(f"gpt4_ranks {args.gpt4_ranks}: {error}") from error
    metrics: dict[str, dict[str, Any]] = {}
    for name, (tokens, vocabulary) in counts.items():
        metrics[f"vocab_size{name}"] = {"value": vocabulary}
        metrics[f"bytes_per_token{name}"] = {"value": round(size / tokens, 4), "n": size}

    tokenizer.save_pretrained(run.folder)
    for label in dict.fromkeys(test["source"]) if "source" in test.column_names else ["test"]:
        text = next(row[args.column] for row in test if row.get("source", "test") == label)[:240]
        ids = plain_ids(tokenizer, [text])[0]
        run.sample(0, text, "", tokens=[tokenizer.decode([i]) for i in ids], ids=ids)
    run.finish(metrics)


class _Tokens(Answers):
    """A report element that shows texts with their tokens in alternating colours; a newline is shown as ↵."""

    def show(self, step: StepResult) -> str:
        texts = [s["tokens"] if isinstance(s.get("tokens"), list) else [s.get("prompt", "")] for s in step.samples]
        spans = (
            "".join(f'<span class="t{i % 6 + 1}">{esc(token)}</span>' for i, token in enumerate(text[:400]))
            for text in texts[:6]
        )
        return "".join(f'<p class="tokens">{text}</p>\n'.replace("\n</span>", "↵<br></span>") for text in spans)


STAGE = Stage(
    name="tokenizer",
    story="A byte-level BPE tokenizer trained on a corpus, compared with the tokenizers of GPT-2 and GPT-4.",
    kind="plain",
    arguments=(TokenizerArguments,),
    run=run,
    section=Section(
        title="From letters to numbers",
        story="A model reads numbers, not letters. The tokenizer splits text into frequent pieces, words or parts of "
        "words, and gives each an id. If trained on the same text, a larger vocabulary gives shorter sequences. 5,000 "
        "characters of English are 40,000 bits, 5,000 bytes, and about 1,300 of GPT-4's tokens.",
        metrics={
            "bytes_per_token": "bytes per token on held-out text",
            "vocab_size": "tokens in the vocabulary",
            "vocab_size_gpt4": "tokens in GPT-4's vocabulary",
        },
        figures=(
            Bars(
                "Bytes per token on held-out text.",
                {
                    "bytes_per_token": {
                        "this tokenizer": "bytes_per_token",
                        "GPT-2": ".+_token_gpt2",
                        "GPT-4": ".+_token_gpt4",
                    }
                },
            ),
        ),
        samples=_Tokens("Tokens in colour"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
