"""Complete a trained model's folder, and push it to the Hub: at the end of a stage, or with `zero2chat push`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token, logging
from huggingface_hub.errors import HfHubHTTPError
from yaml import YAMLError

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import ABSTENTION, read_metrics
from zero2chat.core.runs import METRICS, RUN, Run, read_run
from zero2chat.hub.model_card import ADAPTER, CARD, add_usage, make_card
from zero2chat.models.loading import adapter_settings, is_hub_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

# What huggingface_hub's HTTP client raises: httpx's error before its release 2, and httpx2's since.
HTTP_ERROR: type[BaseException] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
# The only files that are pushed. Others in the folder (checkpoints, pickles, a .env) are not part of the model.
_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    ADAPTER,
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",  # with the response template
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    METRICS,
    ABSTENTION,
)
_OWN_FILES = (CARD, "LICENSE", "NOTICE")  # in the repository they may be the user's own: replaced, never removed


@dataclass(frozen=True)
class Parcel:
    """What is pushed. `files` maps paths in the repository to local paths or to content."""

    repo: str
    branch: str | None
    files: dict[str, Path | bytes]
    card: ModelCard

    @property
    def sizes(self) -> dict[str, int]:
        """Return the size of each file, in bytes."""
        return {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}


def finish_model_folder(
    run: Run, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write weights, tokenizer, model card and metrics, then push if `push_to_hub` is set. Every rank must call this.

    Raises `UserError` if the push fails; the run is complete even then.
    """
    # The Trainer's own push would run before our card is written, replace it, and include a pickle.
    push, trainer.args.push_to_hub = trainer.args.push_to_hub, False
    trainer.save_model(str(run.folder))
    if not trainer.is_world_process_zero():
        return
    if getattr(trainer.model, "generation_config", None) is not None:  # a reward model has none
        trainer.model.generation_config.save_pretrained(run.folder)  # the Trainer saves none with an adapter
    tokenizer.save_pretrained(run.folder)
    (run.folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json has the same settings
    make_card(run.folder, run.identity, metrics, run.story, run.limits).save(run.folder / CARD)
    run.finish(metrics)
    if push:
        repo, branch, private = trainer.hub_model_id, trainer.args.hub_revision, bool(trainer.args.hub_private_repo)
        try:
            sent = send(pack(run.folder, repo, branch), private)
        except UserError as error:
            more = " --private" * private + (f" --revision {branch}" if branch else "")
            again = f"zero2chat push {run.folder} --repo {repo}{more}"
            raise UserError(f"{run.folder}: training is done, but {error}; to push again: {again}") from None
        print(f"{run.folder}: pushed to {sent['url']}", flush=True)


# ---- what is pushed


def pack(
    folder: str | Path, repo: str, revision: str | None = None, license: str | None = None, base: str | None = None
) -> Parcel:
    """Pack a finished run's model for the branch `revision` of the repository `repo`.

    `license` and `base` (the base model's Hub name) go into the model card. A folder that is no run, such as a merged
    model, needs a card. Raises `UserError` if there is no model, or if nobody else could load an adapter's base model.
    """
    folder = Path(folder)
    if repo.count("/") != 1:
        raise UserError(f"{repo}: not a repository's name: give OWNER/NAME, such as me/my-model")
    is_run = (folder / RUN).exists()
    if read_metrics(folder) is None if is_run else not (folder / CARD).exists():
        no = f"not done (no {METRICS})" if is_run else f"not a run (no {RUN}), and no model with a card (no {CARD})"
        raise UserError(f"{folder}: {no}: give a finished step's folder, such as runs/mine/sft, or write the card")
    identity = (read_run(folder) or {}) if is_run else {}
    patterns = (*_MODEL_FILES, *_OWN_FILES)
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    files: dict[str, Path | bytes] = {str(path.relative_to(folder)): path for path in paths}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{folder}: no safetensors weights: give a model folder, such as runs/quickstart/sft")
    try:
        card = ModelCard.load(folder / CARD)
    except (ValueError, YAMLError) as error:
        raise UserError(f"{folder / CARD}: invalid card ({str(error).splitlines()[0]}): fix it") from error
    if ADAPTER in files:
        base = _point_adapter(folder, files, base, identity)
    card.data["license"] = license or card.data.get("license")
    card.data["base_model"] = base or card.data.get("base_model")
    add_usage(card, repo, revision, ADAPTER in files)
    files[CARD] = str(card).encode()
    return Parcel(repo, revision, files, card)


def _point_adapter(source: Path, files: dict[str, Path | bytes], base: str | None, identity: Mapping[str, Any]) -> str:
    """Write the base model's Hub name into an adapter's config, and return this name. Raises `UserError` if the base
    model is only on this machine."""
    config = adapter_settings(source, source)
    own = str(config["base_model_name_or_path"] or "")
    local = not is_hub_name(own) or own in identity.get("fingerprint", {}).get("inputs", {})
    if base is None and local:
        raise UserError(
            f"{source}: the adapter's base model {own} is a local folder, which nobody else can load: push what "
            "`zero2chat export --merge` writes, or push the base model first and give its Hub name as --base"
        )
    if base not in (None, own):
        files[ADAPTER] = json.dumps(config | {"base_model_name_or_path": base, "revision": None}, indent=2).encode()
    return base or own


# ---- pushing


def require_token() -> str:
    """Return the Hub token. Raises `UserError` (which never shows the token) if it is missing or malformed."""
    token = get_token()
    if not token:
        raise UserError("no token for the Hub: set HF_TOKEN, or log in with `hf auth login`")
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError("the token for the Hub has invalid characters: set HF_TOKEN again, or log in again")
    return token


def send(parcel: Parcel, private: bool = False) -> dict[str, Any]:
    """Push the parcel to its repository in one commit. The repository is created if missing.

    Files of an earlier model in the repository are removed; the git history keeps them. Large files that were already
    uploaded are not sent again. Returns `repo`, `url` and `commit`. Raises `UserError` with the Hub's reason.
    """
    token = require_token()
    logging.set_verbosity_error()  # its retry warnings show signed URLs
    api, repo = HfApi(token=token), parcel.repo
    try:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise ValueError("the repository is public: make it private on the Hub, or remove --private")
        if parcel.branch:
            api.create_branch(repo, branch=parcel.branch, exist_ok=True)
        there = api.list_repo_files(repo, revision=parcel.branch)
        stale = [n for n in there if n not in parcel.files and any(fnmatch(n, pattern) for pattern in _MODEL_FILES)]
        changes: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
        changes += [CommitOperationAdd(name, file) for name, file in parcel.files.items()]
        message = f"zero2chat push {parcel.card.data.get('model_name') or ''}".rstrip()
        commit = api.create_commit(repo, changes, commit_message=message, revision=parcel.branch)
    except (HTTP_ERROR, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{repo}: the push failed: {_reason(error, token)}") from None
    where = f"{url}/tree/{parcel.branch}" if parcel.branch else str(url)
    return {"repo": repo, "url": where, "commit": commit.oid}


def _reason(error: BaseException, token: str) -> str:
    """Return the Hub client's error message in one line, which never contains the token."""
    while not isinstance(error, HfHubHTTPError) and error.__cause__ is not None:  # the client wraps errors of threads
        error = error.__cause__
    said = getattr(error, "server_message", None) or str(error)
    return " ".join(said.replace(token, "…").split())[:300] or type(error).__name__
