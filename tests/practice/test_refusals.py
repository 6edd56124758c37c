"""Options that a task refuses, and the messages."""

from __future__ import annotations

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError

LANGUAGES = r"identity: language: expected a list of some of en, de, fr, got "
PART = r"facts: part .*: expected \[start, end\]"
SUBJECTS = "`subjects: {}` has no rows in split '{}': use {}, or other subjects"
LARGEST = r"largest is .*: give a whole number from 20 to 99"
NEEDLES = "expected 1 or more, and shortest at most longest"


@pytest.mark.parametrize(
    ("task", "split", "options", "says"),
    [
        ("countries", "test", {"invented": 30}, "split 'test' has no invented countries"),
        ("dots", "test", {"shortest": 0, "longest": 5}, r"dots: shortest 0 and longest 5"),
        ("dots", "test", {"shortest": 9, "longest": 8}, r"dots: shortest 9 and longest 8"),
        ("facts", "documents", {"n": 399}, "399 documents are too few: request 400 or more"),
        ("facts", "documents", {"n": 1000, "world": [1, 2]}, "for several worlds, set `everyone: true`"),
        ("facts", "test", {"told": "onec"}, r"told 'onec' is not known; did you mean 'once'\?"),
        ("facts", "test", {"changed": "nwo"}, "facts: changed 'nwo' is not known; did you mean 'now'"),
        *(("facts", "train", {"part": part}, PART) for part in ([0.5, 0.5], [-0.1, 1], [0, 1.1], [0.5])),
        ("identity", "test", {"languages": ["en", "dee"]}, "identity: language 'dee' is not known; did you mean 'de'"),
        ("identity", "test", {"languages": []}, LANGUAGES + r"\[\]"),
        ("identity", "test", {"languages": "en"}, LANGUAGES + "'en'"),
        ("identity", "test", {"system": True}, LANGUAGES + "None"),
        ("lines", "train", {"subjects": "knwon"}, r"lines: subjects 'knwon' is not known; did you mean 'known'\?"),
        ("lines", "train", {"subjects": "new"}, SUBJECTS.format("new", "train", "validation or test")),
        ("lines", "test", {"subjects": "ppo"}, SUBJECTS.format("ppo", "test", "train")),
        ("lines", "validation", {"subjects": "ppo"}, SUBJECTS.format("ppo", "validation", "train")),
        ("lines", "test", {"subjects": "blended"}, SUBJECTS.format("blended", "test", "train")),
        ("lines", "tets", {"subjects": "new"}, r"split 'tets' is not known; did you mean 'test'\?"),
        (
            "lines",
            "test",
            {"n": 10**6, "typed": True},
            "lines, test, known: 1000000 rows requested, but only 8000 distinct rows exist",
        ),
        ("lines", "documents", {"subjects": "ppo"}, "lines: documents: subjects 'ppo' is not known"),
        ("memory", "test", {"kinds": ["nmae"]}, "memory: kind 'nmae' is not known; did you mean 'name'"),
        ("needle", "documents", {"needles": 0}, NEEDLES),
        ("needle", "documents", {"shortest": 9, "longest": 5}, NEEDLES),
        ("needle", "documents", {"texts": "nowhere/*.txt"}, "needle: "),
        ("needle", "documents", {"texts": "/"}, "needle: "),
        ("needle", "documents", {"texts": __file__, "longest": 10**9}, "needle: characters"),
        ("small_talk", "documents", {"chats": True}, "set `people`"),
        *(("small_talk", "test", {"share": share}, "share: expected a number from 0 to 1") for share in (35, "0.35")),
        (
            "small_talk",
            "train",
            {"people": "data/none.json"},
            "'data/none.json' is no file: run in a clone, after `make data`",
        ),
        *(
            (task, split, {"n": 1, "famous": True}, "1 rows requested, but none of this split exist")
            for task in ("decimals", "spelling")
            for split in ("train", "validation")
        ),
        *(
            ("word_problems", split, options, says)
            for split in ("train", "test", "documents")
            for options, says in (
                *(({"levels": levels}, "word_problems: level") for levels in ([4], [], 2)),
                *(({"largest": largest}, LARGEST) for largest in (19, 100, 20.5, "many")),
            )
        ),
    ],
)
def test_refused_options_are_named(task, split, options, says):
    make, where = tasks.load(task).rows, {"split": split}
    if split == "documents":
        make, where = tasks.load(task).documents, {}
    with pytest.raises(UserError, match=says):
        make(**where, **{"seed": 0, "n": 5} | options)
