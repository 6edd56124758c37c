"""Publish: export a trained model, and push it to the Hub.

    python -m zero2chat.stages.publish --config my-recipe/publish.yaml

Reads a model folder. Writes `exported` into the run's folder: the adapter merged into its base model, or GGUF with a
Modelfile for Ollama. Then pushes the model, which may be that merged one, with its card. It does what `zero2chat
export` and `zero2chat push` do, as a step of a recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub.utils import validate_repo_id

from zero2chat.core.runs import Run
from zero2chat.hub.export import export, require_packages
from zero2chat.hub.push import pack, require_token, send
from zero2chat.report.section import Section
from zero2chat.stages import Stage

_EXPORTED = "exported"


@dataclass
class PublishArguments:
    output_dir: str | None = None
    model_name_or_path: str | None = field(default=None, metadata={"help": "A trained step's folder."})
    export: Literal["merged", "f32", "f16", "q8_0", "q4_k_m"] | None = field(
        default=None, metadata={"help": "Write the adapter merged, or GGUF of this type."}
    )
    packages: str = field(default=".gguf", metadata={"help": "Where `make gguf` installed llama.cpp's converter."})
    repo: str | None = field(default=None, metadata={"help": "Repository to push to, such as me/my-model."})
    private: bool = field(default=False, metadata={"help": "Create the repository as private."})
    license: str | None = field(default=None, metadata={"help": "License id for the model card."})
    base: str | None = field(default=None, metadata={"help": "The base model's repository, if it is on the Hub too."})

    def __post_init__(self) -> None:
        if self.model_name_or_path is None:
            raise ValueError("model_name_or_path is not set: set it to a trained step's folder")
        if self.export is None and self.repo is None:
            raise ValueError("nothing to do: set `export`, `repo` or both")
        if self.repo is not None:
            validate_repo_id(self.repo)

    @property
    def gguf(self) -> str | None:
        return None if self.export == "merged" else self.export


def _check(args: PublishArguments) -> None:
    if args.gguf:
        require_packages(Path(args.packages), args.gguf)
    if args.repo:
        require_token()


def run(run: Run, args: PublishArguments) -> None:
    model, exported = str(args.model_name_or_path), run.folder / _EXPORTED
    metrics = {}
    if args.export:
        if not exported.exists():  # it is whole: an earlier push failed
            export(model, args.gguf, args.export == "merged", str(exported), args.packages)
        metrics["bytes_exported"] = {"value": sum(file.stat().st_size for file in exported.iterdir())}
        print(f"{model}: exported to {exported}", flush=True)
    if args.repo:
        source = exported if args.export == "merged" else model
        parcel = pack(source, args.repo, None, args.license, args.base)
        sent = send(parcel, args.private)
        metrics["bytes_pushed"] = {"value": sum(parcel.sizes.values())}
        print(f"{source}: pushed to {sent['url']}", flush=True)
    run.finish(metrics)


STAGE = Stage(
    name="publish",
    story="An export of a trained model, as GGUF or merged, and its repository on the Hub.",
    kind="plain",
    checked_first=True,  # a missing token or converter would be found out hours later
    arguments=(PublishArguments,),
    check=_check,
    run=run,
    section=Section(
        title="Out into the world",
        story="Others can run the model: an export is for programs such as Ollama, and a repository on the Hub has its "
        "weights, its tokenizer and a card that says what it was trained on and what it scored.",
        metrics={"bytes_exported": "exported", "bytes_pushed": "pushed to the Hub"},
        samples=None,
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
