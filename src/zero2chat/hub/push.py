"""Complete a trained model's folder, and push it to the Hub: at the end of a stage, or with `zero2chat push`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, constants, get_token, logging
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from yaml import YAMLError

from zero2chat.core.errors import UserError
from zero2chat.core.runs import METRICS, RUN, Run, checkpoints, read_run
from zero2chat.hub.model_card import ADAPTER, CARD, OF_ADAPTER, OF_MERGED, add_usage, make_card
from zero2chat.models.loading import adapter_settings, is_hub_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

# What huggingface_hub's HTTP client raises: httpx's error before its release 2, and httpx2's since.
_HTTP_ERROR: type[BaseException] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
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
)
_OWN_FILES = (CARD, "LICENSE", "NOTICE")  # in the repository they may be the user's own: replaced, never removed


class NotPushed(Exception):
    """The Hub could not be reached, or failed: not the user's mistake. The message is one line."""


@dataclass(frozen=True)
class Parcel:
    """What is pushed. `files` maps paths in the repository to local paths or to content."""

    repo: str
    branch: str | None
    files: dict[str, Path | bytes]
    card: ModelCard

    def name(self, repo: str) -> None:
        """Write the commands for this repository into a language model's card."""
        before = self.card.text
        add_usage(self.card, repo, self.branch, ADAPTER in self.files)
        if self.card.text != before:
            self.files[CARD] = str(self.card).encode()

    @property
    def sizes(self) -> dict[str, int]:
        """Return the size of each file, in bytes."""
        return {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}


def finish_model_folder(
    run: Run, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write weights, tokenizer, model card and metrics, then push if `push_to_hub` is set. Every rank must call this.

    Raises `UserError` if the push fails. The run is done by then.
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
    make_card(run.folder, run.identity, metrics, story=run.story, limits=run.limits).save(run.folder / CARD)
    run.finish(metrics)
    if push:
        repo, branch, private = trainer.hub_model_id, trainer.args.hub_revision, bool(trainer.args.hub_private_repo)
        try:
            parcel = pack(run.folder, repo, branch, describe=lambda _: (run.story, run.limits))
            sent = send(parcel, private)
        except (UserError, NotPushed) as error:
            again = f"zero2chat push {run.folder} --repo {repo}" + " --private" * private
            again += f" --revision {branch}" if branch else ""
            raise UserError(f"{run.folder}: done, but the push failed: {error}; to try again: {again}") from None
        print(f"{run.folder}: pushed to {sent['url']}", flush=True)


# ---- what is pushed


def pack(
    folder: str | Path,
    repo: str,
    revision: str | None = None,
    license: str | None = None,
    base: str | None = None,
    describe: Callable[[str], tuple[str, str]] = lambda stage: ("", ""),
) -> Parcel:
    """Pack a finished run's model for the repository `repo`, or, with the revision `step-N`, its checkpoint N.

    Any other revision names the branch to push to. `license` and `base` (the base model's Hub name) go into the model
    card, and so do the story and the limits that `describe` returns for a stage. A folder that is no run, such as a
    merged model, needs a card. Raises `UserError` if there is no such model, and for an adapter whose base model nobody
    else could load.
    """
    folder = Path(folder)
    check_names(repo, base)
    check_branch(revision)
    is_run = (folder / RUN).exists()
    step = int(revision[5:]) if revision and re.fullmatch(r"step-\d+", revision) else None
    if not is_run and (step is not None or not (folder / CARD).exists()):
        neither = f", and no model with a card (no {CARD})" if step is None else f": it has no {revision}"
        raise UserError(
            f"{folder}: not a run (no {RUN}){neither}: give a trained step's folder, such as runs/quickstart/sft"
        )
    identity = (read_run(folder) or {}) if is_run else {}
    source = _source(folder, step) if is_run else folder
    files: dict[str, Path | bytes] = dict(_listed(source))
    _check_weights(source, files)
    if ADAPTER in files:
        base = _point_adapter(source, files, base, identity)
    own = source / CARD
    try:
        # The Trainer and PEFT write their own cards into checkpoints and into unfinished runs.
        if step is not None or not own.exists():
            metrics = {} if step else json.loads((folder / METRICS).read_text())
            card = make_card(folder, identity, metrics, step, *describe(identity["fingerprint"]["stage"]))
            files[CARD] = str(card).encode()
        else:
            card = ModelCard.load(own)
    except (ValueError, YAMLError) as error:
        raise UserError(f"{own}: the metadata is invalid YAML: mend it ({str(error).splitlines()[0]})") from error
    if identity.get("merged"):
        card.data["library_name"] = "transformers"
        card.text = card.text.replace(OF_ADAPTER, OF_MERGED)
        files[CARD] = str(card).encode()
    if license or base not in (None, card.data.get("base_model")):
        card.data["license"] = license or card.data.get("license")
        card.data["base_model"] = base or card.data.get("base_model")
        files[CARD] = str(card).encode()
    parcel = Parcel(repo, revision, dict(sorted(files.items())), card)
    parcel.name(repo)
    return parcel


def check_branch(name: str | None) -> None:
    """Raises `UserError` if git would not accept the name for a branch."""
    if name is None:
        return
    parts = name.split("/")
    odd = any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts)
    if odd or ".." in name or not re.fullmatch(r"[\w./-]+", name) or name.startswith("-") or len(name) > 200:
        raise UserError(
            f"--revision {name[:200]}: not a valid branch name: give step-N for the checkpoint of step N, or a name "
            "of letters, digits, '-', '_', '.' and '/', such as v2"
        )


def check_names(repo: str, base: str | None) -> None:
    for option, name in (("--repo", repo), ("--base", base)):
        try:
            if name is not None:
                validate_repo_id(name)
        except HFValidationError as error:
            raise UserError(f"{option} {name}: {error}") from error


def _source(folder: Path, step: int | None) -> Path:
    """Return the finished run's folder, or its checkpoint. Raises `UserError` if it is missing or incomplete."""
    whole = checkpoints(folder)
    there = [f"step-{known}" for known in whole]
    if step is None and not (folder / METRICS).exists():
        hint = f", or push a checkpoint: --revision {there[-1]} (available: {', '.join(there)})" if there else ""
        raise UserError(f"{folder}: not done (no {METRICS}): `zero2chat run` its recipe first{hint}")
    if step is not None and step not in whole:
        known = f"available: {', '.join(there)}" if there else "the folder has no checkpoints"
        raise UserError(f"{folder}: no complete checkpoint of step {step}: {known}")
    return folder if step is None else whole[step]


def _listed(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a model folder or a checkpoint that are pushed."""
    for pattern in (*_MODEL_FILES, *_OWN_FILES):
        yield from ((str(path.relative_to(source)), path) for path in source.glob(pattern) if path.is_file())


def _check_weights(source: Path, files: Mapping[str, Any]) -> None:
    index = "model.safetensors.index.json"
    shards = json.loads((source / index).read_text())["weight_map"].values() if index in files else []
    missing = sorted(set(shards) - set(files))
    if missing:
        raise UserError(f"{source}: {missing[0]}, listed in {index}, is missing: the weights are incomplete")
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{source}: no safetensors weights: give a model folder, such as runs/quickstart/sft")


def _point_adapter(source: Path, files: dict[str, Path | bytes], base: str | None, identity: Mapping[str, Any]) -> str:
    """Write the base model's Hub name into an adapter's config, and return it. Raises `UserError` if its base model is
    only on this machine."""
    config = adapter_settings(source, source)
    own = str(config["base_model_name_or_path"] or "")
    local = not is_hub_name(own) or own in identity.get("fingerprint", {}).get("inputs", {})
    if base is None and local:
        raise UserError(
            f"{source}: an adapter whose base model {own} is a folder, which nobody else can load: push what "
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
    uploaded are not sent again. Returns `repo`, `url` and `commit`. Raises `UserError`, or `NotPushed` if a retry may
    help.
    """
    token = require_token()
    logging.set_verbosity_error()  # its retry warnings show signed URLs
    api = HfApi(token=token)
    try:
        url = api.create_repo(parcel.repo, private=private or None, exist_ok=True)
        repo = url.repo_id
        parcel.name(repo)  # with the user's name
        if private and not api.repo_info(repo).private:
            raise UserError(f"{repo}: exists and is public: make it private on the Hub, or remove --private")
        if parcel.branch:
            api.create_branch(repo, branch=parcel.branch, exist_ok=True)
        there = api.list_repo_files(repo, revision=parcel.branch)
        stale = [n for n in there if n not in parcel.files and any(fnmatch(n, pattern) for pattern in _MODEL_FILES)]
        changes: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
        changes += [CommitOperationAdd(name, file) for name, file in parcel.files.items()]
        message = f"zero2chat push {parcel.card.data.get('model_name') or ''}".rstrip()
        commit = api.create_commit(repo, changes, commit_message=message, revision=parcel.branch)
    except (_HTTP_ERROR, OSError, ValueError, RuntimeError) as error:
        raise _refusal(error, parcel.repo, token) from None
    where = f"{url}/tree/{parcel.branch}" if parcel.branch else str(url)
    return {"repo": repo, "url": where, "commit": commit.oid}


def _refusal(error: BaseException, repo: str, token: str) -> Exception:
    """Turn an error of the Hub client into a one-line message that never contains the token."""
    at = error
    while not isinstance(at, HfHubHTTPError) and at.__cause__ is not None:  # the client wraps errors raised in threads
        at = at.__cause__
    said = getattr(at, "server_message", None) or str(at)
    reason = " ".join(said.replace(token, "…").split())[:300] or type(at).__name__
    status = at.response.status_code if isinstance(at, HfHubHTTPError) else None
    if isinstance(at, OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set: unset it to push")
    if status == 401 and not isinstance(at, RepositoryNotFoundError):
        return UserError("the Hub rejects this token: set HF_TOKEN to a valid one, or log in with `hf auth login`")
    if status == 403 or isinstance(at, RepositoryNotFoundError):
        return UserError(
            f"{repo}: this token has no write access ({reason}): use your own namespace, or a token with write access"
        )
    if (status and status < 500 and status not in (408, 429)) or (status is None and type(at) is ValueError):
        return UserError(f"{repo}: the Hub refuses the push: {reason}")
    what = f"the Hub fails (HTTP {status}: {reason})" if status else f"no connection to {constants.ENDPOINT} ({reason})"
    return NotPushed(f"{repo}: {what}: push again, uploaded files are not sent twice")
