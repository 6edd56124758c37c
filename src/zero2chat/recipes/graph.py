"""The graph of a recipe's steps: predecessors and successors, and the subgraph of a claim.

A stage that `joins`, such as `report`, only combines other steps' results. Its step reruns when those results change.
A stage with `judges` judges claims: `judges` names the setting that holds the claims. The stage's setting `only` lists
the claims to judge, and its setting `seeds` the run folders of further seeds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zero2chat.core import fingerprints, runs
from zero2chat.core.errors import UserError
from zero2chat.recipes.recipe import Step, changed
from zero2chat.recipes.seeds import base_name


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


def claims(steps: Sequence[Step]) -> dict[str, Step]:
    """Map each claim's name to the step that judges it. Raises `UserError` if a step has the same name."""
    found: dict[str, Step] = {}
    for step in steps:
        for entry in step.settings.get(step.declared.judges) or ():
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
    entries = {entry["name"]: entry for entry in judge.settings[judge.declared.judges]}
    there = {step.name for step in _needed(steps, entries[name])}
    for step in steps:
        if not step.declared.joins and (step.folder / runs.METRICS).exists() and there.issuperset(step.after):
            there.add(step.name)
    ours = {os.path.normpath(step.folder) for step in steps}

    def is_there(entry: Mapping[str, Any]) -> bool:
        first_seed = [step for step in _needed(steps, entry) if step.name == base_name(step.name)]
        others = [Path(folder) / runs.METRICS for folder in _runs(entry) - ours]
        return all(step.name in there for step in first_seed) and all(path.exists() for path in others)

    chosen = {key: entry for key, entry in entries.items() if key == name or is_there(entry)}
    needed = [step for entry in chosen.values() for step in _needed(steps, entry)]
    kept = [step for step in steps if step in needed and step.name in there]
    names = [step.name for step in (*kept, *(step for step in steps if step.declared.joins))]
    left_out = [str(step.folder) for step in steps if step.name not in names]
    found = list(kept)
    for step in steps:
        if step.declared.joins:
            after = tuple(before for before in step.after if before in names)
            step = replace(step, after=after)
            for key in {"steps", "seeds"} & step.settings.keys():
                kept_paths = [path for path in step.settings[key] if path not in left_out]
                step = changed(step, {key: kept_paths}) if kept_paths != step.settings[key] else step
            if step.declared.judges and len(chosen) < len(entries):
                step = changed(step, {"only": list(chosen)})
                step.settings[step.declared.judges] = list(chosen.values())  # as the stage itself receives them
            found.append(step)
    return found


def _needed(steps: Sequence[Step], claim: Mapping[str, Any]) -> list[Step]:
    """Return the steps whose runs a claim reads, for each seed, and their predecessors."""
    read = {step.name for step in steps if os.path.normpath(step.folder) in _runs(claim)}
    of_all_seeds = [step for step in steps if base_name(step.name) in read]
    return [*preceding(steps, of_all_seeds), *of_all_seeds]


def _runs(claim: Mapping[str, Any]) -> set[str]:
    """Return the run folders that a claim names."""
    return {os.path.normpath(text) for key, text in fingerprints.strings(claim) if key in ("step", "example")}
