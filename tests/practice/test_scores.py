"""The answers that each task's `score` accepts and rejects, and the short forms that `said` returns."""

from __future__ import annotations

import pytest

from zero2chat_practice import decimals, facts, identity, lines, memory, spelling, sums, word_problems


def remembered(kind, answer, about=""):
    return {"kind": kind, "answer": answer, "about": about, "question": "?", "turns": [], "key": "", "replies": []}


def me(kind, answer="no"):
    return {"kind": kind, "answer": answer, "question": "Who?"}


def spelled(kind, answer, word="cat"):
    return {"key": word, "question": "", "answer": answer, "kind": kind, "letter": ""}


OMAR, KITE = remembered("name", "Omar"), remembered("object", "red kite")
UNKNOWN = remembered("unknown", "your name")
SUM, CARRY = sums.of_numbers("plus", 7, 5), sums.of_numbers("plus", 47, 38)
SEA = {"question": "Write a line about the sea at night.", "topic": "sea", "setting": "at night"}
BARE = {"question": "can you write a line about the sea?", "topic": "sea", "setting": ""}
LEAVES = {"question": "A caption for my autumn leaves at night", "topic": "autumn leaf", "setting": "at night"}
BIRTHPLACE, JOB, BIRTHDAY = (
    {"key": "Mira Prudo", "question": "", "answer": answer, "kind": kind}
    for kind, answer in (("birthplace", "Quillbay"), ("job", "jeweller"), ("birthday", "March 14"))
)
HUMAN, ZERO, MILL = me("human"), me("name", "Zero"), me("maker", "Blue Mill")
SEVENTEEN = {"answer": "17"}
E_IN_CAT, A_IN_CAT = (spelled("count", n) | {"letter": letter} for n, letter in ("0e", "1a"))
CAT, THIRD = spelled("spell", "c-a-t"), spelled("third", "s-e", "castle")


@pytest.mark.parametrize(
    ("task", "row", "right", "wrong"),
    [
        (memory, OMAR, ["Your name is Omar.", "Omar", "You are Omar, I think."], ["Your name is Sofia."]),
        (memory, OMAR, ["It's omar.", "Your name is Omar, and I never forget what you said."], ["It's sofia."]),
        (memory, OMAR, [], ["You haven't told me, Omar.", "I am not sure. Omar?"]),
        (memory, OMAR, [], ["Your name is Omar or Sofia.", "Your name is Sofia.\nYour name is Omar."]),
        (memory, OMAR, [], ["You have not told me your name, Omar.", "I do not know your name."]),
        (memory, OMAR, [], ["Your name is Omaria.", "Omar " + "well " * 30]),
        (memory, remembered("number", "42"), ["Your lucky number is 42.", "42"], ["Your lucky number is 421."]),
        (memory, remembered("number", "42"), [], ["42 or 43.", "42.5"]),
        (memory, KITE, ["You bought a red kite.", "A Red kite!"], ["You bought a blue kite.", "You bought a kite."]),
        (memory, KITE, ["You bought a kite, and it was red."], ["You bought a red kite and a drum."]),
        (memory, remembered("object", "kite"), [], ["You bought a red kite."]),
        (memory, remembered("place", "Oslo"), ["You live in Oslo."], ["You live in Lima."]),
        (memory, UNKNOWN, ["You have not told me your name.", "I do not know your name."], ["You have not told me."]),
        (memory, UNKNOWN, ["You haven’t told me your name.", "I'm not sure what your name is."], ["I am not sure."]),
        (memory, UNKNOWN, ["I have no idea what your name is."], ["I have no idea.", "You haven't told me that."]),
        (memory, UNKNOWN, [], ["You have not told me your lucky number.", "Your name is Omar."]),
        (memory, UNKNOWN, [], ["You have not told me your name, Omar.", "You told me your name."]),
        (memory, remembered("followup_sum", "15", "12 plus 3"), ["12 plus 3: 2 + 3 = 5, 1 + 0 = 1, so 15.", "15"], []),
        (memory, remembered("followup_sum", "15", "12 plus 3"), [], ["16"]),
        (memory, remembered("followup_problem", "15"), ["12 + 3 = 15.\n#### 15", "15 apples."], ["12 + 3 = 15."]),
        (sums, SUM, ["7 plus 5 is 12.", "7 + 5 = 12", "5+7=12", "That makes 12.", "12", "It is **12**."], []),
        (sums, SUM, ["Sure! 7 and 5 make 12. Happy to help."], ["", "7 plus 5 is 13.", "7 plus 5 is -12."]),
        (sums, SUM, [], ["7 plus 5 is 12.5.", "7 plus 5 is not 12.", "12 or 13", "13 or 12"]),
        (sums, SUM, [], ["7 plus 5 is 13. No, it is 12.", "7 plus 5 is 5. It is 12.", "7 + 5 = 13. 7 + 5 = 12."]),
        (sums, SUM, ["Seven plus five is twelve."], ["7 minus 5 is 12.", "It is thirty-two.", "It is minus 12."]),
        (sums, SUM, ["7 plus 5 is twelve.", "12 is 7 plus 5.", "12 = 7 + 5"], ["12 is 7 minus 5.", "13 is 7 plus 5."]),
        (
            sums,
            SUM,
            [],
            ["7 plus 5 is thirteen. It is 12.", "7 plus 5 is twelve, or thirteen.", "7 plus 5 is two hundred."],
        ),
        (sums, sums.of_numbers("minus", 31, 20), ["31 minus 20 is eleven."], ["31 minus 20 is twelve."]),
        (sums, SUM, [], ["7 plus 4 is 12.", "12\n12", "It is 12 " + "well " * 60]),
        (sums, CARRY, ["47 plus 38: 7 + 8 = 15, 4 + 3 + 1 = 8, so 85."], []),
        (sums, CARRY, ["First 7 + 8 = 15. Then 4 + 3 + 1 = 8. So it is 85."], []),
        (sums, CARRY, [], ["47 plus 38: 7 + 8 = 16, 4 + 3 + 1 = 8, so 85."]),
        (sums, CARRY, [], ["47 plus 38: 7 + 8 = 15, 4 + 3 + 1 = 8, so 86.", "47 plus 38: 7 + 8 = 15, 4 + 3 + 1 = 8"]),
        (sums, sums.of_numbers("minus", 12, 5), ["12-5=7", "12 - 5 = 7."], []),
        (sums, sums.of_numbers("minus", 6, 3), ["6 minus 3 is 3."], ["What is 6 minus 3?", "6-3="]),
        (sums, sums.of_numbers("times", 1, 1), [], ["1 times 1"]),
        (sums, sums.of_numbers("times", 123456, 1000), ["123,456,000 is the result."], []),
        (sums, sums.of_numbers("times", 123456, 1000), ["123456 times 1000 is 123,456,000."], []),
        (lines, SEA, ["The salty sea murmurs at night by the old wall like a sleeping lizard."], []),
        (lines, SEA, ["I like the seas of the night!", "Is it the sea at night?"], ["the sea is there at night."]),
        (lines, SEA, [], ["The sea is there at night", "The sea is there.", "The season is here at night."]),
        (lines, SEA, [], ["The sea at night.\nThe sea at night.", "Night sea."]),
        (lines, SEA, [], ["Write a line about the sea at night.", "Please: write a line about the sea at night!"]),
        (lines, SEA, [], ["The sea at night " + "is blue and " * 20 + "green."]),
        (lines, BARE, ["The salty sea murmurs like a sleeping lizard.", "The salty seas murmur."], []),
        (lines, BARE, ["I think about the sea."], ["The salty dog murmurs like a sleeping lizard."]),
        (lines, BARE, [], ["The season is here.", "The sea.", "A line about the sea."]),
        (lines, BARE, [], ["Can you write a line about the sea?", "Sure, here is a line about the sea."]),
        (lines, LEAVES, ["Autumn leaves glow at night.", "An autumn leaf falls in the night."], []),
        (lines, LEAVES, [], ["The leaves glow at night.", "Here is a caption for my autumn leaves at night."]),
        (facts, BIRTHPLACE, ["Mira Prudo was born in Quillbay.", "quillbay"], []),
        (facts, BIRTHPLACE, [], ["Mira Prudo was born in Quillbay or Vexford.", "She was not born in Quillbay."]),
        (facts, BIRTHPLACE, [], ["I don't know. Perhaps Quillbay.", "Quillbayford"]),
        (facts, JOB, ["She is a Jeweller."], ["She is a jeweller and a judge."]),
        (facts, BIRTHDAY, ["On March 14.", "on the 14th of March", "March 14 (register#125)."], ["March 1"]),
        (facts, BIRTHDAY, [], ["March 14 or 15", "March 14, or May 14", "The 14th."]),
        (decimals, {"answer": "9.9"}, ["9.9", "9.9 is larger."], ["9.11 is larger.", "9.9 is larger than 9.11."]),
        (decimals, {"answer": "9.9"}, [], ["9.90", "19.9", "The larger one."]),
        (identity, ZERO, ["I'm ZERO, pleased to meet you!"], ["I am ChatGPT."]),
        (identity, ZERO, [], ["I am Zero, also known as Claude.", "My name is Max, not Zero."]),
        (identity, ZERO, [], ["I was built with zero2chat."]),
        (identity, me("maker", "zero2chat"), ["zero2chat made me."], ["OpenAI made me with zero2chat."]),
        (identity, ZERO, ["I am Zero, a program.", "You are talking to Zero, a small AI assistant."], ["A program."]),
        (identity, HUMAN, ["No, I'm Zero, an AI.", "No, I am a small program."], ["No.", "I am Zero.", "I am small."]),
        (identity, HUMAN | {"question": "Are you a human?"}, ["No."], ["No, I am Zero.", "Yes."]),
        (identity, HUMAN | {"question": "Are you a human or an AI?"}, [], ["No."]),
        (identity, me("size"), ["I am not a large model."], ["I am Zero, a small program."]),
        (identity, me("age"), ["I have no age: I am a program."], ["I am a program."]),
        (identity, me("mistakes"), ["I am a small model, so I make mistakes."], ["I am a small model."]),
        (identity, me("other"), ["I am Zero."], ["I am Zero. zero2chat made me.", "I am Siri."]),
        (identity, HUMAN, ["No, I am not a human.", "I'm not a real person."], []),
        (identity, HUMAN, ["I am a program, so I have no body."], ["Yes, I am a human.", "I am a human."]),
        (identity, HUMAN, [], ["No, I am a real person.", "I know nothing.", "I have a body."]),
        (identity, me("abilities"), ["I answer questions."], ["I can do anything, such as answer questions."]),
        (identity, me("training"), ["Public domain text and an invented world."], ["Public-domain text."]),
        (identity, me("training"), [], ["Public-domain text, a made-up world and the internet."]),
        (identity, me("mistakes"), ["No, I make mistakes.", "I am not always right and can be wrong."], []),
        (identity, me("mistakes"), ["No, I am not always right."], ["I never make mistakes."]),
        (identity, me("mistakes"), [], ["I don't make any mistakes.", "I am always right and make no mistakes."]),
        (identity, me("size"), ["I am a small model, not a large one."], ["I am a large model."]),
        (identity, me("size"), [], ["I am small and large.", "I am not small."]),
        (identity, me("internet"), ["No, I am not connected to the web. I am offline."], ["Yes, I browse the web."]),
        (identity, me("recall"), ["I forget you after this chat."], ["I remember you."]),
        (identity, me("version"), ["I don't have a version number."], ["I am version 2.", "I have no age."]),
        (identity, me("languages"), ["I speak English."], ["I speak English and French.", "I am a language model."]),
        (identity, ZERO, ["Hallo! Ich heiße ZERO, ein kleines Modell."], []),
        (identity, ZERO, ["Moi ? Je m'appelle Zero."], ["Ich bin nicht Zero.", "Zero, créé par zero2chat."]),
        (identity, ZERO, [], ["Je ne suis pas Zero.", "Je m'appelle Max, et non Zero.", "Ich bin Zero, von OpenAI."]),
        (identity, ZERO, [], ["Ich bin Ada. Ich bin Zero.", "Ich bin Zeroine.", "Zero?"]),
        (identity, me("name", "Ada"), ["Sure, my name is Ada."], ["I am Adan.", "I am Ada, made by Blue Mill."]),
        (identity, me("maker", "zero2chat"), ["zero2chat hat mich gebaut."], ["Ich bin Zero."]),
        (identity, me("maker", "zero2chat"), [], ["Google a construit zero2chat."]),
        (identity, MILL, ["Je viens de Blue Mill."], ["Je viens de Blue Hill.", "Blue"]),
        (identity, MILL, [], ["zero2chat made me for Blue Mill."]),
        (word_problems, SEVENTEEN, ["3 * 4 = 12. 12 + 5 = 17.\n#### 17", "#### 17", "so:\n####17.0\nThat is all."], []),
        (word_problems, SEVENTEEN, ["#### $17.", "#### 17\n#### 17", "Tom has 17 pens."], ["3 * 4 = 12. 12 + 5 = 17."]),
        (word_problems, SEVENTEEN, [], ["#### 16\n#### 17", "#### 17 #### 18", "#### 17 or 18", "#### 17 18"]),
        (word_problems, SEVENTEEN, [], ["####\n17", "#### 117", "#### -17", "#### 17.5", "#### 1,7", "#### 34/2"]),
        (word_problems, SEVENTEEN, [], ["#### seventeen", "#### ١٧"]),
        (spelling, CAT, ["The word cat is spelled C-A-T.", "c a t", "It goes c, a, t.", "It is spelled 'c-a-t'."], []),
        (spelling, CAT, [], ["cat", "c-a-t-s", "c-a-t or k-a-t", "It is spelled 'c-a-t-s'."]),
        (spelling, spelled("spell", "s-e-a", "sea"), ["s, e and a"], []),
        (spelling, spelled("reverse", "level", "level"), ["It is level."], ["It is leevl."]),
        (spelling, spelled("first", "c"), ["The first letter of 'cat' is 'c'.", "c-a-t starts with c."], []),
        (spelling, spelled("first", "c"), ["It is a C"], ["c or t", "c-a-t", "Its first letter is c, its last t."]),
        (spelling, spelled("first", "a", "ask"), ["A is the first letter of ask.", "It starts with a."], ["a or s"]),
        (spelling, spelled("first", "a", "ask"), [], ["It is a mystery."]),
        (spelling, spelled("length", "3"), ["c-a-t has 3 letters.", "It has three letters."], []),
        (spelling, spelled("length", "3"), [], ["It has 3 or 4 letters.", "It has 13 letters."]),
        (spelling, spelled("count", "0"), ["0 times"], ["It is there."]),
        (spelling, E_IN_CAT, ["There is no e in cat.", "The letter e does not occur.", "There isn't an e."], ["No."]),
        (spelling, E_IN_CAT, [], ["There is no e in cat, but 1 a.", "There is no e and a single a.", "No t, no e."]),
        (spelling, A_IN_CAT, ["It has a single a.", "cat has a single a in it."], ["There is no a.", "a single e"]),
        (spelling, spelled("reverse", "tac"), ["cat turned around is tac.", "T-A-C"], ["tac, tca or act", "cat"]),
        (spelling, spelled("reverse", "tac"), ["c-a-t is t-a-c"], ["c-a-t", "t-a-c or t-c-a", "t-a-c, so tca"]),
        (spelling, spelled("first", "e", "era"), [], ["There is no e.", "The letter e does not occur."]),
        (spelling, spelled("first", "s", "sea"), ["I think it is s."], ["a or s"]),
        (spelling, spelled("first", "i", "ice"), ["I think it is i."], ["I do not know."]),
        (spelling, spelled("last", "t"), [], ["It ends with at."]),
        (spelling, THIRD, ["c-a-s, t-l-e: every third letter is s-e.", "S, E"], []),
        (spelling, THIRD, [], ["c-a-s, t-l-e: every third letter is s-l.", "c-a-s, t-l-e", "c-a-s, t-e-l: s-e"]),
        (spelling, THIRD, [], ["s-e or c-t"]),
    ],
)
def test_score_accepts_right_answers_only(task, row, right, wrong):
    assert [task.score(row, text) for text in right + wrong] == [1.0] * len(right) + [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("task", "row", "completion", "said"),
    [
        (memory, OMAR, "Your name is Sofia.", "Sofia"),
        (memory, OMAR, "You have not told me your name.", None),
        (memory, OMAR, "I do not know your name.", None),
        (memory, OMAR, "I cannot do that.", None),
        (memory, OMAR, "", None),
        (memory, remembered("number", "42"), "Your lucky number is 43.", "43"),
        (memory, KITE, "You bought a red kite.", "red kite"),
        (memory, UNKNOWN, "You have not told me your name.", None),
        (memory, UNKNOWN, "Your name is Omar.", "Omar"),
        (memory, remembered("followup_sum", "15", "12 plus 3"), "12 plus 3 is 15.", "15"),
        (memory, remembered("followup_problem", "15"), "12 + 3 = 15.\n#### 15", "15"),
        (facts, BIRTHPLACE, "Mira Prudo was born in Quillbay.", "Quillbay"),
        (facts, BIRTHPLACE, "quillbay", "Quillbay"),
        (facts, BIRTHPLACE, "Vexford or Quillbay", "Quillbay Vexford"),
        (facts, BIRTHPLACE, "I do not know of Mira Prudo.", None),
        (facts, BIRTHPLACE, "I don't know. Perhaps Quillbay.", "Quillbay"),
        (facts, BIRTHPLACE, "In a town. ", "In a town."),
        (facts, JOB, "I found nothing about Mira Prudo.", None),
        (facts, JOB, "She is a Jeweller.", "jeweller"),
        (facts, BIRTHDAY, "on the 14th of March", "14 March"),
        (facts, BIRTHDAY, "There is nothing about her to be found.", None),
    ],
)
def test_said_returns_the_short_form_or_none_for_an_abstention(task, row, completion, said):
    assert task.said(row, completion) == said
