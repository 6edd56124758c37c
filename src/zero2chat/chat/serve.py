"""`transformers serve` for one model, where nothing that a client sends is taken for a control token.

Model, server, requests, answers and streams are theirs (`transformers.cli.serving`). Ours are four hooks: we load the
model, and no request loads another; of their endpoints the chat alone is left; control tokens in whatever a client
sends are broken before the chat template is applied; calls are read by the ids of control tokens. A client's tools are
the client's to run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from transformers.utils.import_utils import is_serve_available

from zero2chat.chat.answers import CONTENT_ONLY, Answer, AnswerReader, without_calls
from zero2chat.chat.guard import listen, take_own_names
from zero2chat.chat.session import Sampling
from zero2chat.chat.tools import CallFormat
from zero2chat.errors import UserError, nearest
from zero2chat.models import context_length, end_ids, load_for_use
from zero2chat.tokens import neutral

if not is_serve_available():
    raise UserError("serve: transformers' server is not installed: pip install 'zero2chat[serve]'")

import torch
import uvicorn
from fastapi import FastAPI
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

from zero2chat.chat.requests import LONGEST_REQUEST as LONGEST_REQUEST
from zero2chat.chat.requests import Connection, WholeRequests, client_gone, refusal

if TYPE_CHECKING:
    import threading

    from starlette.responses import JSONResponse
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

ENGINES = ("transformers", "vllm")

# The others take text in which control tokens are control tokens, load or unload models, or fetch what they are told.
ENDPOINTS = ("/v1/chat/completions", "/v1/models", "/health")

# They would set the chat template, options of `generate` that cost any amount, and ids that no vocabulary has.
REFUSED = ("chat_template_kwargs", "generation_config", "logit_bias")

MOST_CONNECTIONS = 64
MOST_TOOLS = 128
MOST_STOPS, LONGEST_STOP = 4, 100


def serve(path: str, host: str = "127.0.0.1", port: int = 8000, engine: str = "transformers") -> None:
    """Serve a model to OpenAI's clients until Ctrl-C. Port 0 is a free one; the line that is printed names it.

    Raises `UserError` where the engine, the address, or the model and its chat template cannot be had.
    """
    if engine not in ENGINES:
        raise UserError(f"--engine: no engine '{engine}'{nearest(engine, list(ENGINES))}")
    if engine == "vllm":
        raise UserError(
            "--engine vllm: not supported: vLLM's server would not neutralise control tokens in a client's text: "
            "use --engine transformers"
        )
    # Before the model is loaded: a port in use is said at once.
    with listen(host, port) as listening:
        address, port = listening.getsockname()[:2]
        app = application(path, address)
        shown = f"[{host}]" if ":" in host else host
        print(f"{path}: http://{shown}:{port}/v1 (Ctrl-C ends it)", flush=True)
        # A stream that nobody ends is cut off at Ctrl-C.
        config = uvicorn.Config(
            app,
            http=Connection,
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listening])


def application(path: str, address: str = "127.0.0.1") -> FastAPI:
    """Their server for the model of this folder or Hub name, to be listening at that address."""
    try:
        model, tokenizer = load_for_use(path)
        reader = _reader(model, tokenizer)
    except UserError as error:
        raise error if str(error).startswith(path) else UserError(f"{path}: {error}") from error
    state = GenerationState()
    app = build_server(
        manager := _OneModel(path, model, tokenizer),
        _Chat(manager, state, reader),
        completion_handler=None,
        response_handler=None,
        transcription_handler=None,
        systemone_handler=None,
        generation_state=state,
    )
    app.router.routes[:] = [route for route in app.routes if route.path in ENDPOINTS]
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(WholeRequests)
    take_own_names(app, address)
    return app


def _reader(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> AnswerReader:
    """What reads the model's answers, put in the place of the tokenizer's own."""
    if not tokenizer.chat_template:
        raise UserError("the model has no chat template: use one that was trained to chat, such as an sft step's")
    reader = AnswerReader(tokenizer, end_ids(model, tokenizer))
    reader.format(None)  # a template that refuses a plain conversation is said here and now
    tokenizer.response_template = without_calls(get_response_template(tokenizer, model) or CONTENT_ONLY)
    tokenizer.parse_response = reader.parse_response
    return reader


class _OneModel(ModelManager):
    """Their keeper of models, which has this one and never loads another."""

    def __init__(self, path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self._model, self._tokenizer = model, tokenizer
        super().__init__(force_model=path)

    def _load_processor(self, *_: Any, **__: Any) -> PreTrainedTokenizerBase:
        return self._tokenizer

    def _load_model(self, *_: Any, **__: Any) -> PreTrainedModel:
        return self._model


class _Chat(ChatCompletionHandler):
    """Their chat endpoint, with safe texts, bounds, and calls read by ids. What cannot be served is an error 400."""

    def __init__(self, manager: ModelManager, state: GenerationState, reader: AnswerReader):
        super().__init__(model_manager=manager, generation_state=state)
        self._reader = reader

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        try:
            return await super().handle_request(body, request_id)
        except (UserError, TemplateError) as error:
            raise HTTPException(400, str(error)) from error
        except _GenerationCancelled as left:
            raise HTTPException(499, "the client has disconnected") from left  # which nobody reads
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise HTTPException(400, f"invalid request: {type(error).__name__}: {error}") from error

    def _validate_request(self, body: dict[str, Any]) -> None:
        super()._validate_request(body)
        for field in REFUSED:
            if body.get(field):
                raise UserError(f"{field} is not supported")
        longest = body.get("max_completion_tokens")
        given = {
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
            "seed": body.get("seed"),
            "max_new_tokens": body.get("max_tokens") if longest is None else longest,
        }
        Sampling(**{name: value for name, value in given.items() if value is not None})
        if not 0 <= (body.get("frequency_penalty") or 0) <= 2:
            raise UserError("frequency_penalty is out of range: give 0 to 2")
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        if len(stops) > MOST_STOPS or any(not 0 < len(stop) <= LONGEST_STOP for stop in stops):
            raise UserError(f"stop: expected at most {MOST_STOPS} strings of 1 to {LONGEST_STOP} characters")
        tools = body.get("tools") or []
        if len(tools) > MOST_TOOLS:
            raise UserError(f"tools: {len(tools)} are too many: the maximum is {MOST_TOOLS}")
        body["tools"] = None if body.get("tool_choice") == "none" else neutral(tools, self._reader.tokenizer) or None
        self._reader.format(body["tools"])

    def get_processor_inputs_from_messages(self, messages: list[dict[str, Any]], modality: Any) -> list[dict[str, Any]]:
        read = super().get_processor_inputs_from_messages(messages, modality)
        for message, sent in zip(read, messages, strict=True):
            # They drop the text before a call, which this model wrote and has been trained to see.
            if message.get("tool_calls") and isinstance(sent.get("content"), str):
                message["content"] = sent["content"]
        conversation: list[dict[str, Any]] = neutral(read, self._reader.tokenizer)
        return conversation

    def _build_generation_config(self, body: dict[str, Any], *args: Any, **more: Any) -> GenerationConfig:
        # Theirs would seed the one generator of this process at once, in the midst of another request's answer.
        config = super()._build_generation_config({**body, "seed": None}, *args, **more)
        config.seed_of_request = body.get("seed")
        if body.get("temperature"):
            config.do_sample = True  # else it has no effect, where the model's own is greedy
        config.eos_token_id = sorted(self._reader.format(body["tools"]).stops)
        return config

    def _streaming(self, *args: Any, gen_manager: GenerateManager, tools: Any) -> Any:
        return super()._streaming(*args, gen_manager=_Generation(gen_manager, self._reader.format(tools)), tools=tools)

    async def _non_streaming(self, *args: Any, gen_manager: GenerateManager, tools: Any) -> Any:
        generation = _Generation(gen_manager, self._reader.format(tools))
        return await super()._non_streaming(*args, gen_manager=generation, tools=tools)


class _Generation(GenerateManager):
    """Their generation, within the context, by a seed of its own, and while its client is there; `written` tells the
    calls in a stream."""

    def __init__(self, shared: GenerateManager, written: CallFormat):
        self._thread, self._written = shared._thread, written

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
                draw(streamer=streamer)
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

    @staticmethod
    def _drawing(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, inputs: Any, config: GenerationConfig
    ) -> Callable[..., Any]:
        """What generates, on the thread where one request is answered after another."""
        limit, used = context_length(model), inputs["input_ids"].shape[-1]
        if used >= limit:
            raise UserError(f"the conversation has {used} tokens, more than the model's context of {limit}: shorten it")
        config.max_new_tokens = min(config.max_new_tokens, limit - used)
        seed, gone = vars(config).pop("seed_of_request", None), client_gone.get()

        def draw(**more: Any) -> Any:
            if gone.is_set():
                raise _GenerationCancelled
            more |= {"tokenizer": tokenizer, "stopping_criteria": StoppingCriteriaList([_WhenGone(gone)])}
            with torch.random.fork_rng(enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                drawn = model.generate(**inputs, generation_config=config, **more)
            if gone.is_set():
                raise _GenerationCancelled
            return drawn

        return draw


class _WhenGone(StoppingCriteria):
    """Nothing more is generated for a client that has left."""

    def __init__(self, gone: threading.Event):
        self._gone = gone

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), self._gone.is_set(), device=input_ids.device)


class _Streamer(DirectStreamer):
    """Their stream of an answer's text, from which calls are taken by the ids of their tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        written: CallFormat,
        loop: asyncio.AbstractEventLoop,
        queue: asyncio.Queue[Any],
        response_parser: Any,
    ):
        super().__init__(tokenizer._tokenizer, loop, queue, response_parser=response_parser)
        self._answer = Answer(written)

    def put(self, value: Any) -> None:
        if self._first:  # the prompt
            super().put(value)
            return
        for token in value.tolist():
            ids, call = self._answer.read(token)
            super().put(value.new_tensor(ids))  # without ids too: it is there that a client who has left is noticed
            self.total_tokens += 1 - len(ids)
            if call:
                self._enqueue(ToolCall(name=call.call.name, arguments=json.dumps(call.arguments)))

    def end(self) -> None:
        ids = self._answer.rest()
        super().put(torch.tensor(ids, dtype=torch.long))
        self.total_tokens -= len(ids)
        super().end()


async def _refused(request: Any, error: HTTPException) -> JSONResponse:
    return refusal(error.status_code, error.detail)
