"""Reflection phrases in an answer: self-checks and backtracking.

RL on correct answers alone made such phrases more frequent in DeepSeek-R1-Zero ("Wait, wait. Wait."; DeepSeek-AI 2025,
arXiv:2501.12948, section 2.2.4); base models have some before any RL (Liu et al. 2025, arXiv:2503.20783). So they are
counted from the first step on. A phrase is a sign of reflection, not proof:
"actually" may correct nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Phrases that announce a check, and phrases that reject the previous steps.
_PHRASES = {
    "self_checks": (
        r"(?:let me|let us|let's|i(?:'ll| will| should| need to| must)?) (?:just |now |also )?"
        r"(?:double[- ]?check|re-?check|check|verify|re-?verify|confirm|re-?calculate|re-?examine|make sure)",
        r"(?:to|we can|we) (?:double[- ]?check|verify|confirm) (?:this|that|it|the|our|my)",
        r"(?:double|quick|sanity)[- ]check(?:ing)?",
        r"check(?:ing)? (?:my|our|the) (?:work|answer|result|steps?|calculations?)",
        r"does (?:this|that|it) make sense",
        r"is (?:this|that|it) (?:right|correct)\?",
    ),
    "backtracks": (
        r"wait",
        r"hold on",
        r"hmm+",
        r"oops",
        r"actually",
        r"on second thought",
        r"no, (?:that|this|it)(?:'s| is|'s not| can't| cannot| doesn't)",
        r"(?:that|this)(?:'s| is| was) (?:wrong|incorrect|not right|not correct|a mistake)",
        r"i (?:made|have made|'ve made) (?:a|an|the) (?:\w+ )?(?:mistake|error|slip)",
        r"let(?: me|'s| us) (?:try (?:again|another|a different)|start over|re-?think|reconsider|go back|back ?track)",
        r"try again",
        r"another (?:approach|way)",
    ),
}
_HABITS = {name: re.compile(rf"\b(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE) for name, phrases in _PHRASES.items()}


def habits(texts: Sequence[str]) -> dict[str, float]:
    """Return `self_checks`, `backtracks` per answer, and `either`: the share of answers with any; {} for no texts."""
    if not texts:
        return {}
    counts = {
        name: [sum(1 for _ in phrase.finditer(text.replace("’", "'"))) for text in texts]
        for name, phrase in _HABITS.items()
    }
    rates = {name: sum(found) / len(texts) for name, found in counts.items()}
    return rates | {"either": sum(any(found) for found in zip(*counts.values(), strict=True)) / len(texts)}
