"use strict";
// Draws the page. Every text of the model enters as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const { sizes, tokens, lens } = data;
const count = tokens.length, layers = sizes.layers, heads = sizes.heads;
const last = lens[lens.length - 1], hasLens = lens.length > 1;
const special = new Set(data.special);
const chosen = { token: opening(), layer: layers - 1, head: 0 };
let pointed = {}; // what the mouse points at, which is shown instead of what is chosen
const at = (name) => pointed[name] ?? chosen[name];
const $ = (id) => document.getElementById(id);

/** The first token of the answer, after a thought and its line ends: the page opens there. */
function opening() {
  const names = tokens.map((id) => data.pieces[id]), begin = Math.max(names.lastIndexOf("</think>") + 1, data.start);
  const first = names.findIndex((name, i) => i >= begin && name.replaceAll("\\n", "").trim());
  return Math.min(first < 0 ? data.start : first, count - 1);
}

// ---- elements, texts, colours

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  return filled(made, attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return filled(made, attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (name === "style") Object.assign(made.style, value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const piece = (id) => data.pieces[id].replace(/^ +$/, (spaces) => "␣".repeat(spaces.length));
const quoted = (id) => `‘${piece(id)}’`;
const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

function cut(text, most) {
  const letters = [...text];
  return letters.length > most ? letters.slice(0, Math.max(most - 1, 1)).join("") + "…" : text;
}

function percent(p) {
  if (p >= 0.9995) return p >= 0.99995 ? "100%" : "99.9%";
  return p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : p >= 0.0001
    ? `${(100 * p).toFixed(2)}%` : "<0.01%";
}

// A token that was expected with certainty has no colour, and one of probability 1 in 4,000 the full colour.
const surprise = (p) => Math.min(1, -Math.log2(Math.max(p, 1e-9)) / 12);
const shade = (name, share) => `color-mix(in srgb, var(${name}) ${Math.round(70 * share)}%, transparent)`;

function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
  const whole = hex.length === 3 ? [...hex].map((digit) => digit + digit).join("") : hex;
  return [0, 2, 4].map((i) => parseInt(whole.slice(i, i + 2), 16));
}

// ---- attention: 16-bit weights, by layer, head and token, each token's for itself and the tokens before it

const weights = data.attention && decoded(atob(data.attention));
const triangle = (count * (count + 1)) / 2;

function decoded(bytes) {
  const numbers = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) numbers[i] = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
  return numbers;
}

function attention(layer, head, row) {
  const start = (layer * heads + head) * triangle + (row * (row + 1)) / 2;
  return weights.subarray(start, start + row + 1);
}

/** The share of a head's attention on other tokens than the token itself and the first, on which many heads rest. */
function elsewhere(layer, head, row) {
  const own = attention(layer, head, row);
  let sum = 0;
  for (let i = 1; i < row; i++) sum += own[i];
  return sum / 65535;
}

// ---- parts

/** Fill a grid with one row per token: its text, a bar for each value, and the values as text. */
function bars(place, rows, most, format = percent) {
  const two = rows.some((row) => row.values.length > 1);
  const grid = element("div", { class: two ? "bars two" : "bars" });
  for (const { id, values, is } of rows) {
    const name = element("span", { class: is ? "piece is" : "piece", title: piece(id) }, `${is ? "✓ " : ""}${quoted(id)}`);
    const track = element("div", { class: "track" });
    for (const value of values)
      track.append(element("b", { style: { width: `${(100 * Math.max(value, 0)) / most}%` } }));
    grid.append(name, track, element("span", { class: "value" }, values.map(format).join(" → ")));
  }
  place.replaceChildren(grid);
}

const following = (token) => (token + 1 < count ? tokens[token + 1] : undefined);

function likeliest(place, guesses, token, most) {
  bars(place, guesses.ids[token].slice(0, most).map((id, i) => (
    { id, values: [guesses.p[token][i]], is: id === following(token) })), 1);
}

function showText() {
  tokens.forEach((id, i) => {
    const isSpecial = special.has(id);
    const box = element("button", {
      type: "button", role: "option", tabindex: -1,
      class: [isSpecial ? "special" : "", i >= data.start ? "own" : ""].join(" "),
      style: i && !isSpecial ? { background: shade("--c2", surprise(last.next[i - 1])) } : {},
      title: i ? `expected with ${percent(last.next[i - 1])}` : "the first token: nothing comes before it",
    }, piece(id));
    box.addEventListener("click", () => choose({ token: i }));
    pointing(box, () => ({ token: i }));
    $("tokens").append(box);
    $("passage").append(element("span", isSpecial ? { class: "special" } : {}, piece(id)));
    if (piece(id).endsWith("\\n")) for (const place of ["tokens", "passage"]) $(place).append(element("i"));
  });
}

/** Show what the mouse points at, until it leaves. A finger only chooses. */
function pointing(place, what) {
  place.addEventListener("pointermove", (event) => {
    const found = (event.pointerType === "mouse" && what(event)) || {};
    if (["token", "layer", "head"].every((name) => found[name] === pointed[name])) return;
    pointed = found;
    later(show);
  });
  place.addEventListener("pointerleave", () => {
    pointed = {};
    later(show);
  });
}

// ---- the drawing of this model

function showDrawing() {
  const svg = $("drawing"), wide = svg.clientWidth >= 600, width = svg.clientWidth, token = at("token");
  const left = wide ? Math.min(540, width * 0.6) : width * 0.58, step = layers <= 8 ? 54 : layers <= 16 ? 36 : 26;
  const line = wide ? 84 : 30, box = line + 16, split = box + (left - box) * 0.62, tall = Math.min(step - 8, 38);
  const top = 86, bottom = top + layers * step, end = bottom + 78;
  const parts = [];
  const text = (x, y, said, kind = "", anchor = "start") =>
    parts.push(drawn("text", { x, y, class: kind, "text-anchor": anchor }, said));
  const framed = (y, said) => {
    parts.push(drawn("rect", { x: 0.5, y, width: left, height: 26, rx: 5, class: "box" }));
    text(left / 2, y + 17, said, wide ? "" : "small", "middle");
  };
  parts.push(drawn("line", { x1: line, x2: line, y1: 26, y2: bottom + 12, class: "line" }));
  framed(0, cut(`token ${quoted(tokens[token])}, id ${tokens[token]} in the vocabulary`, wide ? 60 : 28));
  framed(40, wide ? `its row of the embedding table: ${number(sizes.width)} numbers (${number(sizes.vocabulary)} rows)`
    : `its ${number(sizes.width)} numbers`);
  framed(bottom + 12, wide
    ? `output: a score for each of ${number(sizes.vocabulary)} tokens${sizes.tied ? ", with the same table" : ""}`
    : `scores of ${number(sizes.vocabulary)} tokens`);
  framed(bottom + 50, cut(`likeliest next: ${quoted(last.ids[token][0])} ${percent(last.p[token][0])}`, wide ? 60 : 28));
  const guesses = hasLens ? (wide ? 3 : 1) : 0, room = (width - left - 16) / Math.max(guesses, 1);
  const guess = (x, y, level, i) => {
    const id = level.ids[token][i], p = level.p[token][i];
    parts.push(drawn("rect", { x, y: y - 14, width: Math.max((room - 8) * p, 1), height: 20, rx: 3, class: "guess" }));
    text(x + 3, y, `${cut(piece(id), Math.floor((room - 48) / 8))}`, id === following(token) ? "piece is" : "piece");
    text(x + room - 12, y, percent(p), "soft small", "end");
  };
  if (hasLens) {
    const said = wide ? "what the embedding alone says, then after each layer" : "embedding, layers:";
    text(left + 16, 34, said, "soft small");
    for (let i = 0; i < guesses; i++) guess(left + 16 + i * room, 58, lens[0], i);
  }
  for (let layer = 0; layer < layers; layer++) {
    const y = top + layer * step, middle = y + step / 2;
    const group = drawn("g", { class: layer === at("layer") ? "layer chosen" : "layer", "data-layer": layer });
    const inside = parts.length;
    parts.push(drawn("rect", { x: 0, y, width, height: step, rx: 5, class: "back" }));
    parts.push(drawn("line", { x1: line, x2: line, y1: y, y2: y + step, class: "line" }));
    text(wide ? 4 : 1, middle + 4, wide ? `layer ${layer + 1}` : `${layer + 1}`, "soft");
    parts.push(drawn("line", { x1: line, x2: left, y1: middle, y2: middle, class: "thin" }));
    parts.push(drawn("rect", { x: split + 6, y: middle - tall / 2, width: left - split - 6, height: tall, rx: 4,
      class: "box" }));
    text((split + 6 + left) / 2, middle + 4, wide ? `MLP ${number(sizes.inner)}` : "MLP", "small", "middle");
    parts.push(drawn("rect", { x: box, y: middle - tall / 2, width: split - box, height: tall, rx: 4, class: "box" }));
    const each = (split - box - 6) / heads;
    for (let head = 0; head < heads; head++) {
      const seat = { x: box + 3 + head * each + 1, y: middle - tall / 2 + 4, width: Math.max(each - 2, 1),
        height: tall - 8, rx: 2 };
      parts.push(drawn("rect", { ...seat, class: "head", "data-head": head,
        "fill-opacity": weights ? 0.7 * elsewhere(layer, head, token) : 0 }));
      if (layer === at("layer") && head === at("head")) parts.push(drawn("rect", { ...seat, class: "picked",
        "pointer-events": "none" }));
    }
    for (let i = 0; i < guesses; i++) guess(left + 16 + i * room, middle + 4, lens[layer + 1], i);
    group.append(...parts.splice(inside));
    parts.push(group);
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${end}`);
  svg.replaceChildren(...parts);
}

/** What is at this place of the drawing, which is drawn again while the mouse moves over it: a layer, maybe a head. */
function pointedLayer(event) {
  const target = document.elementFromPoint(event.clientX, event.clientY), layer = target?.closest("[data-layer]");
  if (!layer) return {};
  const head = target.dataset.head;
  return { layer: Number(layer.dataset.layer), ...(head === undefined ? {} : { head: Number(head) }) };
}

function showLens() {
  $("after").hidden = $("lens").hidden = !hasLens;
  if (!hasLens) return;
  $("after").textContent = `What it would say after layer ${at("layer") + 1}`;
  likeliest($("lens"), lens[at("layer") + 1], at("token"), 5);
}

// ---- attention

let cellSize = 0;

function paint(canvas, wide, high, gap, maps) {
  const ink = colour("--c1"), paper = colour("--paper"), empty = colour("--panel");
  const [width, height] = [wide * (count + gap) - gap, high * (count + gap) - gap];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), pixels = image.data;
  // The square root makes small weights visible; a table of 256 steps is fast enough for a million pixels.
  const table = Array.from({ length: 257 }, (_, i) => ink.map((end, c) =>
    Math.round(paper[c] + (end - paper[c]) * Math.sqrt(i / 256))));
  for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) for (let row = 0; row < count; row++) {
    const own = attention(...maps(y, x), row);
    let place = 4 * ((y * (count + gap) + row) * width + x * (count + gap));
    for (let column = 0; column < count; column++, place += 4) {
      const rgb = column <= row ? table[own[column] >> 8] : empty;
      pixels[place] = rgb[0]; pixels[place + 1] = rgb[1]; pixels[place + 2] = rgb[2]; pixels[place + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function showAllHeads() {
  const room = Math.min(document.querySelector("main").clientWidth - 40, innerWidth - 40);
  const widest = innerWidth >= 900 ? room - 470 : room;
  cellSize = Math.max(Math.min(90, 900 / layers, widest / heads), 7);
  paint($("maps"), heads, layers, 2, (layer, head) => [layer, head]);
  $("maps").style.width = `${cellSize * heads}px`;
  $("all").parentElement.style.width = `${Math.min(Math.max(cellSize * heads, 250), room)}px`;
}

let painted = "", side = 0; // the head in the large map, and the size of its cells

function frame(place, left, top, width, height) {
  Object.assign(document.querySelector(`${place} .frame`).style, {
    transform: `translate(${left - 1}px, ${top - 1}px)`, width: `${width + 2}px`, height: `${height + 2}px` });
}

function showHead() {
  const layer = at("layer"), head = at("head"), token = at("token"), own = attention(layer, head, token);
  if (!painted) {
    showAllHeads();
    side = $("map").clientWidth / count;
  }
  if (painted !== `${layer} ${head}`) paint($("map"), 1, 1, 0, () => [layer, head]);
  painted = `${layer} ${head}`;
  $("layer").value = layer;
  $("head").value = head;
  frame("#all", head * cellSize, layer * cellSize, cellSize, cellSize);
  frame("#large", 0, token * side, (token + 1) * side, side);
  $("looks").textContent = `Reading ${quoted(tokens[token])}, head ${head + 1} of layer ${layer + 1} looks at`;
  showHint(token);
  const order = [...own.keys()].sort((a, b) => own[b] - own[a] || b - a).slice(0, 5);
  bars($("looked"), order.map((i) => ({ id: tokens[i], values: [own[i] / 65535] })), 1);
  [...$("passage").querySelectorAll("span")].forEach((span, i) => {
    span.classList.toggle("on", i === token);
    span.style.background = i <= token ? shade("--c1", Math.sqrt(own[i] / 65535)) : "";
    span.style.opacity = i <= token ? "" : 0.45;
  });
}

/** Name the three heads that look most at one earlier token, other than the first, on which many heads rest. */
function showHint(token) {
  const most = [];
  if ($("hint").dataset.token === `${token}`) return; // the button that was pressed keeps the focus
  $("hint").dataset.token = token;
  for (let layer = 0; layer < layers; layer++) for (let head = 0; head < heads; head++) {
    const own = attention(layer, head, token);
    let to = 1;
    for (let i = 2; i < token; i++) if (own[i] > own[to]) to = i;
    if (token > 1) most.push({ layer, head, to, share: own[to] / 65535 });
  }
  const found = most.sort((a, b) => b.share - a.share).slice(0, 3);
  $("hint").hidden = !found.length;
  $("hint").replaceChildren("Heads to open first, which look most at one earlier token from here: ",
    ...found.flatMap(({ layer, head, to, share }, i) => {
      const button = element("button", { type: "button" }, `layer ${layer + 1}, head ${head + 1}`);
      button.addEventListener("click", () => choose({ layer, head }));
      return [button, ` at ${quoted(tokens[to])} (${percent(share)})${i + 1 < found.length ? "; " : "."}`];
    }));
}

function pointedCell(event) {
  const box = $("map").getBoundingClientRect();
  const place = (value, start, size) => Math.min(count - 1, Math.max(0, Math.floor(((value - start) / size) * count)));
  return [place(event.clientY, box.top, box.height), place(event.clientX, box.left, box.width)];
}

function showCell(event) {
  const [row, column] = pointedCell(event);
  $("cell").textContent = column > row
    ? `${quoted(tokens[column])} comes after ${quoted(tokens[row])}: a token cannot look ahead.`
    : `${quoted(tokens[row])} (token ${row + 1}) looks at ${quoted(tokens[column])} (token ${column + 1}) with `
      + `${percent(attention(at("layer"), at("head"), row)[column] / 65535)} of its attention.`;
}

function pointedHead(event) {
  const box = $("maps").getBoundingClientRect();
  const place = (share, most) => Math.min(most - 1, Math.max(0, Math.floor(share * most)));
  return { layer: place((event.clientY - box.top) / box.height, layers),
    head: place((event.clientX - box.left) / box.width, heads) };
}

// ---- several models, and the step

function showModels() {
  if (!$("rows").firstChild) drawModels();
  const column = $("column");
  column.setAttribute("x", at("token") * column.getAttribute("width"));
}

/** The rows of the picture: what each model expected, its distance from this page's model, and PPO's values. */
function rowsOfModels() {
  return data.compare.flatMap(({ name, log_p: logs, kl, value }) => {
    // PPO trains values only at the tokens of answers.
    const own = value?.slice(data.start - 1), low = own && Math.min(...own), range = own && Math.max(...own) - low || 1;
    return [{ label: name, numbers: logs.map(Math.exp), ink: "--c2", share: surprise, says: percent },
      kl && { label: `KL divergence from ${name}`, numbers: kl, ink: "--c1", share: (one) => Math.min(1, one),
        says: (one) => `${one.toFixed(2)} nats` },
      value && { label: `value of ${name}`, from: data.start - 1, numbers: own, ink: "--c3",
        share: (one) => (one - low) / range, says: (one) => one.toFixed(2) }].filter(Boolean);
  });
}

function drawModels() {
  const svg = $("rows"), width = svg.clientWidth, high = 26, cell = width / count, parts = [], rows = rowsOfModels();
  rows.forEach(({ label, from = 0, numbers, ink, share, says }, i) => {
    const y = i * (high + 24) + 16;
    parts.push(drawn("text", { x: 0, y: y - 4, class: "soft small" }, cut(label, Math.floor(width / 6))));
    numbers.forEach((one, place) => {
      const j = place + from, box = drawn("rect", { x: (j + 1) * cell, y, width: cell, height: high, class: "cell",
        fill: shade(ink, share(one)) }, drawn("title", {}, `${piece(tokens[j + 1])} ${says(one)}`));
      box.addEventListener("click", () => choose({ token: j + 1 }));
      pointing(box, () => ({ token: j + 1 }));
      parts.push(box);
    });
  });
  tokens.slice(1).forEach((id, j) => parts.push(drawn("text", { class: "soft small", transform:
    `translate(${(j + 1.3) * cell}, ${rows.length * (high + 24) + 4}) rotate(90)` }, cut(piece(id), 9))));
  const height = rows.length * (high + 24) + 64;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts, drawn("rect", { class: "picked", id: "column", y: 12, width: cell, height: height - 12 }));
  const mean = (logs) => Math.exp(logs.slice(data.start - 1).reduce((a, b) => a + b, 0) / (count - data.start));
  $("totals").textContent = "Mean probability of the answer's tokens (geometric): "
    + data.compare.map(({ name, log_p: logs }) => `${name} ${percent(mean(logs))}`).join("; ") + ".";
  const logsOf = (i) => data.compare.map(({ log_p: logs }) => logs[i - 1]);
  const spread = (i) => Math.max(...logsOf(i)) - Math.min(...logsOf(i));
  const most = tokens.map((_, i) => i).slice(data.start).sort((a, b) => spread(b) - spread(a)).slice(0, 8);
  const body = most.map((i) => {
    const go = element("button", { type: "button", class: "piece" }, `${quoted(tokens[i])}`);
    go.addEventListener("click", () => choose({ token: i }));
    return element("tr", {}, element("th", {}, go, element("small", {}, ` ${i + 1}`)),
      ...logsOf(i).map((log) => element("td", {}, percent(Math.exp(log)))));
  });
  const short = (name) => name.split("/").filter(Boolean).slice(-2).join("/");
  const head = element("tr", {}, element("th", {}, "token"),
    ...data.compare.map(({ name }) => element("th", { title: name }, short(name))));
  $("moved").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

/** How hard a step of GRPO pulls at a token: the gradient of its own logit, advantage × (1 - probability). */
function showGroup() {
  if ($("answers").firstChild) return;
  const { right, answers } = data.group, rewards = answers.map(({ reward }) => reward), n = answers.length;
  const good = rewards.filter((one) => one > 0).length, differ = good > 0 && good < n;
  $("grouped").textContent = `Here the model answered ${n} times, and drew each token by its probability instead of `
    + `taking the likeliest. An answer is right, with reward 1, if its last number is ${right}, or, unless that is one `
    + `number, if it contains these words: ${good} of ${n} are right. ` + (differ
      ? "An answer's advantage is its reward less the group's mean, in standard deviations. All its tokens get that "
        + "advantage: a step makes the tokens of better answers more probable (↑, blue) and those of worse answers less "
        + "(↓, orange). The stronger the colour, the harder it pulls: not at a token that is certain already."
      : "All rewards are the same, so no answer is better than the others: a step of GRPO learns nothing here.");
  $("answers").replaceChildren(...answers.map(({ ids, log_p: logs, reward, advantage }) => {
    const row = element("p", { class: "answer" }, element("span", { class: "value" },
      `${reward > 0 ? "✓" : "✗"} ${advantage > 0 ? "↑" : advantage < 0 ? "↓" : ""} ${advantage.toFixed(2)} `));
    ids.forEach((id, i) => {
      const p = Math.exp(logs[i]), pull = advantage * (1 - p);
      row.append(element("span", { class: "piece", title: `${percent(p)}, pull ${pull.toFixed(2)}`,
        style: { background: shade(pull > 0 ? "--c1" : "--c2", Math.min(1, Math.abs(pull))) } }, data.pieces[id]));
    });
    return row;
  }));
}

function showDocuments() {
  const { texts, tokens: found } = data.documents, token = at("token"), row = found[token - data.start];
  document.querySelector("#documents .chosen").textContent = quoted(tokens[token]);
  $("traced").textContent = row ? "" : Object.keys(texts).length ? "Choose a token of the answer."
    : "No passage shares a word with this text.";
  $("blamed").replaceChildren(...(row?.blamed ?? []).map(([one, score]) =>
    element("li", {}, texts[one], element("small", {}, ` (${score.toFixed(2)})`))));
  $("ngrams").replaceChildren(...(row?.ngrams ?? []).map((one) => element("li", {}, texts[one])));
}

function showNudge() {
  const { rate, start, p, next } = data.nudge, token = at("token");
  const mean = (values) => Math.exp(values.slice(start - 1)
    .reduce((sum, value) => sum + Math.log(Math.max(value, 1e-7)), 0) / (count - start));
  $("nudged").textContent = "Training is many small steps like this one: all numbers of the model are moved a little in "
    + "the direction that makes the answer more probable (gradient descent). One step with learning rate "
    + `${rate} moved the mean probability of the answer's tokens from ${percent(mean(last.next))} to ${percent(mean(next))}.`;
  bars($("changed"), last.ids[token].slice(0, 6).map((id, i) => (
    { id, values: [last.p[token][i], p[token][i]], is: id === following(token) })), 1);
  const gain = (i) => next[i - 1] - last.next[i - 1];
  const order = tokens.map((_, i) => i).slice(start).filter((i) => gain(i) > 0.0005)
    .sort((a, b) => gain(b) - gain(a)).slice(0, 6);
  bars($("gained"), order.map((i) => ({ id: tokens[i], values: [last.next[i - 1], next[i - 1]] })), 1);
}

// ---- all of it

const sections = {
  text: showChosen,
  next: () => likeliest($("likeliest"), last, at("token"), 10),
  layers: () => { showDrawing(); showLens(); },
  attention: () => weights && showHead(),
  neighbours: showNeighbours,
  stages: () => data.compare.length && showModels(),
  group: () => data.group && showGroup(),
  documents: () => data.documents && showDocuments(),
  step: () => data.nudge && showNudge(),
};
const stale = new Set();
let shown = ""; // the tokens that the sections were last drawn for

function showChosen() {
  [...$("tokens").querySelectorAll("button")].forEach((box, i) => {
    box.classList.toggle("on", i === at("token"));
    box.tabIndex = i === chosen.token ? 0 : -1;
    box.setAttribute("aria-selected", i === chosen.token);
  });
}

function showNeighbours() {
  const id = tokens[at("token")], { ids, cosine } = data.neighbours[id];
  document.querySelector("#neighbours .chosen").textContent = quoted(id);
  bars($("similar"), ids.map((one, i) => ({ id: one, values: [cosine[i]] })), 1, (value) => value.toFixed(2));
}

function show() {
  const token = at("token");
  $("now").replaceChildren(`${token + 1} of ${count}: `, element("b", { class: "piece" }, quoted(tokens[token])), "  next: ",
    element("b", { class: "piece" }, quoted(last.ids[token][0])), ` ${percent(last.p[token][0])}`);
  const names = shown === `${token} ${chosen.token}` ? ["layers", "attention"] : Object.keys(sections);
  shown = `${token} ${chosen.token}`;
  for (const name of names) stale.add(name);
  showVisible();
}

/** Draw the sections that are on the screen, or all: a hover then changes little, and the answer is fast. */
function showVisible(all = false) {
  for (const name of [...stale]) {
    const box = $(name).getBoundingClientRect();
    if (name !== "text" && all !== true && (box.bottom < 0 || box.top > innerHeight)) continue;
    sections[name]();
    stale.delete(name);
  }
}

const waiting = new Set();

/** Run a function once before the next frame. */
function later(run) {
  if (!waiting.size) requestAnimationFrame(() => {
    const runs = [...waiting];
    waiting.clear();
    runs.forEach((one) => one());
  });
  waiting.add(run);
}

function choose(change) {
  pointed = {};
  Object.assign(chosen, change);
  const { token, layer, head } = chosen, within = $("tokens").contains(document.activeElement);
  show();
  if (within) $("tokens").querySelectorAll("button")[token].focus();
  $("live").textContent = `Token ${token + 1}, ${piece(tokens[token])}. Likeliest next: ${piece(last.ids[token][0])}, `
    + `${percent(last.p[token][0])}. Layer ${layer + 1}, head ${head + 1}.`;
}

const moved = (name, by, most) => choose({ [name]: Math.min(most - 1, Math.max(0, chosen[name] + by)) });

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select")) return;
  const inDrawing = event.target === $("drawing");
  const keys = { ArrowLeft: () => moved("token", -1, count), ArrowRight: () => moved("token", 1, count),
    ArrowUp: inDrawing && (() => moved("layer", -1, layers)), ArrowDown: inDrawing && (() => moved("layer", 1, layers)) };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function redraw() {
  painted = shown = "";
  $("rows").replaceChildren();
  show();
}

function start() {
  const about = [`${sizes.kind}: ${layers} layers of ${heads} attention heads, ${number(sizes.parameters)} parameters.`,
    `It can read up to ${number(sizes.context)} tokens; this text has ${count}.`];
  $("about").textContent = about.join(" ");
  $("written").textContent = data.given ? "the answer that was given" : "what the model wrote, a thought included, "
    + "always the likeliest token (greedy decoding)";
  const perLayer = sizes.parameters_layer ? ` (${number(sizes.parameters_layer)} parameters)` : "";
  $("way").textContent = `This is this model, from top to bottom. A token becomes ${number(sizes.width)} numbers, its `
    + "embedding. Each of "
    + `the ${layers} layers${perLayer} changes them: its ${heads} attention heads of width ${sizes.head_width} fetch `
    + "something from earlier tokens, and its MLP, a small network that sees one token at a time, works on the "
    + "result. A square is a head: the bluer, the more it reads from tokens other than the first and the token itself.";
  $("attention").hidden = !weights;
  $("stages").hidden = !data.compare.length;
  for (const [name, part] of [["group", data.group], ["documents", data.documents], ["step", data.nudge]])
    $(name).hidden = !part;
  $("missing").hidden = !data.missing.length;
  document.querySelector("#missing ul").append(...data.missing.map((line) => element("li", {}, line)));
  for (const [name, most] of [["layer", layers], ["head", heads]]) {
    for (let i = 0; i < most; i++) $(name).append(element("option", { value: i }, `${i + 1}`));
    $(name).addEventListener("change", () => choose({ [name]: Number($(name).value) }));
  }
  showText();
  $("back").addEventListener("click", () => moved("token", -1, count));
  $("forth").addEventListener("click", () => moved("token", 1, count));
  $("drawing").addEventListener("click", (event) => choose(pointedLayer(event)));
  pointing($("drawing"), pointedLayer);
  $("maps").addEventListener("click", (event) => choose(pointedHead(event)));
  pointing($("maps"), pointedHead);
  $("map").addEventListener("pointermove", showCell);
  $("map").addEventListener("click", (event) => choose({ token: pointedCell(event)[0] }));
  document.addEventListener("keydown", pressed);
  addEventListener("resize", () => later(redraw));
  addEventListener("scroll", () => later(showVisible), { passive: true });
  addEventListener("beforeprint", () => showVisible(true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => later(redraw));
  redraw();
}

start();
