"""The web page: chat with a model, and see each token with its alternatives, and the tool calls. A call that needs
consent waits for Yes or No.

The page uses Gradio. Each browser tab has its own conversation, kept in Gradio's session state. One answer is generated
at a time. The server only accepts the page's requests, and the page cannot load anything from other hosts.

It uses `gr.Blocks`, not `gr.ChatInterface`. With the latter, each update of an answer would handle the list of all
messages, and Stop would cancel an answer before its last update.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.chat.defaults import about
from zero2chat.chat.local_server import listen, run, take_own_names
from zero2chat.chat.terminal import limits_met, outcome
from zero2chat.chat.web_html import SHADES, AnswerMarkup, text
from zero2chat.core.errors import UserError
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Consent, Tools, world_tools
from zero2chat.models.loading import load_for_use, naming
from zero2chat.models.tokenization import control_ids, token_bytes
from zero2chat.tools.environments import Episode, opening

if TYPE_CHECKING:
    import gradio as gr
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 4000  # characters that one can type
LARGEST_REQUEST = 64 * 1024  # bytes
CONVERSATIONS = 32  # kept in memory; beyond that, the least recently used one begins again
WAITING = 16  # maximum queued messages
TURNS = 50  # shown per conversation
_TICK = 0.1  # seconds between two updates of a growing answer
_PATIENCE = 120.0  # seconds that a call waits for consent, while other visitors wait too; then it stops
_PAUSE = 0.5  # seconds until the button Yes is shown: a double click on it must not allow the next call, too
_EMPTY = '<p class="empty">No messages yet. The conversation is forgotten when you reload the page.</p>'

# The parts of Gradio's API that the page uses. Uploads, state links and others are blocked.
_CALLS = ("queue/join", "queue/data", "heartbeat", "info", "startup-events", "app_id")
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass
class Exchange:
    """A question and its answer."""

    question: str
    answer: AnswerMarkup
    note: str = ""

    @property
    def html(self) -> str:
        said = f'<div class="question">{text(self.question)}</div><div class="answer">{self.answer.html}</div>'
        note = f'<p class="note">{text(self.note)}</p>' if self.note else ""
        return f'<section class="turn">{said}{note}</section>'


@dataclass
class Visitor:
    """The state of one browser tab."""

    session: Session
    turns: list[Exchange] = field(default_factory=list)
    stopped: bool = False
    episode: Episode | None = None  # of the world that the model acts in
    waits: str = ""  # the label of the button that allows the waiting call
    allowed: bool | None = None  # what the visitor said to it


def press(visitor: Visitor | None, label: str) -> None:
    """Take a click on a button. A late click on the Yes of an earlier call is ignored, and nothing takes Stop back."""
    if visitor is not None and label and label in ("Stop", "No", visitor.waits):
        visitor.stopped, visitor.allowed = visitor.stopped or label == "Stop", label == visitor.waits


class ChatPage:
    """The actions of the page. The page holds the model, which all visitors share. The `Visitor` that is passed in
    holds one visitor's state.

    If `row` is a world's, each conversation begins in this world anew, and the first question opens it. Raises
    `UserError` if the model cannot chat, or if its tokenizer is not a byte-level BPE.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling | None = None,
        system: str | None = None,
        tools: Tools | None = None,
        row: dict[str, Any] | None = None,
    ):
        self.first, before = opening(row) if row else ("", None)  # the first question, and the system prompt
        self._of_session, self._tools, self._row = (model, tokenizer, sampling, system or before), tools, row
        with naming(name):
            self._token_bytes, self._control = token_bytes(tokenizer), control_ids(tokenizer)
            self._about = about(name, self.arrive().session)

    def arrive(self) -> Visitor:
        episode = Episode(self._row) if self._row else None
        tools = world_tools(episode.name).of(episode) if episode else self._tools
        return Visitor(Session(*self._of_session, tools), episode=episode)

    def ask(self, visitor: Visitor, question: str) -> Iterator[Exchange]:
        """Yield the growing turn every `_TICK` seconds. If a `UserError` occurs, it becomes the turn's note."""
        if not (question := question.strip()):
            return
        session = visitor.session
        answer = AnswerMarkup(self._token_bytes, self._control, session.thoughts)
        turn = Exchange(question, answer)
        visitor.turns, visitor.stopped = [*visitor.turns, turn][-TURNS:], False
        session.record, dropped, shown, asked = [], session.dropped, time.monotonic(), 0
        yield turn
        try:
            for piece in session.reply(question):  # once this loop is left, the reply is closed: the turn is whole
                if isinstance(piece, Consent):
                    asked, visitor.allowed, begun = asked + 1, None, time.monotonic()
                    turn.note = f"The model asks whether it may call {piece.call.name}: {piece.call.argument}"
                    while visitor.allowed is None and not visitor.stopped:
                        waited = time.monotonic() - begun
                        visitor.waits = f"Yes to call {asked}" if waited > _PAUSE else ""
                        yield turn
                        time.sleep(_TICK)
                        visitor.stopped = visitor.stopped or waited > _PATIENCE
                    piece.allowed, visitor.waits, turn.note = bool(visitor.allowed), "", ""
                elif piece or not session.sampling.abstain_below:  # otherwise not final: it may still be declined
                    answer.take(session.record, piece, session.declined)
                if time.monotonic() > shown + _TICK:
                    yield turn
                    shown = time.monotonic()
                if visitor.stopped:
                    turn.note = "Stopped."
                    break
        except UserError as error:
            turn.note = str(error)
        finally:
            answer.take(session.record, None)
        turn.note = turn.note or limits_met(session, dropped, "Start over")
        if visitor.episode:
            turn.note = f"{turn.note} {outcome(visitor.episode).capitalize()}.".strip()
        yield turn

    # ---- the Gradio interface

    def blocks(self) -> gr.Blocks:
        import gradio as gr

        with gr.Blocks(title="zero2chat", analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
            visitor = gr.State(None)  # None until the first question: an idle tab costs nothing
            gr.HTML(self._top(), elem_id="top")
            with gr.Column(elem_id="talk", scale=1):
                # Complete turns are sent once; only the growing turn is sent repeatedly.
                earlier, latest = gr.HTML(), gr.HTML(_EMPTY)
            with gr.Row(equal_height=True):
                shown = {"show_label": False, "container": False, "autofocus": True}
                question = gr.Textbox(self.first, placeholder="Ask something", max_length=LONGEST, scale=8, **shown)
                ask = gr.Button("Ask", variant="primary", min_width=90, scale=1)
                yes = gr.Button("Yes", variant="primary", min_width=70, scale=1, visible=False)
                no = gr.Button("No", min_width=70, scale=1, visible=False)
                stop = gr.Button("Stop", min_width=90, scale=1, visible=False)
                restart = gr.Button("Start over", min_width=110, scale=1)

        def answer(state: Visitor | None, words: str) -> Iterator[tuple[Any, ...]]:
            skip, begun, state = gr.skip(), False, state or self.arrive()
            for turn in self.ask(state, words):
                if begun:
                    asks = {"visible": bool(state.waits)}
                    yield skip, skip, turn.html, *[skip] * 4, gr.Button(state.waits, **asks), gr.Button(**asks)
                    continue
                begun = True
                before = "".join(turn.html for turn in state.turns[:-1])
                busy = gr.Button(visible=False), gr.Button(visible=True), gr.Button(interactive=False)
                yield state, before, turn.html, "", *busy, skip, skip
            free = gr.Button(visible=True), gr.Button(visible=False), gr.Button(interactive=True)
            yield state, skip, skip, skip, *free, *[gr.Button(visible=False)] * 2

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        with blocks:
            talk = [visitor, earlier, latest]
            restart.click(lambda: (None, "", _EMPTY, self.first), outputs=[*talk, question], **quiet)
            gr.on(
                [question.submit, ask.click],
                answer,
                inputs=[visitor, question],
                outputs=[*talk, question, ask, stop, restart, yes, no],
                concurrency_limit=1,
                **quiet | {"show_progress": "minimal", "show_progress_on": question},
            )
            for button in (yes, no, stop):
                button.click(press, inputs=[visitor, button], concurrency_limit=WAITING, **quiet)
        return blocks.queue(max_size=WAITING, api_open=False)

    def _top(self) -> str:
        shades = "".join(f'<span class="token {shade}">{label}</span>' for _, shade, label in SHADES)
        shades += '<span class="token control">control token</span>'
        how = "Click a token, or press Tab and the arrow keys, to see its alternatives."
        legend = f'<p id="legend">How likely each token was: {shades}{how}</p>'
        return f"<h1>zero2chat</h1><span>{text(self._about)}</span>{legend}"


# ---- the server


def ui(model: str, host: str, port: int, *shared: Any) -> None:
    """Serve the page until Ctrl-C. `shared` are further arguments of `ChatPage`.

    Raises `UserError` if Gradio is not installed, the model cannot be loaded or has no chat template, or the port is
    taken.
    """
    # Gradio reads these when it is imported.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("ui: gradio is not installed: run `make ui`, or `pip install 'zero2chat[ui]'`") from error
    with listen(host, port) as listener:
        page = ChatPage(model, *load_for_use(model), *shared)
        # Each tab's heartbeat is an endless request; its end at shutdown is not an error to print.
        run(application(page, listener.getsockname()[0]), listener, "{} (Ctrl-C ends it)", log_level="critical")


def application(page: ChatPage, address: str) -> Any:
    """Return the server's ASGI application."""
    import fastapi
    import gradio as gr

    blocks = page.blocks()
    blocks.state_session_capacity = CONVERSATIONS
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: fastapi.Request, call_next: Callable[[fastapi.Request], Awaitable[Any]]) -> Any:
        """Accept only small requests to known paths, and forbid the page to load anything from other hosts."""
        # Not `request.url`, whose path begins in the Host header.
        path, length = request.scope["path"], request.headers.get("content-length", "0")
        call = path.removeprefix("/gradio_api/")
        known = call in _CALLS or call.startswith("heartbeat/") or (call == path and request.method in ("GET", "HEAD"))
        small = "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= LARGEST_REQUEST
        response = await call_next(request) if known and small else fastapi.Response(status_code=403)
        response.headers.update({"content-security-policy": _POLICY, "referrer-policy": "no-referrer"})
        return response

    take_own_names(app, address)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "Consolas", "monospace"]}
    own = Path(__file__)
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate", **fonts),
        css_paths=own.with_suffix(".css"),
        head=f"<script>\n{own.with_suffix('.js').read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,  # otherwise every visitor can read the queue's statistics
    )
