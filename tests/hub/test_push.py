"""A finished model folder, and its way to the Hub: the real client and a server on this machine.

The client reads its environment when it is imported, so the command runs in processes of its own, several times in
each.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from zero2chat import cli
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.stats import rate
from zero2chat.hub.export import export
from zero2chat.hub.model_card import add_scores, make_card
from zero2chat.hub.push import finish_model_folder, pack
from zero2chat.stages.open_run import open_run

METRICS = {"accuracy_facts": rate(30, 40, seed=0)}
TOKEN, OTHER = "hf_mineminemine", "hf_yoursyoursyours"
# Files that a model's folder may contain, and that must not be published.
SECRETS = ("run.json", "_lock", ".env", "token", "training_args.bin", "samples.jsonl", "pytorch_model.bin")


def _run(folder: Path, stage: str = "sft", **settings: Any) -> Run:
    return open_run(folder, stage, {"output_dir": str(folder), "learning_rate": 1e-3, **settings})


@pytest.fixture
def run(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, with files and a checkpoint that are no part of the model."""
    monkeypatch.chdir(tmp_path)
    run = _run(Path("runs/mine/sft"))
    shutil.copytree(model_folder, run.folder, dirs_exist_ok=True)
    checkpoint = run.folder / "checkpoint-5"
    shutil.copytree(model_folder, checkpoint)
    for name in SECRETS[2:]:
        (run.folder / name).write_text(f"secret {TOKEN}")
    make_card(run.folder, run.identity, METRICS).save(run.folder / "README.md")
    run.finish(METRICS)
    return run.folder


@pytest.fixture
def hub() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Hub({TOKEN: "me", OTHER: "you"}, chunk=40_000)
    yield server
    server.shutdown()
    server.server_close()


def _environment(url: str, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    settings = {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return kept | settings | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")} | more


# Each command's (exit code, stdout, stderr). The client waits 23 s in all before it gives a connection up: not here.
_COMMANDS = """
import contextlib, io, json, os, sys, time
from zero2chat import cli
time.sleep = lambda _: None
done = []
for argv, os.environ["HF_TOKEN"] in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(argv)
        except SystemExit as end:
            code = end.code
    done.append((code, out.getvalue(), err.getvalue()))
heavy = {"torch", "transformers", "trl", "datasets"} & set(sys.modules)
print(json.dumps([done, sorted(heavy)]))
"""


@pytest.fixture
def push(hub: Any, run: Path, tmp_path: Path) -> Callable[..., list[tuple[int, str, str]]]:
    """`push([options], …)`: what came of each `zero2chat push RUN [options]`, one after another.

    `tokens` are those of the commands, in turn.
    """

    def push(
        *commands: list[str], tokens: Sequence[str] = (), url: str = hub.url, **more: str
    ) -> list[tuple[int, str, str]]:
        argv = [["push", str(run), *options] for options in commands]
        given = json.dumps(list(zip(argv, tokens or [TOKEN] * len(argv), strict=True)))
        code = [sys.executable, "-c", _COMMANDS, given]
        environment = _environment(url, tmp_path / "home", **more)
        done = subprocess.run(code, env=environment, capture_output=True, text=True, check=True, timeout=120)
        results, heavy = json.loads(done.stdout)
        assert heavy == []
        for shown in (done.stdout, done.stderr):
            assert TOKEN not in shown
            assert OTHER not in shown
        return [tuple(result) for result in results]

    return push


def _local(folder: Path, left_out: tuple[str, ...] = SECRETS) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in left_out}


def _own(files: dict[str, bytes]) -> dict[str, bytes]:
    """The pushed files, and the card without the commands that are added to it."""
    card = files["README.md"].partition(b"\n<!-- how to run it -->")[0]
    return files | {"README.md": card}


# ---- pushed, and back


def test_a_model_comes_back_identical_and_nothing_else_is_sent(
    push: Callable[..., Any], hub: Any, run: Path, tmp_path: Path
) -> None:
    first, again = push(["--repo", "me/mine", "--private", "--json"], ["--repo", "me/mine"])
    assert (first[0], first[2]) == (again[0], again[2]) == (0, "")
    result = json.loads(first[1].splitlines()[-1])
    assert (result["repo"], result["revision"], result["url"]) == ("me/mine", "main", f"{hub.url}/me/mine")
    assert hub.repositories["me/mine"]["private"] is True
    there = {name: content for name, content in hub.files("me/mine").items() if name != ".gitattributes"}
    assert b"\nvllm serve me/mine\n" in there["README.md"]
    assert _own(there) == _local(run)
    assert result["files"].keys() == there.keys()
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= set(there)
    assert {"chat_template.jinja", "README.md", "metrics.json"} <= set(there)
    assert b"response_template" in there["tokenizer_config.json"]
    # Large files by LFS, the weights in parts; each once, though all was pushed twice.
    weights = hashlib.sha256(there["model.safetensors"]).hexdigest()
    parts = -(-len(there["model.safetensors"]) // hub.chunk)
    assert parts > 1
    assert hub.sent == {weights: parts, hashlib.sha256(there["tokenizer.json"]).hexdigest(): 1}

    code = "import huggingface_hub as h, sys; print(h.snapshot_download('me/mine', local_dir=sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "back")],
        env=_environment(hub.url, tmp_path / "home"),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert _local(tmp_path / "back", (".gitattributes",)) == there
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "back").num_parameters() > 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer.chat_template
    assert tokenizer.response_template


def test_a_push_to_a_branch_takes_the_place_of_what_was_there(push: Callable[..., Any], hub: Any, run: Path) -> None:
    hub.add("me/mine", **{"model-00001-of-00002.safetensors": b"old", "notes.txt": b"of the user"})
    (run / "LICENSE").write_text("do as you like")
    done, named = push(["--repo", "me/mine", "--license", "mit"], ["--repo", "me/mine", "--revision", "v2"])
    assert (done[0], named[0], named[2]) == (0, 0, "")
    assert named[1].endswith(f"pushed to {hub.url}/me/mine/tree/v2\n")
    main = hub.files("me/mine")
    for files in (main, hub.files("me/mine", "v2")):
        assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
        # Files of an older model that could be loaded instead of this one are gone; the user's own files stay.
        assert set(files) == set(_local(run)) | {".gitattributes", "notes.txt", "LICENSE"}
    assert ModelCard(main["README.md"].decode()).data.license == "mit"
    assert ModelCard(_own(main)["README.md"].decode()).text == ModelCard.load(run / "README.md").text


def test_an_interrupted_push_goes_on_and_sends_only_what_was_missing(
    push: Callable[..., Any], hub: Any, run: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(run)
    (run / "model.safetensors").unlink()
    model.save_pretrained(run, max_shard_size="80KB")
    shards = sorted(run.glob("model-*.safetensors"))
    oids = [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards]
    assert len(oids) > 1
    hub.chunk = 1 << 20
    hub.broken = {oids[-1]}
    ((code, _, err),) = push(["--repo", "me/mine"])
    assert code == 2
    assert err.startswith("error: me/mine: the push failed: ")
    assert err.count("\n") == 1
    assert set(hub.files("me/mine")) == {".gitattributes"}  # all or nothing
    assert hub.sent[oids[-1]] > 1  # the client had tried again by itself
    hub.broken.clear()
    hub.sent.clear()
    ((code, _, err),) = push(["--repo", "me/mine"])
    assert (code, err) == (0, "")
    assert hub.sent == {oids[-1]: 1}
    assert _own(hub.files("me/mine")).items() >= _local(run).items()


# ---- what is refused


def test_a_push_that_cannot_be_is_one_line(push: Callable[..., Any], hub: Any) -> None:
    hub.add("you/taken")
    hub.add("you/hidden", private=True)
    hub.add("me/open")
    cases = {
        ("--repo", "you/taken"): "you/taken: the push failed: Forbidden: you must have write access to you",
        ("--repo", "you/hidden"): "you/hidden: the push failed: You don't have the rights to create a model",
        ("--repo", "you/new"): 'You don\'t have the rights to create a model under the namespace "you"',
        ("--repo", "me/open", "--private"): "me/open: the push failed: it exists and is public",
        ("--repo", "me/new", "--license", "none-such"): 'me/new: the push failed: "license" must be one of',
        ("--repo", "me/my model"): "me/my model: the push failed: Repo id must",
        ("--repo", "mine"): "mine: not a repository's name: give OWNER/NAME",
    }
    for (code, _, err), says in zip(push(*map(list, cases)), cases.values(), strict=True):
        assert code == 2
        assert err.startswith("error: ")
        assert says in err
        assert err.count("\n") == 1
    assert all(set(r["branches"]["main"]) == {".gitattributes"} for r in hub.repositories.values())


def test_a_token_that_is_none_and_a_hub_that_is_not_there_are_one_line(push: Callable[..., Any], hub: Any) -> None:
    repo = ["--repo", "me/mine"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    results = [
        *push(repo, repo, repo, tokens=["", "hf_unknown", f"{TOKEN}\x01"]),
        *push(repo, HF_HUB_OFFLINE="1"),
        *push(repo, url=closed),
    ]
    says = [
        "error: no token for the Hub: set HF_TOKEN, or log in with `hf auth login`\n",
        "error: me/mine: the push failed: Invalid username or password.\n",
        "error: the token for the Hub has invalid characters: set HF_TOKEN again, or log in again\n",
        f"error: me/mine: the push failed: Cannot reach {hub.url}/api/repos/create: offline mode is enabled. To "
        "disable it, please unset the `HF_HUB_OFFLINE` environment variable.\n",
        "error: me/mine: the push failed: Connection refused\n",
    ]
    assert [re.sub(r"\[Errno \d+\] ", "", err) for _, _, err in results] == says
    assert [code for code, _, _ in results] == [2] * 5
    assert hub.repositories == {}


def test_what_is_no_model_or_not_done_is_named(run: Path) -> None:
    _run(Path("runs/mine/corpus"), "corpus").finish({})
    (run / "metrics.json").unlink()
    cases = [
        ("runs/none", "runs/none: not a run"),
        ("runs/mine/corpus", "runs/mine/corpus: no safetensors weights"),
        (str(run), r"runs/mine/sft: not done \(no metrics\.json\)"),
    ]
    for folder, says in cases:
        with pytest.raises(UserError, match=says):
            pack(folder, "me/mine")


def test_a_dry_run_shows_files_and_card_without_token_or_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["push", str(run), "--repo", "me/mine", "--dry-run", "--license", "mit", "--base", "me/base", "--json"])
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["files"].keys() == _local(run).keys()
    assert (result["license"], result["base_model"]) == ("mit", "me/base")
    assert f"{(run / 'model.safetensors').stat().st_size:,} bytes  model.safetensors\n" in out
    assert "| accuracy_facts | 0.75 | 40 |" in out
    assert "\nlicense: mit\n" in result["card"]
    cli.main(["push", str(run), "--repo", "me/mine", "--dry-run"])
    assert "The model card names no license" in capsys.readouterr().out


def test_an_adapter_needs_a_base_that_others_can_have(run: Path, model_folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model_folder)
    adapter = _run(Path("runs/mine/lora"), model_name_or_path=str(model_folder), use_peft=True)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter.folder)
    make_card(adapter.folder, adapter.identity, {}).save(adapter.folder / "README.md")
    adapter.finish({})
    with pytest.raises(UserError, match="which nobody else can load: push what `zero2chat export --merge`"):
        pack(adapter.folder, "me/lora")
    parcel = pack(adapter.folder, "me/lora", base="me/base")
    assert (parcel.card.data.base_model, parcel.card.data.library_name) == ("me/base", "peft")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(parcel.files)
    assert all(str(model_folder).encode() not in c for c in parcel.files.values() if isinstance(c, bytes))
    assert json.loads(parcel.files["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    card = parcel.files["README.md"].decode()  # type: ignore[union-attr]
    assert "\nzero2chat export lora --merge --gguf q4_k_m --out lora-gguf\n" in card
    assert "\nvllm serve ./lora-merged\n" in card


def test_a_local_base_model_is_not_taken_for_a_hub_name_from_another_folder(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, get_peft_model

    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "models/mine")
    adapter = _run(Path("runs/mine/lora"), model_name_or_path="models/mine", use_peft=True)
    base = AutoModelForCausalLM.from_pretrained("models/mine")
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter.folder)
    adapter.finish({})
    Path("other").mkdir()
    monkeypatch.chdir("other")
    with pytest.raises(UserError, match="whose base model models/mine is a folder, which nobody else can load"):
        pack("../runs/mine/lora", "me/lora")


def test_a_merged_adapter_keeps_the_scores_of_its_card(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, get_peft_model

    monkeypatch.chdir(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    adapter = _run(Path("runs/mine/lora"), model_name_or_path=str(model_folder), use_peft=True)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter.folder)
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(adapter.folder)
    make_card(adapter.folder, adapter.identity, {}).save(adapter.folder / "README.md")
    adapter.finish({})
    add_scores(adapter.folder, Path("runs/mine/after"), {"accuracy": {"value": 0.5, "n": 8}})
    export(str(adapter.folder), None, True, "whole", ".gguf")
    card = pack("whole", "me/whole").card
    assert "## Evaluated by mine/after" in card.text
    assert "merged into its base model" in card.text
    assert "load it on top" not in card.text
    assert card.data.library_name == "transformers"


# ---- at a stage's end


@pytest.mark.slow
def test_a_stage_pushes_its_folder_which_opens_from_the_hub(hub: Any, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs/mine/sft"
    settings = {
        "output_dir": str(out),
        "model_name_or_path": str(model_folder),
        "datasets": [{"task": "facts", "n": 20}],
        "push_to_hub": True,
        "hub_model_id": "me/stage",
        "hub_private_repo": True,
        "max_length": 128,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "bf16": False,
        "disable_tqdm": True,
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(settings))
    code = """
from transformers import AutoModelForCausalLM, AutoTokenizer
from zero2chat.stages.sft import STAGE
STAGE.main(["--config", "sft.yaml"])
for kind in (AutoModelForCausalLM, AutoTokenizer):
    kind.from_pretrained("me/stage").save_pretrained("back")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=_environment(hub.url, tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert f"pushed to {hub.url}/me/stage\n" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    there = {name: content for name, content in hub.files("me/stage").items() if name != ".gitattributes"}
    local = _local(out, ("run.json", "history.jsonl", "samples.jsonl"))
    assert there.pop("README.md").startswith(local.pop("README.md").rstrip())  # and says how to run the model
    assert there == local
    assert hub.repositories["me/stage"]["private"]
    trained, back = load_file(out / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert all((trained[name] == back[name]).all() for name in trained | back)
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == there["tokenizer.json"]


@pytest.fixture
def trainer(model_folder: Path, tmp_path: Path) -> Trainer:
    args = TrainingArguments(str(tmp_path / "mine"), use_cpu=True, report_to="none")
    return Trainer(AutoModelForCausalLM.from_pretrained(model_folder), args)


@pytest.mark.parametrize("asked", [False, True])
def test_the_finished_folder_holds_no_pickle_and_is_pushed_if_asked(
    asked: bool, hub: Any, model_folder: Path, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client reads these from the environment when it is imported.
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = _run(tmp_path / "mine")
    trainer.args.push_to_hub, trainer.args.hub_revision, trainer.hub_model_id = asked, "first", "me/mine"
    finish_model_folder(run, trainer, AutoTokenizer.from_pretrained(model_folder), METRICS)
    names = {path.name for path in run.folder.iterdir()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    assert (run.folder / "metrics.json").exists()
    assert "| accuracy_facts | 0.75 | 40 |" in (run.folder / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(run.folder).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(run.folder).chat_template
    assert list(hub.repositories) == (["me/mine"] if asked else [])
    if asked:
        assert _own(hub.files("me/mine", "first")) == _local(run.folder) | {".gitattributes": b""}


def test_where_the_hub_does_not_take_it_the_run_is_done_and_the_line_says_how_to_push_it(
    model_folder: Path, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = _run(tmp_path / "mine")
    trainer.args.push_to_hub, trainer.args.hub_private_repo, trainer.hub_model_id = True, True, "me/mine"
    says = (
        r"mine: done, but me/mine: the push failed: .*offline mode.*zero2chat push \S+/mine --repo me/mine --private$"
    )
    with pytest.raises(UserError, match=says):
        finish_model_folder(run, trainer, AutoTokenizer.from_pretrained(model_folder), METRICS)
    assert (run.folder / "metrics.json").exists()
    assert AutoModelForCausalLM.from_pretrained(run.folder).num_parameters() > 0
