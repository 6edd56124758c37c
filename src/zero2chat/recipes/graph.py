"""The graph of a recipe's steps: predecessors and successors, the subgraph of a claim, and copies for further seeds.

A stage with `joins`, such as `report`, only combines other steps' results, and reruns when they change. In a stage that
judges claims, `judges` names the key that lists them, `only` selects claims, and `seeds` lists further seeds' runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zero2chat.core import fingerprints
from zero2chat.core.errors import UserError
from zero2chat.recipes.recipe import Step, changed, owners


def following(steps: Sequence[Step], *names: str) -> list[Step]:
    """Return these steps and all steps that depend on them, directly or indirectly, in order."""
    reached = set(names)
    for step in steps:
        if reached & set(step.after):
            reached.add(step.name)
    return [step for step in steps if step.name in reached]


def preceding(steps: Sequence[Step], wanted: Sequence[Step]) -> list[Step]:
    """Return the steps that the wanted steps depend on, directly or indirectly, in order."""
    needed = {step.name for step in wanted}
    for step in reversed(steps):
        if step.name in needed:
            needed |= set(step.after)
    return [step for step in steps if step.name in needed and step not in wanted]


def claims(steps: Sequence[Step]) -> dict[str, Step]:
    """Map each claim's name to the step that judges it."""
    judges: dict[str, Step] = {}
    for step in steps:
        for entry in step.settings.get(step.declared.judges) or ():
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                judges[entry["name"]] = step
    return judges


def for_claim(steps: Sequence[Step], name: str) -> list[Step]:
    """Return the steps that a claim reads, their predecessors, and the steps that combine results. The judging step
    gets the claim as `only`, and the report omits steps that are left out."""
    judge = claims(steps)[name]
    entry = next(entry for entry in judge.settings[judge.declared.judges] if entry["name"] == name)
    read = {os.path.normpath(text) for key, text in fingerprints.strings(entry) if key in ("step", "example")}
    names = {step.name for step in steps if os.path.normpath(step.folder) in read}
    needed = [step for step in steps if base_name(step.name) in names]  # for each seed
    needed = [*preceding(steps, needed), *needed]
    chosen = [step for step in steps if step in needed or step.declared.joins]
    left_out = {str(step.folder) for step in steps if step not in chosen}
    copies = []
    for step in chosen:
        if step.declared.joins:
            step = replace(step, after=tuple(one.name for one in chosen if one.name in step.after))
            for key in {"steps", "seeds"} & step.settings.keys():
                step = changed(step, {key: [path for path in step.settings[key] if path not in left_out]})
            if step.declared.judges:
                step = changed(step, {"only": [name]})
                step.settings[step.declared.judges] = [entry]  # as the stage itself receives them
        copies.append(step)
    return copies


# ---- seeds


def with_seeds(steps: Sequence[Step], seeds: int) -> list[Step]:
    """Repeat training steps, and the steps that read them, for each further seed. The copy `seed-1/thinks` of `thinks`
    adds 1 to its `seed`, and runs in `runs/claims/seed-1/thinks`. Other steps are shared, and judging steps read all
    seeds.

    Raises `UserError` if no step judges claims, or if a training step sets no seed.
    """
    if not any(step.declared.judges for step in steps):
        raise UserError("--seeds: no step of this recipe combines the seeds: add a step that judges claims")
    further = further_seeds(steps, seeds)
    all_steps = [step for step in steps if not step.declared.joins] + further
    for step in steps:
        if step.declared.judges and further:
            read = [other for other in further if base_name(other.name) in step.after]
            step = replace(step, after=(*step.after, *(other.name for other in read)))
            step = changed(step, {"seeds": [str(other.folder) for other in read]})
        if step.declared.joins:
            all_steps.append(step)
    return all_steps


def further_seeds(steps: Sequence[Step], seeds: int) -> list[Step]:
    """Return the copies for further seeds: of training steps, and of steps that read them, but not of joining steps."""
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected 1 or more")
    again: list[Step] = []
    for step in steps:
        if not step.declared.joins and (step.trains or {other.name for other in again} & {*step.after}):
            if step.trains and not isinstance(step.settings.get("seed"), int):
                raise UserError(f"{step.config}: --seeds needs a seed in the YAML: set `seed`, such as `seed: 0`")
            again.append(step)
    return [copy for seed in range(1, seeds) for copy in copy_to(again, f"seed-{seed}", seed)]


def copy_to(steps: Sequence[Step], place: str, seed: int = 0) -> list[Step]:
    """Copy steps to the folder `place` beside theirs, where they read each other. `seed` is added to their seeds."""
    names, folders = {step.name for step in steps}, {os.path.normpath(step.folder): step.folder for step in steps}
    places = {path: str(folder.parent / place / folder.name) for path, folder in folders.items()}
    made = []
    for step in steps:
        settings = _moved(step.settings, places)
        if "seed" in settings and seed:
            settings["seed"] += seed
        changes = {key: value for key, value in settings.items() if value != step.settings[key]}
        after = tuple(f"{place}/{name}" if name in names else name for name in step.after)
        made.append(changed(replace(step, name=f"{place}/{step.name}", after=after), changes))
    return made


def _moved(value: Any, places: Mapping[str, str]) -> Any:
    """In a setting, replace the paths of these folders, and the paths inside them, by the new paths."""
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


def base_name(name: str) -> str:
    return re.sub(r"^seed-\d+/", "", name)


def in_seeds(steps: Sequence[Step], name: str) -> list[str]:
    """Return a step's name, followed by the names of its copies for further seeds."""
    return [step.name for step in steps if name in (step.name, base_name(step.name))]
