from __future__ import annotations

import re

import pytest

from zero2chat.rewards.repetition import repetition


def test_the_share_of_what_was_said_before_is_punished() -> None:
    loop = "I do not know what to say. " * 50
    texts = ["a b c d", "a b c d a b c d", loop, "hahaha" * 400, "", "a b"]
    found = repetition([[{"role": "assistant", "content": text}] for text in texts])
    assert found[0] == found[4] == found[5] == 0
    assert found[1] == pytest.approx(-1 / 5)  # of 5 quadruples the last is the first again
    assert found[2] < -0.97
    assert found[3] < -0.9
    assert repetition(["a a a a"], n=1, worst=-0.5) == [-0.375]
    assert max(repetition(["\n" * 4000, " " * 4000])) < -0.9
    assert repetition(["def f(x):\n    return x\n\n\nf(1)"]) == [0]
    table = "\n".join(f"| {name:<60} | {number:>20} |" for number, name in enumerate(["one", "two", "six", "ten"]))
    assert repetition([table]) == repetition([re.sub(" +", " ", table)])


def test_a_loop_in_a_thought_that_the_chat_template_took_out_is_punished_alike() -> None:
    loop = "what if it is so and " * 50
    apart = [{"role": "assistant", "content": "It is 5.", "reasoning_content": loop}]
    assert repetition([apart]) == repetition([f"<think>{loop}</think>It is 5."])
    assert repetition([apart])[0] < -0.9


def test_only_the_last_message_is_read_and_worked_steps_repeat_little() -> None:
    turns = [{"role": "assistant", "content": "a b c d e " * 9}, {"role": "tool", "content": "x"}]
    assert repetition([[*turns, {"role": "assistant", "content": "It is 5."}]]) == [0]
    assert repetition(["First 3 * 4 = 12. Then 12 + 5 = 17. Then 17 - 2 = 15.\n#### 15"]) == [0]
