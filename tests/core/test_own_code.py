"""A user's own code that cannot be imported is one line, which says where it is looked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.core.registry import own_function
from zero2chat.inference.tool_format import make_tools


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_mine.py").write_text("def weather(town): return 'sun'\n")
    (tmp_path / "that_ends.py").write_text("import sys\nsys.exit('the script is over')\n")


def test_a_function_is_found_with_its_module() -> None:
    module, function = own_function("of_mine.weather", "tools", "my_tools.weather")
    assert module.__name__ == "of_mine"
    assert function("Rome") == "sun"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("of mine.weather", "expected MODULE.FUNCTION, such as my_tools.weather for a function in the working folder"),
        ("nowhere.weather", "No module named 'nowhere': put nowhere.py into the working folder "),
        ("of_mine.whether", "of_mine has no function 'whether'; did you mean 'weather'? (in "),
        ("that_ends.weather", "the script is over"),
    ],
)
def test_a_tool_that_is_not_there_says_where_it_is_looked_for(path: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"tools: cannot import '{path}': {says}")):
        make_tools({path: {}})
