from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import rate

from zero2chat import stages
from zero2chat.report import page as pages
from zero2chat.report.steps import StepResult, read_step, read_steps

SECTIONS = {name: section for name in stages.names() if (section := stages.load(name).section) is not None}
# Hostile text that could come from a model, a user or a broken file.
HOSTILE = "</style></svg></dd><script>alert(1)</script><img src=//evil.example onerror=x>\x00\ud800$\\frac{"


def render(steps: Sequence[StepResult], *args: Any, **options: Any) -> str:
    return pages.render(steps, SECTIONS, *args, **options)


class _Page(HTMLParser):
    """The elements of a page, and whether each that needs an end has one."""

    VOID = ("meta", "br", "img", "link", "path", "use", "rect")

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _check(text: str) -> _Page:
    """Well-formed, nothing fetched, nothing run, no id twice, no link into the void."""
    page = _Page(text)
    assert page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name == "src":
                assert (value or "").startswith("data:image/svg+xml;base64,")
            if name.endswith("href"):
                assert (value or "").startswith("#")
                assert (value or "")[1:] in ids
    assert not re.search(r"url\((?!#)|@import", text)
    return page


@pytest.fixture(scope="module")
def page(recipe: list[Path]) -> str:
    return render(read_steps(recipe), "tiny", "From nothing")


def test_the_page_is_one_file_with_each_step_in_its_contents(page: str) -> None:
    _check(page)
    found = re.findall(r'<section id="([^"]*)"', page)
    assert found == [
        "changes",
        *(f"s{i}-{name}" for i, name in enumerate(("corpus", "tokenizer", "pretrain", "sft", "sft-more"), start=1)),
        *("s6-polish", "s7-exam-a", "s8-exam-b", "words"),
    ]
    assert all(f'<a href="#{name}">' in page for name in found)


def test_steps_that_were_asked_the_same_questions_have_a_column_each(page: str) -> None:
    start = page.index('<section id="changes"')
    chain = page[start : page.index("</section>", start)]
    heads = "".join(f"<th>{step}</th>" for step in ("sft", "sft_more", "exam_a", "exam_b"))
    assert f"<th>accuracy</th>{heads}</tr>" in chain
    assert "corpus" not in chain
    assert "<td>90.0%<br><small>95%: 85.0–95.0%" in chain  # pass@8 of the exams


def test_its_words_are_those_of_the_glossary(page: str) -> None:
    glossary = " ".join((Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8").split())
    words = re.findall("<dt><b>(.+?)</b></dt><dd>(.+?)</dd>", page[page.index('id="words"') :])
    assert {"Token", "Entropy", "EOS token"} < {term for term, _ in words}
    every = re.findall("<dt><b>(.+?)</b></dt><dd>(.+?)</dd>", Path(pages.__file__).with_name("words.html").read_text())
    assert {*words} < {*every}
    for term, text in every:
        assert f"**{term}.** {text}" in glossary


def test_changes_of_rates_are_in_points_and_pass_at_1_is_shown_once(
    tmp_path: Path, page: str, write_run: Callable[..., Path]
) -> None:
    folder = write_run(tmp_path / "exam", "evaluate", {"accuracy_sums": 0.5, "change_sums": -0.028, "change_mine": 0.5})
    text = render([read_step(folder, 1)], "tiny", "Exam")
    assert "<code>change_sums</code></th><td>-2.8 points</td>" in text
    assert "<code>change_mine</code></th><td>0.5</td>" in text
    assert "<th>accuracy sampled</th>" in page
    assert "<th>pass at 1</th>" not in page


def test_tasks_stand_beside_the_best_constant_answer(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    folders = []
    for name, value in (("evaluate_sft", 0.5), ("evaluate_grpo", 0.75)):
        metrics = {"accuracy": rate(value), "accuracy_sums": rate(value), "constant_sums": rate(0.056)}
        folders.append(write_run(tmp_path / name, "evaluate", metrics | {f"accuracy_{name}": rate(0.1)}))
    text = render(read_steps(folders), "tiny", "Two exams")
    chain = text[text.index('<section id="changes"') : text.index('<section id="s1')]
    row = re.sub("<br><small>[^<]*</small>", "", chain[chain.index("<tbody>") : chain.index("</tbody>")])
    assert row.strip() == "<tbody>\n<tr><th>sums</th><td>50.0%</td><td>75.0%</td><td>5.6%</td></tr>"
    assert "accuracy_evaluate_sft" not in chain
    contents = text[text.index("<nav") : text.index("</nav>")]
    assert "<b>50.0%</b> accuracy, mean over tasks" in contents


def test_answers_are_marked_and_the_first_stands_beside_the_last(page: str) -> None:
    section = page[page.index('id="s4-sft"') : page.index('id="s5-sft-more"')]
    assert section.count("✓ correct") == 1
    assert 'at step 0</dt><dd class="at">5</dd><dt>answered</dt><dd class="answered">4</dd>' in section
    assert "✗ wrong" in page[page.index('id="s7-exam-a"') :]


@pytest.mark.parametrize("stage", [*SECTIONS, HOSTILE])
def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path, stage: str, write_run: Callable[..., Path]) -> None:
    sample = dict.fromkeys(("prompt", "completion", "task", "answer"), HOSTILE) | {
        "tokens": [HOSTILE],
        "ids": [HOSTILE],
    }
    kinds = "documents bytes bytes_per_token val_bits_per_byte accuracy pass_at_1 relative_bits".split()  # noqa: SIM905
    metrics = {f"{kind}_{HOSTILE}": rate(0.5) for kind in (*kinds, HOSTILE)} | {HOSTILE: HOSTILE, "accuracy": HOSTILE}
    metrics |= {key: rate(0.5) for key in ("bytes_train", "val_loss", "vocab_size")}
    history = [{"step": s, "loss": 1.0, f"eval_{HOSTILE}_loss": 1.0, HOSTILE: HOSTILE} for s in range(3)]
    folder = write_run(tmp_path / "<b onclick=x>", stage, metrics, history, [sample | {"step": s} for s in (0, 1)])
    identity = {"fingerprint": {"stage": stage, "settings": {HOSTILE: HOSTILE}}}
    (folder / "run.json").write_text(json.dumps(identity))
    text = render([read_step(folder, 1)], HOSTILE, HOSTILE)
    text.encode()
    assert "<script>alert(1)</script>" in _check(text).text


@pytest.mark.parametrize("stage", list(SECTIONS))
def test_a_bare_step_has_no_figure(tmp_path: Path, stage: str, write_run: Callable[..., Path]) -> None:
    text = render([read_step(write_run(tmp_path / stage, stage, {"seconds": 1}), 1)], "tiny", "Bare")
    _check(text)
    assert "<figure>" not in text


def test_metrics_that_are_no_numbers_break_nothing(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    odd = {"accuracy": None, "accuracy_sums": "high", "val_bits_per_byte": float("nan"), "bytes_train": None}
    odd |= {"seconds": None, "bytes_per_token": 0}
    samples = [{"completion": 3, "score": "good"}, {"step": None, "prompt": ["a"], "tokens": "no list", "ids": 4}]
    for i, stage in enumerate(SECTIONS):
        folder = write_run(tmp_path / stage, stage, odd, [{"step": "x", "loss": None}], samples)
        _check(render([read_step(folder, i + 1)], "tiny", "Odd"))


def test_a_declaration_needs_neither_torch_nor_matplotlib() -> None:
    script = "import zero2chat.report.page, sys; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


CLAIMED = (
    "from scratch",
    "from nothing",
    "random weights",
    "textbook",
    "project's",
    "Babble",
    "✓ correct",
    'class="note"',
)
LINE = {"step": 9, "prompt": "Say hello.", "completion": "Hello, please."}
RUNS: dict[str, tuple[dict[str, dict[str, Any]], tuple[str, ...]]] = {
    "quickstart": (
        {
            "corpus": {},
            "tokenizer": {},
            "pretrain": {"tokenizer": "runs/a/tokenizer"},
            "sft": {"samples": [LINE | {"task": "sums", "score": 1.0}]},
            "grpo": {},
        },
        ("random weights", "textbook", "✓ correct"),
    ),
    "sft of an existing model on own data": (
        {
            "sft": {"model_name_or_path": "Qwen/Qwen3-0.6B", "samples": [LINE]},
            "evaluate": {"samples": [LINE | {"task": "mine", "score": 1.0, "by": "politeness"}]},
        },
        (),
    ),
    "continued pretraining": ({"corpus": {}, "pretrain": {"model_name_or_path": "HuggingFaceTB/SmolLM2-135M"}}, ()),
    "grpo with an own reward": (
        {
            "grpo": {"model_name_or_path": "Qwen/Qwen3-0.6B", "samples": [LINE]},
            "evaluate": {"samples": [LINE | {"score": 1.0, "by": "politeness"}]},
            "distill": {"samples": [LINE | {"score": 1.0, "by": "politeness", "kept": True, "why": None}]},
        },
        (),
    ),
    "dpo": ({"dpo": {"model_name_or_path": "runs/a/sft", "samples": [LINE | {"rejected": "No."}]}}, ()),
    "ppo": (
        {
            "reward": {"model_name_or_path": "Qwen/Qwen3-0.6B"},
            "ppo": {"model_name_or_path": "Qwen/Qwen3-0.6B", "samples": [LINE | {"score": 1.0, "by": "gold reward"}]},
        },
        (),
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_report_claims_only_what_is_true_of_its_run(
    tmp_path: Path, kind: str, write_run: Callable[..., Path]
) -> None:
    steps, true = RUNS[kind]
    folders = [write_run(tmp_path / stage, stage, {"accuracy": rate(0.5)}, **more) for stage, more in steps.items()]
    text = render(read_steps(folders), "tiny", stages.load("report").arguments[0](steps=["x"]).title)
    assert [words for words in CLAIMED if words in text] == [words for words in CLAIMED if words in true]
    assert ("politeness 1" in text) == ("politeness" in str(steps))


def test_own_answers_are_shown_and_only_used_words_are_explained(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    asked = [LINE | {"prompt": f"Policy {i}?", "task": "exam", "score": 0.0, "by": "named"} for i in range(25)]
    named = {"named_exam": {"value": 0.0, "n": 25, "low": 0.0, "high": 0.1, "count": 0}}
    folder = write_run(tmp_path / "exam", "evaluate", named, datasets=[{"path": "exam.csv"}], samples=asked)
    text = render(read_steps([folder]), "own", "Own")
    assert ("Policy 19?" in text, "Policy 20?" in text) == (True, False)
    assert "<td>0.0%</td>" in text
    assert "0 of 25" in text
    assert "training rows" not in text  # no task was evaluated
    assert "hundred questions" not in text
    assert "<b>Policy</b>" not in text
    assert "<b>Value model</b>" not in text
    _check(text)


def test_the_contents_stay_in_view_and_no_table_is_cut(page: str) -> None:
    wide = page[page.index("@media screen and (min-width: 70rem)") :]  # 1,280 px are 80 rem
    assert re.search("body > nav {[^}]*position: sticky", wide)
    assert "nowrap" not in page[page.index("<style>") : page.index("</style>")]
