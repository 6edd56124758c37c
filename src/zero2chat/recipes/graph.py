"""The graph of a recipe's steps: what comes before one and after it, all once more for each seed, and one claim's part.

Two stages only join what others measured, `claims` and `report`: such a step is made anew where what it joins changed.
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
    from zero2chat.recipes.runner import Step


def following(steps: Sequence[Step], *names: str) -> list[Step]:
    """These steps and all that come after them, directly or not, in order."""
    found = set(names)
    for step in steps:
        if found & set(step.after):
            found.add(step.name)
    return [step for step in steps if step.name in found]


def preceding(steps: Sequence[Step], wanted: Sequence[Step]) -> list[Step]:
    """What comes before the wanted steps, directly or not, in order."""
    found = {step.name for step in wanted}
    for step in reversed(steps):
        if step.name in found:
            found |= set(step.after)
    return [step for step in steps if step.name in found and step not in wanted]


def owners(path: str) -> list[str]:
    """The folders that may be the run which a path lies in: a file in a run's folder is made by the run's step."""
    return [path, *map(str, Path(path).parents)]


def _changed(step: Step, changes: dict[str, Any]) -> Step:
    """The step with other settings, as if the command line had said so."""
    return replace(step, overrides=step.overrides | changes, settings=step.settings | changes)


# ---- seeds


def with_seeds(steps: Sequence[Step], seeds: int) -> list[Step]:
    """The steps, and for each further seed once more those that train and those that read them, in folders of their own
    (`runs/claims/thinks` is made again as `runs/claims/seed-1/thinks`), before what joins them, which stays one.

    The step `thinks` is there again as `seed-1/thinks`, with 1 added to its `seed`. What no training moves is shared: a
    corpus, a tokenizer, what a model of another recipe says, and the rows that a task is asked. Raises `UserError`
    where nothing would join the seeds, and for a step whose YAML does not say its seed.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give how many, 1 or more")
    if not any(step.stage == "claims" for step in steps):
        raise UserError("--seeds: this recipe has no step of the stage claims, which would join what the seeds bring")
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
    """A setting in which each path that is one of these folders, or lies in one, is the one in its place."""
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
    """A step's name, and its names in further seeds."""
    return [step.name for step in steps if name in (step.name, _base(step.name))]


# ---- claims


def claims(steps: Sequence[Step]) -> dict[str, Step]:
    """Of each claim's name the step that judges it. Raises `UserError` for a claim that is called as a step is."""
    found: dict[str, Step] = {}
    for step in steps:
        for entry in step.settings.get("claims") or () if step.stage == "claims" else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                found[entry["name"]] = step
    for name in found.keys() & {step.name for step in steps}:
        raise UserError(f"{found[name].config}: claim '{name}': a step has this name too: give the claim another")
    return found


def for_claim(steps: Sequence[Step], name: str) -> list[Step]:
    """What a claim reads, all that comes before it, and what joins it with those claims whose steps are done already.

    The others wait: the step that judges is told which to judge (`only`), and the report leaves their steps out.
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
                step.settings["claims"] = list(chosen.values())  # as the stage itself sees them
            found.append(step)
    return found


def _needed(steps: Sequence[Step], claim: Mapping[str, Any]) -> list[Step]:
    """The steps whose runs a claim reads, in each seed, and those before them."""
    read = {step.name for step in steps if os.path.normpath(step.folder) in _runs(claim)}
    of_all_seeds = [step for step in steps if _base(step.name) in read]
    return [*preceding(steps, of_all_seeds), *of_all_seeds]


def _runs(claim: Mapping[str, Any]) -> set[str]:
    """The run folders that a claim names."""
    return {os.path.normpath(text) for key, text in runs.strings(claim) if key in ("step", "example")}
