"""The page's style sheet: light and dark, for desktop, phone and print."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fdfdfb; --panel: #f5f6f4; --ink: #1d2329; --soft: #5d6873; --rule: #dde2e7; --accent: #2b6cb0;
  --good: #2f855a; --bad: #b83232; --partly: #b7791f;
  --c1: #2b6cb0; --c2: #c2571a; --c3: #2f855a; --c4: #8a4fb5; --c5: #b7791f; --c6: #c53a6b; --c7: #3a8f9e;
  --c8: #6b7280;
  --t1: #cfe3f7; --t2: #fbdcc6; --t3: #cdecd9; --t4: #e6d6f5; --t5: #f7e7b4; --t6: #f9d3df; }
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #14181c; --panel: #1c2228; --ink: #e4e8ec; --soft: #9aa6b2; --rule: #323b44; --accent: #7fb4ea;
  --good: #6cc799; --bad: #ef8a8a; --partly: #e0b45c;
  --c1: #6ba8e5; --c2: #ee925c; --c3: #69c092; --c4: #bd92e0; --c5: #e0b45c; --c6: #ee82a6; --c7: #72c3d0;
  --c8: #a3abb5;
  --t1: #1f4468; --t2: #6b3a1b; --t3: #1f5238; --t4: #4c3068; --t5: #5f4a14; --t6: #692a42; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header.top, nav, main, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header.top { padding-top: 3.5rem; }
h1, h2, h3 { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia, serif;
  line-height: 1.2;
  font-weight: 600; text-wrap: balance; }
h1 { font-size: clamp(2rem, 6vw, 3rem); margin: .2rem 0 .6rem; }
h2 { font-size: 1.85rem; margin: 0 0 .8rem; }
h3 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { max-width: 44rem; margin: .6rem 0; }
a { color: var(--accent); }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
small { color: var(--soft); font-weight: 400; }
.eyebrow { color: var(--soft); font-size: .82rem; letter-spacing: .04em; margin: 0 0 .3rem; }
.lead, .story { font-size: 1.1rem; }
.aside, .note { color: var(--soft); font-size: .92rem; }
.note { border-left: 3px solid var(--partly); padding: .3rem .8rem; background: var(--panel); }
section { border-top: 1px solid var(--rule); padding: 3rem 0 1.5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .7rem;
  margin: 1.4rem 0; }
.card { background: var(--panel); border-radius: .6rem; padding: .8rem 1rem; display: flex;
  flex-direction: column; }
.card b { font-size: 1.55rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span { font-size: .9rem; line-height: 1.35; }
.card small { margin-top: .3rem; line-height: 1.35; font-size: .78rem; }
nav ol { list-style: none; padding: 0; margin: 1.6rem 0 2.5rem; }
nav a { display: grid; grid-template-columns: 2rem 1fr auto; gap: .2rem .6rem; padding: .55rem .2rem;
  border-top: 1px solid var(--rule); text-decoration: none; color: inherit; align-items: baseline; }
nav a:hover b { color: var(--accent); }
nav a i { color: var(--soft); font-style: normal; font-variant-numeric: tabular-nums; }
nav a b { font-weight: 600; }
nav a small { text-align: right; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr));
  gap: 1.2rem 2rem;
  margin: 1.4rem 0; align-items: start; }
@media (min-width: 54rem) { .gallery.small { grid-template-columns: repeat(3, 1fr); gap: 1.2rem; } }
figure { margin: 0; max-width: 34rem; }
figure svg { width: 100%; height: auto; display: block; font-family: inherit; }
figcaption { font-size: .88rem; color: var(--soft); margin-top: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .4rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: baseline;
  overflow-wrap: normal; }
td { overflow-wrap: anywhere; } td br + small { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; }
tbody th { font-weight: 500; }
.bar { display: inline-block; height: .7rem; min-width: 2px; background: var(--c1); border-radius: 2px; }
blockquote.said { margin: .5rem 0; padding: .6rem .9rem; background: var(--panel); border-radius: .5rem;
  font-size: .93rem;
  max-width: 44rem; }
blockquote, .tokens, dd { white-space: pre-wrap; unicode-bidi: isolate; }
cite { display: block; font-style: normal; color: var(--soft); font-size: .82rem; }
.tokens { font: .92rem/1.9 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  max-width: 52rem;
  margin-top: 1rem; }
.tokens span { border-radius: .2rem; padding: .12rem 0; }
.t1 { background: var(--t1); } .t2 { background: var(--t2); } .t3 { background: var(--t3); }
.t4 { background: var(--t4); } .t5 { background: var(--t5); } .t6 { background: var(--t6); }
.timeline { list-style: none; margin: 1.2rem 0; padding: 0 0 0 1.3rem; border-left: 2px solid var(--rule); }
.timeline li { position: relative; margin-bottom: 1.3rem; }
.timeline li::before { content: ""; position: absolute; left: -1.72rem; top: .45rem; width: .7rem;
  height: .7rem;
  border-radius: 50%; background: var(--c1); border: 2px solid var(--paper); }
.timeline li > span { font-size: .86rem; color: var(--soft); }
.timeline li > span b { color: var(--ink); }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr));
  gap: .8rem; margin: .8rem 0; }
.answer { background: var(--panel); border-radius: .5rem; padding: .7rem .95rem;
  border-left: 4px solid var(--soft); }
.answer header { display: flex; justify-content: space-between; gap: 1rem; font-size: .85rem;
  color: var(--soft); }
.right { border-color: var(--good); } .right header b { color: var(--good); }
.wrong { border-color: var(--bad); } .wrong header b { color: var(--bad); }
.partly { border-color: var(--partly); } .partly header b { color: var(--partly); }
.answer dl { display: grid; grid-template-columns: 5.6rem 1fr; gap: .25rem .6rem; margin: .5rem 0 0;
  font-size: .93rem; }
.answer dt { color: var(--soft); font-size: .82rem; padding-top: .1rem; } .answer dd { margin: 0; }
.answer dd.answered { font-weight: 550; } .answer dd.at { color: var(--soft); }
.claim { border-top: 1px solid var(--rule); margin-top: 2.4rem; } .claim h3 { font-size: 1.45rem; margin-top: 1.6rem; }
.result { display: flex; gap: .9rem; align-items: baseline; margin: .9rem 0; padding: .1rem 0 .1rem .9rem;
  border-left: 4px solid var(--soft); }
.result > b { font-size: 2.1rem; line-height: 1.15; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
.result small { display: block; font-size: .88rem; } .result.right { border-color: var(--good); }
.result.wrong { border-color: var(--bad); } .mark { font-weight: 700; }
.right > b + span small b, small.right, .mark.right { color: var(--good); }
.wrong > b + span small b, small.wrong, .mark.wrong { color: var(--bad); }
.claim td, .claim th { padding-right: .8rem; } .claim td:last-child { padding-right: 0; }
.claim td br + small, .claim th br + small { white-space: normal; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .92rem; }
footer { padding: 1.5rem 1.25rem 4rem; color: var(--soft); font-size: .88rem; }
@media (max-width: 34rem) {
  header.top { padding-top: 2rem; } section { padding-top: 2rem; }
  .cards { grid-template-columns: 1fr 1fr; } .card { padding: .65rem .8rem; } .card b { font-size: 1.3rem; }
  nav a { grid-template-columns: 1.4rem 1fr; } nav a small { grid-column: 2; text-align: left; }
  .answer dl { grid-template-columns: 1fr; gap: 0; } .answer dd { margin-bottom: .4rem; } }
@media print {
  :root { --paper: #fff; --panel: #f6f6f6; --ink: #000; --soft: #444; --rule: #ccc; color-scheme: light; }
  body { font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, .card, .answer, .result, blockquote, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { display: block; content-visibility: visible; } }
"""
