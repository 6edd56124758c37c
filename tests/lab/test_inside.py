"""The page `inside`: its numbers are those of transformers, and what cannot be shown is named."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab.tiny_lab import run_stage, with_other_tokenizer
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from zero2chat import cli
from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat_lab import attribution, inside, inside_numbers, inside_training
from zero2chat_lab.inside_numbers import Inside

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
GPT2 = GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=64, vocab_size=520, initializer_range=0.3)
MODELS = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(vocab_size=520, **SIZES)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=520, tie_word_embeddings=True, **SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2),
}
IDS = [2, 300, 41, 77, 300, 9, 3]


def data_of(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)


@pytest.mark.parametrize("kind", MODELS)
def test_the_numbers_of_the_page_are_those_of_transformers(kind: str, tokenizer: Any) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    seen = Inside(model, tokenizer, IDS)
    numbers = json.loads(json.dumps(seen.numbers))
    assert seen.missing == []
    assert [numbers["sizes"][key] for key in ("layers", "heads", "head_width", "width")] == [3, 4, 8, 32]
    with torch.no_grad():
        output = model(input_ids=torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
        norm = model.transformer.ln_f if kind == "gpt2" else model.model.norm
        logits = [model.lm_head(norm(state)) for state in output.hidden_states[:-1]] + [output.logits]

    weights = np.frombuffer(base64.b64decode(numbers["attention"]), "<u2").reshape(3, 4, -1) / 65535
    for layer, attentions in enumerate(output.attentions):
        rows = np.split(weights[layer], np.cumsum(range(1, len(IDS))), axis=1)
        for i, row in enumerate(rows):
            assert np.abs(row - attentions[0, :, i, : i + 1].numpy()).max() < 1e-5
    assert len(numbers["lens"]) == len(logits) == 4
    for level, scores in zip(numbers["lens"], logits, strict=True):
        p = scores[0].softmax(-1)
        assert torch.allclose(torch.tensor(level["p"]), p.gather(1, torch.tensor(level["ids"])), atol=1e-5)
        assert [ids[0] for ids in level["ids"]] == p[:, : len(tokenizer)].argmax(-1).tolist()
        assert level["next"] == pytest.approx([p[i, after].item() for i, after in enumerate(IDS[1:])], abs=1e-5)

    table = model.get_input_embeddings().weight.detach()
    near = numbers["neighbours"]["300"]
    cosines = torch.cosine_similarity(table[300], table[near["ids"]])
    assert near["cosine"] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert 300 not in near["ids"]


def test_a_gradient_step_makes_the_answer_more_likely(tokenizer: Any) -> None:
    torch.manual_seed(0)
    seen = Inside(MODELS["qwen3"]().eval(), tokenizer, IDS)
    step, before = seen.nudge(3, 0.01), seen.numbers["lens"][-1]
    assert step is not None
    assert np.log(step["next"][2:]).sum() > np.log(before["next"][2:]).sum()
    assert np.shape(step["p"]) == np.shape(before["p"]) == (len(IDS), 10)
    assert 0 < np.abs(np.subtract(step["p"], before["p"])).max() < 0.5


def test_the_command_writes_one_page_that_runs_no_script_of_a_text(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["inside", str(model_folder), "</script><b>12", "--max-new-tokens", "9", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["layers"] == {"value": 2}
    text = Path("inside.html").read_text()
    assert text.count("</script>") == 2
    (script,) = re.findall(r"<script>(.*)</script>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in text
    assert not re.search(r"\[\[[A-Z]+\]\]|https?://(?!www\.w3\.org)|url\(", text)
    data = data_of(Path("inside.html"))
    assert data["tokens"][0] in data["special"]
    assert "".join(data["pieces"][str(i)] for i in data["tokens"][: data["start"]]).count("</script><b>12") == 1
    assert {str(i) for level in data["lens"] for ids in level["ids"] for i in ids} <= data["pieces"].keys()
    assert 1 <= len(data["tokens"]) - data["start"] <= 9
    assert (data["compare"], data["missing"], data["given"]) == ([], [], False)


def test_models_are_compared_on_a_given_answer_and_the_page_is_beside_the_run(
    model_folder: Path, write_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model(tmp_path / "other", initializer_range=0.1)
    (tmp_path / "x.html").touch()
    folder = run_stage(
        "inside", tmp_path / "x", model_name_or_path=str(model_folder), prompt="12?", answer="42", compare=[str(other)]
    )
    written = f"wrote {tmp_path}/x.html, in place of the earlier file (--page names another)\n"
    assert capsys.readouterr().out.count(written) == 1
    data = data_of(tmp_path / "x.html")
    assert data["given"]
    assert [one["name"] for one in data["compare"]] == [str(other), str(model_folder)]
    assert data["compare"][1]["log_p"] == pytest.approx(np.log(data["lens"][-1]["next"]), abs=0.05)
    assert data["compare"][0]["log_p"] != data["compare"][1]["log_p"]
    own, its = (_log_probabilities(path, data["tokens"]) for path in (model_folder, other))
    expected = torch.nn.functional.kl_div(its, own, log_target=True, reduction="none").sum(-1)
    assert data["compare"][0]["kl"] == pytest.approx(expected[:-1].tolist(), abs=1e-4)
    assert (data["group"], data["documents"]) == (None, None)
    said = [data["pieces"][str(i)] for i in data["tokens"][data["start"] :]]
    assert said == ["4", "2", "<|im_end|>"]
    assert [json.loads(line)["token"] for line in (folder / "samples.jsonl").read_text().splitlines()] == said
    words = with_other_tokenizer(model_folder, tmp_path / "words")
    args = inside.InsideArguments(
        model_name_or_path=str(model_folder), prompt="12?", compare=[str(words)], page=f"{tmp_path}/y.html"
    )
    with pytest.raises(UserError, match=r"compare: .*words: has another tokenizer than"):
        inside.measure(args, load_model)
    assert not (tmp_path / "y.html").exists()


def test_a_given_answer_ends_its_turn_with_the_templates_token_and_the_page_may_be_in_a_new_folder(
    model_folder: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_model(model_folder)
    model.generation_config.eos_token_id = [0, tokenizer.eos_token_id]  # as in Llama 3 and Gemma
    args = inside.InsideArguments(
        model_name_or_path=str(model_folder), prompt="12?", answer="42", page=f"{tmp_path}/new/x.html"
    )
    inside.measure(args, lambda _: (model, tokenizer))
    data = data_of(tmp_path / "new" / "x.html")
    assert data["tokens"][-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def _log_probabilities(path: Path, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return load_model(path)[0](torch.tensor([ids])).logits[0].float().log_softmax(-1)


def test_a_checkpoint_of_ppo_has_values_and_answers_have_the_advantages_of_grpo(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = shutil.copytree(model_folder, tmp_path / "checkpoint-9")
    model, _ = load_model(trained)
    weight = torch.linspace(-1, 1, model.config.hidden_size)[None]
    save_file({"score.weight": weight}, trained / "value.safetensors")
    rewards = iter([1.0, 0, 0, 0, 0, 0, 1, 0])
    monkeypatch.setattr(inside_training, "reward", lambda right, said: next(rewards))
    run = shutil.copytree(model_folder, tmp_path / "ppo")
    trained.rename(run / "checkpoint-9")
    given: dict[str, Any] = {"prompt": "12?", "right": "42", "compare": [str(run)], "max_new_tokens": 5}
    run_stage("inside", tmp_path / "x", model_name_or_path=str(model_folder), **given)
    data = data_of(tmp_path / "x.html")
    with torch.no_grad():
        hidden = model(torch.tensor([data["tokens"]]), output_hidden_states=True).hidden_states[-1][0]
    assert data["compare"][0]["value"] == pytest.approx((hidden @ weight[0])[:-1].tolist(), abs=1e-3)
    assert max(map(abs, data["compare"][0]["kl"])) < 1e-4
    answers, start = data["group"]["answers"], data["start"]
    assert [one["advantage"] for one in answers] == pytest.approx(
        [0.75 / 0.46301 if i in (0, 6) else -0.54 for i in range(8)], abs=1e-2
    )
    assert len({tuple(one["ids"]) for one in answers}) > 1
    ids = data["tokens"][:start] + answers[0]["ids"]
    assert answers[0]["log_p"] == pytest.approx(
        [_log_probabilities(model_folder, ids)[i - 1, ids[i]].item() for i in range(start, len(ids))], abs=1e-2
    )
    assert {str(i) for one in answers for i in one["ids"]} <= data["pieces"].keys()
    (run / "checkpoint-9" / "value.safetensors").write_bytes(b"zeros")
    with pytest.raises(UserError, match=r"compare: .*checkpoint-9/value\.safetensors: is damaged"):
        run_stage("inside", tmp_path / "y", model_name_or_path=str(model_folder), **given)
    with pytest.raises(ValueError, match="right is empty"):
        inside.InsideArguments(model_name_or_path="x", prompt="12?", right=" ")


def test_a_model_that_cannot_read_the_text_or_computes_nan_is_refused(
    model_folder: Path, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    broken, _ = load_model(other := write_model(tmp_path / "other"))
    with pytest.raises(UserError, match="compare: short: reads 128 tokens, and the text has 129: remove it"):
        inside_training.compared("short", broken, torch.zeros(129, dtype=torch.long), torch.zeros(129, 9))
    torch.nn.init.constant_(broken.model.norm.weight, torch.nan)
    broken.save_pretrained(other)
    given: dict[str, Any] = {"prompt": "12?", "answer": "42", "compare": [str(other)], "page": f"{tmp_path}/x.html"}
    with pytest.raises(UserError, match="or a model in compare, computes NaN"):
        inside.measure(inside.InsideArguments(model_name_or_path=str(model_folder), **given), load_model)
    assert not (tmp_path / "x.html").exists()
    (tmp_path / "x.html").write_text("a file, and no folder")
    given |= {"compare": [], "page": f"{tmp_path}/x.html/y.html"}
    with pytest.raises(UserError, match=r"y\.html: not writable \(.+\): name another file"):
        inside.measure(inside.InsideArguments(model_name_or_path=str(model_folder), **given), load_model)


@pytest.mark.parametrize(
    ("right", "said", "score"),
    [
        ("42", "12 + 30 is 42.", 1),
        ("42", "42 is 12 + 30.", 0),
        ("42", "It is 41. #### 42", 1),
        ("7 pens", "7 are left. #### 7", 1),
        ("1,200", "#### 1200", 1),
        ("3 of 4", "It is 3 of 4.", 1),
        ("42", "", 0),
        ("Paris", "In paris.", 1),
        ("no", "I know.", 0),
        ("Paris", "In Rome.", 0),
    ],
)
def test_an_answer_is_right_by_its_last_number_or_its_words(right: str, said: str, score: float) -> None:
    assert inside_training.reward(right, said) == score


def test_the_passages_behind_each_token_of_the_answer_are_named(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["The red fox of Ada ran.", "A red hen sat in the barn.", "Nothing of it.", "The cat of Ada slept."]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    given: dict[str, Any] = {"model_name_or_path": str(model_folder), "prompt": "The red fox", "answer": " of Ada ran."}
    run_stage("inside", tmp_path / "x", corpus=str(tmp_path / "corpus.jsonl"), **given)
    data = data_of(tmp_path / "x.html")
    texts, found = (data["documents"][key] for key in ("texts", "tokens"))
    assert set(texts.values()) <= set(lines)
    assert "Nothing of it." in texts.values()  # shares a word
    assert len(found) == len(data["tokens"]) - data["start"]
    last = found[-2]
    assert texts[str(last["ngrams"][0])] == lines[0]
    blamed, scores = zip(*last["blamed"], strict=True)
    assert texts[str(blamed[0])] == lines[0]
    assert list(scores) == sorted(scores, reverse=True)
    assert min(scores) > 0
    with pytest.raises(UserError, match=r"corpus .*nowhere"):
        inside.measure(inside.InsideArguments(corpus=str(tmp_path / "nowhere"), **given), load_model)

    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("no linear layers")

    monkeypatch.setattr(attribution, "Gradients", refuse)
    run_stage("inside", tmp_path / "y", corpus=str(tmp_path / "corpus.jsonl"), **given)
    assert "left out: the documents behind the answer: no linear layers" in capsys.readouterr().out
    assert data_of(tmp_path / "y.html")["documents"] is None


def test_a_text_of_a_model_without_a_chat_template_is_continued(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(model_folder, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    run_stage("inside", tmp_path / "x", model_name_or_path=str(base), prompt="The state", max_new_tokens=3, nudge=0)
    data = data_of(tmp_path / "x.html")
    assert "".join(data["pieces"][str(i)] for i in data["tokens"][: data["start"]]) == "The state"
    assert data["nudge"] is None
    assert "left out" not in capsys.readouterr().out


def test_what_a_model_does_not_have_is_left_out_and_named(
    model_folder: Path, write_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    monkeypatch.setattr(inside_numbers, "_NORMS", ("a_norm_of_another_name",))
    run_stage("inside", tmp_path / "x", model_name_or_path=str(adapter), prompt="12?", max_new_tokens=3)
    data = data_of(tmp_path / "x.html")
    assert len(data["lens"]) == 1
    assert data["nudge"] is None
    assert data["attention"]
    out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert [line.split()[3] for line in out] == ["guesses", "gradient"]
    assert [f"left out: {line}" for line in data["missing"]] == out

    monkeypatch.setattr(inside, "MOST_PARAMETERS", 1000)
    with pytest.raises(UserError, match=r"has 0\.0 billion parameters, more than .*: give a smaller model"):
        inside.refuse_large(str(model_folder))


def test_a_page_of_a_deep_model_shows_shorter_texts() -> None:
    model = MODELS["gpt2"]()
    assert inside_numbers.most_tokens(model) == 64  # its context
    for name, value in {"n_layer": 30, "n_head": 9, "n_positions": 2048}.items():
        setattr(model.config, name, value)
    assert 64 <= inside_numbers.most_tokens(model) == 108


@pytest.mark.slow
def test_in_a_browser_keys_move_the_token_and_pointing_shows_a_head(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    given: dict[str, Any] = {
        "prompt": "<b>12?",
        "compare": [str(model_folder)],
        "model_name_or_path": str(model_folder),
    }
    given["answer"] = "<think>12</think>42"
    monkeypatch.setattr(inside, "plain_ids", lambda tokenizer, texts: [tokenizer.encode(one) for one in texts])
    run_stage("inside", tmp_path / "x", **given)
    with playwright.sync_playwright() as driver:
        tab = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.goto(f"file://{tmp_path / 'x.html'}")
        tab.locator("#tokens .on").wait_for()
        first = tab.locator("#now").inner_text()
        opened = tab.locator("#tokens .on")
        assert (opened.inner_text(), opened.get_attribute("class").split()) == ("4", ["own", "on"])
        assert tab.locator("#written").inner_text() == "the answer that was given"
        reached = []
        for _ in range(40):
            tab.keyboard.press("Tab")
            reached.append(tab.evaluate("document.activeElement.id || document.activeElement.getAttribute('role')"))
        assert [name for name in dict.fromkeys(reached) if name] == [
            *("back", "forth", "option", "drawing", "layer", "head"),
        ]
        tab.locator("#drawing").scroll_into_view_if_needed()  # a section is drawn when it is on the screen
        tab.locator("#drawing text", has_text="in the vocabulary").first.wait_for()
        tab.locator("#attention h2").scroll_into_view_if_needed()
        tab.locator("#hint button").first.click()
        assert tab.locator("#hint button").count() == 3
        layer, head = (tab.locator(f"#{name} option:checked").inner_text() for name in ("layer", "head"))
        assert tab.locator("#hint button").first.inner_text() == f"layer {layer}, head {head}"
        tab.keyboard.press("ArrowLeft")
        assert tab.locator("#now").inner_text() != first
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#now").inner_text() == first
        tab.locator("#maps").hover(position={"x": 5, "y": 5})
        tab.locator("#looks", has_text="head 1 of layer 1").wait_for()
        assert tab.locator("#tokens b").count() == 0
        assert errors == []
