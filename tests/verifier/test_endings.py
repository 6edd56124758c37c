"""Ordinary last sentences of solutions are accepted, and words that change the answer beside the box are not."""

from __future__ import annotations

import pytest

from zero2chat_verifier.verify import is_right, verify_answer

ORDINARY = [
    ("72", "Therefore, Natalia sold a total of $\\boxed{72}$ clips in April and May."),
    ("72", "Natalia sold 48+24 = \\boxed{72} clips altogether."),
    ("5", "Final Answer: The final answer is $\\boxed{5}$. I hope it is correct."),
    ("5", "**Final Answer**\n\\boxed{5}"),
    ("5", "### Final Answer\n\nThe final answer is: $\\boxed{5}$"),
    ("(3,4)", "The coordinates are $\\boxed{(3, 4)}$."),
    ("60", "Each of them gets $\\boxed{\\$60}$."),
    ("12", "Therefore, there are $\\boxed{12}$ ways to arrange the books."),
    ("12", "In conclusion, the number of ways is $3 \\cdot 4 = \\boxed{12}$."),
    ("25", "So, the sum is $10+15=\\boxed{25}$."),
    ("7", "The minimum value of $f(x)$ is $\\boxed{7}$."),
    ("9", "We check the cases.\n</think>\n\nThe remainder is $\\boxed{9}$."),
    ("10", "It took him \\boxed{10} days."),
    ("18", "Janet makes 9 * 2 = $\\boxed{18}$ dollars at the market."),
    ("18", "So, Janet makes $\\boxed{18}$ dollars at the farmers' market."),
    ("3", "It takes a total of 2 + 1 = \\boxed{3} bolts."),
    ("540", "Thus, James runs a total of $\\boxed{540}$ meters in a week."),
    ("64", "Kylar needs to pay $\\boxed{\\$64}$ for the glasses."),
    ("\\frac{1}{3}", "Thus, the probability that both marbles are red is $\\boxed{\\frac{1}{3}}$."),
    ("204", "To find $m+n$, we add the two numbers. We get $m+n = 201 + 3 = \\boxed{204}$."),
    ("204", "Thus, the answer is $m+n=\\boxed{204}$."),
    ("113", "The ratio is $\\frac{25}{88}$ in lowest terms, so the sum is $25 + 88 = \\boxed{113}$."),
    ("4", "The remainder when $2^{10}$ is divided by $10$ is $\\boxed{4}$."),
    ("C", "The correct option is $\\boxed{C}$."),
    ("C", "Thus, the correct answer is:\n\n$\\boxed{\\text{C}}$"),
    ("x=3", "Therefore, the value of $x$ is $\\boxed{3}$."),
    ("3", "Solving for $x$, we find that $x = \\boxed{3}$."),
    ("3", "Adding these equations, we get:\n\\[\nx = \\boxed{3}\n\\]"),
    ("2\\sqrt{5}", "Hence the distance between the points is $\\sqrt{20} = \\boxed{2\\sqrt{5}}$."),
    ("[2,5)", "In interval notation, the domain is $\\boxed{[2,5)}$."),
    ("50", "The measure of angle $A$ is $\\boxed{50^\\circ}$."),
    ("24", "Thus the area of triangle $ABC$ is $\\boxed{24}$ square units."),
    ("y=2x+1", "The equation of the line is $\\boxed{y = 2x + 1}$."),
    ("6", "Therefore, the smallest positive integer $n$ is $\\boxed{6}$."),
    ("16", "Step 3: Add the two parts.\nThe total number of legs is $\\boxed{16}$."),
    ("15", "Therefore, the total cost of the 3 books is $\\boxed{15}$ dollars."),
    ("30", "#### Conclusion\nBetty will have $\\boxed{30}$ dollars left."),
    ("1,2", "The solutions to the equation are $\\boxed{1, 2}$."),
    ("8", "So Mary has 3 + 5 = 8 apples.\n\n$\\boxed{8}$"),
    ("25\\%", "The percent increase in the price is $\\boxed{25\\%}$."),
    ("11", "This gives us $n = 5 + 6 = 11$. Therefore, the largest possible value of $n$ is $\\boxed{11}$."),
    ("21", "Adding up all the cases, we have $6+15=\\boxed{21}$ handshakes."),
    ("\\frac{5}{8}", "The probability of at least one head is $\\boxed{\\frac{5}{8}}$."),
    ("D", "Comparing the options, we see that the answer is $\\boxed{\\textbf{(D)}}$."),
    ("80", "**Answer**: John spent $\\boxed{80}$ dollars on groceries."),
    ("7", "$f(2)$ is equal to $\\boxed{7}$."),
    ("7", "Total = 3 + 4 = \\boxed{7}"),
    ("14", "Therefore, the value of \\( x \\) is \\(\\boxed{14}\\)."),
    (
        "9",
        "\\[11, 13\\]\n\nTherefore, the number of integers less than 30 that are composite is \\(\\boxed{9}\\).",
    ),
    ("48", "\\[\nx = 48^\\circ\n\\]\n\nThus, the value of $x$ is $\\boxed{48}$."),
    (
        "80",
        "Next, we add.\n\\[\n30 + 50 = 80\n\\]\n\nTherefore, the mean of these six test scores is \\(\\boxed{80}\\).",
    ),
    ("25", "Therefore, the percent of the total that $Q$ contributed is \\(\\boxed{25}\\)."),
    ("300", "Therefore, the total number of 3-letter sequences that can be formed is \\(\\boxed{300}\\)."),
    ("\\frac{14}{3}", "$f(-2)+f(0)=\\frac{3(-2)-2}{-2-2}+3=\\boxed{\\frac{14}{3}}$"),
    ("2-2p", "If $2-x=p$, then $x=2-p$. Thus $x-p=\\boxed{2-2p}$."),
    ("5", "The sum is $\\boxed{5}$. Final Answer: The final answer is 5. I hope it is correct."),
    ("2,3", "$$\\boxed{2} \\quad \\text{and} \\quad \\boxed{3}$$"),
]

CHANGED = [
    "In conclusion, half the number of ways is $\\boxed{5}$.",
    "The number of ways in base 7 is $\\boxed{5}$.",
    "The value modulo $7$ is $\\boxed{5}$.",
    "The number of ways is more than $\\boxed{5}$.",
    "There are at most $\\boxed{5}$ ways.",
    "There are about $\\boxed{5}$ apples.",
    "Each of them gets nearly $\\boxed{5}$.",
    "The minimum value is unlikely to be $\\boxed{5}$.",
    "This doesn't mean that the sum is $\\boxed{5}$.",
    "If the coin were fair, the number would be $\\boxed{5}$.",
    "A hasty reader would say that the number is $\\boxed{5}$.",
    "Jane miscalculates and gets $\\boxed{5}$.",
    "The square root of the number is $\\boxed{5}$.",
    "The number plus one is $\\boxed{5}$.",
    "A third of the marbles is $\\boxed{5}$.",
    "One of the roots is $\\boxed{5}$.",
    "The roots are 3 and $\\boxed{5}$.",
    "It lies somewhere from 3 to $\\boxed{5}$.",
    "The score is three: $\\boxed{5}$",
    "The score is 3: $\\boxed{5}$",
    "She has 3 $\\boxed{5}$ apples.",
    "We add $2$ \\boxed{5}",
    "The number is $2 \\cdot$ $\\boxed{5}$.",
    "The number is 2 * \\boxed{5}",
    "The logarithm of the number is $\\boxed{5}$.",
    "Twice as many is $\\boxed{5}$ apples.",
    "The remainder when divided by $\\boxed{5}$.",
    "The answer squared is $\\boxed{5}$.",
    "The sum of the answer and the number is $\\boxed{5}$.",
    "We have $2x = \\boxed{5}$.",
    "There are $\\boxed{5}$ dozen eggs.",
    "There are $\\boxed{5}$ times as many.",
    "There are $\\boxed{5}$ fewer apples in the basket.",
    "There are $\\boxed{5}$ apples in each of two bags.",
    "There are $\\boxed{5}$ apples for a third of the price.",
    "It is $\\boxed{5}$ of the number.",
    "It is $\\boxed{5}$ in hexadecimal.",
    "It is $\\boxed{5}$ to the power of ten.",
    "It is $\\boxed{5}$ for $n > 3$.",
    "It is $\\boxed{5}$ in thousands.",
    "The ratio is $\\boxed{5}$ to $x$.",
    "It is $\\boxed{5}$ at least.",
    "There are $\\boxed{5}$ apples that do not count.",
    "There are $\\boxed{5}$ apples, unless it rains.",
    "There are $\\boxed{5}$ apples. We doubled them.",
    "There are $\\boxed{5}$ apples (or six).",
    "The number is $\\boxed{5}!$ for the books.",
    "The number is $x\\boxed{5}$.",
    "$\\frac12$ of the number is $\\boxed{5}$.",
    "The number is 3 over $\\boxed{5}$.",
    "Total - 1 = \\boxed{5}",
    "Total squared = \\boxed{5}",
    "2 boxes = \\boxed{5}",
    "The spurious root is $\\boxed{5}$.",
    "We overcount and get $\\boxed{5}$.",
    "The number increased by one is $\\boxed{5}$.",
    "We rule out $\\boxed{5}$.",
    "The number with its sign flipped is \\boxed{5}.",
    "It is $\\boxed{5}$ for odd numbers.",
]


@pytest.mark.parametrize(("gold", "text"), ORDINARY)
def test_plain_prose_around_a_box_leaves_the_answer_as_it_is(gold: str, text: str) -> None:
    assert verify_answer(text, gold).correct
    assert is_right(text, gold)  # what rewards call
    assert not verify_answer(text, "77").correct


@pytest.mark.parametrize("text", CHANGED)
def test_words_that_change_an_answer_refuse_it(text: str) -> None:
    assert not verify_answer(text, "5").correct


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("\\text{Maximum}: 7", "The minimum value of $f(x)$ is $\\boxed{7}$."),
        ("\\text{Area}: 7", "So for this square, the perimeter is $\\boxed{7}$."),
        ("x=7", "So for this line, $y$ is $\\boxed{7}$."),
        ("x=7", "The number we look for is $2x=\\boxed{7}$."),
        ("f(2)=4", "The value is $f(3)=\\boxed{4}$."),
        ("7\\text{ minutes}", "The number of hours that she needs is $\\boxed{7}$."),
        ("7\\text{ dollars}", "The price in cents is $\\boxed{7}$."),
        ("\\$500", "Converting to cents, we get \\boxed{500}"),
        ("8\\text{ apples}", "The number of oranges is \\boxed{8}."),
        ("x=5", "-x = \\boxed{5}"),
        ("7\\text{ hours}", "It took him $\\boxed{7}$ days."),
        ("7\\text{ dollars}", "The price is $\\boxed{7}$ in cents."),
    ],
)
def test_a_name_or_a_unit_in_the_prose_counts_where_the_reference_has_one(gold: str, text: str) -> None:
    assert not verify_answer(text, gold).correct
