"""Interventions: heads that are switched off write nothing, and exchanged hidden states are those of another text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.test_inside import IDS, MODELS
from lab.tiny_lab import learn, run_stage

from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat_lab import interventions, mechanism
from zero2chat_lab.interventions import Asked, Parts

FEW: dict[str, Any] = {"n": 4, "n_choose": 6, "pairs": 4, "numbers": 2, "triples": 2, "rows": 40}
FEW |= {"options": {"kinds": ["birthplace"]}}


@pytest.fixture(scope="module")
def folder(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with eight heads: three to switch off, and others to compare them with."""
    return write_model(tmp_path_factory.mktemp("model"), num_attention_heads=4)


def rows(split: str, seed: int, n: int) -> list[dict[str, str]]:
    """This module is a task, too: three people of each split."""
    first = {"train": "Ada", "test": "Tom"}.get(split, "Mia")
    people = zip("ABC", ("the", "answer", "state"), strict=True)
    return [{"key": f"{first} {last}", "question": "?", "answer": town, "kind": "birthplace"} for last, town in people]


def demonstration(row: dict[str, str], rng: object, style: str = "worked") -> str:
    return row["answer"]


def score(row: dict[str, str], completion: str) -> float:
    return 0.0


@pytest.mark.parametrize("kind", MODELS)
def test_a_head_is_switched_off_as_if_its_part_of_the_output_projection_were_zero(kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    parts, row = Parts(kind, model), Asked(IDS[:4], IDS[4:])
    (whole,) = parts.logits([row])
    with parts.without([(1, 2), (1, 0), (2, 3)]):
        (without,) = parts.logits([row])
    with torch.no_grad():
        for layer, head in ((1, 2), (1, 0), (2, 3)):
            weight = parts.outputs[layer].weight
            (weight if kind == "gpt2" else weight.T)[8 * head : 8 * head + 8] = 0
    assert torch.allclose(parts.logits([row])[0], without, atol=1e-5)
    assert not torch.allclose(whole, without, atol=1e-2)


@pytest.mark.parametrize("kind", MODELS)
def test_all_hidden_states_of_a_layer_are_the_whole_text(kind: str) -> None:
    torch.manual_seed(0)
    parts = Parts(kind, MODELS[kind]().eval())
    one, other = Asked(IDS, [9]), Asked([5, 6, 7, 8, 9, 10, 11], [9])
    every = [*range(len(IDS))]
    for layer in range(3):
        with parts.patched(layer, [parts.states(one.ids)[layer]], [every]):
            (said,) = parts.logits([other])
        assert torch.allclose(said, parts.logits([one])[0], atol=1e-5)
    assert not torch.allclose(parts.logits([one])[0], parts.logits([other])[0], atol=1e-2)


def test_a_heads_score_is_its_attention_and_what_the_logits_lose_without_it() -> None:
    torch.manual_seed(0)
    model = MODELS["qwen3"]().eval()
    parts, row = Parts("x", model), Asked(IDS[:5], IDS[5:6], source=1, other=[77])
    model.model.layers[-1].mlp.down_proj.weight.data.zero_()  # nothing reads the last heads but the norm
    (whole,) = parts.logits([row])
    attention, effect = parts.scores([row])
    assert torch.equal(parts.logits([row])[0], whole)
    with torch.no_grad():
        output = model(input_ids=torch.tensor([IDS[:5]]), output_attentions=True)
    assert torch.allclose(attention[:, 2], torch.stack([one[0, 2, 4, 1] for one in output.attentions]), atol=1e-5)
    with parts.without([(2, 3)]):
        (without,) = parts.logits([row])
    lost = (whole - without)[0]
    assert effect[2, 3].item() == pytest.approx((lost[IDS[5]] - lost[77]).item(), abs=1e-4)


def test_the_stage_measures_what_a_model_knows(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(folder)
    settings = FEW | {"facts": __name__, "options": {}}
    args = mechanism.MechanismArguments(model_name_or_path=str(folder), **settings)
    both = [row for split in ("train", "test") for row in rows(split, 0, 3)]
    facts = [mechanism.stated(args, tokenizer, row["key"], row["answer"]) for row in both]
    texts, given = [fact.ids + fact.answer for fact in facts], [len(fact.ids) for fact in facts]
    known = learn(model, tokenizer, tmp_path / "known", texts, given)
    run = run_stage("mechanism", tmp_path / "x", model_name_or_path=str(known), **settings)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy_facts_train"]["value"] == metrics["accuracy_facts_test"]["value"] == 1
    assert metrics["layer_facts"]["value"] == 1
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [0, 1]
    assert history[0]["changed_subject"] == 1  # with all tokens of the subject exchanged, it is the other text
    assert history[0]["changed_relation"] == history[0]["changed_last"] == 0
    assert metrics["accuracy_copy"]["n"] == 4
    assert metrics["accuracy_decimals"]["n"] == 12
    heads = [json.loads(line)["head"] for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(heads) == 6
    assert all(head.startswith("layer ") for head in heads)


def test_a_model_that_knows_no_fact_has_only_its_accuracy(folder: Path, tmp_path: Path) -> None:
    run = run_stage("mechanism", tmp_path / "x", model_name_or_path=str(folder), chat=False, **FEW)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy_facts_test"]["value"] == 0
    assert "layer_facts" not in metrics
    with pytest.raises(UserError, match=r"kind: no row of the task facts \(train\) is of the kind 'town'"):
        run_stage("mechanism", tmp_path / "y", model_name_or_path=str(folder), chat=False, **FEW | {"kind": "town"})


def test_a_statement_begins_with_the_token_that_the_tokenizer_puts_before_texts(model_folder: Path) -> None:
    _, tokenizer = load_model(model_folder)
    args = mechanism.MechanismArguments(model_name_or_path="", chat=False, **FEW)
    without = mechanism.stated(args, tokenizer, "Ada", "Rome")
    tokenizer.bos_token, tokenizer.add_bos_token = "<|im_start|>", True  # as in Llama and Gemma
    begun, bos = mechanism.stated(args, tokenizer, "Ada", "Rome"), tokenizer.bos_token_id
    assert (begun.ids, begun.answer) == ([bos, *without.ids], without.answer)
    assert begun.places == {name: [i + 1 for i in some] for name, some in without.places.items()}
    assert mechanism.text_of(args, tokenizer, ["Ada", "Tom"])[0] == bos


def test_a_model_without_known_parts_is_refused(
    model_folder: Path, write_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="adapter: an adapter or a quantized model: give whole weights"):
        Parts("adapter", load_model(write_adapter(tmp_path / "adapter"))[0])
    monkeypatch.setattr(interventions, "_OUTPUTS", ("another_name",))
    with pytest.raises(UserError, match="m: unknown module names: expected layers with another_name,"):
        Parts("m", load_model(model_folder)[0])
