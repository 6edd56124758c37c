"""An OpenAI-compatible server for one model. The chat endpoint uses the conversation loop of `inference.session`.

`transformers.cli.serving` reads messages, and writes answers and streams. There are four differences from `transformers
serve`: Control tokens in client text are neutralised before the chat template is applied. Calls are found by token ids.
Unsure answers can be declined. No endpoint loads models or takes raw text. The client runs its own tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jinja2 import TemplateError
from transformers.utils.import_utils import is_serve_available

from zero2chat.chat.defaults import declines_below
from zero2chat.chat.local_server import listen, run, take_own_names
from zero2chat.core.errors import UserError
from zero2chat.inference.responses import CONTENT_ONLY, OfferedAnswer, OfferedTools, without_calls
from zero2chat.inference.session import Sampling
from zero2chat.inference.tool_calls import Attempt
from zero2chat.inference.tool_format import CallFormat
from zero2chat.models.loading import context_length, end_ids, load_for_use, naming
from zero2chat.models.thinking import Thinking
from zero2chat.models.tokenization import neutral
from zero2chat.tools.environments import needs_consent

if not is_serve_available():
    raise UserError("serve: transformers' server is not installed: pip install 'zero2chat[serve]'")

from openai.types.completion_usage import CompletionUsage
from pydantic import BaseModel, FailFast, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.utils import (
    Modality,
    ReasoningText,
    build_response_parser,
    get_response_template,
    response_events_to_chunks,
)
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log = logging.getLogger(__name__)

LONGEST_REQUEST = 1 << 20  # bytes of a request's body
PATIENCE = 10.0  # seconds for a request's head, and as many for its body
WAITING = 500  # requests whose answer is not complete; each has a connection, of which most systems allow 1,024
LONGEST_ANSWER = 1024  # tokens, if a request does not say

# Ignored, they would change what the client gets. None may set the chat template or options of `generate`.
_UNSUPPORTED = (
    *("stop", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "response_format"),
    "generation_config",
)
# The most tokens of a thought, for OpenAI's levels; False: no thought, True: no number
_EFFORTS: dict[str, bool | int] = {"none": False, "minimal": 16, "low": 64, "medium": 160, "high": True, "xhigh": True}

_Count = Annotated[int, Field(ge=1)]


class Switch(BaseModel, extra="forbid"):
    """The only option of the chat template that a request may set."""

    enable_thinking: bool | None = None


class Body(BaseModel, extra="allow"):
    """The request fields that have an effect."""

    model: str | None = None
    messages: Annotated[list[dict[str, Any]], FailFast()]  # 1 MiB may have 500,000 mistakes
    tools: Annotated[list[Any], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Literal[1] | None = None
    # How much the model thinks: OpenAI's field, vLLM's number of tokens, and vLLM's switch
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_token_budget: _Count | None = None
    chat_template_kwargs: Switch | None = None

    def thinking(self, usual: bool | int | None) -> bool | int | None:
        """Return whether the model thinks, or its budget; `usual` if the request does not say."""
        switch = self.chat_template_kwargs and self.chat_template_kwargs.enable_thinking
        if switch is False:
            return False
        said = self.thinking_token_budget or (_EFFORTS[self.reasoning_effort] if self.reasoning_effort else usual)
        return (said or usual or True) if switch else said


def serve(
    path: str, host: str, port: int, abstain_below: float | None, thinking: bool | int | None, env: str | None
) -> None:
    """Serve a model over an OpenAI-compatible API until Ctrl-C. Port 0 picks a free port, which is printed.

    If the model's confidence is below `abstain_below` (default: the model's own threshold), it declines to answer.
    `thinking` is as in `models/thinking.py`, for requests that do not say. Calls of `env` that need consent are marked.

    Raises `UserError` if the address, the model or its chat template is not available.
    """
    usual = Sampling(abstain_below=declines_below(path, abstain_below), thinking=thinking)  # raises
    consent = needs_consent(env) if env else frozenset[str]()  # raises
    # Before loading the model, so that a port in use is reported at once.
    with listen(host, port) as listener:
        app = application(path, listener.getsockname()[0], usual, consent)
        run(app, listener, f"{path}: {{}}/v1 (Ctrl-C ends it)", log_level="warning", http=Connection)


def application(
    path: str, address: str = "127.0.0.1", usual: Sampling | None = None, consent: frozenset[str] = frozenset()
) -> Starlette:
    """Return the server's ASGI application. `path` is a model folder or a Hub name, `address` the server's address;
    `usual` says when the model declines and thinks. Calls of the tools in `consent` are marked."""
    with naming(path):
        chat = _Chat(path, *load_for_use(path), usual or Sampling(), consent)
    model = {"id": path, "object": "model", "created": int(time.time()), "owned_by": "local"}
    routes = [
        Route("/v1/chat/completions", chat.answer, methods=["POST"]),
        Route("/v1/models", lambda _: JSONResponse({"object": "list", "data": [model]})),
        Route("/health", lambda _: JSONResponse({"status": "ok"})),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    take_own_names(app, address)
    return app


class Connection(H11Protocol):
    """uvicorn's connection. It is closed if no complete head of a request arrives within `PATIENCE`: uvicorn waits
    without end, and connections on which nothing arrives could use up all that the system allows."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def on_response_complete(self) -> None:
        self._expect_head()
        super().on_response_complete()  # may begin the next request

    def _expect_head(self) -> None:
        last = self.cycle  # the last request, if any
        self.loop.call_later(PATIENCE, lambda: self.transport.close() if self.cycle is last else None)


class _Chat(ChatCompletionHandler):
    """The chat endpoint. Invalid requests get status 400. Answers are generated one after another, in the order of the
    requests: at most `WAITING` requests wait, and further ones get status 503.

    Raises `UserError` if the model has no chat template, or if the template rejects a plain conversation.
    """

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: Any, usual: Sampling, consent: frozenset[str]):
        if not tokenizer.chat_template:
            raise UserError("the model has no chat template: use a model trained to chat, such as an sft step's")
        self._name, self._model, self._tokenizer, self._usual, self._consent = name, model, tokenizer, usual, consent
        Thinking(tokenizer, usual.thinking)  # raises
        self._format([])
        tokenizer.response_template = without_calls(get_response_template(tokenizer, model) or CONTENT_ONLY)
        self._thread, self._reader, self._waiting = ThreadPoolExecutor(1), ThreadPoolExecutor(1), 0

    def _format(self, tools: list[Any]) -> CallFormat:
        """Return the format for calling these tools. Raises `UserError` if the template cannot render the tools."""
        return CallFormat(OfferedTools(tools), self._tokenizer, end_ids(self._model, self._tokenizer))

    async def answer(self, request: Request) -> Response:
        """Read a request and answer it; generation stops if the client disconnects."""
        content = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                async for piece in request.stream():
                    content += piece
                    if len(content) > LONGEST_REQUEST:
                        raise HTTPException(413, f"the request is longer than {LONGEST_REQUEST} bytes")
        except ClientDisconnect:
            return Response()  # nobody receives it
        except TimeoutError:
            why = f"the body did not arrive within {PATIENCE:g} seconds: send it at once"
            raise HTTPException(408, why, {"Connection": "close"}) from None
        # A browser sends no other website's request of this type without asking the server, which does not agree.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(400, "the body is not JSON: send Content-Type: application/json")
        try:
            # In a thread: to encode 1 MiB takes seconds, in which no other request could be read or answered.
            begun = asyncio.get_running_loop().run_in_executor(self._reader, self._begin, bytes(content))
            body, answering, prompt = await begun
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in error.errors()]
            raise HTTPException(400, "; ".join(mistakes)) from None
        except (UserError, TemplateError) as error:
            raise HTTPException(400, str(error)) from error
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise HTTPException(400, f"invalid request: {type(error).__name__}: {error}") from error
        if self._waiting >= WAITING:
            raise HTTPException(503, f"{WAITING} requests are waiting for an answer: try again later")
        name = f"chatcmpl-{time.time_ns()}"
        chunks = self._chunks(name, answering, prompt, self._pieces(answering, prompt))
        if body.stream:
            return StreamingResponse(self._events(name, chunks), media_type="text/event-stream")
        collecting = asyncio.ensure_future(self._collected(name, chunks))
        leaving = asyncio.ensure_future(request.receive())  # after the body, it returns when the client disconnects
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        return collecting.result() if collecting.done() or not collecting.cancel() else Response()

    def _begin(self, content: bytes) -> tuple[Body, OfferedAnswer, list[int]]:
        """Return the request, the answer's generator and the prompt's ids. Raises `UserError` for an unsupported
        request."""
        body = Body.model_validate(json.loads(content.decode()))
        if body.model not in (None, self._name):
            raise UserError(f"model {body.model!r} is not served: set model to {self._name!r}")
        for key in _UNSUPPORTED:
            if (given := (body.model_extra or {}).get(key)) and given != {"type": "text"}:
                raise UserError(f"this server does not support `{key}`: remove `{key}`")
        # Nested, so that none is read as a message, whatever role it names.
        offered = [] if body.tool_choice == "none" else body.tools or []
        tools = neutral({"tools": offered}, self._tokenizer)["tools"] or None
        written, own = self._format(tools or []), self._model.generation_config
        usual = (own.temperature or 1.0) if own.do_sample else 0.0
        sampling = Sampling(
            temperature=usual if body.temperature is None else body.temperature,
            top_k=own.top_k or 0,
            top_p=(own.top_p or 1.0) if body.top_p is None else body.top_p,
            seed=time.time_ns() if body.seed is None else body.seed,
            max_new_tokens=body.max_completion_tokens or body.max_tokens or LONGEST_ANSWER,
            abstain_below=self._usual.abstain_below,
            thinking=body.thinking(self._usual.thinking),
        )
        answering = OfferedAnswer(self._model, self._tokenizer, sampling, written, written.ends)
        rendered = self._tokenizer.apply_chat_template(
            self._messages(body.messages),
            tools=tools,
            add_generation_prompt=True,
            return_dict=True,
            **answering.thoughts.options,
        )
        prompt, limit = rendered["input_ids"], context_length(self._model)
        if len(prompt) >= limit:
            why = f"the conversation has {len(prompt)} tokens, more than the model's context of {limit}: shorten it"
            raise UserError(why)
        return body, answering, prompt

    def _messages(self, sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for message in sent:
            parts = message["content"] if isinstance(message.get("content"), list) else []
            for part in parts:
                if part["type"] != "text":
                    raise UserError(f"messages: content of type {part['type']!r} is not supported: send text")
        read = self.get_processor_inputs_from_messages(sent, Modality.LLM)
        for message, original in zip(read, sent, strict=True):
            # transformers drops the text before a call, which this model was trained with.
            if message.get("tool_calls") and isinstance(original.get("content"), str):
                message["content"] = original["content"]
            if isinstance(original.get("reasoning_content"), str):  # a model keeps its earlier thoughts
                message["reasoning_content"] = original["reasoning_content"]
        conversation: list[dict[str, Any]] = neutral(read, self._tokenizer)
        return conversation

    async def _chunks(
        self, name: str, answering: OfferedAnswer, prompt: list[int], answer: AsyncGenerator[Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer in chunks: each has the arguments for transformers' `_build_chunk_sse`."""
        yield {"role": "assistant"}
        parser = build_response_parser(self._tokenizer, self._model, prompt)
        items, calls = response_events_to_chunks(parser.initial_events), 0
        async with contextlib.aclosing(answer) as pieces:
            async for piece in pieces:
                if isinstance(piece, Attempt):
                    function = {"name": piece.call.name, "arguments": json.dumps(piece.arguments)}
                    call = {"index": calls, "id": f"{name}_{calls}", "type": "function", "function": function}
                    call |= {"needs_consent": True} if piece.call.name in self._consent else {}
                    calls += 1
                    yield {"tool_calls": [call]}
                    continue
                items += response_events_to_chunks(parser.feed(piece))
                for item in items:
                    yield {"reasoning_content" if isinstance(item, ReasoningText) else "content": item}
                items = []
        for item in response_events_to_chunks(parser.finalize()[1]):
            yield {"reasoning_content" if isinstance(item, ReasoningText) else "content": item}
        reason = "tool_calls" if calls else "length" if answering.truncated else "stop"
        used, length = len(prompt), answering.length
        usage = CompletionUsage(prompt_tokens=used, completion_tokens=length, total_tokens=used + length)
        yield {"finish_reason": reason, "usage": usage}

    def _pieces(self, answering: OfferedAnswer, prompt: list[int]) -> AsyncGenerator[Any]:
        """Append the answer to the thread's queue, and return its pieces. When the answer is done, the thread starts
        the next answer, even if the client is still reading."""
        queue, loop, left = asyncio.Queue[Any](), asyncio.get_running_loop(), threading.Event()

        def generate() -> None:
            for piece in takewhile(lambda _: not left.is_set(), answering.answer(prompt)):
                loop.call_soon_threadsafe(queue.put_nowait, piece)

        def done(_: Any) -> None:
            self._waiting -= 1
            queue.put_nowait(None)

        async def pieces() -> AsyncGenerator[Any]:
            try:
                while (piece := await queue.get()) is not None:
                    yield piece
                await work  # raises what ended it
            finally:
                left.set()
                work.cancel()

        self._waiting += 1
        work = loop.run_in_executor(self._thread, generate)
        work.add_done_callback(done)
        return pieces()

    async def _events(self, name: str, chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
        """Yield the chunks as a stream's events. An error after the first chunk becomes the last event."""
        try:
            async for one in chunks:
                yield self._build_chunk_sse(name, model=self._name, **one)
        except Exception as error:
            _log.exception("an answer has failed")
            yield f"data: {json.dumps({'error': {'message': type(error).__name__, 'type': 'server_error'}})}\n\n"

    async def _collected(self, name: str, chunks: AsyncIterator[dict[str, Any]]) -> JSONResponse:
        """Join the chunks of a stream into one answer."""
        content, reasoning, calls, last = "", "", list[dict[str, Any]](), dict[str, Any]()
        try:
            async for last in chunks:
                content += last.get("content", "")
                reasoning += last.get("reasoning_content", "")
                calls += [{key: call[key] for key in call if key != "index"} for call in last.get("tool_calls", ())]
        except Exception as error:  # raised, it would also end the connection that the client keeps
            _log.exception("an answer has failed")
            return JSONResponse({"error": {"message": type(error).__name__, "type": "server_error"}}, 500)
        more = {"tool_calls": calls or None, "reasoning_content": reasoning or None, **last}
        return JSONResponse(self._build_completion(name, content, self._name, **more))


async def _refused(request: Any, error: Exception) -> JSONResponse:
    """Return an error in the format that OpenAI clients display."""
    assert isinstance(error, HTTPException)
    why = error.detail.encode("utf-8", "replace").decode()  # it may quote half a surrogate pair
    content = {"error": {"message": why, "type": "invalid_request_error"}}
    return JSONResponse(content, error.status_code, headers=error.headers)  # such as Allow, of a 405
