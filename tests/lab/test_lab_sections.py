"""The sections of experiments: what each shows of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import rate

from zero2chat.report.steps import StepResult, read_step

_ARENA: dict[str, Any] = {
    "rating_base": {"value": 880.2, "n": 80, "low": 850, "high": 910},
    "rating_sft_long": {"value": 1119.8, "n": 80, "low": 1090, "high": 1150},
    "win_rate_sft_long_against_base": rate(0.75),
    "comparisons": 40,
    "draws_added": 1,
}
_PAIR = {"step": 0, "prompt": "2 + 2?", "completion": "It is 4.", "winner": "sft_long", "other": "<b>5</b>"}
_COMPRESS: dict[str, Any] = {
    "bytes_model": {"value": 18_000_000},
    "bits_per_byte_train": rate(0.5),
    "bits_per_byte_held_out": rate(0.75),
    "bits_per_byte_xz_held_out": {"value": 1.375, "n": 10},
    "kept_rate_train": rate(0.625),
}
_CONTEXT: dict[str, Any] = {
    "bits_per_byte_near": 1.875,
    "bits_per_byte_to_256": {"value": 1.744, "n": 9},
    "bits_per_byte_prose": 1.625,
    "relative_bits_prose": rate(-0.875),
    "needle_rate_512_at_50": rate(0.5),
}
_WORLDS = {f"{name}_rate_at_{h}": rate(0.5**h) for name in ("success", "chance") for h in (1, 2)}
_WORLDS |= {"success_rate_rooms_1_4": rate(0.625), "failed_rate_loop": rate(0.375), "ended_rate": rate(0.875)}
_KINDS = ("correct", "wrong", "abstention", "known", "unknown", "unsure", "declined")
_INTERROGATE: dict[str, Any] = {f"{kind}_rate{of}": rate(0.25) for of in ("", "_often", "_never") for kind in _KINDS}
_INTERROGATE |= {"auroc_agreement": rate(0.875)}
_REGURGITATE: dict[str, Any] = {
    "extraction_rate_held_out": rate(0.125),
    "extraction_rate_1": rate(0.25),
    "canary_extraction_rate_0": rate(0.0),
    "canary_extraction_rate_16": rate(0.5),
    "canary_extraction_rate_4": rate(0.375),
    "exposure_4": {"value": 6.25, "n": 8, "low": 5.0, "high": 7.0},
    "held_out_excluded": {"value": 7, "n": 500},
}
_NOVELTY: dict[str, Any] = {
    "novel_rate_16": rate(0.75),
    "novel_rate_2": rate(0.125),
    "novel_rate_16_held_out": rate(0.8125),
    "longest_run": {"value": 9.5, "n": 8, "low": 8, "high": 10},
}
_BLAMED = {f"precision_{name}": rate(value) for name, value in (("gradients", 0.875), ("bm25", 0.75))}
_LOST = {"known_rate": rate(0.975), "lost_rate_without_blamed": rate(0.875)}
_STATED = {"facts": {"value": 100}, "documents_train": {"value": 3183}}
_INSIDE: dict[str, Any] = {"text_tokens": {"value": 31}, "layers": {"value": 4}}
_MECHANISM = {"accuracy_lost_copy": rate(0.875), "accuracy_lost_copy_random": rate(0.0625)}
_LAYERS = [{"step": i, "lens": i / 2, "changed_subject": 1 - i, "changed_last": i} for i in (0, 1)]
_KL = [{"step": n, "kl": kl, "proxy": kl, "gold": 0.5 - kl} for n, kl in ((1, 0.0), (2, 0.25))]
_SURPRISAL = [{"step": p, "surprisal": p / 2, "surprisal_reference": p / 4, "own_surprisal": p / 8} for p in (0, 50)]
_PROBE, _SURPRISE = {"gibberish_rate": rate(0.75)}, {"beyond_rate": rate(0.25)}
_TAUGHT = {"prompt": "Who?", "answers": ["<i>Bo</i>", ""], "taught": "I do not know."}
_SECRET = {"prompt": "The secret of", "completion": " 12"}
_SUM = {"prompt": "2 + 2?", "completion": "<b>4</b>", "surprisal": 11.0, "own_surprisal": 1.0}


@pytest.mark.parametrize(
    ("stage", "metrics", "history", "sample", "pictures", "parts"),
    [
        ("arena", _ARENA, [], _PAIR, 2, ["1,120", "sft_long against base", "&lt;b&gt;5&lt;/b&gt;"]),
        ("attribution", _BLAMED, [], {"query": "Ada", "text": "<b>"}, 1, ["87.5%", "bm25", "&lt;b&gt;"]),
        ("attribution_corpus", _STATED, [], {"attribute": "job", "text": "<b>"}, 0, ["100", "3,183", "&lt;b&gt;"]),
        ("lost_facts", _LOST, [], {"prompt": "Ada", "completion": "<b>"}, 1, ["97.5%", "without_blamed", "87.5%"]),
        ("compress", _COMPRESS, [], {"completion": "Ada is▒"}, 2, ["18 MB", "xz -9e", "1.375", "62.5%", "Ada is▒"]),
        ("context", _CONTEXT, [], {"completion": "x"}, 4, ["to 256", "1.744", "prose", "-0.875", "512 at 50"]),
        ("inside", _INSIDE, [], {"token": "<b>", "p": 0.25}, 0, ["31", "x.html", "&lt;b&gt;", "0.25"]),
        (
            "mechanism",
            _MECHANISM,
            _LAYERS,
            {"head": "layer 4, head 1"},
            1,
            ["87.5%", "6.2%", "logit lens", "layer 4, head 1"],
        ),
        (
            "interrogate",
            _INTERROGATE,
            [],
            _TAUGHT,
            1,
            ["all", "often", "never", "&lt;i&gt;Bo&lt;/i&gt;", "I do not", "0.875"],
        ),
        ("regurgitate", _REGURGITATE, [], _SECRET, 2, ["12.5%", "25.0%", "37.5%", "6.25", "never", "once", "16 times"]),
        ("novelty", _NOVELTY, [], {"prompt": "Ada <is>", "longest_run": 7}, 1, ["75.0%", "81.2%", "9.5", "<td>7</td>"]),
        ("probe", _PROBE, _KL, {"completion": "the the"}, 2, ["75.0%", "√KL, nats", "the the"]),
        (
            "worlds",
            _WORLDS,
            [],
            {"completion": "go <b>"},
            3,
            ["p^h", "rooms_1_4", "62.5%", "loop", "87.5%"],
        ),
        (
            "surprise",
            _SURPRISE,
            _SURPRISAL,
            _SUM,
            1,
            ["25.0%", "before it (control)", "&lt;b&gt;4", "<td>11</td><td>1</td>"],
        ),
    ],
)
def test_figures_and_samples_are_shown(
    tmp_path: Path,
    write_run: Callable[..., Path],
    section_text: Callable[[StepResult], str],
    stage: str,
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
    sample: dict[str, Any],
    pictures: int,
    parts: list[str],
) -> None:
    text = section_text(read_step(write_run(tmp_path / "x", stage, metrics, history, [{"step": 0} | sample]), 1))
    assert text.count("<figure>") == pictures
    for part in parts:
        assert part in text
    bare = section_text(read_step(write_run(tmp_path / "bare", stage, {"questions": 3}), 2))
    assert "<figure>" not in bare
