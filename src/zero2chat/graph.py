"""The graph of a recipe's steps: predecessors and successors, copies for each seed, and the subgraph of a claim.

The stages `claims` and `report` only combine other steps' results. Such a step reruns when those results change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat import runs
from zero2chat.errors import UserError

if TYPE_CHECKING:
    from zero2chat.recipes import Step


def following(steps: Sequence[Step], *names: str) -> list[Step]:
    """Return these steps and all steps that depend on them, directly or indirectly, in order."""
    found = set(names)
    for step in steps:
        if found & set(step.after):
            found.add(step.name)
    return [step for step in steps if step.name in found]


def preceding(steps: Sequence[Step], wanted: Sequence[Step]) -> list[Step]:
    """Return the steps that the wanted steps depend on, directly or indirectly, in order."""
    found = {step.name for step in wanted}
    for step in reversed(steps):
        if step.name in found:
            found |= set(step.after)
    return [step for step in steps if step.name in found and step not in wanted]


def owners(path: str) -> list[str]:
    """Return the folders that may be the run containing this path: the path itself and its parents."""
    return [path, *map(str, Path(path).parents)]


def _changed(step: Step, changes: dict[str, Any]) -> Step:
    """Return the step with changed settings, as if they were given on the command line."""
    return replace(step, overrides=step.overrides | changes, settings=step.settings | changes)


# ---- seeds


def with_seeds(steps: Sequence[Step], seeds: int) -> list[Step]:
    """Repeat training steps, and the steps that read them, for each further seed, in separate folders
    (`runs/claims/thinks` is repeated as `runs/claims/seed-1/thinks`). The steps that combine results are not repeated.

    The step `thinks` is repeated as `seed-1/thinks`, with 1 added to its `seed`. Steps that do not depend on training
    are shared: a corpus, a tokenizer, answers of another recipe's model, a task's rows. Raises `UserError` if no step
    would combine the seeds, and for a step whose YAML sets no seed.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected 1 or more")
    if not any(step.stage == "claims" for step in steps):
        raise UserError("--seeds: this recipe has no step of the stage claims, which combines the seeds: add one")
    again: dict[str, Step] = {}
    for step in steps:
        if not step.joins and (step.trains or again.keys() & set(step.after)):
            if step.trains and not isinstance(step.settings.get("seed"), int):
                raise UserError(f"{step.config}: --seeds: seed is not set: set it, such as seed: 0")
            again[step.name] = step
    further = {seed: [_of_seed(step, seed, again) for step in again.values()] for seed in range(1, seeds)}
    found = [step for step in steps if not step.joins]
    found += [step for of_seed in further.values() for step in of_seed]
    for step in steps:
        if step.stage == "claims" and further:
            read = [other for seed, of_seed in further.items() for other in of_seed if _base(other.name) in step.after]
            step = replace(step, after=(*step.after, *(other.name for other in read)))
            step = _changed(step, {"seeds": [str(other.folder) for other in read]})
        if step.joins:
            found.append(step)
    return found


def _of_seed(step: Step, seed: int, again: Mapping[str, Step]) -> Step:
    folders = {os.path.normpath(other.folder): other.folder for other in again.values()}
    places = {path: str(folder.parent / f"seed-{seed}" / folder.name) for path, folder in folders.items()}
    settings = _moved(step.settings, places)
    if "seed" in settings:
        settings["seed"] += seed
    changes = {key: value for key, value in settings.items() if value != step.settings[key]}
    after = tuple(f"seed-{seed}/{name}" if name in again else name for name in step.after)
    return _changed(replace(step, name=f"seed-{seed}/{step.name}", after=after), changes)


def _moved(value: Any, places: Mapping[str, str]) -> Any:
    """Replace each path in a setting that is one of these folders, or lies in one, by its new place."""
    if isinstance(value, Mapping):
        return {key: _moved(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, places) for item in value]
    if isinstance(value, str):
        path = os.path.normpath(value)
        for owner in owners(path):
            if owner in places:
                return places[owner] + path.removeprefix(owner)
    return value


def _base(name: str) -> str:
    return re.sub(r"^seed-\d+/", "", name)


def in_seeds(steps: Sequence[Step], name: str) -> list[str]:
    """Return a step's name, and the names of its copies for further seeds."""
    return [step.name for step in steps if name in (step.name, _base(step.name))]


# ---- claims


def claims(steps: Sequence[Step]) -> dict[str, Step]:
    """Map each claim's name to the step that judges it. Raises `UserError` if a step has the same name."""
    found: dict[str, Step] = {}
    for step in steps:
        for entry in step.settings.get("claims") or () if step.stage == "claims" else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                found[entry["name"]] = step
    for name in found.keys() & {step.name for step in steps}:
        raise UserError(f"{found[name].config}: claim '{name}': a step has the same name: rename the claim")
    return found


def for_claim(steps: Sequence[Step], name: str) -> list[Step]:
    """Return the steps a claim reads, their predecessors, and the steps that combine it with claims already measured.

    Other claims are skipped: the judging step gets the list of claims to judge (`only`), and the report omits theirs.
    """
    judge = claims(steps)[name]
    entries = {entry["name"]: entry for entry in judge.settings["claims"]}
    there = {step.name for step in _needed(steps, entries[name])}
    for step in steps:
        if not step.joins and (step.folder / runs.METRICS).exists() and there.issuperset(step.after):
            there.add(step.name)
    ours = {os.path.normpath(step.folder) for step in steps}

    def is_there(entry: Mapping[str, Any]) -> bool:
        first_seed = [step for step in _needed(steps, entry) if step.name == _base(step.name)]
        others = [Path(folder) / runs.METRICS for folder in _runs(entry) - ours]
        return all(step.name in there for step in first_seed) and all(path.exists() for path in others)

    chosen = {key: entry for key, entry in entries.items() if key == name or is_there(entry)}
    needed = [step for entry in chosen.values() for step in _needed(steps, entry)]
    kept = [step for step in steps if step in needed and step.name in there]
    names = [step.name for step in (*kept, *(step for step in steps if step.joins))]
    left_out = [str(step.folder) for step in steps if step.name not in names]
    found = list(kept)
    for step in steps:
        if step.joins:
            after = tuple(before for before in step.after if before in names)
            step = replace(step, after=after)
            for key in {"steps", "seeds"} & step.settings.keys():
                kept_paths = [path for path in step.settings[key] if path not in left_out]
                step = _changed(step, {key: kept_paths}) if kept_paths != step.settings[key] else step
            if step.stage == "claims" and len(chosen) < len(entries):
                step = _changed(step, {"only": list(chosen)})
                step.settings["claims"] = list(chosen.values())  # as the stage itself receives them
            found.append(step)
    return found


def _needed(steps: Sequence[Step], claim: Mapping[str, Any]) -> list[Step]:
    """Return the steps whose runs a claim reads, for each seed, and their predecessors."""
    read = {step.name for step in steps if os.path.normpath(step.folder) in _runs(claim)}
    of_all_seeds = [step for step in steps if _base(step.name) in read]
    return [*preceding(steps, of_all_seeds), *of_all_seeds]


def _runs(claim: Mapping[str, Any]) -> set[str]:
    """Return the run folders that a claim names."""
    return {os.path.normpath(text) for key, text in runs.strings(claim) if key in ("step", "example")}
