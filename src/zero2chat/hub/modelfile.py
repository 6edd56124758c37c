"""Write Ollama's Modelfile beside a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zero2chat.models.tokenization import TURN_END, TURN_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The part of chat_templates/chatml.jinja, and of chatml_thinking.jinja, that Ollama's templates can express: roles and
# contents, thoughts, and whether to think. Ollama finds a thought by the texts around `.Thinking`.
CHATML = f"""{{{{- range .Messages }}}}{TURN_START}{{{{ .Role }}}}
{{{{ .Content }}}}{TURN_END}
{{{{ end }}}}{TURN_START}assistant
"""
_THOUGHT = '{{ if eq .Role "assistant" }}<think>{{ .Thinking }}</think>{{ end }}'
CHATML_THINKING = (
    CHATML.replace("{{ .Content }}", f"{_THOUGHT}{{{{ .Content }}}}")
    + "{{ if and .IsThinkSet (not .Think) }}<think></think>{{ end }}"
)

_TURNS = [{"role": role, "content": f" {role}: 2 + 2?\n"} for role in ("system", "user", "assistant", "user")]


def chatml(messages: Sequence[Mapping[str, str]], thinks: bool = False) -> str:
    """Render a conversation without thoughts as `CHATML` does, or as `CHATML_THINKING` does if it `thinks`."""
    thought = {"assistant": "<think></think>"} if thinks else {}
    turns = [
        f"{TURN_START}{turn['role']}\n{thought.get(turn['role'], '')}{turn['content']}{TURN_END}\n" for turn in messages
    ]
    return "".join(turns) + f"{TURN_START}assistant\n"


def is_chatml(tokenizer: PreTrainedTokenizerBase, thinks: bool = False) -> bool:
    """Whether the chat template renders a conversation with a system prompt as `chatml` does."""
    try:
        rendered = tokenizer.apply_chat_template(_TURNS, tokenize=False, add_generation_prompt=True)
    except Exception:  # no template, or one that may raise anything
        return False
    return bool(rendered == chatml(_TURNS, thinks))


def default_system(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the system prompt that a ChatML template adds to a conversation without one; "" if it adds none."""
    turns = _TURNS[1:2]
    rendered = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    system = rendered.removeprefix(f"{TURN_START}system\n").removesuffix(f"{TURN_END}\n{chatml(turns)}")
    fits = rendered == chatml([{"role": "system", "content": system}, *turns]) and '"""' not in system
    return system if fits else ""


def write_modelfile(file: Path, tokenizer: PreTrainedTokenizerBase, ends: Sequence[str]) -> bool:
    """Write `Modelfile` beside the GGUF file, with the stop tokens `ends`. Returns whether it contains a template."""
    lines, thinks = [f"FROM ./{file.name}"], is_chatml(tokenizer, thinks=True)
    fits = thinks or is_chatml(tokenizer)
    if fits:
        lines.append(f'TEMPLATE """{CHATML_THINKING if thinks else CHATML}"""')
        lines += [f'SYSTEM """{system}"""'] if (system := default_system(tokenizer)) else []
    elif tokenizer.chat_template:
        lines += [
            "# The chat template is not ChatML, so no TEMPLATE is written here: Ollama uses its own version of the",
            f"# template in {file.name}, or none. `ollama show --template` shows which.",
        ]
    lines += [f'PARAMETER stop "{end}"' for end in ends]
    (file.parent / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return fits
