from __future__ import annotations

from xml.etree import ElementTree

from zero2chat.report.parts import picture
from zero2chat.report.plots import bars, curves


def _texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg.encode())
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


def test_a_figure_without_points_is_empty() -> None:
    assert curves({"loss": []}, "loss") == ""
    assert bars({"accuracy": {}}) == ""
    assert picture("", "Nothing.") == ""


def test_bars_have_names_and_values_as_text_and_dots_stand_below_zero() -> None:
    texts = _texts(bars({"accuracy": {"sums": {"value": 0.6, "low": 0.5, "high": 0.7}}}))
    assert {"sums", "60.0%"} <= set(texts)
    metrics = {"better": {"value": -0.2, "low": -0.3, "high": -0.1}, "worse": {"value": 0.1}}
    assert {"better", "worse", "-0.2", "0.1"} <= set(_texts(bars({"change": metrics}, dots=True)))


def test_names_from_outside_are_neither_markup_nor_formulas() -> None:
    name = "<script>$\\frac{$\ud800"
    metric = {name: {"value": 0.5}}
    for svg in (bars({"accuracy": metric, "_hidden": metric}), curves({name: [(0, 1.0)], "_x": [(0, 2.0)]}, "loss")):
        _texts(svg)
        assert "<script" not in svg
        assert "<script" not in picture(svg, name)
