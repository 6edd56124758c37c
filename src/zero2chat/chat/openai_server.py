"""`transformers serve` for one model, with control tokens in all client text neutralised.

Server, requests, answers and streams are those of `transformers.cli.serving`. We add four hooks: we load the model, and
requests cannot load another; only the chat endpoint is enabled; control tokens in client text are neutralised before
the chat template is applied; calls are parsed as in a chat. The client runs its own tools.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from transformers.utils.import_utils import is_serve_available

from zero2chat.chat.request_filter import listen, take_own_names
from zero2chat.core.errors import UserError, nearest
from zero2chat.inference.confidence import REFUSAL, check_threshold, confidence, log_probabilities
from zero2chat.inference.responses import CONTENT_ONLY, AnswerReader, StreamedAnswer, without_calls
from zero2chat.inference.session import Sampling
from zero2chat.inference.tool_format import CallFormat
from zero2chat.models.loading import context_length, end_ids, load_for_use
from zero2chat.models.tokenization import neutral

if not is_serve_available():
    raise UserError("serve: transformers' server is not installed: pip install 'zero2chat[serve]'")

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.server import build_server
from transformers.cli.serving.utils import (
    DirectStreamer,
    GenerateManager,
    GenerationState,
    ToolCall,
    _GenerationCancelled,
    _StreamError,
    get_response_template,
)

from zero2chat.chat.connections import LONGEST_REQUEST as LONGEST_REQUEST
from zero2chat.chat.connections import Connection, WholeRequests, client_gone, refusal

if TYPE_CHECKING:
    import threading

    from starlette.responses import JSONResponse
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

ENGINES = ("transformers", "vllm")

# The other endpoints accept control tokens in text, load or unload models, or fetch URLs.
ENDPOINTS = ("/v1/chat/completions", "/v1/models", "/health")

# These fields would set the chat template, expensive options of `generate`, or invalid token ids.
REFUSED = ("chat_template_kwargs", "generation_config", "logit_bias")

MOST_CONNECTIONS = 64
MOST_TOOLS = 128
MOST_STOPS, LONGEST_STOP = 4, 100


def serve(
    path: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: str = "transformers",
    abstain_below: float = 0.0,
) -> None:
    """Serve a model over an OpenAI-compatible API until Ctrl-C. Port 0 picks a free port, which is printed.

    Below the confidence `abstain_below` it declines instead of answering.

    Raises `UserError` if the engine, the address, the model or its chat template is not available.
    """
    if engine not in ENGINES:
        raise UserError(f"--engine: no engine '{engine}'{nearest(engine, list(ENGINES))}")
    if engine == "vllm":
        raise UserError(
            "--engine vllm: not supported: vLLM's server would not neutralise control tokens in a client's text: "
            "use --engine transformers"
        )
    check_threshold(abstain_below)
    # Before loading the model, so that a port in use is reported at once.
    with listen(host, port) as listening:
        address, port = listening.getsockname()[:2]
        app = application(path, address, abstain_below)
        shown = f"[{host}]" if ":" in host else host
        print(f"{path}: http://{shown}:{port}/v1 (Ctrl-C ends it)", flush=True)
        # Open streams are closed at Ctrl-C.
        config = uvicorn.Config(
            app,
            http=Connection,
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listening])


def application(path: str, address: str = "127.0.0.1", abstain_below: float = 0.0) -> FastAPI:
    """Build transformers' server for the model of this folder or Hub name, for that address."""
    try:
        model, tokenizer = load_for_use(path)
        reader = _reader(model, tokenizer)
    except UserError as error:
        raise error if str(error).startswith(path) else UserError(f"{path}: {error}") from error
    state = GenerationState()
    app = build_server(
        manager := _OneModel(path, model, tokenizer),
        _Chat(manager, state, reader, abstain_below),
        completion_handler=None,
        response_handler=None,
        transcription_handler=None,
        systemone_handler=None,
        generation_state=state,
    )
    app.router.routes[:] = [route for route in app.routes if route.path in ENDPOINTS]
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_middleware(WholeRequests)
    take_own_names(app, address)
    return app


def _reader(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> AnswerReader:
    """Return the parser for the model's answers, which replaces the tokenizer's own."""
    if not tokenizer.chat_template:
        raise UserError("the model has no chat template: use one that was trained to chat, such as an sft step's")
    reader = AnswerReader(tokenizer, end_ids(model, tokenizer))
    reader.format(None)  # fail now if the template rejects a plain conversation
    tokenizer.response_template = without_calls(get_response_template(tokenizer, model) or CONTENT_ONLY)
    tokenizer.parse_response = reader.parse_response
    return reader


class _OneModel(ModelManager):
    """transformers' model manager, restricted to one loaded model."""

    def __init__(self, path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self._model, self._tokenizer = model, tokenizer
        super().__init__(force_model=path)

    def _load_processor(self, *_: Any, **__: Any) -> PreTrainedTokenizerBase:
        return self._tokenizer

    def _load_model(self, *_: Any, **__: Any) -> PreTrainedModel:
        return self._model


class _Chat(ChatCompletionHandler):
    """transformers' chat endpoint, with neutralised text, limits, and calls parsed by ids. Invalid requests get 400."""

    def __init__(self, manager: ModelManager, state: GenerationState, reader: AnswerReader, abstain_below: float):
        super().__init__(model_manager=manager, generation_state=state)
        self._reader, self._abstain_below = reader, abstain_below

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        try:
            return await super().handle_request(body, request_id)
        except (UserError, TemplateError) as error:
            raise HTTPException(400, str(error)) from error
        except _GenerationCancelled as left:
            raise HTTPException(499, "the client has disconnected") from left  # nobody receives it
        except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise HTTPException(400, f"invalid request: {type(error).__name__}: {error}") from error

    def _validate_request(self, body: dict[str, Any]) -> None:
        super()._validate_request(body)
        for field in REFUSED:
            if body.get(field):
                raise UserError(f"{field} is not supported")
        if body.get("n") not in (None, 1):
            raise UserError("n: only one completion per request is supported: send several requests")
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
            raise UserError("messages: expected a list of {role, content}")
        longest = body.get("max_completion_tokens")
        given = {
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
            "seed": body.get("seed"),
            "max_new_tokens": body.get("max_tokens") if longest is None else longest,
        }
        for name, value in given.items():
            if not isinstance(value, int | float | None) or isinstance(value, bool):
                raise UserError(f"{name}: expected a number, got {value!r}")
        Sampling(**{name: value for name, value in given.items() if value is not None})
        if not 0 <= (body.get("frequency_penalty") or 0) <= 2:
            raise UserError("frequency_penalty is out of range: give 0 to 2")
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        valid = isinstance(stops, list) and len(stops) <= MOST_STOPS
        if not valid or any(not isinstance(stop, str) or not 0 < len(stop) <= LONGEST_STOP for stop in stops):
            raise UserError(f"stop: expected at most {MOST_STOPS} strings of 1 to {LONGEST_STOP} characters")
        tools = body.get("tools") or []
        if len(tools) > MOST_TOOLS:
            raise UserError(f"tools: {len(tools)} are too many: the maximum is {MOST_TOOLS}")
        if (choice := body.get("tool_choice")) not in (None, "auto", "none"):
            raise UserError(f"tool_choice: {choice!r:.80} is not supported: send 'auto' or 'none'")
        offered = [] if choice == "none" else tools
        # Nested, so that none is read as a message, whatever role it names.
        body["tools"] = neutral({"tools": offered}, self._reader.tokenizer)["tools"] or None
        self._reader.format(body["tools"])

    def get_processor_inputs_from_messages(self, messages: list[dict[str, Any]], modality: Any) -> list[dict[str, Any]]:
        for message in messages:
            parts = message["content"] if isinstance(message.get("content"), list) else []
            for part in parts:
                if part["type"] != "text":
                    raise UserError(f"messages: content of type {part['type']!r} is not supported: send text")
        read = super().get_processor_inputs_from_messages(messages, modality)
        for message, sent in zip(read, messages, strict=True):
            # transformers drops the text before a call, which this model was trained with.
            if message.get("tool_calls") and isinstance(sent.get("content"), str):
                message["content"] = sent["content"]
        conversation: list[dict[str, Any]] = neutral(read, self._reader.tokenizer)
        return conversation

    def _build_generation_config(self, body: dict[str, Any], *args: Any, **more: Any) -> GenerationConfig:
        # transformers would seed the process's only generator immediately, during another request's answer.
        config = super()._build_generation_config({**body, "seed": None}, *args, **more)
        config.seed_of_request = body.get("seed")
        if body.get("temperature"):
            config.do_sample = True  # otherwise it has no effect if the model's default is greedy
        config.eos_token_id = sorted(self._reader.format(body["tools"]).stops)
        return config

    def _streaming(self, *args: Any, gen_manager: GenerateManager, tools: Any) -> Any:
        generation = _Generation(gen_manager, self._reader.format(tools), self._abstain_below)
        return super()._streaming(*args, gen_manager=generation, tools=tools)

    async def _non_streaming(self, *args: Any, gen_manager: GenerateManager, tools: Any) -> Any:
        generation = _Generation(gen_manager, self._reader.format(tools), self._abstain_below)
        return await super()._non_streaming(*args, gen_manager=generation, tools=tools)


class _Generation(GenerateManager):
    """transformers' generation, limited to the context, with its own seed, and aborted if the client disconnects;
    `written` finds the calls in a stream. Below `abstain_below` the answer is a refusal, so it is streamed when it is
    complete."""

    def __init__(self, shared: GenerateManager, written: CallFormat, abstain_below: float):
        self._thread, self._written, self._abstain_below = shared._thread, written, abstain_below

    def generate_streaming(
        self,
        model: PreTrainedModel,
        processor: PreTrainedTokenizerBase,
        inputs: Any,
        gen_config: GenerationConfig,
        request_id: str,
        response_parser: Any = None,
    ) -> tuple[asyncio.Queue[Any], DirectStreamer]:
        draw = self._drawing(model, processor, inputs, gen_config)
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        streamer = _Streamer(processor, self._written, loop, queue, response_parser)

        def run() -> None:
            try:
                draw(streamer)
            except _GenerationCancelled:
                loop.call_soon_threadsafe(queue.put_nowait, None)
            except Exception as error:
                loop.call_soon_threadsafe(queue.put_nowait, _StreamError(type(error).__name__))

        self.submit(run)
        return queue, streamer

    async def generate_non_streaming(
        self, model: PreTrainedModel, processor: Any, inputs: Any, gen_config: GenerationConfig, request_id: str
    ) -> Any:
        sequences = await self.async_submit(self._drawing(model, processor, inputs, gen_config))
        used = inputs["input_ids"].shape[-1]
        drawn = sequences[0, used:]
        return processor.decode(drawn, skip_special_tokens=True), used, drawn

    def _drawing(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, inputs: Any, config: GenerationConfig
    ) -> Callable[..., Any]:
        """Return the generating function for the thread that answers requests one by one."""
        limit, used = context_length(model), inputs["input_ids"].shape[-1]
        if used >= limit:
            raise UserError(f"the conversation has {used} tokens, more than the model's context of {limit}: shorten it")
        config.max_new_tokens = min(config.max_new_tokens, limit - used)
        seed, gone = vars(config).pop("seed_of_request", None), client_gone.get()

        def draw(streamer: DirectStreamer | None = None) -> Any:
            if gone.is_set():
                raise _GenerationCancelled
            more = {"tokenizer": tokenizer, "stopping_criteria": StoppingCriteriaList([_WhenGone(gone)])}
            if not self._abstain_below:
                more["streamer"] = streamer
            with torch.random.fork_rng(enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                drawn = model.generate(**inputs, generation_config=config, **more)
            if gone.is_set():
                raise _GenerationCancelled
            if self._abstain_below:
                prompt, answer = drawn[0].split([used, drawn.shape[1] - used])
                given = answer.tolist()
                if (checked := self._checked(model, tokenizer, prompt.tolist(), given)) != given:
                    config.max_new_tokens = len(checked) + 1  # a refusal is whole, whatever the request's limit
                answer = answer.new_tensor(checked)
                drawn = torch.cat([prompt, answer])[None]
                if streamer is not None:
                    for ids in (prompt, *answer.split(1)):
                        streamer.put(ids)
                    streamer.end()
            return drawn

        return draw

    def _checked(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], drawn: list[int]
    ) -> list[int]:
        """Return the answer's ids, or those of a refusal if it has no call and is below the threshold."""
        answer = StreamedAnswer(self._written)
        if any(calls for _, calls in map(answer.read, drawn)):
            return drawn
        end = drawn[-1:] if drawn[-1] in self._written.ends else []
        said = drawn[: len(drawn) - len(end)]
        if confidence(log_probabilities(model, prompt, said)) >= self._abstain_below:
            return drawn
        refusal: list[int] = tokenizer.encode(REFUSAL, add_special_tokens=False)
        return refusal + end


class _WhenGone(StoppingCriteria):
    """Stops generation if the client has disconnected."""

    def __init__(self, gone: threading.Event):
        self._gone = gone

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), self._gone.is_set(), device=input_ids.device)


class _Streamer(DirectStreamer):
    """transformers' stream of an answer's text, without its calls."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        written: CallFormat,
        loop: asyncio.AbstractEventLoop,
        queue: asyncio.Queue[Any],
        response_parser: Any,
    ):
        super().__init__(tokenizer._tokenizer, loop, queue, response_parser=response_parser)
        self._answer = StreamedAnswer(written)

    def put(self, value: Any) -> None:
        if self._first:  # the prompt
            super().put(value)
            return
        for token in value.tolist():
            ids, calls = self._answer.read(token)
            super().put(value.new_tensor(ids))  # even without ids: this is where a disconnected client is noticed
            self.total_tokens += 1 - len(ids)
            for call in calls:
                self._enqueue(ToolCall(name=call.call.name, arguments=json.dumps(call.arguments)))

    def end(self) -> None:
        ids = self._answer.rest()
        super().put(torch.tensor(ids, dtype=torch.long))
        self.total_tokens -= len(ids)
        super().end()


async def _refused(request: Any, error: HTTPException) -> JSONResponse:
    return refusal(error.status_code, error.detail)


async def _malformed(request: Any, error: RequestValidationError) -> JSONResponse:
    said = "; ".join(str(one.get("ctx", {}).get("error") or one["msg"]) for one in error.errors())
    return refusal(400, f"the body is not a JSON object (Content-Type: application/json): {said}")
