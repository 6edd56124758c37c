"""A YAML and its overrides become dataclasses, and every mistake in them one clear line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from zero2chat.core.config import Range, build, load_yaml
from zero2chat.core.errors import UserError
from zero2chat.stages.command_line import read_arguments


@dataclass
class Sizes:
    layers: int = 2
    rate: float = 0.1
    tie: bool = False
    shuffle: bool = True
    depths: list[int] = field(default_factory=list)
    when: Literal["no", "steps"] = "steps"
    name: str | None = None
    trackers: None | str | list[str] = "none"  # noqa: RUF036 - in transformers' order, on which the parser depends
    extra: dict | str | None = None

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1,\ngot {self.layers}")


def parse(classes: list[type], words: list[str]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    settings, where = read_arguments(words)
    return settings, build(classes, settings, where)


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    """`read("layers: 3", "--rate", "2")` → the `Sizes` that this YAML and these overrides make."""

    def read_text(text: str, *overrides: str) -> Sizes:
        (tmp_path / "x.yaml").write_text(text)
        _, (sizes,) = parse([Sizes], ["--config", str(tmp_path / "x.yaml"), *overrides])
        return sizes

    return read_text


def test_values_of_every_type_arrive_as_the_fields_types(read) -> None:  # type: ignore[no-untyped-def]
    text = "layers: 3\nrate: 1e-4\ntie: true\nshuffle: false\ndepths: [1, 2]\nwhen: no\nname: ada\n"
    text += "trackers: [a, b]\nextra: {a: {b: 1}}"
    want = Sizes(3, 1e-4, True, False, [1, 2], "no", "ada", ["a", "b"], {"a": {"b": 1}})
    assert read(text) == want
    assert isinstance(read(text).rate, float)
    assert read("rate: 1e-4").rate == 1e-4  # YAML 1.1 reads it as text, for want of a dot
    assert read("layers: 3\nname: null").name is None
    assert read("trackers: null\nextra: null").trackers is None


def test_values_from_the_command_line_arrive_as_the_fields_types() -> None:
    words = "--layers 3 --rate=1e-4 --tie --shuffle false --depths 1 2 --when no --name ada --extra {}"
    settings, (sizes,) = parse([Sizes], words.split())
    assert sizes == Sizes(3, 1e-4, True, False, [1, 2], "no", "ada", "none", {})
    assert settings["depths"] == ["1", "2"]


def test_overrides_win_over_the_file(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert read("layers: 3\nrate: 0.5", "--layers", "4") == Sizes(layers=4, rate=0.5)
    settings, where = read_arguments(["--config", str(tmp_path / "x.yaml"), "--layers", "4"])
    assert settings == {"layers": "4", "rate": 0.5}
    assert where == str(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("layer: 3", [], "x.yaml: unknown key 'layer'; did you mean 'layers'?"),
        ("zzzzzzz: 3", [], "unknown key 'zzzzzzz'; known: depths, extra, layers, name, rate, shuffle"),
        ("layers: many", [], "x.yaml: layers: expected an int, got 'many'"),
        ("layers: true", [], "layers: expected an int, got True"),
        ("layers: [1]", [], "layers: expected an int, got [1]"),
        ("rate: fast", [], "rate: expected a float, got 'fast'"),
        ("tie: maybe", [], "tie: expected true or false, got 'maybe'"),
        ("depths: [1, two]", [], "depths: expected an int, got 'two'"),
        ("when: never", [], "when: 'never' is not one of no, steps"),
        ("name: [a, b]", [], "name: expected a str, got ['a', 'b']"),
        ("layers: 3", ["--layers", "many"], "layers: expected an int, got 'many'"),
        ("layers: 3", ["--layers", "1", "2"], "layers: expected an int, got ['1', '2']"),
        ("layers: null", [], "x.yaml: layers: null is not allowed: set a value, or remove the key"),
        ("layers: 3", ["--tie", "null"], "tie: null is not allowed"),
        ("when:", [], "when: null is not allowed"),
        ("depths:", [], "depths: null is not allowed"),
        ("layers: 0", [], "x.yaml: layers must be at least 1"),
        ("layers: [1", [], "x.yaml: invalid YAML"),
        ("layers: 1\nrate: 2\nlayers: 3", [], "x.yaml: invalid YAML: 'layers' is set twice"),
        ("extra: {[1, 2]: x}", [], "x.yaml: invalid YAML: while constructing a mapping"),
        ("extra: &a {b: 1, b: 2}\nname: {<<: *a}", [], "x.yaml: invalid YAML: 'b' is set twice"),
        ("- layers", [], "x.yaml: expected `key: value` lines, found list"),
        ("", [], "x.yaml: expected `key: value` lines, found NoneType"),
    ],
)
def test_a_mistake_is_named_with_its_place(  # type: ignore[no-untyped-def]
    read, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(text, *overrides)
    assert message in str(caught.value)


def test_a_missing_file_and_a_binary_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        load_yaml(tmp_path / "nowhere.yaml")
    (tmp_path / "b.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match=r"b\.yaml: invalid YAML"):
        load_yaml(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("range_", "refused", "taken", "said"),
    [
        (Range(min=1), 0, 1, "at least 1, got 0.0"),
        (Range(above=0, why="set 3 or so"), 0, 0.1, "more than 0, got 0.0: set 3 or so"),
        (Range(min=0, max=1), 1.5, 1.0, "at least 0 and at most 1, got 1.5"),
        (Range(min=0, below=1), 1.0, 0.0, "at least 0 and less than 1, got 1.0"),
        (Range(above=0, below=1), 0.0, 0.5, "more than 0 and less than 1, got 0.0"),
        (Range(min=1), math.nan, math.inf, "at least 1, got nan"),
    ],
)
def test_a_field_refuses_numbers_out_of_its_range(range_: Range, refused: float, taken: float, said: str) -> None:
    ranged = make_dataclass("Ranged", [("x", Annotated[float | None, range_], None)])
    with pytest.raises(UserError, match=rf"^here: x: expected {re.escape(said)}$"):
        build([ranged], {"x": refused}, "here")
    if math.isfinite(taken):
        assert build([ranged], {"x": taken}, "here")[0].x == taken
    assert build([ranged], {"x": None}, "here")[0].x is None


def test_a_number_without_a_dot_is_a_number_in_a_mapping_too(read) -> None:  # type: ignore[no-untyped-def]
    extra = read("extra: {min_lr: 1e-5, name: '1e-5', commit: 1e5}").extra
    assert extra == {"min_lr": 1e-5, "name": "1e-5", "commit": "1e5"}
    assert read("layers: 3", "--extra", "{min_lr: -2E+3}").extra == {"min_lr": -2000.0}
