"""The web page: chat with a model, its tokens with their alternatives, its tool calls, and blind comparison of two.

It uses Gradio. Each browser tab has its own conversation, in Gradio's session state; one answer is generated at a time.
The server only accepts requests of its own page, and the page cannot load anything from other hosts.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zero2chat.chat.request_filter import Guard, listen, take_own_names
from zero2chat.chat.web_html import SHADES, Alphabet, AnswerMarkup, text
from zero2chat.core.errors import UserError
from zero2chat.data.preference_files import append_ranking, mend, read_rankings
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_for_use
from zero2chat.models.tokenization import split_thought

if TYPE_CHECKING:
    import gradio as gr
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 4000  # characters of a message
CONVERSATIONS = 32  # kept in memory; beyond that, the least recently used one is forgotten
WAITING = 16  # maximum queued messages
TURNS = 50  # shown per conversation
_FORGOTTEN = '<p class="note">Too many other visitors came since: this conversation is forgotten.</p>'
_TOKEN = re.compile(r'<span class="token s\d" data-drawn="[^"]*">(.*?)</span>', re.DOTALL)
_DRAWN = re.compile(r' data-drawn="[^"]*"')  # of control tokens
_TICK = 0.1  # seconds between two updates of a growing answer

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace"]


@dataclass
class SharedModel:
    """A model shared by all visitors, with its sampling settings, system prompt and tools."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    system: str | None
    tools: Tools | None

    def __post_init__(self) -> None:
        try:
            self.alphabet = Alphabet(self.tokenizer)
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
    models: list[SharedModel]
    answers: list[AnswerMarkup]
    texts: list[str] = field(default_factory=list)  # set when all are complete
    named: bool = True
    chosen: int | None = None
    note: str = ""
    mistake: bool = False

    @property
    def html(self) -> str:
        sides = []
        for place, (model, answer) in enumerate(zip(self.models, self.answers, strict=True)):
            name = text(model.name) if self.named else "AB"[place]
            mark = "<b>your choice</b>" if self.chosen == place else ""
            chosen = " chosen" if self.chosen == place else ""
            shown = answer.html if self.named else _blind(answer.html)
            sides.append(f'<div class="answer{chosen}"><h2>{name}{mark}</h2>{shown}</div>')
        note = f'<p class="note{" mistake" * self.mistake}">{text(self.note)}</p>' if self.note else ""
        question = f'<div class="question">{text(self.question)}</div>'
        return f'<section class="turn">{question}<div class="answers">{"".join(sides)}</div>{note}</section>'


def _blind(markup: str) -> str:
    """Return an answer's markup without tokens and probabilities.

    RL makes a model more confident, so the colours alone could identify it, and so could the ids of its tokenizer.
    Texts in the markup are escaped: they contain no tags or quotation marks.
    """
    return _DRAWN.sub("", _TOKEN.sub(r"\1", markup))


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
        if len(question) > LONGEST:
            question, length = question[:200] + "…", len(question)
            yield self._refused(visitor, question, f"the message has {length} characters: the maximum is {LONGEST}")
            return
        models = random.sample(self.models, len(self.models))
        visitor.asked += 1
        sessions = [visitor.session] if visitor.session else [model.session(visitor.asked) for model in models]
        turn = Exchange(question, models, [AnswerMarkup(model.alphabet) for model in models], named=len(models) == 1)
        dropped = sum(session.dropped for session in sessions)
        for session in sessions:
            session.record = []
        try:
            replies = [session.reply(question) for session in sessions]
        except UserError as error:
            yield self._refused(visitor, question, str(error))
            return
        if visitor.ballot:
            visitor.ballot.named = True  # reveal the models of a turn without a vote
        visitor.turns = [*visitor.turns, turn][-TURNS:]
        visitor.stopped = False
        yield turn
        shown, left = time.monotonic(), list(range(len(models)))
        try:
            while left and not visitor.stopped:
                for place in list(left):
                    if not self._step(sessions[place], replies[place], turn.answers[place]):
                        left.remove(place)
                if time.monotonic() > shown + _TICK:
                    yield turn
                    shown = time.monotonic()
        finally:
            for session, reply, answer in zip(sessions, replies, turn.answers, strict=True):
                reply.close()  # type: ignore[attr-defined]
                self._take(session, answer)
        forgotten = sum(session.dropped for session in sessions)
        if forgotten > dropped:
            turn.note = f"The context is full; oldest turns dropped: {forgotten}."
        texts = [session.turns[-1].assistant for session in sessions]
        if left:
            turn.note, turn.named = "Stopped.", True
        elif len(models) > 1 and len({told.strip() for told in texts}) == 1:
            turn.note, turn.named = "Both answers are the same: nothing to vote on.", True
        turn.texts = texts
        yield turn

    def _step(self, session: Session, reply: Iterator[Any], answer: AnswerMarkup) -> bool:
        """Return the next piece of an answer, if any."""
        piece = next(reply, None)
        self._take(session, answer)
        if piece is not None and not isinstance(piece, str):
            answer.close(piece)
        return piece is not None

    def _take(self, session: Session, answer: AnswerMarkup) -> None:
        for drawn in session.record or []:
            answer.add(drawn)
        session.record = []

    def _refused(self, visitor: Visitor, question: str, why: str) -> Exchange:
        turn = Exchange(question, [], [], note=why, mistake=True)
        visitor.turns = [*visitor.turns, turn][-TURNS:]
        return turn

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
        try:
            append_ranking(
                self.out,
                f"{names[chosen]} > {names[1 - chosen]}",
                prompt,
                [(split_thought(turn.texts[chosen])[1], split_thought(turn.texts[1 - chosen])[1])],
            )
        except UserError as error:
            turn.note, turn.mistake = str(error), True

    # ---- the Gradio interface

    def blocks(self) -> gr.Blocks:
        import gradio as gr

        two = len(self.models) > 1
        with gr.Blocks(title="zero2chat", analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
            visitor = gr.State(None)  # None until the first question: an idle tab costs nothing
            told = gr.Number(0, visible=False)  # number of turns shown in the tab, even if forgotten here
            gr.HTML(self._top(), elem_id="top")
            with gr.Column(elem_id="talk", scale=1):
                # Complete turns are sent once; only the growing turn is sent repeatedly.
                earlier = gr.HTML()
                latest = gr.HTML(self._empty())
            with gr.Row(visible=False, elem_id="ballot") as ballot:
                votes = [gr.Button(name, size="sm") for name in ("◀ A is better", "No difference", "B is better ▶")]
            with gr.Row(equal_height=True):
                question = gr.Textbox(
                    placeholder="Ask both, and say which answer is better" if two else "Ask something",
                    max_length=LONGEST,
                    show_label=False,
                    container=False,
                    autofocus=True,
                    scale=8,
                )
                ask = gr.Button("Ask", variant="primary", min_width=90, scale=1)
                stop = gr.Button("Stop", min_width=90, scale=1, visible=False)
                restart = gr.Button("Start over", min_width=110, scale=1)

        def answer(state: Visitor | None, words: str, told: float) -> Iterator[tuple[Any, ...]]:
            skip, begun = gr.skip(), False
            before = _FORGOTTEN if state is None and told else ""
            state = state or self.arrive()
            for turn in self.ask(state, words):
                if begun:
                    yield skip, skip, turn.html, *[skip] * 6
                    continue
                begun = True
                before += "".join(turn.html for turn in state.turns[:-1])
                busy = gr.Button(visible=False), gr.Button(visible=True), gr.Button(interactive=False)
                yield state, before, turn.html, gr.Row(visible=False), len(state.turns), "", *busy
            free = gr.Button(visible=True), gr.Button(visible=False), gr.Button(interactive=True)
            yield state, skip, skip, gr.Row(visible=state.ballot is not None), skip, skip, *free

        def start_over() -> tuple[Any, ...]:
            return None, "", self._empty(), gr.Row(visible=False), 0

        def vote(chosen: int | None) -> Any:
            def cast(state: Visitor | None) -> tuple[Any, ...]:
                if state is None:
                    return _FORGOTTEN, gr.Row(visible=False)
                self.vote(state, chosen)
                return state.turns[-1].html, gr.Row(visible=False)

            return cast

        def halt(state: Visitor | None) -> None:
            if state is not None:
                state.stopped = True

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        with blocks:
            shown = [visitor, earlier, latest, ballot, told]
            restart.click(start_over, outputs=shown, **quiet)
            gr.on(
                [question.submit, ask.click],
                answer,
                inputs=[visitor, question, told],
                outputs=[*shown, question, ask, stop, restart],
                concurrency_limit=1,
                **quiet | {"show_progress": "minimal", "show_progress_on": question},
            )
            stop.click(halt, inputs=visitor, concurrency_limit=WAITING, **quiet)
            for button, chosen in zip(votes, (0, None, 1), strict=True):
                button.click(vote(chosen), inputs=visitor, outputs=[latest, ballot], **quiet)
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
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"ui: {error.name} is not installed: `make ui` does that, or `pip install 'zero2chat[ui]'`"
        ) from error
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
        address, port = listener.getsockname()[:2]
        # Each tab's heartbeat is an endless request; its end at shutdown is not an error to print.
        config = uvicorn.Config(application(page, address), log_level="critical", timeout_graceful_shutdown=1)
        print(f"http://{f'[{address}]' if ':' in address else address}:{port} (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def application(page: ChatPage, address: str) -> Any:
    """Return the server's ASGI application."""
    import fastapi
    import gradio as gr

    blocks = page.blocks()
    blocks.state_session_capacity = CONVERSATIONS
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)
    take_own_names(app, address)
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=_MONO)
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=theme,
        css=Path(__file__).with_suffix(".css").read_text(encoding="utf-8"),
        head=f"<script>\n{Path(__file__).with_suffix('.js').read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
    )
