"""Tools in a conversation, and how a chat template renders their calls and results."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from transformers.utils import get_json_schema
from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

from zero2chat.core.config import build
from zero2chat.core.errors import UserError, as_mistakes_of, nearest
from zero2chat.core.registry import own_function
from zero2chat.models.tokenization import CALL_TAGS, THINK_END, THINK_START, control_ids, neutral
from zero2chat.tools.environments import OBSERVATION, SECONDS, Episode, bounded, methods, needs_consent
from zero2chat.tools.tool_functions import NAMES, python, search_in
from zero2chat_sandbox import SandboxError
from zero2chat_sandbox.python import run, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_ERROR = 300  # characters
_PLACEHOLDER = "placeholder"
_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "question"}]


@dataclass(frozen=True)
class Call:
    """A call as the model wrote it: the tool's name (empty if missing), and its argument as untrusted text."""

    name: str
    argument: str


@dataclass(frozen=True)
class ToolResult:
    """The result of a call, as shown to the model."""

    text: str
    failed: bool = False


@dataclass
class Consent:
    """A call that waits for a person, who sets `allowed` before the answer goes on."""

    call: Call
    allowed: bool = False


class Tools:
    """Functions that a model may call, and the limits of one answer: number of calls, total seconds, and characters per
    result. `consent` names functions that need a person's yes; if nobody is asked, `agrees` is the answer.

    Functions follow TRL's convention: arguments with type hints, and a docstring that describes each argument. Raises
    `UserError` if a type hint or docstring is missing.
    """

    def __init__(
        self, functions: Sequence[Callable[..., Any]], calls: int = 4, seconds: float = 20.0, characters: int = 4000
    ):
        self.calls, self.seconds, self.characters = calls, seconds, characters
        self.consent, self.agrees = frozenset[str](), True
        try:
            self.schemas = [get_json_schema(function) for function in functions]
        except (DocstringParsingException, TypeHintParsingException) as error:
            raise UserError(
                f"tools: {error}: a tool needs a type hint and a docstring entry (Args:) for each argument"
            ) from error
        self._parameters = {s["function"]["name"]: s["function"]["parameters"] for s in self.schemas}
        self.functions = dict(zip(self._parameters, functions, strict=True))

    def read_line(self, line: str) -> dict[str, Any]:
        """Read a call in one line, `name first argument`, in which further arguments follow a line end and a space
        each. Texts are as in JSON, without the quotation marks. What is not JSON is text. With too many arguments, it
        has none."""
        name, _, rest = line.partition(" ")
        known = self._parameters[name]["properties"] if name in self._parameters else {}
        values = rest.split("\n ") if rest or line.endswith(" ") else []
        arguments = {}
        for (key, schema), value in zip(known.items(), values, strict=False):
            given = parsed(f'"{value}"' if schema.get("type") == "string" else value)
            arguments[key] = value if given is None else given
        return {"name": name, "arguments": arguments if len(values) <= len(known) else None}

    def example(self, name: str) -> dict[str, str]:
        """Return placeholder arguments for a call."""
        return dict.fromkeys(self._parameters[name]["properties"], _PLACEHOLDER)

    def result(self, name: str, arguments: Any, seconds: float) -> ToolResult:
        """Call the function. Any exception, and a timeout, becomes an error for the model, as in TRL's own loop."""
        if name not in self.functions:
            return failed(f"There is no tool '{shortened(name, 50)}'{nearest(name, list(self.functions))}")
        if not self._fit(name, arguments):
            known = self._parameters[name]["properties"]
            return failed(f"The arguments of {name} are {json.dumps({k: known[k].get('type', 'any') for k in known})}.")
        # JSON can encode half a surrogate pair, which is not valid text.
        whole = {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in arguments.items()}
        try:
            result = bounded(partial(self.functions[name], **whole), seconds)
            return ToolResult(shortened(str(result), self.characters))
        except Exception as error:
            return failed(str(error) or type(error).__name__)

    def of(self, episode: Episode) -> Tools:
        """Return these tools, a world's, as the methods of an episode."""
        own = copy.copy(self)
        own.functions, own.calls, own.agrees = episode.functions, episode.steps, episode.agrees
        return own

    def _fit(self, name: str, arguments: Any) -> bool:
        known, needed = self._parameters[name]["properties"], self._parameters[name].get("required", [])
        return (
            isinstance(arguments, dict)
            and set(needed) <= set(arguments) <= set(known)
            and all(isinstance(arguments[key], str) for key in arguments if known[key].get("type") == "string")
        )


def failed(error: str) -> ToolResult:
    """Return an error in one line, in TRL's format for models."""
    return ToolResult(str({"error": shortened(" ".join(error.split()), _LONGEST_ERROR)}), failed=True)


@functools.cache
def world_tools(name: str) -> Tools:
    """Return a world's methods as tools. To call them, take those `of` an episode."""
    tools = Tools(list(methods(name).values()), seconds=SECONDS, characters=OBSERVATION)
    tools.consent = needs_consent(name)
    return tools


def row_schemas(worlds: Sequence[str | None], tools: Tools | None) -> list[Any] | None:
    """Return each row's schemas: its world's, or else those of `tools`. None if no row has a world."""
    own = tools.schemas if tools else None
    return [world_tools(name).schemas if name else own for name in worlds] if any(worlds) else None


def open_tools(names: str | None, search: str | None) -> Tools | None:
    """Open the tools in a command's list, such as `search,python`; `search` is the index folder. None without tools.

    Raises `UserError` for an unknown name, for only one of `--tools search` and `--search`, and if opening fails.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names.split(","))) if names is not None else []
    if search is not None and "search" not in chosen:
        raise UserError("--search: the model has no search tool: add --tools search")
    if search is None and "search" in chosen:
        raise UserError("--tools search: no search backend: add --search INDEX (`zero2chat index` makes one)")
    return make_tools({name: {"where": search} if name == "search" else {} for name in chosen}, "--tools")


@dataclass
class SearchOptions:
    """The search backend, and limits of its results: see `zero2chat.tools.search.Search`."""

    where: str | None = None
    passages: int = 3
    characters: int = 1000


def make_tools(given: Mapping[str, Any], where: str = "tools") -> Tools | None:
    """Open the tools of a YAML's mapping from names to options; None without tools.

    `search` takes `SearchOptions`; `python`, and your own function by its dotted path, take no options. Raises
    `UserError` for an unknown tool, and if opening fails.
    """
    functions: list[Callable[..., Any]] = []
    for name, options in given.items():
        if name != "search" and options:
            raise UserError(f"{where}: {name} takes no options, found {options!r}")
        if name == "search":
            from zero2chat.tools.search import Search

            (settings,) = build([SearchOptions], options or {}, f"{where}: search")
            if not settings.where:
                raise UserError(f"{where}: search: `where` is not set: set `where` to an index folder")
            functions.append(search_in(Search(settings.where, settings.passages, settings.characters)))
        elif name == "python":
            with as_mistakes_of(SandboxError):
                run("1")  # fail now if the sandbox is not available
            functions.append(python)
        elif "." in name:
            functions.append(own_function(name, where, "my_tools.weather")[1])
        else:
            raise UserError(f"{where}: no tool '{name}'{nearest(name, list(NAMES))}")
    return Tools(functions) if functions else None


# ---- the format of calls


@dataclass(frozen=True)
class Mark:
    """What a control token that starts a call means: the token that ends the call, and the tool and parameter that get
    the text between. If `name` is None, that text is a JSON object with `name` and `arguments`, or with `is_line` what
    `Tools.read_line` reads."""

    end: int
    name: str | None = None
    parameter: str | None = None
    is_line: bool = False

    @property
    def ends_turn(self) -> bool:
        """Whether a call must be the turn's last one."""
        return self.name is not None or self.is_line


def call_message(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return an assistant's message that only contains calls, given by name and arguments."""
    functions = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in calls]
    return {"role": "assistant", "content": "", "tool_calls": functions}


class CallFormat:
    """How a tokenizer's chat template renders these tools' calls and results.

    - `marks`: control tokens that start a call, with their meaning.
    - `tags`: plain-text tags around calls, for templates without call tokens. Between them is a JSON object, or a list.
    - `ends`: tokens that end the model's turn: the given ones, and control tokens that start another role's turn.
    - `call_ends`: control tokens that end a call.
    - `stops`: generation pauses at `ends`, and after a call that is not JSON, which must be a turn's last call.

    `options` are the template's, for the header after a result.

    Raises `UserError` if the template puts calls neither between two control tokens nor between tags, if a call is
    neither a bare argument, nor a JSON object, nor a line, if the same token starts calls of two kinds, and if tool
    results are omitted.
    """

    def __init__(
        self,
        tools: Tools,
        tokenizer: PreTrainedTokenizerBase,
        ends: Collection[int],
        options: Mapping[str, Any] | None = None,
    ):
        self.tools, self.tokenizer, self._options = tools, tokenizer, options
        self.tags: tuple[str, str] | None = None
        # A header that ends in a thought's tokens begins the model's own turn.
        control = control_ids(tokenizer) - {tokenizer.get_added_vocab().get(tag) for tag in (THINK_START, THINK_END)}
        turn = self._rest(_QUESTION, [*_QUESTION, {"role": "user", "content": ""}])
        self.ends = {*ends, *control.intersection(self._encode(turn))}
        marks = {name: self._mark(name, control - self.ends) for name in tools.functions}
        self.marks = dict(mark for mark in marks.values() if mark)
        if len(self.marks) < len({mark for mark in marks.values() if mark}):
            raise UserError(
                "the model's chat template begins calls of python and of others with the same token: remove python "
                f"from {', '.join(marks)}"
            )
        self._closing = {
            name: tokenizer.added_tokens_decoder[mark[1].end].content if mark else CALL_TAGS[1]
            for name, mark in marks.items()
        }
        for name in tools.functions:
            result = self._results_text([(name, "what it says")])
            if "what it says" not in result:
                raise UserError("the model's chat template does not render tool results")
            self.ends |= control.intersection(self._encode(result))
        self.call_ends = {mark.end for mark in self.marks.values()}
        self.stops = self.ends | {mark.end for mark in self.marks.values() if mark.ends_turn}

    def _mark(self, name: str, control: set[int]) -> tuple[int, Mark] | None:
        """Return the start token of a tool's calls and its meaning. For plain-text calls, set `tags` and return
        None."""
        arguments = self.tools.example(name)
        text = self._rest(_QUESTION, [*_QUESTION, call_message((name, arguments))], header=True)
        ids, call = self._encode(text), {"name": name, "arguments": arguments}
        places = [place for place, token in enumerate(ids) if token in control]
        for start, end in pairwise(places):
            inside = self.tokenizer.decode(ids[start + 1 : end])
            # Equal tokens are quotation marks, as Gemma 4 has them.
            if inside == _PLACEHOLDER and len(arguments) == 1 and ids[start] != ids[end]:
                return ids[start], Mark(ids[end], name, next(iter(arguments)))
            if parsed(inside) in (call, [call]):
                return ids[start], Mark(ids[end])
            if inside == " ".join([name, "\n ".join(arguments.values())]).rstrip():
                return ids[start], Mark(ids[end], is_line=True)
        opening, closing = CALL_TAGS
        inside = text.partition(opening)[2].partition(closing)[0]
        # Outside text must not be able to contain the tags.
        if parsed(inside) in (call, [call]) and not any(tag in neutral(tag, self.tokenizer) for tag in CALL_TAGS):
            self.tags = CALL_TAGS
            return None
        raise UserError(
            f"the model's chat template does not render calls of {name} between control tokens or {opening} tags: use "
            "a model that was trained to call tools, such as one with chat_templates/chatml.jinja"
        )

    def results(self, results: Sequence[tuple[str, ToolResult]], room: int) -> tuple[list[ToolResult], list[int]]:
        """Truncate the results of a turn's calls, given with the tools' names, to `room` tokens in total. Also return
        the ids from the last call to the answer's next token: the turn's end, the tools' turns, and the next header.
        There are no ids if `room` is too small, or if the template does not render the calls in one turn."""
        known = next(iter(self.tools.functions))
        names = [name if name in self.tools.functions else known for name, _ in results]
        texts = [neutral(result.text, self.tokenizer) for _, result in results]
        length = max(map(len, texts))
        while True:
            contents = [shortened(text, length) for text in texts]
            try:
                ids = self._encode(self._results_text(list(zip(names, contents, strict=True))))
            except UserError:  # what a model writes ends no training
                return [failed("The chat template renders no such calls together.") for _ in results], []
            if len(ids) <= room:
                return [replace(result, text=text) for (_, result), text in zip(results, contents, strict=True)], ids
            if not length:
                return [failed("The context has no room for a result.") for _ in results], []
            length = length * 3 // 4

    def _results_text(self, results: Sequence[tuple[str, str]]) -> str:
        calls = call_message(*((name, self.tools.example(name)) for name, _ in results))
        turns = [{"role": "tool", "name": name, "content": text} for name, text in results]
        rendered = render_messages(self.tokenizer, [*_QUESTION, calls, *turns], self.tools, True, None, self._options)
        end = self._closing[results[-1][0]]
        return rendered[rendered.rindex(end) + len(end) :]

    def _rest(self, before: list[dict[str, Any]], after: list[dict[str, Any]], header: bool = False) -> str:
        rendered = render_messages(self.tokenizer, before, self.tools, header)
        return render_messages(self.tokenizer, after, self.tools).removeprefix(rendered)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


class Formats:
    """The formats of the rows' calls: one for `tools`, and one for each of these worlds. `ends` and `stops` are those
    of all formats."""

    def __init__(self, tools: Tools | None, worlds: Iterable[Any], tokenizer: Any, ends: Collection[int], *how: Any):
        tables = {None: tools} | {name: world_tools(name) for name in worlds if name}
        self._made = {name: CallFormat(one, tokenizer, ends, *how) for name, one in tables.items() if one}
        self.functions = [function for one in self._made.values() for function in one.tools.functions.values()]
        self.ends = set(ends).union(*(one.ends for one in self._made.values()))
        self.stops = self.ends.union(*(one.stops for one in self._made.values()))

    def of(self, episode: Episode | None) -> CallFormat | None:
        """Return the format of a row's calls; None if it has no tools."""
        if episode is None:
            return self._made.get(None)
        own = copy.copy(self._made[episode.name])
        own.tools = own.tools.of(episode)
        return own


def render_messages(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Any],
    tools: Tools | None,
    header: bool = False,
    template: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Render a conversation by the tokenizer's chat template, or `template`; `header` adds the next answer's header.
    Control tokens in the tools' descriptions are neutralised. Raises `UserError` if the template fails."""
    try:
        text: str = tokenizer.apply_chat_template(
            list(messages),
            tools=neutral(tools.schemas, tokenizer) if tools else None,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=header,
            **(options or {}),
        )
    except (TemplateError, TypeError) as error:  # some templates only accept a call's arguments as text
        raise UserError(f"the model's chat template refuses the conversation: {error}") from error
    return text


_DEEPEST = 64  # levels of a call's JSON: rendering and copying a conversation recurses, and fails at some hundred


def parsed(text: str) -> Any:
    """Parse a JSON text; None if invalid or too deep. Half a surrogate pair, which UTF-8 cannot hold, becomes `?`."""
    try:
        value = json.loads(text)
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value if _depth(value) <= _DEEPEST else None
    except (ValueError, RecursionError):
        return None


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)
