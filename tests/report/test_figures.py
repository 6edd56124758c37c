from __future__ import annotations

import re
from xml.etree import ElementTree

from zero2chat.report.figures import bars, curves, metric_curves


def _svg(figure: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", figure, re.S)
    assert found is not None
    return ElementTree.fromstring(found[0])


def test_a_figure_without_points_is_empty() -> None:
    assert curves("a", "nothing", {"loss": []}, "loss") == ""
    assert bars("a", "nothing", ["sums"], {"accuracy": {}}) == ""


def test_figures_have_ids_of_their_own_and_refer_to_no_others() -> None:
    for key in ("a", "b"):
        figure = curves(key, "Loss.", {"training": [(0, 3.0), (1, 2.0)], "unread": [(1, 2.5)]}, "loss")
        ids = re.findall(r'\bid="([^"]*)"', figure)
        assert ids
        assert len(ids) == len(set(ids))
        assert all(name.startswith(f"{key}-") for name in ids)
        assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', figure)) <= {(i, "") for i in ids} | {
            ("", i) for i in ids
        }


def test_text_is_text_and_colours_are_the_pages() -> None:
    figure = bars("a", "By task.", ["sums"], {"accuracy": {"sums": {"value": 0.6, "low": 0.5, "high": 0.7}}})
    texts = ["".join(node.itertext()).strip() for node in _svg(figure).iter() if node.tag.endswith("text")]
    assert "sums" in texts
    assert "60.0%" in texts
    assert "var(--c1)" in figure
    assert not re.search(r": #(?!000000|ffffff)[0-9a-f]{6}", figure)


def test_names_from_outside_are_neither_markup_nor_formulas() -> None:
    name = "<script>$\\frac{$\ud800"
    metric = {name: {"value": 0.5}}
    figure = bars("a", name, [name], {"accuracy": metric, "_hidden": metric}, measure="accuracy")
    figure += curves("b", name, {name: [(0, 1.0)], "_x": [(0, 2.0)]}, "loss")
    assert "<script" not in figure
    figure.encode()


def test_a_long_curve_keeps_its_mean_and_becomes_short() -> None:
    figure = curves("a", "Loss.", {"training": [(i, 1.0 + i % 2) for i in range(30_000)]}, "loss")
    assert len(figure) < 30_000
    assert figure == curves("a", "Loss.", {"training": [(i, 1.0 + i % 2) for i in range(30_000)]}, "loss")


def test_points_have_a_tick_each_their_values_and_zero_has_room_on_a_logarithmic_axis() -> None:
    line = [
        (number, {"value": value, "low": value, "high": value + 0.05})
        for number, value in ((0, 0.01), (1, 0.02), (10, 0.1), (100, 0.7))
    ]
    figure = metric_curves("a", "Recall.", {"right": line}, "documents", "right", "accuracy_often", "In words.")
    texts = ["".join(node.itertext()).strip() for node in _svg(figure).iter() if node.tag.endswith("text")]
    assert [text for text in texts if text in ("0", "1", "10", "100")] == ["0", "1", "10", "100"]
    assert {"1.0%", "2.0%", "10.0%", "70.0%", "documents"} <= set(texts)
    assert 'aria-label="In words."' in figure
    assert metric_curves("a", "Recall.", {}, "documents", "right", "accuracy") == ""
