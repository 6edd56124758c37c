"""Write Ollama's Modelfile beside a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zero2chat.models.tokenization import TURN_END, TURN_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The part of chat_templates/chatml.jinja that Ollama's templates can express: roles and contents.
CHATML = f"""{{{{- range .Messages }}}}{TURN_START}{{{{ .Role }}}}
{{{{ .Content }}}}{TURN_END}
{{{{ end }}}}{TURN_START}assistant
"""

_CONVERSATIONS = [
    [{"role": role, "content": f" {role}: 2 + 2?\n"} for role in roles]
    for roles in (
        ("user",),
        ("system", "user"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant", "user", "assistant", "user"),
    )
]


def chatml(messages: Sequence[Mapping[str, str]]) -> str:
    """Render a conversation as `CHATML` does."""
    turns = [f"{TURN_START}{turn['role']}\n{turn['content']}{TURN_END}\n" for turn in messages]
    return "".join(turns) + f"{TURN_START}assistant\n"


def default_system(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the default system prompt of a ChatML template, "" if it has none; None for other templates."""
    options = {"tokenize": False, "add_generation_prompt": True}
    try:
        rendered = [str(tokenizer.apply_chat_template(turns, **options)) for turns in _CONVERSATIONS]
    except Exception:  # no template, or one that may raise anything
        return None
    begin, end = f"{TURN_START}system\n", f"{TURN_END}\n{chatml(_CONVERSATIONS[0])}"
    system = rendered[0].removeprefix(begin).removesuffix(end) if rendered[0].startswith(begin) else ""
    turn = [{"role": "system", "content": system}] if system else []
    wanted = [chatml(turns if turns[0]["role"] == "system" else [*turn, *turns]) for turns in _CONVERSATIONS]
    return system if rendered == wanted and '"""' not in system else None


def write_modelfile(file: Path, tokenizer: PreTrainedTokenizerBase, ends: Sequence[str]) -> bool:
    """Write `Modelfile` beside the GGUF file, with the stop tokens `ends`. Returns whether it has a template."""
    system = default_system(tokenizer)
    lines = [f"FROM ./{file.name}"]
    if system is not None:
        lines.append(f'TEMPLATE """{CHATML}"""')
        lines += [f'SYSTEM """{system}"""'] if system else []
    elif tokenizer.chat_template:
        lines += [
            "# The chat template is not ChatML, so no TEMPLATE is written here: Ollama uses its own version of the",
            f"# template in {file.name}, or none. `ollama show --template` shows which.",
        ]
    lines += [f'PARAMETER stop "{end}"' for end in ends]
    (file.parent / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return system is not None
