"""The mean of models: exact, whole, as a step and as a command, and refused where it would know nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tiny_lab import with_other_tokenizer
from refusals import refused
from transformers import PreTrainedModel

from zero2chat import cli
from zero2chat.chat.defaults import tools_for
from zero2chat.core.errors import UserError
from zero2chat.inference.generate import answer
from zero2chat.models.loading import load_for_use, load_model
from zero2chat.stages.open_run import open_run
from zero2chat_lab.average import averaged


def test_the_command_writes_a_whole_model_that_answers_and_says_what_it_was_made_from(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        run = open_run(f"runs/{name}", "sft", {"output_dir": f"runs/{name}", "tools": {"search": {}}})
        shutil.copytree(model_folder, run.folder, dirs_exist_ok=True)
        run.finish({})
    cli.main(["average", "runs/one", "runs/two", "--output_dir", "runs/mean"])
    metrics = json.loads((tmp_path / "runs/mean/metrics.json").read_text())
    assert (metrics["models"]["value"], metrics["weight_similarity"]["value"]) == (2, 1.0)
    card = (tmp_path / "runs/mean/README.md").read_text()
    assert "- weights, averaged: from the step `one`\n- weights, averaged: from the step `two`\n" in card
    asked = [[{"role": "user", "content": "Hello"}]]
    mean, one = (answer(*load_for_use(folder), asked, 8)[0].ids for folder in ("runs/mean", "runs/one"))
    assert mean == one  # the mean of two equal models
    tools_for("runs/mean", None, None)
    assert "continuing without search" in capsys.readouterr().err  # its models were trained with it


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "models: 0 given: name two or more model folders"),
        (["one"], "models: 1 given: name two or more model folders"),
        (["one", "one"], "models: a model is named twice: name each model once"),
        (["one", "./one/"], "models: a model is named twice: name each model once"),
        (["one", "nowhere"], "nowhere"),
        (["one", "two", "--shares", "[1e308, 1e308]"], "give a number above 0 for each of the 2 models"),
        (["one", "two", "--shares", "[1]"], "shares: [1.0]: give a number above 0 for each of the 2 models"),
        (["one", "two", "--shares", "[1, -1]"], "shares: [1.0, -1.0]: give a number above 0 for each of the 2 models"),
    ],
)
def test_what_cannot_be_averaged_is_one_line_and_writes_no_model(
    words: list[str], says: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "one")
    assert says in refused(capsys, "average", *words, "--output_dir", "mean")
    assert not (tmp_path / "mean" / "model.safetensors").exists()


@pytest.fixture
def near(model_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """A copy of the tiny model with noise of some size added to its weights, as if it had been fine-tuned."""

    def make(name: str, noise: float = 0.1, dtype: torch.dtype = torch.float32) -> str:
        model, tokenizer = load_model(model_folder)
        torch.manual_seed(len(name))
        with torch.no_grad():
            for weight in model.parameters():
                weight += noise * weight.std() * torch.randn_like(weight)
        model.to(dtype).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


def _weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().float() for name, weight in model.named_parameters()}


def test_the_mean_is_that_of_each_weight_in_the_first_models_precision(near: Callable[..., str]) -> None:
    paths = [near("a", dtype=torch.bfloat16), near("bb"), near("ccc")]
    model, tokenizer, similarity = averaged(paths)
    each = [_weights(load_model(path)[0]) for path in paths]
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.bfloat16
        wanted = torch.as_tensor(sum(weights[name].double() for weights in each)) / 3
        assert torch.allclose(weight.double(), wanted, rtol=2**-8)  # half of bf16's last digit
    assert tokenizer.chat_template == load_model(paths[0])[1].chat_template
    assert 0.9 < similarity < 1


def test_a_share_says_how_much_a_model_counts(near: Callable[..., str]) -> None:
    paths = [near("a"), near("bb")]
    a, b = (_weights(load_model(path)[0]) for path in paths)
    model, _, _ = averaged(paths, [6, 2])
    for name, weight in model.named_parameters():
        assert torch.allclose(weight, 0.75 * a[name] + 0.25 * b[name], atol=1e-6)


def test_another_tokenizer_or_chat_template_is_refused(near: Callable[..., str], tmp_path: Path) -> None:
    first, second = near("a"), near("bb")
    _, tokenizer = load_model(second)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(second)
    with pytest.raises(UserError, match="bb have different chat templates"):
        averaged([first, second])
    words = with_other_tokenizer(Path(first), tmp_path / "words")
    with pytest.raises(UserError, match="words have different tokenizers"):
        averaged([first, str(words)])


def test_what_is_no_model_fine_tuned_from_the_same_start_is_refused(
    near: Callable[..., str], write_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = near("a"), near("bb")
    with pytest.raises(UserError, match=r"not fine-tuned from the same model \(their weights' cosine is 0\.\d\d\)"):
        averaged([first, near("far", noise=10.0)])
    with pytest.raises(UserError, match=r"adapter is an adapter: `zero2chat export .*adapter --merge`"):
        averaged([first, str(write_adapter(tmp_path / "adapter", second))])
    file = Path(second) / "config.json"
    settings = file.read_text()
    file.write_text(json.dumps(json.loads(settings) | {"rms_norm_eps": 0.5}))  # the same shapes
    with pytest.raises(UserError, match=r"bb have different configs \(rms_norm_eps: 1e-06 and 0.5\)"):
        averaged([first, second])
    file.write_text(settings)
    model, _ = load_model(second)
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] = torch.nan
    model.save_pretrained(second)
    with pytest.raises(UserError, match="bb has weights that are not finite"):
        averaged([first, second])
