"""Rewards for the form of an answer alone."""

from __future__ import annotations

from typing import Any

from zero2chat.rewards.format import marked_answer, tags


def said(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text, **more}]


def test_an_answer_in_the_asked_form_ends_with_one_marked_line() -> None:
    right = ["2 + 3 = 5.\n#### 5", "#### 5\n", "#### a b  \n \n"]
    wrong = ["#### 5\nand more", "#### 5 #### 6", "####", "it is 5", "#### \n5"]
    for text, reward in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert marked_answer([said(text)]) == [reward]


def test_tags_stand_once_each_in_their_order_and_nothing_beside_them() -> None:
    right = ["<think>2 + 3\nis 5</think>\n<answer>5</answer>", "  <think> a </think><answer>5 < 6</answer>\n"]
    wrong = [
        "<think>a</think> so <answer>5</answer>",
        "<think>a</think><answer>5</answer> done",
        "<think></think><answer>5</answer>",
        "<think>a</think><answer> </answer>",
        "<think>a<think>b</think></think><answer>5</answer>",
        "<think>a</think><answer>4</answer><answer>5</answer>",
        "<think>a</answer></think><answer>5</answer>",
        "<answer>5</answer><think>a</think>",
        "<think>a<answer>5</answer>",
        "5",
        "",
    ]
    for text, reward in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert tags([said(text)]) == [reward]
        assert tags([text]) == [reward]
    thought = said("<answer>5</answer>", reasoning_content="2 + 3")  # which the template took out
    turns = [*said(right[0]), {"role": "tool", "content": "5"}, *said("5")]  # of several messages the last is read
    assert tags([thought, turns]) == [1.0, 0.0]
