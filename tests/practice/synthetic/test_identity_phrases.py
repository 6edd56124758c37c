from __future__ import annotations

import re

from zero2chat_practice import identity
from zero2chat_practice.synthetic import forms, identity_phrases
from zero2chat_practice.synthetic.identity_phrases import phrases_in


def _bare(form: str) -> str:
    """Return the text without capitals, punctuation and polite phrases."""
    words = re.sub(r"\W+", " ", form.lower()).split()
    return " ".join(word for word in words if word not in ("please", "bitte"))


def test_a_pattern_makes_each_choice_with_each_other_and_an_empty_one_leaves_nothing_behind() -> None:
    assert forms("{a|b} c{| d}?") == ["a c?", "a c d?", "b c?", "b c d?"]
    assert forms("No choice.") == ["No choice."]


def test_no_form_is_made_twice_not_by_another_line_either() -> None:
    seen = set()
    for language in identity_phrases.LANGUAGES:
        for kind in ("name", "maker"):
            for pattern in phrases_in(language)[kind].splitlines():
                for form in forms(pattern):
                    assert _bare(form) not in seen, form
                    seen.add(_bare(form))


def test_names_and_makers_differ_from_each_other_and_from_those_of_other_assistants() -> None:
    everyone = [name.lower() for name in (*identity_phrases.NAMES, *identity_phrases.MAKERS)]
    assert len(set(everyone)) == len(everyone) > 5000
    assert not [name for name in everyone if re.search(identity._OTHERS, name)]


def test_no_name_is_a_word_that_somebody_asks_or_answers_with() -> None:
    texts = [text for kind in identity._KINDS.values() for text in (kind["frames"], kind["demonstrations"])]
    for words in map(phrases_in, identity_phrases.LANGUAGES):
        texts += [words["system"], *words["greetings"], *words["endings"]]
        for kind in ("name", "maker"):
            texts += [words[kind], *words[f"{kind}_answers"]]
    said = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    assert not said & {name.lower() for name in identity_phrases.NAMES}
