"""The web page: chat with a model, its tokens with their alternatives, its tool calls, and blind comparison of two.

It uses Gradio. Each browser tab has its own conversation, in Gradio's session state; one answer is generated at a time.
The server only accepts requests of its own page, and the page cannot load anything from other hosts.

It is built of Gradio's blocks: in `gr.ChatInterface`, each update of an answer passes through its list of all messages,
Stop cancels an answer before its last update, and votes on blind answers would need a layout of their own anyway.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.chat.local_server import listen, run, take_own_names
from zero2chat.chat.web_html import SHADES, AnswerMarkup, text
from zero2chat.core.errors import UserError
from zero2chat.data.preference_files import append_ranking, mend, read_rankings
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_for_use
from zero2chat.models.tokenization import control_ids, split_thought, token_bytes

if TYPE_CHECKING:
    import gradio as gr
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 4000  # characters of a message
LARGEST_REQUEST = 64 * 1024  # bytes
CONVERSATIONS = 32  # kept in memory; beyond that, the least recently used one begins again
WAITING = 16  # maximum queued messages
TURNS = 50  # shown per conversation
_TICK = 0.1  # seconds between two updates of a growing answer

# The parts of Gradio's API that the page uses. Uploads, state links and others are blocked.
_CALLS = ("queue/join", "queue/data", "heartbeat", "info", "startup-events", "app_id")
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass
class SharedModel:
    """A model shared by all visitors, with its sampling settings, system prompt and tools.

    Raises `UserError` if it cannot chat, or if its tokenizer is not a byte-level BPE.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    system: str | None
    tools: Tools | None

    def __post_init__(self) -> None:
        try:
            self.token_bytes, self.control = token_bytes(self.tokenizer), control_ids(self.tokenizer)
            self.session()
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error

    def session(self, question: int = 0) -> Session:
        """Return a new conversation, with a different seed for each question."""
        sampling = replace(self.sampling, seed=(self.sampling.seed + question) % 2**63)
        return Session(self.model, self.tokenizer, sampling, self.system, self.tools)


@dataclass
class Exchange:
    """A question and its answer: by one model, or by two in an order hidden from the visitor."""

    question: str
    models: list[SharedModel] = field(default_factory=list)
    answers: list[AnswerMarkup] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # set when all are complete
    named: bool = True
    chosen: int | None = None
    note: str = ""
    mistake: bool = False

    @property
    def html(self) -> str:
        sides = []
        for place, (model, answer) in enumerate(zip(self.models, self.answers, strict=True)):
            name, shown = (text(model.name), answer.html) if self.named else ("AB"[place], answer.blind)
            chosen, mark = (" chosen", "<b>your choice</b>") if self.chosen == place else ("", "")
            sides.append(f'<div class="answer{chosen}"><h2>{name}{mark}</h2>{shown}</div>')
        note = f'<p class="note{" mistake" * self.mistake}">{text(self.note)}</p>' if self.note else ""
        question = f'<div class="question">{text(self.question)}</div>'
        return f'<section class="turn">{question}<div class="answers">{"".join(sides)}</div>{note}</section>'


@dataclass
class Visitor:
    """The state of one browser tab."""

    session: Session | None = None  # for one model; with two, each question is a new conversation
    turns: list[Exchange] = field(default_factory=list)
    asked: int = 0
    stopped: bool = False
    votes: Counter[str] = field(default_factory=Counter)

    @property
    def ballot(self) -> Exchange | None:
        """Return the turn to vote on."""
        turn = self.turns[-1] if self.turns else None
        return turn if turn and turn.texts and not turn.named else None


class ChatPage:
    """The page's actions. It holds the models; a visitor's state is in the `Visitor` passed in."""

    def __init__(self, models: list[SharedModel], out: Path | None = None):
        self.models, self.out = models, out

    def arrive(self) -> Visitor:
        return Visitor(self.models[0].session() if len(self.models) == 1 else None)

    def ask(self, visitor: Visitor, question: str) -> Iterator[Exchange]:
        """Yield the growing turn every `_TICK` seconds. A mistake is shown as its note."""
        question = question.strip()
        if not question:
            return
        models = random.sample(self.models, len(self.models))
        visitor.asked += 1
        sessions = [visitor.session] if visitor.session else [model.session(visitor.asked) for model in models]
        dropped = sum(session.dropped for session in sessions)
        try:
            if len(question) > LONGEST:
                raise UserError(f"the message has {len(question)} characters: the maximum is {LONGEST}")
            replies = [session.reply(question) for session in sessions]
        except UserError as error:
            turn = Exchange(question[:200], note=str(error), mistake=True)
            visitor.turns = [*visitor.turns, turn][-TURNS:]
            yield turn
            return
        if visitor.ballot:
            visitor.ballot.named = True  # reveal the models of a turn without a vote
        answers = [AnswerMarkup(model.token_bytes, model.control) for model in models]
        turn = Exchange(question, models, answers, named=len(models) == 1)
        visitor.turns, visitor.stopped = [*visitor.turns, turn][-TURNS:], False
        for session in sessions:
            session.record = []
        yield turn
        shown, left = time.monotonic(), list(range(len(models)))
        try:
            while left and not visitor.stopped:
                for place in list(left):
                    piece = next(replies[place], None)
                    answers[place].take(sessions[place].record, piece)
                    if piece is None:
                        left.remove(place)
                if time.monotonic() > shown + _TICK:
                    yield turn
                    shown = time.monotonic()
        finally:
            for session, reply, answer in zip(sessions, replies, answers, strict=True):
                reply.close()  # type: ignore[attr-defined]
                answer.take(session.record, None)
        turn.texts = [session.turns[-1].assistant for session in sessions]
        forgotten = sum(session.dropped for session in sessions)
        if left:
            turn.note, turn.named = "Stopped.", True
        elif len(models) > 1 and len({said.strip() for said in turn.texts}) == 1:
            turn.note, turn.named = "Both answers are the same: nothing to vote on.", True
        elif forgotten > dropped:
            turn.note = f"The context is full; oldest turns dropped: {forgotten}."
        yield turn

    def vote(self, visitor: Visitor, chosen: int | None) -> None:
        """Vote for the left answer (0), the right one (1), or neither, which is not saved. Afterwards the models are
        revealed."""
        turn = visitor.ballot
        if turn is None:
            return
        turn.named, turn.chosen = True, chosen
        names = [model.name for model in turn.models]
        visitor.votes[names[chosen] if chosen is not None else "neither"] += 1
        turn.note = "Your votes: " + ", ".join(f"{name} {n}" for name, n in visitor.votes.most_common()) + "."
        if chosen is None or self.out is None:
            return
        system = turn.models[0].system
        prompt = [{"role": "system", "content": system}] if system else []
        prompt.append({"role": "user", "content": turn.question})
        texts = [split_thought(said)[1] for said in turn.texts]
        pair = (texts[chosen], texts[1 - chosen])
        try:
            append_ranking(self.out, f"{names[chosen]} > {names[1 - chosen]}", prompt, [pair])
        except UserError as error:
            turn.note, turn.mistake = str(error), True

    # ---- the Gradio interface

    def blocks(self) -> gr.Blocks:
        import gradio as gr

        two = len(self.models) > 1
        with gr.Blocks(title="zero2chat", analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
            visitor = gr.State(None)  # None until the first question: an idle tab costs nothing
            gr.HTML(self._top(), elem_id="top")
            with gr.Column(elem_id="talk", scale=1):
                # Complete turns are sent once; only the growing turn is sent repeatedly.
                earlier = gr.HTML()
                latest = gr.HTML(self._empty())
            with gr.Row(visible=False, elem_id="ballot") as ballot:
                votes = [gr.Button(name, size="sm") for name in ("◀ A is better", "No difference", "B is better ▶")]
            with gr.Row(equal_height=True):
                hint = "Ask both, and say which answer is better" if two else "Ask something"
                shown = {"show_label": False, "container": False, "autofocus": True}
                question = gr.Textbox(placeholder=hint, max_length=LONGEST, scale=8, **shown)
                ask = gr.Button("Ask", variant="primary", min_width=90, scale=1)
                stop = gr.Button("Stop", min_width=90, scale=1, visible=False)
                restart = gr.Button("Start over", min_width=110, scale=1)

        def answer(state: Visitor | None, words: str) -> Iterator[tuple[Any, ...]]:
            skip, begun = gr.skip(), False
            state = state or self.arrive()
            for turn in self.ask(state, words):
                if begun:
                    yield skip, skip, turn.html, *[skip] * 5
                    continue
                begun = True
                before = "".join(turn.html for turn in state.turns[:-1])
                busy = gr.Button(visible=False), gr.Button(visible=True), gr.Button(interactive=False)
                yield state, before, turn.html, gr.Row(visible=False), "", *busy
            free = gr.Button(visible=True), gr.Button(visible=False), gr.Button(interactive=True)
            yield state, skip, skip, gr.Row(visible=state.ballot is not None), skip, *free

        def cast(state: Visitor | None, chosen: int | None) -> tuple[Any, ...]:
            if state is not None:
                self.vote(state, chosen)
            return state.turns[-1].html if state else gr.skip(), gr.Row(visible=False)

        def halt(state: Visitor | None) -> None:
            if state is not None:
                state.stopped = True

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        with blocks:
            talk = [visitor, earlier, latest, ballot]
            restart.click(lambda: (None, "", self._empty(), gr.Row(visible=False)), outputs=talk, **quiet)
            gr.on(
                [question.submit, ask.click],
                answer,
                inputs=[visitor, question],
                outputs=[*talk, question, ask, stop, restart],
                concurrency_limit=1,
                **quiet | {"show_progress": "minimal", "show_progress_on": question},
            )
            stop.click(halt, inputs=visitor, concurrency_limit=WAITING, **quiet)
            for button, chosen in zip(votes, (0, None, 1), strict=True):
                vote = partial(cast, chosen=chosen)
                button.click(vote, inputs=visitor, outputs=[latest, ballot], api_name="cast", **quiet)
        return blocks.queue(max_size=WAITING, api_open=False)

    def _top(self) -> str:
        names = " against ".join(f"<code>{text(model.name)}</code>" for model in self.models)
        shades = "".join(f'<span class="token {shade}">{label}</span>' for _, shade, label in SHADES)
        legend = (
            f'<p id="legend">How likely each token was: {shades}<span class="token control">control token</span>'
            "Click a token to see its alternatives.</p>"
        )
        return f"<h1>zero2chat</h1><span>{names}</span>{legend}"

    def _empty(self) -> str:
        if len(self.models) == 1:
            return '<p class="empty">No messages yet. The conversation is forgotten when you reload the page.</p>'
        kept = f"are added to <code>{text(str(self.out))}</code>" if self.out else "are not saved (<code>--out</code>)"
        return (
            '<p class="empty">Both models answer the same question. You see which model is which, and the token '
            "probabilities, after you have voted.<br>Each question starts a new conversation. "
            f"Votes {kept}.</p>"
        )


# ---- the server


def ui(
    model: str,
    against: str | None = None,
    sampling: Sampling | None = None,
    system: str | None = None,
    tools: Tools | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    out: str | None = None,
    against_tools: Tools | None = None,
) -> None:
    """Serve the page until Ctrl-C. Votes are appended to `out` in the format of `zero2chat rank`.

    Each model has its own tools, because they may have been trained with different ones.

    Raises `UserError` if Gradio is not installed, a model cannot be loaded or has no chat template, `out` is not
    writable, or the port is taken.
    """
    # Gradio reads these when it is imported.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("ui: gradio is not installed: `make ui` does that, or `pip install 'zero2chat[ui]'`") from error
    if out and not against:
        raise UserError("out: votes need two models: give the second with --against")
    file = Path(out) if out else None
    if file:
        read_rankings(file)  # a file that is none of ours is refused before models are loaded
    with listen(host, port) as listener:
        sampling = sampling or Sampling()
        compared = [(model, tools), (against, against_tools)] if against else [(model, tools)]
        page = ChatPage([SharedModel(name, *load_for_use(name), sampling, system, its) for name, its in compared], file)
        if file:
            mend(file, read_rankings(file)[1])  # again: others may have added some while the models were loading
        # Each tab's heartbeat is an endless request; its end at shutdown is not an error to print.
        run(application(page, listener.getsockname()[0]), listener, "{} (Ctrl-C ends it)", log_level="critical")


def application(page: ChatPage, address: str) -> Any:
    """Return the server's ASGI application."""
    import fastapi
    import gradio as gr

    blocks = page.blocks()
    blocks.state_session_capacity = CONVERSATIONS
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)
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


class Guard:
    """ASGI middleware: requests must be small and to known paths, and the page loads nothing from other hosts."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers, path = dict(scope["headers"]), scope["path"]
            call = path.removeprefix("/gradio_api/")
            known = call in _CALLS or call.startswith("heartbeat/")
            known = known or (call == path and scope["method"] in ("GET", "HEAD"))
            length = headers.get(b"content-length", b"0")
            small = b"transfer-encoding" not in headers and length.isdigit() and int(length) <= LARGEST_REQUEST
            if not (known and small):
                await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body"})
                return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *policy]}
            await send(message)

        await self._app(scope, receive, guarded)
