"""Copies of a recipe's steps for each seed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.recipes.recipe import Step, changed, owners


def with_seeds(steps: Sequence[Step], seeds: int) -> list[Step]:
    """Repeat training steps, and the steps that read them, for each further seed, in separate folders
    (`runs/claims/thinks` is repeated as `runs/claims/seed-1/thinks`). The steps that combine results are not repeated.

    The step `thinks` is repeated as `seed-1/thinks`, with 1 added to its `seed`. Steps that do not depend on training
    are shared: a corpus, a tokenizer, answers of another recipe's model, a task's rows. Raises `UserError` if no step
    would combine the seeds, and for a step whose YAML sets no seed.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected 1 or more")
    if not any(step.declared.judges for step in steps):
        raise UserError("--seeds: no step of this recipe judges claims, and so combines the seeds: add one")
    again: dict[str, Step] = {}
    for step in steps:
        if not step.declared.joins and (step.trains or again.keys() & set(step.after)):
            if step.trains and not isinstance(step.settings.get("seed"), int):
                raise UserError(f"{step.config}: --seeds: seed is not set: set it, such as seed: 0")
            again[step.name] = step
    further = {seed: [_of_seed(step, seed, again) for step in again.values()] for seed in range(1, seeds)}
    found = [step for step in steps if not step.declared.joins]
    found += [step for of_seed in further.values() for step in of_seed]
    for step in steps:
        if step.declared.judges and further:
            read = [
                other for seed, of_seed in further.items() for other in of_seed if base_name(other.name) in step.after
            ]
            step = replace(step, after=(*step.after, *(other.name for other in read)))
            step = changed(step, {"seeds": [str(other.folder) for other in read]})
        if step.declared.joins:
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
    return changed(replace(step, name=f"seed-{seed}/{step.name}", after=after), changes)


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


def base_name(name: str) -> str:
    return re.sub(r"^seed-\d+/", "", name)


def in_seeds(steps: Sequence[Step], name: str) -> list[str]:
    """Return a step's name, and the names of its copies for further seeds."""
    return [step.name for step in steps if name in (step.name, base_name(step.name))]
