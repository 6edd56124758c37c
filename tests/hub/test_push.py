"""A finished model folder, and its way to the Hub: what is packed, what the Hub's client is asked to do, and errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import CommitOperationDelete, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from zero2chat import cli
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.core.stats import rate
from zero2chat.hub import push
from zero2chat.hub.model_card import make_card
from zero2chat.hub.push import finish_model_folder, pack
from zero2chat.stages.open_run import open_run

METRICS = {"accuracy_facts": rate(30, 40, seed=0)}
TOKEN = "hf_mineminemine"
# Files that a model's folder may contain, and that must not be published.
SECRETS = ("run.json", "_lock", ".env", "token", "training_args.bin", "samples.jsonl", "pytorch_model.bin")


def _run(folder: Path, stage: str = "sft", **settings: Any) -> Run:
    return open_run(folder, stage, {"output_dir": str(folder), "learning_rate": 1e-3, **settings})


@pytest.fixture
def run(model_folder, tmp_path, monkeypatch):
    """A finished run, with files and a checkpoint that are no part of the model."""
    monkeypatch.chdir(tmp_path)
    run = _run(Path("runs/mine/sft"))
    shutil.copytree(model_folder, run.folder, dirs_exist_ok=True)
    shutil.copytree(model_folder, run.folder / "checkpoint-5")
    for name in SECRETS[2:]:
        (run.folder / name).write_text(f"secret {TOKEN}")
    make_card(run.folder, run.identity, METRICS).save(run.folder / "README.md")
    run.finish(METRICS)
    return run.folder


class Hub:
    """What `huggingface_hub.HfApi` does for a push: repositories of the user "me", each with branches of files."""

    def __init__(self):
        self.repositories: dict[str, dict[str, Any]] = {}
        self.down: Exception | None = None  # raised by the commit

    def create_repo(self, repo: str, private: bool | None, exist_ok: bool) -> str:
        if not repo.startswith("me/"):
            reason = SimpleNamespace(status_code=403, headers={}, request=httpx.Request("POST", "https://hub"))
            raise HfHubHTTPError(f"403 for {TOKEN}", response=reason, server_message=f"{repo}: no rights, {TOKEN}")
        assert exist_ok
        self.repositories.setdefault(repo, {"private": bool(private), "main": {".gitattributes": b""}})
        return f"https://hub/{repo}"

    def repo_info(self, repo: str) -> Any:
        return SimpleNamespace(private=self.repositories[repo]["private"])

    def create_branch(self, repo: str, branch: str, exist_ok: bool) -> None:
        assert exist_ok
        self.repositories[repo].setdefault(branch, dict(self.repositories[repo]["main"]))

    def list_repo_files(self, repo: str, revision: str | None) -> list[str]:
        return list(self.repositories[repo][revision or "main"])

    def create_commit(self, repo: str, changes: list[Any], commit_message: str, revision: str | None) -> Any:
        if self.down:
            raise self.down
        files = self.repositories[repo][revision or "main"]
        for change in changes:
            if isinstance(change, CommitOperationDelete):
                del files[change.path_in_repo]
            else:
                with change.as_file() as file:
                    files[change.path_in_repo] = file.read()
        return SimpleNamespace(oid="0" * 40)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub = Hub()
    monkeypatch.setattr(push, "HfApi", lambda token: hub)
    return hub


@pytest.fixture
def pushed(run, capsys):
    """`pushed(*options)` → (exit code, stdout, stderr) of `zero2chat push RUN [options]`."""

    def send(*options):
        code = 0
        try:
            cli.main(["push", str(run), *options])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return code, out, err

    return send


def _local(folder: Path, left_out: tuple[str, ...] = SECRETS) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in left_out}


def _own(files: dict[str, bytes]) -> dict[str, bytes]:
    """The pushed files, and the card without the commands that are added to it."""
    card = files["README.md"].partition(b"\n<!-- how to run it -->")[0]
    return {name: content for name, content in files.items() if name != ".gitattributes"} | {"README.md": card}


def test_the_model_and_nothing_else_is_sent(pushed, hub, run):
    code, out, err = pushed("--repo", "me/mine", "--private", "--json")
    result = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert (result["repo"], result["revision"], result["url"]) == ("me/mine", "main", "https://hub/me/mine")
    assert hub.repositories["me/mine"]["private"] is True
    files = hub.repositories["me/mine"]["main"]
    assert b"\nvllm serve me/mine\n" in files["README.md"]
    assert _own(files) == _local(run)
    assert result["files"].keys() | {".gitattributes"} == files.keys()
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= set(files)
    assert {"chat_template.jinja", "README.md", "metrics.json"} <= set(files)
    assert b"response_template" in files["tokenizer_config.json"]


def test_a_push_to_a_branch_takes_the_place_of_what_was_there(pushed, hub, run):
    old = {"model-00001-of-00002.safetensors": b"old", "notes.txt": b"of the user", ".gitattributes": b""}
    hub.repositories["me/mine"] = {"private": False, "main": old}
    (run / "LICENSE").write_text("do as you like")
    (run / "abstention.json").write_text('{"abstain_below": 0.6, "temperature": 0.3}')
    assert pushed("--repo", "me/mine", "--license", "mit")[0] == 0
    assert pushed("--repo", "me/mine", "--revision", "v2")[1].endswith("pushed to https://hub/me/mine/tree/v2\n")
    main = hub.repositories["me/mine"]["main"]
    for files in (main, hub.repositories["me/mine"]["v2"]):
        # Files of an older model that could be loaded instead of this one are gone; the user's own files stay.
        assert set(files) == set(_local(run)) | {".gitattributes", "notes.txt", "LICENSE"}
        assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert ModelCard(main["README.md"].decode()).data.license == "mit"
    assert ModelCard(_own(main)["README.md"].decode()).text == ModelCard.load(run / "README.md").text


@pytest.mark.parametrize(
    ("options", "token", "says"),
    [
        (["--repo", "you/new"], TOKEN, "you/new: the push failed: you/new: no rights, …"),
        (["--repo", "me/open", "--private"], TOKEN, "me/open: the push failed: the repository is public"),
        (["--repo", "me/down"], TOKEN, "me/down: the push failed: Connection refused"),
        (["--repo", "mine"], TOKEN, "mine: not a repository's name: give OWNER/NAME"),
        (["--repo", "me/mine"], "", "no token for the Hub: set HF_TOKEN, or log in with `hf auth login`"),
        (["--repo", "me/mine"], f"{TOKEN}\x01", "the token for the Hub has invalid characters: set HF_TOKEN again"),
    ],
)
def test_a_push_that_cannot_be_is_one_line(pushed, hub, monkeypatch, options, token, says):
    hub.repositories["me/open"] = {"private": False, "main": {}}
    hub.down = RuntimeError("a thread failed") if "me/down" in options else None
    if hub.down:
        hub.down.__cause__ = OSError("Connection refused")
    monkeypatch.setenv("HF_TOKEN", token)
    code, _, err = pushed(*options)
    assert code == 2
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1
    assert all(not set(repository["main"]) - {".gitattributes"} for repository in hub.repositories.values())


def test_what_is_no_model_or_not_done_is_named(run):
    (run / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(UserError, match=r"runs/mine/sft/README\.md: invalid card \(.*\): fix it"):
        pack(run, "me/mine")
    _run(Path("runs/mine/corpus"), "corpus").finish({})
    (run / "metrics.json").unlink()
    for folder, says in (
        ("runs/none", "runs/none: not a run"),
        ("runs/mine/corpus", "runs/mine/corpus: no safetensors weights"),
        (str(run), r"runs/mine/sft: not done \(no metrics\.json\)"),
    ):
        with pytest.raises(UserError, match=says):
            pack(folder, "me/mine")


def test_a_dry_run_shows_files_and_card_without_token_or_network(run, pushed):
    code = f"from zero2chat import cli; import sys; cli.main(['push', {str(run)!r}, '--repo', 'a/b', '--dry-run'])"
    code += "; print(sorted({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")  # nothing heavy is imported
    assert "The model card names no license" in done.stdout
    more = ["--license", "mit", "--base", "me/base", "--json"]
    _, out, _ = pushed("--repo", "me/mine", "--dry-run", *more)
    result = json.loads(out.splitlines()[-1])
    assert result["files"].keys() == _local(run).keys()
    assert (result["license"], result["base_model"]) == ("mit", "me/base")
    assert f"{(run / 'model.safetensors').stat().st_size:,} bytes  model.safetensors\n" in out
    assert "| accuracy_facts | 0.75 | 40 |" in out
    assert "\nlicense: mit\n" in result["card"]


def test_an_adapter_needs_a_base_that_others_can_have(run, model_folder, monkeypatch):
    from peft import LoraConfig, get_peft_model

    shutil.copytree(model_folder, "models/mine")
    adapter = _run(Path("runs/mine/lora"), model_name_or_path="models/mine", use_peft=True)
    base = AutoModelForCausalLM.from_pretrained("models/mine")
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter.folder)
    make_card(adapter.folder, adapter.identity, {}).save(adapter.folder / "README.md")
    adapter.finish({})
    with pytest.raises(UserError, match="which nobody else can load: push what `zero2chat export --merge`"):
        pack(adapter.folder, "me/lora")
    parcel = pack(adapter.folder, "me/lora", base="me/base")
    assert (parcel.card.data.base_model, parcel.card.data.library_name) == ("me/base", "peft")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(parcel.files)
    assert b"models/mine" not in parcel.files["adapter_config.json"]
    assert json.loads(parcel.files["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    card = parcel.files["README.md"].decode()
    assert "\nzero2chat export lora --merge --gguf q4_k_m --out lora-gguf\n" in card
    assert "\nvllm serve ./lora-merged\n" in card
    (installs,) = re.findall(r"pip install .* -r \"\$\((.*)\)\"", card)
    done = subprocess.run([sys.executable, *installs.split()[1:]], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_text().splitlines()[-1].startswith("sentencepiece")
    Path("other").mkdir()
    monkeypatch.chdir("other")  # from which the base's name looks like one of the Hub
    with pytest.raises(UserError, match="base model models/mine is a local folder, which nobody else can"):
        pack("../runs/mine/lora", "me/lora")


@pytest.mark.parametrize("wanted", ["nothing", "a push", "a push that fails"])
def test_the_finished_folder_holds_no_pickle_and_is_pushed_if_asked(wanted, hub, model_folder, tmp_path):
    args = TrainingArguments(str(tmp_path / "mine"), use_cpu=True, report_to="none")
    trainer = Trainer(AutoModelForCausalLM.from_pretrained(model_folder), args)
    run = _run(tmp_path / "mine")
    trainer.args.push_to_hub, trainer.args.hub_revision, trainer.hub_model_id = wanted != "nothing", "first", "me/mine"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    if wanted == "a push that fails":
        hub.down, trainer.args.hub_private_repo = OSError("no network"), True
        again = r"zero2chat push \S+/mine --repo me/mine --private --revision first$"
        with pytest.raises(UserError, match=rf"training is done, but me/mine: the push failed: no network; .*{again}"):
            finish_model_folder(run, trainer, tokenizer, METRICS)
    else:
        finish_model_folder(run, trainer, tokenizer, METRICS)
    names = {path.name for path in run.folder.iterdir()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "metrics.json"} <= names
    assert "| accuracy_facts | 0.75 | 40 |" in (run.folder / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(run.folder).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(run.folder).chat_template
    assert list(hub.repositories) == ([] if wanted == "nothing" else ["me/mine"])
    if wanted == "a push":
        assert _own(hub.repositories["me/mine"]["first"]) == _local(run.folder)
