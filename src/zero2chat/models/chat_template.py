"""Prepare a model for chat training: its chat template, its end-of-turn and pad tokens, and which tokens carry loss."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.models.tokenization import pad_apart, set_chat_template, visible

if TYPE_CHECKING:
    from trl import ModelConfig

_TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
_PROBE = "The answer to this question is 42."
_ZERO = 1e-16  # largest absolute value of an untrained embedding
_trainable: dict[str, str | None] = {}  # the results of `training_template`, by the tokenizer's own template


def prepare_chat_template(tokenizer: PreTrainedTokenizerBase, path: str | None, replace: bool = True) -> None:
    """Set the chat template from the file, if given. Without `replace`, a tokenizer's own template stays. Raises
    `UserError` if there is no template, or if it is invalid."""
    if path is not None and (replace or tokenizer.chat_template is None):
        set_chat_template(tokenizer, path)
    if tokenizer.chat_template is None:
        raise UserError(
            "the tokenizer has no chat template: set chat_template_path, such as chat_templates/chatml.jinja"
        )
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    except TemplateError as error:
        raise UserError(f"{path or 'the tokenizer'}: invalid chat template: {error}") from error


def settle_chat(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | None, model_args: ModelConfig
) -> None:
    """Set the chat template, EOS token and pad token of a model to be trained for chat, and print them.

    `path` is the template's file, or None for the tokenizer's own. Raises `UserError` as the functions below do.
    """
    prepare_chat_template(tokenizer, path)
    end_turn(model, tokenizer)
    if model_args.use_peft:
        _refuse_unlearnable(model, tokenizer, model_args.lora_modules_to_save or [])
    if is_main_process():
        template, end, pad = path or "the tokenizer's own", visible(tokenizer.eos_token), visible(tokenizer.pad_token)
        print(f"chat template: {template}; turns end with {end}; padding with {pad}", flush=True)


def _refuse_unlearnable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trained: Sequence[str]) -> None:
    """Raise `UserError` if tokens of the template have zero embeddings, as in Llama 3's base models: an adapter cannot
    train them."""
    weight = model.get_input_embeddings().weight
    if "embed_tokens" in trained or weight.shape[0] == 0:  # ZeRO-3 has sharded it
        return
    turns = tokenizer.apply_chat_template(_TURNS, return_dict=True)["input_ids"]
    empty = [i for i in sorted(set(turns)) if weight[i].abs().max() <= _ZERO]
    if empty:
        names = ", ".join(visible(token) for token in tokenizer.convert_ids_to_tokens(empty))
        raise UserError(
            f"use_peft: the embeddings of {names} are zero, and an adapter cannot train them: set "
            "`lora_modules_to_save: [embed_tokens, lm_head]`, or start from a chat model"
        )


def end_turn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the assistant's end-of-turn token the tokenizer's EOS token and the first stop id, in addition to the
    model's own. The pad token becomes a separate special token that is never a stop token.

    Raises `UserError` if the assistant's tokens are unknown, if the template does not render them, or if no separate
    pad token is available. Also raises it if no special token ends the turn: the model could not learn to stop.
    """
    added = set(tokenizer.get_added_vocab().values())
    try:
        encoder = TurnEncoder(tokenizer)
        # The last turn may end with another token (GPT-OSS), or with none.
        encoded = [encoder(turns) for turns in (_TURNS[:2], _TURNS)]
        rendered = tokenizer.apply_chat_template([*_TURNS, {"role": "assistant", "content": _PROBE}], tokenize=False)
    except (TemplateError, TypeError) as error:
        raise UserError(f"the chat template fails on a conversation ({error}): set chat_template_path") from error
    if _PROBE not in rendered:
        raise UserError(
            "the chat template does not render the assistant's text (some templates of vision models expect lists of "
            "parts): set chat_template_path to one that takes text"
        )
    last, said = ([i for i, flag in zip(ids, mask, strict=True) if flag] for ids, mask in encoded)
    end_token = _first_end(tokenizer, last, added) or next((i for i in reversed(said) if i in added), None)
    if end_token is None:
        end = tokenizer.decode(said).partition("b")[2].strip()
        raise UserError(
            "the chat template does not end the assistant's turn with a special token"
            + (f" ({visible(end)} is plain text for this tokenizer)" if end else "")
            + ", so the model would never stop: use the template of its model family, see chat_templates/README.md"
        )
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    model.generation_config.eos_token_id = [end_token, *(i for i in stops if i not in (None, end_token))]
    if not isinstance(getattr(model.config, "eos_token_id", None), list):
        # As a trainer does, which in transformers 5.17 would also repeat the token in the generation config.
        model.config.eos_token_id = end_token
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_token)
    pad_apart(tokenizer, model.generation_config.eos_token_id)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError(
            "the tokenizer's pad token is missing or is the end-of-turn token, and there is no spare one: set "
            "pad_token to another special token in the model's tokenizer_config.json"
        )
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def _first_end(tokenizer: PreTrainedTokenizerBase, said: Sequence[int], added: Collection[int]) -> int | None:
    """Return the control token that ends a turn. In Phi 3's last turn, a second one follows after white space."""
    end, apart = None, True
    for token in reversed(said):
        if token in added:
            end, apart = token if apart else end, False
        elif tokenizer.decode([token]).strip():
            break
        else:
            apart = True
    return end


# ---- which tokens carry loss


def training_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the template that marks the assistant's tokens: the tokenizer's own, or TRL's training version of it; None
    if neither marks these tokens."""
    own: str = tokenizer.get_chat_template()
    if own not in _trainable:
        from trl.chat_template_utils import get_training_chat_template, has_generation_markers  # takes seconds

        try:
            _trainable[own] = own if has_generation_markers(own) else get_training_chat_template(tokenizer)
        except (ValueError, TypeError, TemplateError):  # TRL has none for this template
            _trainable[own] = None
    return _trainable[own]


class TurnEncoder:
    """Encodes conversations for training: `encoder(messages, tools)` returns the ids, and a mask of the assistant's
    tokens: ends of turns are included, headers are not.

    The tokens are those that `training_template` marks. Without such a template, the tokens are those that each
    assistant's turn adds to the preceding text. Raises `UserError` if later turns change the text of earlier turns, or
    if the template would leave out a call or reasoning.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._template = training_template(tokenizer)
        self._added = set(tokenizer.get_added_vocab().values())
        encode = partial(tokenizer.apply_chat_template, _TURNS[:1], return_dict=False, chat_template=self._template)
        without, ids = (encode(add_generation_prompt=header) for header in (False, True))
        self._header: list[int] = ids[_shared(without, ids) :]
        self._shown: dict[Any, bool] = {}  # the results of `_shows`, by what the turns have

    def left_out(self, messages: Sequence[Any], tools: Any = None) -> str | None:
        """Return `tool_calls` or `reasoning_content` if the template would leave it out, else None.

        Each turn is tested as the last turn, because many templates leave out earlier reasoning on purpose. A turn is
        tested once for each set of earlier turns' forms: a long row cannot be rendered up to each of its turns."""
        had: dict[Any, None] = {bool(tools): None}
        for i, message in enumerate(messages):
            parts = [part for part in ("tool_calls", "reasoning_content") if message.get(part)]
            form = (message["role"], bool(message.get("content")), len(message.get("tool_calls") or []), *parts)
            had[form] = None
            for part in parts:
                if (key := (*had, form, part)) not in self._shown:
                    self._shown[key] = self._shows(part, messages[: i + 1], tools)
                if not self._shown[key]:
                    return part
        return None

    def _shows(self, part: str, messages: Sequence[Any], tools: Any) -> bool:
        """Whether the template renders this part of the last message: the reasoning, or all of the calls."""
        *before, last = messages
        # GPT-OSS and LFM 2.5 call it `thinking`, which a message may have, too.
        marks, keys = ["left_out_or_not"], {"reasoning_content", "thinking"} & last.keys()
        marked = last | dict.fromkeys(keys, marks[0])
        if part == "tool_calls":
            marks = [f"left_out_or_not_{i}_" for i in range(len(last[part]))]
            named = zip(last[part], marks, strict=True)
            marked[part] = [call | {"function": call["function"] | {"name": mark}} for call, mark in named]
        try:
            text = self._tokenizer.apply_chat_template(
                [*before, marked], tools=tools, tokenize=False, chat_template=self._template
            )
        except Exception:  # what a template refuses it does not leave out
            return True
        return all(mark in text for mark in marks)

    def __call__(self, messages: Sequence[Any], tools: Any = None) -> tuple[list[int], list[int]]:
        if part := self.left_out(messages, tools):
            raise UserError(
                f"the chat template leaves out {part}: set chat_template_path to one that renders them, such as "
                "chat_templates/chatml.jinja, or remove them from the rows"
            )
        if self._template is None:
            ids, mask = self._by_turns(messages, tools)
        else:
            options = {"return_assistant_tokens_mask": True, "return_dict": True, "chat_template": self._template}
            offsets = {"return_offsets_mapping": True}
            encoded = self._tokenizer.apply_chat_template(messages, tools=tools, tokenizer_kwargs=offsets, **options)
            ids, mask = encoded["input_ids"], encoded["assistant_masks"]
            # transformers before 5.24 marks only the first token of a span's last character.
            for i, ((_, end), (start, _)) in enumerate(pairwise(encoded["offset_mapping"]), start=1):
                mask[i] |= mask[i - 1] and start < end
        return ids, self._trimmed(ids, mask)

    def _by_turns(self, messages: Sequence[Any], tools: Any) -> tuple[list[int], list[int]]:
        render = partial(self._tokenizer.apply_chat_template, tools=tools, tokenize=False)
        text, spans = render(messages), []
        if messages[0]["role"] == "assistant":
            raise UserError(
                "the row begins with the assistant's turn, which needs a chat template with {% generation %} markers: "
                "remove the row, or set chat_template_path to a template of the model's family"
            )
        for i in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
            before, after = render(messages[:i], add_generation_prompt=True), render(messages[: i + 1])
            if not (after.startswith(before) and text.startswith(after)):
                raise UserError(
                    "the chat template has no {% generation %} markers and renders earlier turns differently when "
                    "others follow, so the assistant's tokens are unknown: set chat_template_path to a template of "
                    "the model's family"
                )
            spans.append((len(before), len(after)))
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        mask = [int(any(a < to and max(b, a + 1) > at for at, to in spans)) for a, b in offsets]
        return encoded["input_ids"], mask

    def _trimmed(self, ids: list[int], mask: list[int]) -> list[int]:
        """Remove from each span the header and everything after the turn's end: some TRL templates mark both."""
        trimmed, end = list(mask), len(ids)
        while end:
            if not mask[end - 1]:
                end -= 1
                continue
            start = next((i for i in range(end, 0, -1) if not mask[i - 1]), 0)
            first = self._after_header(ids, start, end)
            last = self._end(ids, first, end)
            # Phi 3's last turn ends twice.
            while first < (before := self._end(ids, first, last - 1)) and ids[before - 1] == ids[last - 1]:
                last = before
            trimmed[start:first] = [0] * (first - start)
            trimmed[last:end] = [0] * (end - last)
            end = start
        return trimmed

    def _end(self, ids: list[int], start: int, end: int) -> int:
        """Return the span's end, without white space after the last control token."""
        last = next((i for i in range(end, start, -1) if ids[i - 1] in self._added), end)
        return end if self._tokenizer.decode(ids[last:end]).strip() else last

    def _after_header(self, ids: list[int], start: int, end: int) -> int:
        """Return where the span begins after the header, or after the part of the header that is in the span."""
        size = len(self._header)
        for at in range(max(start, size), min(start + size, end) + 1):
            if ids[at - size : at] == self._header:
                return at
        return start + _shared(self._header, ids[start:end])


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many of the first items are equal."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
