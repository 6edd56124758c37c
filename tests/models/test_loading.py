from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
import torch

from zero2chat.core.errors import UserError
from zero2chat.models.loading import context_length, load_for_use, load_model, load_tokenizer, refuse_adapter
from zero2chat.models.reward_model import load_reward_model
from zero2chat.recipes.training_cost import base_config


def test_a_model_folder_opens_in_fp32_with_its_tokenizer(model_folder):
    model, tokenizer = load_model(model_folder)
    assert model.dtype == torch.float32
    assert not model.training
    assert context_length(model) == 128
    assert tokenizer.decode(tokenizer.encode("Ada was born in Genoa.")) == "Ada was born in Genoa."


def test_auto_keeps_the_precision_that_was_saved(model_folder, tmp_path):
    model, tokenizer = load_model(model_folder)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_model(tmp_path, "auto")[0].dtype == torch.bfloat16
    assert load_model(tmp_path)[0].dtype == torch.float32


def test_a_model_for_use_is_where_the_machine_is_fastest(model_folder):
    model, _ = load_for_use(model_folder)
    assert model.device.type == (
        "cpu" if not torch.accelerator.is_available() else torch.accelerator.current_accelerator().type
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("runs/quickstart/sft", r"no such run: `zero2chat run recipes/quickstart` makes it \(step sft\)"),
        ("/nowhere/at/all", "no such folder: give a model folder"),
        ("./nowhere", "no such folder: give a model folder"),
        ("two words", "no such folder: give a model folder"),
        ("nobody-here/no-model", "no such folder, and no tokenizer of that name from the Hub"),
    ],
)
def test_a_path_without_a_model_says_what_to_do(tmp_path, monkeypatch, path, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        load_model(path)


def test_a_file_is_no_model_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is a file"):
        load_model(tmp_path / "model.safetensors")


def test_an_unfinished_run_names_the_recipe_that_finishes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/quickstart/sft").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no config\.json.*zero2chat run recipes/quickstart"):
        load_model("runs/quickstart/sft")


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", r"no model \(no config\.json\)"),
        ("tokenizer.json", r"no tokenizer \(no tokenizer\.json\)"),
        ("model.safetensors", "cannot load the model"),
    ],
)
def test_a_folder_with_a_missing_file_says_which(model_folder, tmp_path, missing, says):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=says):
        load_model(folder)


def test_weights_cut_short_are_a_mistake_and_not_a_traceback(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load the model"):
        load_model(folder)


def test_pickled_weights_are_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    torch.save(load_model(folder)[0].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the model"):
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


def test_a_tokenizer_folder_opens_without_a_model(tokenizer_folder):
    assert load_tokenizer(tokenizer_folder).eos_token == "<|im_end|>"


def test_an_adapter_is_refused_for_training_and_a_whole_model_is_not(model_folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(model_folder)
    refuse_adapter(model, model_folder)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")).save_pretrained(tmp_path)
    model.generation_config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a LoRA adapter.*zero2chat export .* --merge"):
        refuse_adapter(load_model(tmp_path)[0], tmp_path)
    with pytest.raises(UserError, match="hf download someone/adapter --local-dir"):
        refuse_adapter(load_model(tmp_path)[0], "someone/adapter")


def _write_adapter(base, folder):
    """Write an adapter of the base model as a run's folder has it, and return its config."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(base)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return json.loads((folder / "adapter_config.json").read_text())


def test_an_adapter_of_another_base_is_a_mistake_and_not_a_model_half_adapted(model_folder, write_model, tmp_path):
    own = _write_adapter(model_folder, tmp_path)
    assert load_model(tmp_path)
    for i, change in enumerate(({"hidden_size": 48}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1})):
        other = write_model(tmp_path / f"other{i}", **change)
        (tmp_path / "adapter_config.json").write_text(json.dumps(own | {"base_model_name_or_path": str(other)}))
        with pytest.raises(UserError, match="does not fit the base_model_name_or_path in its adapter_config"):
            load_model(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(own | {"base_model_name_or_path": "data/some/model"}))
    for weights in (True, False):
        with pytest.raises(UserError, match="cannot load the model"):
            load_model(tmp_path, weights=weights)


def test_a_missing_run_of_a_recipe_in_the_working_folder_names_that_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").touch()
    with pytest.raises(UserError, match=r"`zero2chat run mine` makes it \(step sft\)"):
        load_model("runs/mine/sft")
    with pytest.raises(UserError, match=r"`zero2chat run recipes/chat/qwen3-0.6b.yaml` makes it \(step sft\)"):
        load_model("runs/chat-qwen3-0.6b/sft")
