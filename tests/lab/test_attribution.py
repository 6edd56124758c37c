"""Attribution: gradients are those of autograd, a memorized fact's own documents are blamed, lost facts are counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tiny_lab import learn, run_stage
from stage_fixtures import metrics as metrics_of
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data.rows import load_source
from zero2chat.data.sources import Source
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat_lab import attribution
from zero2chat_lab.attribution_corpus import AttributionCorpusArguments, make
from zero2chat_lab.memorization import Excerpt

PROSE = "It is strong and known for the harbour. What is 12 + 30? The answer is 42, and Tom was a painter.\n\n"
ANY = [{"path": "prose.jsonl"}]  # not read
K = 3
SMALL = GPT2Config(vocab_size=320, n_positions=16, n_embd=8, n_layer=1, n_head=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attribution")
    (folder / "prose.txt").write_text("".join(f"{i}. {PROSE}" for i in range(6)))
    prose = {"path": "text", "data_files": [str(folder / "prose.txt")], "label": "prose"}
    few = {"people": 4, "documents": K, "characters": 110}
    return run_stage("attribution_corpus", folder / "corpus", datasets=[prose], **few)


def read_texts(corpus: Path) -> list[str]:
    return list(load_source(Source(path=str(corpus), split="train", label="train"))["text"])


@pytest.fixture(scope="module")
def learned(corpus: Path, model_folder: Path) -> Path:
    """A model that has memorized the train split."""
    model, tokenizer = load_model(model_folder)
    texts = read_texts(corpus)
    rows = [[0, *ids, 0] for ids in plain_ids(tokenizer, texts)]
    return learn(model, tokenizer, corpus.parent / "learned", rows, [0] * len(rows), steps=200)


def test_each_fact_has_its_documents_and_a_wording_of_other_people() -> None:
    documents, facts = make(AttributionCorpusArguments(datasets=ANY, people=100, documents=8))
    count = Counter((one.person, one.attribute) for one in documents)
    assert len({one.text for one in documents}) == len(documents) == 1600
    for fact in facts:
        assert count[fact.person, fact.attribute] == 8
        assert sum(n for (person, _), n in count.items() if person == fact.person) == 16
        assert fact.answer in fact.values
        about = [one.text.lower() for one in documents if one.person == fact.person]
        assert not any(fact.prompt.lower() in text for text in about)
        own = [one.text for one in documents if (one.person, one.attribute) == (fact.person, fact.attribute)]
        assert all(text.find(fact.person) < text.find(fact.answer) for text in own)
        wording = fact.prompt.replace(fact.person, "")
        others = [one for one in documents if one.person != fact.person and one.attribute == fact.attribute]
        assert any(wording == one.text.replace(one.person, "")[: len(wording)] for one in others)
    with pytest.raises(UserError, match=r"documents 12: birthplace has 8 wordings: lower documents"):
        make(AttributionCorpusArguments(datasets=ANY, documents=12))


@pytest.mark.parametrize("gpt2", [False, True])
def test_projected_gradients_are_those_of_autograd_whatever_is_in_the_batch(gpt2: bool, model_folder: Path) -> None:
    model = GPT2LMHeadModel(SMALL).eval() if gpt2 else load_model(model_folder)[0]
    texts = [[Excerpt([0, 41, 77, 300, 9, 12], 3)], [Excerpt([0, 5, 6], 1), Excerpt([300, 7, 8, 9], 1)]]
    expected = []
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear | Conv1D)}
    for text in texts:
        total = torch.zeros(())
        for one in text:
            logs = model(input_ids=torch.tensor([one.ids[:-1]])).logits[0, one.given - 1 :].double().log_softmax(-1)
            log_p = logs[range(len(one.rest)), one.rest]
            total = total - (log_p - torch.log1p(-log_p.exp())).sum()
        weights = [layer.weight for layer in layers.values()]
        expected.append(dict(zip(layers, torch.autograd.grad(total, weights), strict=True)))
    drawn: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    class Seen(attribution.Gradients):
        def _hook(self, name: str, *maps: torch.Tensor) -> Any:
            drawn[name] = maps
            return super()._hook(name, *maps)

    rows = Seen(model, rank=4).of(texts)
    assert drawn.keys() == layers.keys()
    assert rows.shape == (2, len(drawn), 16)
    for i, gradients in enumerate(expected):
        for j, (name, (of_inputs, of_outputs)) in enumerate(sorted(drawn.items())):
            if name == "lm_head":  # its tied weight has the embedding's gradient too
                continue
            gradient = gradients[name] if gpt2 else gradients[name].T  # inputs, outputs
            assert torch.allclose(rows[i, j], (of_inputs.T @ gradient @ of_outputs).flatten(), atol=1e-4)


def test_a_model_without_linear_layers_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(**SMALL.to_dict() | {"n_layer": 0}))
    with pytest.raises(UserError, match="GPT2LMHeadModel: attribution needs linear layers, and found none but the he"):
        attribution.Gradients(model, rank=4)


def test_a_memorized_document_is_blamed_for_its_last_word(corpus: Path, learned: Path) -> None:
    model, tokenizer = load_model(learned)
    texts = [text for text in read_texts(corpus) if not text[0].isdigit()]
    queries = []
    for text in texts:
        before, _, last = text.removesuffix(".").rpartition(" ")
        prompt, answer = plain_ids(tokenizer, [before, f" {last}"])
        queries.append(Excerpt([0, *prompt, *answer], 1 + len(prompt)))
    first = [blamed[0][0] for blamed in attribution.blame(model, tokenizer, texts, queries, k=1)]
    assert sum(i == j for i, j in enumerate(first)) >= 0.8 * len(texts)


def test_blamed_and_other_documents_are_removed(corpus: Path, learned: Path, tmp_path: Path) -> None:
    settings = {"model_name_or_path": str(learned), "dataset": str(corpus)}
    folder = run_stage("attribution", tmp_path / "blame", k=K, **settings)
    metrics = metrics_of(folder)
    assert metrics["precision_bm25"]["value"] > 0.9
    assert metrics["precision_gradients"]["n"] == 4
    blamed = read_jsonl(folder / "blame.jsonl")
    assert len(blamed) == 4 * K
    texts = read_texts(corpus)
    left = {name: read_texts(folder / f"without_{name}") for name in ("blamed", "bm25", "person", "random")}
    for name, some in left.items():
        assert len(some) == len(texts) - metrics[f"removed_{name}"]["value"]
    assert not {one["text"] for one in blamed} & {*left["blamed"]}
    assert metrics["removed_person"]["value"] == metrics["removed_random"]["value"] == 4 * K
    documents, _ = make(AttributionCorpusArguments(datasets=ANY, people=4, documents=K))
    assert {one.text for one in documents if one.source == "others"} == {*texts} - {*left["person"]}
    with pytest.raises(UserError, match=r"k 90: 4 facts and \d+ documents: lower k"):
        run_stage("attribution", tmp_path / "many", k=90, **settings)


def test_facts_that_another_model_does_not_know_are_lost(
    corpus: Path, learned: Path, model_folder: Path, tmp_path: Path
) -> None:
    for name, target in (("again", learned), ("untrained", model_folder)):
        (tmp_path / name).symlink_to(target)
    folder = run_stage(
        "lost_facts",
        tmp_path / "lost",
        model_name_or_path=str(learned),
        dataset=str(corpus),
        without=[str(tmp_path / "again"), str(tmp_path / "untrained")],
    )
    metrics = metrics_of(folder)
    known = metrics["known_rate"]["value"] * 4
    assert known >= 2
    assert (
        metrics["constant_rate"]["value"] == 0.75
    )  # two of four people have the same attribute, and different answers
    assert (metrics["lost_rate_again"]["value"], metrics["lost_rate_again"]["n"]) == (0.0, known)
    assert metrics["lost_rate_untrained"]["value"] >= 0.5


def test_ngrams_rank_by_the_longest_one() -> None:
    texts = ["a town", "Ada lives in Rome", "Rome, Ada", "Ada was born in Rome"]
    assert attribution.by_ngrams("Ada was born in Rome", texts) == [3, 1, 2]  # no word of "a town"
