from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zero2chat.core.errors import UserError
from zero2chat.models.loading import context_length, load_for_use, load_model, load_tokenizer, refuse_adapter
from zero2chat.models.reward_model import load_reward_model
from zero2chat.models.vocabulary import mean_row
from zero2chat.recipes.training_cost import base_config


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float32])
def test_a_model_opens_in_fp32_with_its_tokenizer_or_in_the_precision_that_was_saved(model_folder, tmp_path, saved):
    model, tokenizer = load_model(model_folder)
    model.to(saved).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_model(tmp_path, "auto")[0].dtype == saved
    model, tokenizer = load_model(tmp_path)
    assert (model.dtype, model.training, context_length(model)) == (torch.float32, False, 128)
    assert tokenizer.decode(tokenizer.encode("Ada was born in Genoa.")) == "Ada was born in Genoa."
    fastest = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    assert load_for_use(model_folder)[0].device.type == fastest


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("runs/quickstart/sft", r"no such run: `zero2chat run recipes/quickstart` makes it \(step sft\)"),
        ("runs/quickstart/gpro", "no such run: recipes/quickstart has no step 'gpro'; did you mean 'grpo'[?]"),
        ("runs/nothing/sft", "no such run: give a folder written by `save_pretrained`"),
        ("runs/quickstart/pretrain", r"no config\.json.*zero2chat run recipes/quickstart"),  # not finished
        ("runs/chat-qwen3-0.6b/sft", r"`zero2chat run recipes/chat/qwen3-0.6b.yaml` makes it \(step sft\)"),
        ("runs/mine/sft", r"`zero2chat run mine` makes it \(step sft\)"),  # of a recipe in the working folder
        ("/nowhere/at/all", "no such folder: give a model folder"),
        ("two words", "no such folder: give a model folder"),
        ("nobody-here/no-model", "no such folder, and no tokenizer of that name from the Hub"),
        ("model.safetensors", "is a file"),
    ],
)
def test_a_path_without_a_model_says_what_to_do(tmp_path, monkeypatch, path, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "runs/quickstart/pretrain").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("steps:\n  - {name: sft, stage: sft, config: sft.yaml}\n")
    with pytest.raises(UserError, match=says):
        load_model(path)


def _pickle(file: Path) -> None:
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("config.json", Path.unlink, r"no model \(no config\.json\)"),
        ("tokenizer.json", Path.unlink, r"no tokenizer \(no tokenizer\.json\)"),
        ("config.json", lambda file: file.write_text("[]"), "cannot load the tokenizer"),
        ("tokenizer.json", lambda file: file.write_text("{}"), "cannot load the tokenizer"),
        ("model.safetensors", Path.unlink, "cannot load the model"),
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:1000]), "cannot load the model"),
        ("model.safetensors", _pickle, "cannot load the model"),
    ],
)
def test_a_folder_with_a_missing_or_damaged_file_says_which(model_folder, tmp_path, name, damage, says):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    damage(folder / name)
    with pytest.raises(UserError, match=says):
        load_model(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_models_own_code_is_never_run_and_nobody_is_asked_whether_to(model_folder, tmp_path, monkeypatch, file):
    """Without an answer given in advance, transformers asks on stdin, where a chat's first line may be "1"."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    kinds = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    of_tokenizer: dict = {"AutoTokenizer": ["own.Own", "own.Own"]}
    own = dict.fromkeys(kinds, "own.Own") if file == "config.json" else of_tokenizer
    settings = {"model_type": "own", "tokenizer_class": "Own", "auto_map": own}
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | settings))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n\n\nclass Own:\n    pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    if file == "config.json":
        empty, plan = partial(load_model, weights=False), partial(base_config, steps=[])
        for opener in (load_model, empty, load_reward_model, plan):
            with pytest.raises(UserError, match="contains custom code"):
                opener(str(folder))
    else:  # the model's own type has a tokenizer class in transformers
        assert load_tokenizer(folder).eos_token == load_tokenizer(model_folder).eos_token
    assert not (tmp_path / "ran").exists()


def test_an_adapter_is_refused_for_training_and_a_whole_model_is_not(model_folder, write_adapter, tmp_path):
    refuse_adapter(load_model(model_folder)[0], model_folder)
    write_adapter(tmp_path)
    with pytest.raises(UserError, match=r"is a LoRA adapter.*zero2chat export .* --merge"):
        refuse_adapter(load_model(tmp_path)[0], tmp_path)
    with pytest.raises(UserError, match="hf download someone/adapter --local-dir"):
        refuse_adapter(load_model(tmp_path)[0], "someone/adapter")


def test_an_adapter_of_another_base_is_a_mistake_and_not_a_model_half_adapted(write_adapter, write_model, tmp_path):
    own = json.loads((write_adapter(tmp_path, target_modules=["q_proj"]) / "adapter_config.json").read_text())
    assert load_model(tmp_path)
    for i, change in enumerate(({"hidden_size": 48}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1})):
        other = write_model(tmp_path / f"other{i}", **change)
        (tmp_path / "adapter_config.json").write_text(json.dumps(own | {"base_model_name_or_path": str(other)}))
        with pytest.raises(UserError, match="does not fit base_model_name_or_path in its adapter_config"):
            load_model(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(own | {"base_model_name_or_path": "data/some/model"}))
    for weights in (True, False):
        with pytest.raises(UserError, match="cannot load the model"):
            load_model(tmp_path, weights=weights)


def test_a_new_token_starts_as_the_mean_of_its_pieces_with_their_size():
    rows = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    mean = mean_row(rows, [2, 5, 7])
    assert torch.cosine_similarity(mean, rows[[2, 5, 7]].mean(0), dim=0).item() == pytest.approx(1, abs=1e-5)
    assert mean.norm().item() == pytest.approx(rows[[2, 5, 7]].norm(dim=1).mean().item(), rel=1e-5)


def test_a_vocabulary_that_grew_without_the_model_is_one_line(write_model, tmp_path):
    folder = write_model(tmp_path / "m")
    _, tokenizer = load_model(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(folder)
    load_model(folder)  # text never becomes a special token
    tokenizer.add_tokens(["Postgres"])
    tokenizer.save_pretrained(folder)
    for weights in (True, False):
        with pytest.raises(UserError, match=r"tokens, the model \d+ \(first without an embedding: 'Postgres'\)"):
            load_model(folder, weights=weights)
