"""The final answer of a text is found where a reader would find it."""

from __future__ import annotations

import pytest

from zero2chat_verifier.extract import final_answer, reference, unmarked_answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 + 3 = 5.\n#### 5", "5"),
        ("#### 4\nNo, wait.\n#### 5\n", "5 \\beside"),
        ("#### 5\nand so on", "5 \\beside"),
        ("#### 5\nor rather \\boxed{6}", "6 \\beside"),
        ("\\boxed{6}\n#### 5", "5"),
        ("#### \\boxed{5}", "5"),
        ("so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{\\left\\{ 1, 2 \\right.}", "\\left\\{ 1, 2 \\right."),
        ("\\boxed{1}, no, \\fbox{2}", "2 \\beside"),
        ("\\boxed{1}. No, the answer is \\fbox{2}", "2 \\beside"),
        ("\\boxed{1}. Wait. The answer is \\fbox{2}", "2 \\beside"),
        ("\\boxed{1}. We add them. The answer is \\fbox{2}", "2"),
        ("x is \\boxed{1}. So y is\n\\[y=\\boxed{2}\\]", "2 \\beside"),
        ("\\boxed{1} or \\fbox{2}", "1 or 2"),
        ("$\\boxed{1}$ and $\\boxed{2}$", "1 and 2"),
        ("\\boxed{\\boxed{5}+1}", "\\boxed{5}+1"),
        ("\\boxed{6} % \\boxed{5}", "5 \\beside"),
        ("50% of 10, so \\boxed{5}", "5"),
        ("It is 50% of 10. So $x=\\boxed{5}$", "x=5"),
        ("<think>\\boxed{5}</think> It is 6.", None),
        ("so \\boxed{5}</think> \\boxed{6}", "6"),
        ("\\boxed{6} <think>\\boxed{5}</think>", "6"),
        ("\\boxed 7", "7"),
        ("answer is 4. Wait no, \\boxed{}", ""),
        ("\\boxed{1} then \\boxed{2", None),
        ("the answer is 5", None),
        ("", None),
        ("####", ""),
        ("The answer is not\n#### 5", "5 \\beside"),
        ("The answer is not" + " " * 500 + "\n#### 5", "5 \\beside"),
        ("It is, so to say,\n#### 5", "5 \\beside"),
    ],
)
def test_the_last_marked_answer_counts(text: str, found: str | None) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$x = -\\boxed{5}$", "x =-5"),
        ("\\begin{align*}\nx &= 3+2 \\\\\n &= \\boxed{5}\n\\end{align*}", "x  =5"),
        ("\\[a\\ne 3=\\boxed{5}\\]", "5 \\beside"),
        ("### Final Answer\n\n$$\n\\boxed{5}\n$$", "5"),
        ("The minimum value is $\\boxed{5}$.", "\\text{minimum value}: 5"),
        ("The value of $x$ is \\boxed{5}", "x=5"),
        ("It is false that\n\nthe answer is \\boxed{5}", "5 \\beside"),
        ("The answer is not" + " " * 500 + "\\boxed{5}", "5 \\beside"),
        ("\\boxed{x+1}^2", "x+1 \\beside"),
        ("$\\boxed{90}^\\circ$, as required", "90^\\circ"),
        ("It is \\boxed{50}\\%.", "50\\%"),
        ("\\boxed{50}% in total", "50%"),
        ("\\boxed{5}\\text{ cm}^2.", "5\\text{ cm}^2"),
        ("$\\boxed{5}$ million people", "5\\text{ million people}"),
        ("so $(\\boxed{1}, \\boxed{2})$", "1 , 2 \\beside"),
        ("She earns $5 per hour. So she makes \\boxed{15} dollars.", "15\\text{ dollars}"),
        ("\\cancel{\\boxed{5}}", "5 \\beside"),
        ("\\sqrt{\\boxed{5}}", "5 \\beside"),
        ("2 + \\boxed{3} = 5", "3 \\beside"),
        ("\\boxed{5}!", "5 \\beside"),
        ("<answer>\\boxed{5}</answer>", "5"),
        ("#### 1\n\\boxed{5} is the answer", "5"),
    ],
)
def test_a_box_is_read_with_the_formula_around_it(text: str, found: str) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\frac{1}{2}", "\\frac{1}{2}"),
        ("x = 3 or x = 4", "x = 3 or x = 4"),
        ("We add them up. The answer is 5. I hope it is correct.", "5"),
        ("The answer is 4.\nThe final answer is $3.5$.", "$3.5$"),
        ("The answer is 4.\nNo: the final answer is $3.5$.", "The answer is 4.\nNo: the final answer is $3.5$."),
        ("**Answer:** 17", "17"),
        ("First we add the two numbers.\nThat gives\n2 + 3 = 5", "2 + 3 = 5"),
        ("Divide both sides of 2x = 10", "Divide both sides of 2x = 10"),
        ("\\boxed{5", None),
        ("", None),
    ],
)
def test_without_a_mark_the_last_statement_counts(text: str, found: str | None) -> None:
    assert unmarked_answer(text) == found


def test_a_reference_may_be_a_worked_solution() -> None:
    assert reference("1 + 1 = 2.\n#### 2") == "2"
    assert reference("hence \\boxed{x}") == "x"
    assert reference("There are 5 red ones, and \\boxed{7} that are blue.") == "7"
    assert reference("We get $-\\boxed{5}$ or so.") != "5"
    assert reference("In 2 hours, the distance is $2\\cdot 3=\\boxed{6}$.") == "6"
    assert reference("The area is $a^2=\\boxed{9}$.") == "9"
    assert reference(" \\frac12 ") == "\\frac12"
