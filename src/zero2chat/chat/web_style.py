"""How the page looks, and the script that shows a token's alternatives. In the report's colours; nothing is fetched."""

CSS = """
.gradio-container { --ink: #1d2329; --soft: #5d6873; --rule: #dde2e7; --panel: #f5f6f4; --paper: #fff;
  --accent: #2b6cb0; --good: #2f855a; --bad: #b83232;
  --s0: #e3f1ea; --s1: #eef0c9; --s2: #fbe3a6; --s3: #fbc58c; --s4: #f5a08c; --control: #4a5563; }
.dark .gradio-container, .gradio-container.dark { --ink: #e4e8ec; --soft: #9aa6b2; --rule: #323b44; --panel: #1c2228;
  --paper: #14181c; --accent: #7fb4ea; --good: #6cc799; --bad: #ef8a8a;
  --s0: #20392f; --s1: #3c4220; --s2: #57451a; --s3: #6b4120; --s4: #7a3528; --control: #6b7887; }
.gradio-container { width: 100%; max-width: 76rem !important; margin: 0 auto !important;
  height: 100vh; }
.gradio-container main { height: calc(100vh - 2rem); padding: 0 !important; }
.gradio-container main > .column { min-height: 0; }
.gradio-container .prose { max-width: none; }
#top, #talk, #talk .html-container { color: var(--ink); padding: 0; }
#top h1 { font: 600 1.5rem/1.2 "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia, serif;
  display: inline; margin: 0 .8rem 0 0; }
#top h1 + span { color: var(--soft); font-size: .9rem; }
#top p { margin: .45rem 0 0; color: var(--soft); font-size: .86rem; }
#top code { font: .95em ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; color: var(--ink);
  background: var(--panel); padding: .1rem .4rem; border-radius: .3rem; }
#legend { display: flex; flex-wrap: wrap; gap: .3rem .5rem; align-items: center; }
#talk { flex: 1 1 0 !important; min-height: 0; overflow-y: auto; gap: 0; padding: .1rem 1.2rem 1.2rem;
  border: 1px solid var(--rule); border-radius: .7rem; background: var(--paper); flex-wrap: nowrap; }
#talk .empty { color: var(--soft); text-align: center; padding: 4rem 1rem; }
.turn { padding-top: 1.1rem; }
.question { width: fit-content; max-width: 80%; margin: 0 0 .8rem auto; padding: .5rem .9rem; border-radius: .9rem;
  border-bottom-right-radius: .2rem; background: var(--accent); color: #fff; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.dark .question { color: #10151a; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
.answer { border: 1px solid var(--rule); border-radius: .7rem; padding: .6rem .9rem .8rem; background: var(--panel);
  min-width: 0; }
.answer.chosen { border-color: var(--good); box-shadow: 0 0 0 1px var(--good); }
.answer h2 { margin: 0 0 .4rem; font-size: .8rem; font-weight: 600; color: var(--soft); display: flex; gap: .6rem; }
.answer h2 b { margin-left: auto; color: var(--good); font-weight: 600; }
.said, .called { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1rem; line-height: 1.85; }
.called, .result { font: .88rem/1.7 ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; padding: .4rem .7rem;
  border-left: 3px solid var(--accent); margin: .4rem 0 0; background: var(--paper); border-radius: 0 .4rem .4rem 0; }
.result { border-color: var(--good); margin: 0 0 .5rem; white-space: pre-wrap; overflow-wrap: anywhere;
  color: var(--ink); }
.result b { display: block; font: 600 .72rem/1.4 system-ui, sans-serif; color: var(--good); }
.result.error { border-color: var(--bad); }
.result.error b { color: var(--bad); }
.token { border-radius: .25rem; padding: .12em 0; border-right: 1.5px solid var(--panel); cursor: pointer;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; color: var(--ink); }
.token i { color: var(--soft); opacity: .6; font-style: normal; font-size: .8em; }
.token.on, .token:hover { outline: 2px solid var(--accent); }
.called .token { border-color: var(--paper); }
.s0 { background: var(--s0); } .s1 { background: var(--s1); } .s2 { background: var(--s2); }
.s3 { background: var(--s3); } .s4 { background: var(--s4); }
.token.control { background: var(--control); color: #fff; margin: 0 .15em; padding: .1em .4em; white-space: nowrap;
  font: .74rem/1.4 ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
#legend .token { padding: .05rem .5rem; cursor: default; font-size: .8rem; outline: none; }
.note { color: var(--soft); font-size: .88rem; margin: .7rem 0 0; }
.note.mistake { color: var(--bad); }
#instead { position: fixed; z-index: 999; width: 19rem; padding: .6rem .8rem .7rem; border-radius: .6rem;
  font: .84rem/1.5 system-ui, sans-serif; background: var(--paper, #fff); color: var(--ink, #1d2329);
  border: 1px solid var(--rule, #dde2e7); box-shadow: 0 .5rem 1.6rem rgb(0 0 0 / .18); pointer-events: none; }
#instead[hidden] { display: none; }
#instead p { margin: 0 0 .35rem; color: var(--soft, #5d6873); }
#instead div { display: grid; grid-template-columns: 1fr 3.2rem; gap: .5rem; align-items: baseline; position: relative;
  padding: .05rem .4rem; margin-top: 2px; }
#instead div::before { content: ""; position: absolute; inset: 0 auto 0 0; width: var(--share); z-index: -1;
  background: var(--s0, #e3f1ea); border-radius: .25rem; }
#instead code { font: .95em ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; white-space: pre;
  overflow: hidden; text-overflow: ellipsis; }
#instead span { text-align: right; font-variant-numeric: tabular-nums; }
#instead .drawn { font-weight: 700; } #instead .drawn::before { background: var(--s2, #fbe3a6); }
#top .prose, #top .html-container { padding: 0; }
.gradio-container button { white-space: nowrap; font-size: .95rem; }
"""

# Text is only inserted as textContent. A click keeps the alternatives open; Escape or a click elsewhere
# closes them.
SCRIPT = """<script>
(() => {
  let box = null, kept = null;
  const row = (id, text, share, name) => {
    const line = document.createElement("div"), code = document.createElement("code");
    const number = document.createElement("span");
    line.className = name; line.title = id; line.style.setProperty("--share", 100 * share + "%");
    code.textContent = text; number.textContent = (100 * share).toFixed(1) + "%";
    line.append(code, number);
    return line;
  };
  const hide = () => { if (box) box.hidden = true; if (kept) kept.classList.remove("on"); kept = null; };
  const show = token => {
    const page = document.querySelector(".gradio-container");
    if (!box) { box = document.createElement("div"); box.id = "instead"; }
    if (!page.contains(box)) page.append(box);
    const [drawn, ...likeliest] = JSON.parse(token.dataset.drawn), title = document.createElement("p");
    title.textContent = "token " + drawn[0] + " · what could have stood here";
    box.replaceChildren(title);
    for (const one of likeliest) box.append(row(...one, one[0] === drawn[0] ? "drawn" : ""));
    if (!likeliest.some(one => one[0] === drawn[0])) box.append(row(...drawn, "drawn"));
    box.hidden = false;
    const at = token.getClientRects()[0], width = box.offsetWidth, height = box.offsetHeight;
    box.style.left = Math.max(8, Math.min(at.left, innerWidth - width - 8)) + "px";
    box.style.top = (at.bottom + height + 12 < innerHeight ? at.bottom + 6 : at.top - height - 6) + "px";
  };
  const token = event => event.target.closest && event.target.closest(".token[data-drawn]");
  document.addEventListener("mouseover", event => {
    if (kept && kept.isConnected) return;
    const found = token(event);
    found ? show(found) : hide();
  });
  document.addEventListener("click", event => {
    hide();
    const found = token(event);
    if (found) { show(found); kept = found; found.classList.add("on"); }
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, true);
  // The newest is in view, unless one has scrolled up to read.
  new MutationObserver(() => {
    const talk = document.getElementById("talk");
    if (!talk || talk.dataset.seen === String(talk.scrollHeight)) return;
    const before = Number(talk.dataset.seen || 0);
    if (talk.scrollTop + talk.clientHeight > before - 80) talk.scrollTop = talk.scrollHeight;
    talk.dataset.seen = talk.scrollHeight;
  }).observe(document, {childList: true, subtree: true, characterData: true});
})();
</script>"""
