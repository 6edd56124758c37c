// Shows a token's alternatives. Text is only inserted as textContent. A click, or Tab and the arrow keys, keeps the
// alternatives open; Escape or a click elsewhere closes them.
(() => {
  let box = null, kept = null;
  const row = (id, text, share, name) => {
    const line = document.createElement("div"), code = document.createElement("code");
    const number = document.createElement("span");
    line.className = name; line.title = id; line.style.setProperty("--share", 100 * share + "%");
    code.textContent = "'" + text + "'"; number.textContent = (100 * share).toFixed(1) + "%";
    line.append(code, number);
    return line;
  };
  const hide = () => { if (box) box.hidden = true; if (kept) kept.classList.remove("on"); kept = null; };
  const show = token => {
    const page = document.querySelector(".gradio-container");
    if (!box) { box = document.createElement("div"); box.id = "instead"; box.role = "status"; }
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
  const keep = token => { hide(); show(token); kept = token; token.classList.add("on"); };
  const token = event => event.target.closest && event.target.closest(".token[data-drawn]");
  document.addEventListener("mouseover", event => {
    if (kept && kept.isConnected) return;
    const found = token(event);
    found ? show(found) : hide();
  });
  document.addEventListener("click", event => {
    const found = token(event);
    found ? keep(found) : hide();
  });
  document.addEventListener("focusin", event => { const found = token(event); if (found) keep(found); });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    const way = {ArrowLeft: -1, ArrowRight: 1}[event.key], found = way && token(event);
    if (!found) return;
    const seen = [...document.querySelectorAll(".token[data-drawn]")].filter(one => one.getClientRects().length);
    (seen[seen.indexOf(found) + way] || found).focus();
    event.preventDefault();
  });
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
