"""Does the crawl do what it should? Runs the corpus stage on generated pages with known labels.

    python benchmarks/crawl_labels.py [--development] [--only languages …] [--pages 1] [--folder DIR] [--json]

Writes WARC files, runs `zero2chat_crawl.crawl` on them with the settings of recipes/debian-docs, and compares:

    languages   share of the kept pages with the right language
    duplicates  recall on pairs with a Jaccard similarity from 0.8 to 1 (of the pipeline's own word 5-grams), compared
                with the theoretical value for the buckets and rows; and distinct pages that are removed
    personal    e-mail and IPv4 addresses that are masked; lookalikes that are masked too
    main_text   F1 of the words of the main text, compared with trafilatura alone

For each measure, unrelated steps are switched off so that they remove no pages. Intervals are 95%.

The test uses the Debian Administrator's Handbook (a package's pages, in 26 languages). `--development` is the set on
which settings and patterns were chosen. It uses the installation guide and other generators: other page layouts,
boilerplate, sentences, formats of personal data and seeds. It changes words all over a page; the test replaces, adds or
removes a passage. Nothing was chosen on the test. About 6 minutes on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml
from lxml import html

from zero2chat.core.stats import mean, rate
from zero2chat.data.decontamination import in_a_row
from zero2chat_crawl.debian_docs import Package, fetch, write_warc
from zero2chat_crawl.pii import PLACEHOLDERS
from zero2chat_crawl.settings import Minhash

RECIPE = Path("recipes/debian-docs/corpus.yaml")
HANDBOOK = Package(
    "debian-handbook",
    "11.20220922",
    "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa",
    "debian-handbook/html",
    "https://handbook.example",
)
GUIDE = Package(
    "installation-guide-amd64",
    "20250803+deb13u1",
    "c8fa00404f19f3f108a8242d9d0f341a3cf7565aceb31802ce6b14e2b054bae4",
    "installation-guide-amd64",
    "https://guide.example",
)
BANDS = (0.8, 0.85, 0.9, 0.95, 1.0)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Texts = dict[str, list[str]]  # language → paragraphs


class Item(NamedTuple):
    """A number or address in a sentence. `kind` is the kind of personal data, or None for a lookalike."""

    kind: str | None
    form: str
    text: str


class Article(NamedTuple):
    """A page's main text: blocks of (tag, text). Lists and tables have one text per item."""

    blocks: list[tuple[str, Any]]

    @property
    def words(self) -> Counter[str]:
        said = (part for _, text in self.blocks for part in ([text] if isinstance(text, str) else text))
        return words_of(" ".join(said))


def words_of(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


# ---- real text


def paragraphs(package: Package, path: str, folder: Path) -> Texts:
    """Real paragraphs by language, without those that the package leaves untranslated."""
    root = folder / package.name
    if not root.exists():
        (file,) = fetch([package], folder / "packages")
        subprocess.run(["dpkg-deb", "--extract", str(file), str(root)], check=True)
    found: Texts = {}
    for directory in sorted((root / "usr/share/doc" / package.folder).iterdir()):
        language = {"nb": "no"}.get(directory.name[:2], directory.name[:2])
        for file in sorted(directory.glob("*.html")):
            for node in html.fromstring(file.read_bytes()).xpath(path):
                text = " ".join(node.text_content().split())
                if len(text.split()) >= 25 or (language in ("zh", "ja") and len(text) >= 80):
                    found.setdefault(language, []).append(text)
    english = {row for text in found["en"] for row in in_a_row(text.split(), 4)}

    def is_translated(text: str) -> bool:
        """Whether hardly any four consecutive words are those of the English edition."""
        rows = list(in_a_row(text.split(), 4))
        return sum(row in english for row in rows) <= 0.2 * len(rows)

    return {
        language: list(dict.fromkeys(text for text in some if language == "en" or is_translated(text)))
        for language, some in found.items()
    }


# ---- generators: development


class Development:
    """The set on which settings and patterns were chosen."""

    seed = 1
    package, path = GUIDE, "//p[not(.//p)]"

    def variant(self, words: list[str], other: Sequence[str], goal: float, rng: random.Random) -> list[str]:
        """Words exchanged one by one, all over the text."""
        count = round((len(words) - 4) * (1 - goal) / (1 + goal) / 5)
        for place in rng.sample(range(len(words)), count):
            words[place] = rng.choice(other)
        return words

    sentences = (
        "Please write to {} about it.",
        "The entry in the list was {} at that time.",
        "They gave {} as an answer.",
        "In the margin somebody wrote {}, twice underlined.",
    )

    def items(self, rng: random.Random) -> list[Item]:
        name, host = (
            rng.choice(("ann.lee", "info", "b_smith", "jo-ann")),
            rng.choice(("example.org", "mail.test.co.uk")),
        )
        byte = lambda: rng.randint(1, 254)  # noqa: E731
        d = lambda mask: digits(mask, rng)  # noqa: E731
        return [
            Item("email", "plain", f"{name}{rng.randint(1, 99)}@{host}"),
            Item("ip", "ipv4", f"{rng.choice((10, 84, 203))}.{byte()}.{byte()}.{byte()}"),
            Item(None, "version", d("version 1#.#.2#.#")),
            Item(None, "date", d("2024-0#-1#").replace("00", "01")),
            Item(None, "price", d("$1,###,###.##")),
            Item(None, "isbn", f"ISBN {isbn13(rng)}"),
            Item(None, "hash", f"{rng.getrandbits(160):040x}"),
            Item(None, "decimal", d("3.##########")),
            Item(None, "line", d("line 1####")),
            Item(None, "time", d("1#:2#:4#")),
        ]

    def page(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        """A site of some years ago: boxes named by classes."""
        links = "".join(f'<li><a href="/{i}">{escape(t)}</a></li>' for i, t in enumerate(labels(rng, other, 9)))
        comments = "".join(
            f'<div class="comment"><b>{name(rng)}</b><p>{escape(clip(rng.choice(other), 40))}</p></div>'
            for _ in range(rng.randint(0, 4))
        )
        return (
            f"<html><head><title>{escape(article.blocks[0][1])} - Site</title></head><body>"
            f'<div id="header"><a href="/">Site</a><ul class="menu">{links}</ul></div>'
            '<div class="cookie-banner">We use cookies to improve your experience. <button>Accept</button></div>'
            f'<div id="sidebar"><h3>Popular</h3><ul>{links}</ul></div>'
            f'<div id="content" class="post">{markup(article)}</div>'
            '<div class="ad">Advertisement: buy now and save!</div>'
            f'<div id="comments"><h3>Comments</h3>{comments}</div>'
            '<div id="footer">Copyright 2020 Site. All rights reserved. '
            '<a href="/privacy">Privacy</a></div></body></html>'
        )


# ---- generators: test


class Test:
    """The set that is reported."""

    seed = 20_001
    package, path = HANDBOOK, "//div[@class='para' and not(.//div)]"

    def variant(self, words: list[str], other: Sequence[str], goal: float, rng: random.Random) -> list[str]:
        """A passage exchanged for another, one added, or one cut off."""
        n = len(words) - 4
        how = rng.choice(("exchanged", "added", "cut"))
        if how == "added":
            return words + [rng.choice(other) for _ in range(round(n * (1 / goal - 1)))]
        if how == "cut":
            return words[: len(words) - round(n * (1 - goal))]
        size = max(round(n * (1 - goal) / (1 + goal)) - 4, 1)
        begin = rng.randrange(0, len(words) - size)
        return words[:begin] + [rng.choice(other) for _ in range(size)] + words[begin + size :]

    sentences = (
        "According to the notice on the door it is {} and nothing else.",
        "She copied {} from the screen by hand.",
        "Further questions: {}.",
        "The log of that night shows {} several times in a row",
        "Was it {}, or did they mistake it?",
        "See also ({}) in the appendix of the report.",
    )

    def items(self, rng: random.Random) -> list[Item]:
        first, last = word(rng, 6), word(rng, 8)
        top = rng.choice(("com", "net", "de", "com.br", "museum", "io", "ac.jp"))
        d = lambda mask: digits(mask, rng)  # noqa: E731
        byte = lambda: rng.randint(1, 250)  # noqa: E731
        hexes = f"{rng.getrandbits(128):032x}"
        near = {
            "version": "v2.1#.#.#4",
            "release": "release 7.#.1#.#",
            "date": "1#.0#.199#",
            "date slashes": "0#/1#/201#",
            "years": "199#-201#",
            "price": "€ 2.4##.###,##",
            "thousands": "1 4## 7## ###",
            "decimals": "0.5#######, 1.#####",
            "order": "order no. 8####-2####",
            "section": "section 1#.2.4.#",
            "oid": "OID 1.3.6.1.4.1.#.#",
            "bug": "bug #9#####",
            "time": "0#:1#:3#.###",
            "serial": "2024#########7",
            "pages": "pp. 11#-19#",
            "range": "2##–4## kB",
            "netmask": "255.255.25#.0".replace("#", "2", 1),
            "loopback": "127.0.0.1",
            "fraction": "1#/2#",
        }
        return [
            Item("email", "plain", f"{first}.{last}@{word(rng, 7)}.{top}"),
            Item("email", "plus", f"{first}+{word(rng, 4)}@{word(rng, 5)}-{word(rng, 4)}.{top}"),
            Item("email", "capitals", f"{first.title()}{last.upper()}@{word(rng, 3).upper()}.{word(rng, 6)}.{top}"),
            Item("email", "digits", f"{first[0]}{last}{rng.randint(1960, 2010)}@{word(rng, 5)}.{top}"),
            Item("email", "mailto", f"mailto:{last}_{first}@{word(rng, 9)}.{top}"),
            Item("ip", "public", f"{rng.choice((5, 62, 151, 198))}.{byte()}.{byte()}.{byte()}"),
            Item("ip", "private", f"192.168.{byte()}.{byte()}"),
            Item("ip", "with port", f"172.{rng.randint(16, 31)}.{byte()}.{byte()}:{rng.randint(1024, 65000)}"),
            Item("ip", "network", f"{rng.choice((80, 145))}.{byte()}.{byte()}.0/24"),
            *(Item(None, form, d(mask)) for form, mask in near.items()),
            Item(None, "isbn", isbn13(rng)),
            Item(None, "uuid", f"{hexes[:8]}-{hexes[8:12]}-4{hexes[13:16]}-a{hexes[17:20]}-{hexes[20:]}"),
            Item(None, "hash", hexes),
            Item(None, "mac", ":".join(hexes[i : i + 2] for i in range(0, 12, 2))),
            Item(None, "colour", f"#{hexes[:6]}"),
            Item(None, "sixteen digits", d("45## #### #### ####")),
            Item(None, "namespace", f"std::{word(rng, 5)}::{word(rng, 4)}"),
            Item(None, "handle", f"@{word(rng, 6)}_{word(rng, 3)}"),
            Item(None, "decorator", f"@{word(rng, 4)}.{word(rng, 5)}"),
        ]

    def page(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        """One of four sites of today."""
        return rng.choice((self._magazine, self._manual, self._shop, self._built))(article, rng, other)

    def _magazine(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        menu = "".join(f"<a href='/t/{i}'>{escape(t)}</a>" for i, t in enumerate(labels(rng, other, 7)))
        teasers = "".join(
            f"<article class='teaser'><h4><a href='/a/{i}'>{escape(t)}</a>"
            f"</h4><span>{rng.randint(2, 12)} min read</span></article>"
            for i, t in enumerate(labels(rng, other, 5))
        )
        talk = "".join(
            f"<li class='comment-item'><header>{name(rng)} says:</header>"
            f"<p>{escape(clip(rng.choice(other), 30))}</p><a>Reply</a></li>"
            for _ in range(rng.randint(0, 6))
        )
        return (
            "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
            f"<title>{escape(article.blocks[0][1])} | Weekly</title></head>"
            f"<body><header class='site-header'><nav>{menu}</nav><form><input placeholder='Search'></form></header>"
            "<div role='dialog' class='consent'>"
            "<p>We and our 812 partners store and access information on a device.</p>"
            "<button>Agree</button><button>Manage options</button></div>"
            "<main><article class='entry'>"
            f"<div class='byline'>By {name(rng)} · Updated {rng.randint(1, 28)} May</div>{markup(article)}"
            "<div class='share'>Share: <a>Facebook</a> <a>Mail</a></div></article>"
            f"<section class='related'><h3>You may also like</h3>{teasers}</section>"
            "<section id='comments' class='comments-area'><h3>Leave a comment"
            f"</h3><ol class='comment-list'>{talk}</ol></section></main>"
            f"<aside class='newsletter'><p>Subscribe to our newsletter and never miss a story.</p></aside>"
            f"<footer class='site-footer'>© 2025 Weekly Media Ltd. <nav>{menu}</nav></footer></body></html>"
        )

    def _manual(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        tree = "".join(
            f"<li class='toctree-l1'><a href='{i}.html'>{escape(t)}</a></li>"
            for i, t in enumerate(labels(rng, other, 14))
        )
        return (
            f"<html><head><title>{escape(article.blocks[0][1])} — Manual 4.2</title></head><body class='wy-body'>"
            f"<nav class='wy-nav-side'><div class='search'><input></div><ul>{tree}</ul></nav>"
            "<div class='wy-nav-content'><div role='navigation'>"
            "<ul class='wy-breadcrumbs'><li><a href='/'>Docs</a> »</li>"
            "<li><a href='edit'>Edit on GitHub</a></li></ul></div>"
            "<div role='main' class='document'><div itemprop='articleBody'>"
            f"<section>{markup(article)}</section></div></div>"
            "<footer><div class='rst-footer-buttons'><a href='n'>Next</a> <a href='p'>Previous</a></div>"
            "<p>Built with a theme. Last updated today.</p></footer></div></body></html>"
        )

    def _shop(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        cells = "".join(f"<td><a href='?c={i}'>{escape(t)}</a></td>" for i, t in enumerate(labels(rng, other, 6)))
        offers = "".join(
            f"<div class='promo'>Save {rng.randint(5, 60)}% on {word(rng, 7)} today only!</div>" for _ in range(3)
        )
        return (
            f"<html><head><title>{escape(article.blocks[0][1])}</title></head><body><table class='layout' width='100%'>"
            f"<tr class='topnav'>{cells}</tr></table><div class='banner-ads'>{offers}</div>"
            "<div class='wrapper'><div class='col-left menu'>"
            f"<ul>{''.join(f'<li><a>{escape(t)}</a></li>' for t in labels(rng, other, 8))}</ul></div>"
            f"<div class='blog-post-body'>{markup(article)}</div>"
            "<div class='col-right widget'><h5>Tags"
            f"</h5>{' '.join(f'<a>{word(rng, 5)}</a>' for _ in range(12))}</div></div>"
            "<div class='footer-links'><a>Imprint</a> | <a>Terms</a> | <a>Contact</a></div></body></html>"
        )

    def _built(self, article: Article, rng: random.Random, other: Sequence[str]) -> str:
        """A page made by a framework: no class name tells the purpose of a box."""

        def box(content: str) -> str:
            return f"<div class='css-{word(rng, 6)}'>{content}</div>"

        def links(n: int) -> str:
            return "".join(box(f"<a href='/{word(rng, 5)}'>{escape(text)}</a>") for text in labels(rng, other, n))

        talk = "".join(box(f"<b>{name(rng)}</b><span>{escape(clip(rng.choice(other), 20))}</span>") for _ in range(3))
        banner = box("<span>Cookies help us to run this site.</span><button>Fine</button><button>Settings</button>")
        return (
            f"<html><head><title>{escape(article.blocks[0][1])}</title></head><body><div id='root'>"
            f"{box(links(8))}{banner}{box(box(markup(article)) + box(links(6)))}{box(talk)}"
            f"{box('Sponsored: ' + clip(rng.choice(other), 8))}{box(links(10))}"
            f"{box('© Some Company, Inc.')}</div></body></html>"
        )


# ---- what both need


def word(rng: random.Random, n: int) -> str:
    return "".join(rng.choice("bcdfghklmnprstvz" if i % 2 else "aeiou") for i in range(n))


def name(rng: random.Random) -> str:
    return f"{word(rng, 5).title()} {word(rng, 7).title()}"


def clip(text: str, most: int) -> str:
    return " ".join(text.split()[:most])


def labels(rng: random.Random, other: Sequence[str], n: int) -> list[str]:
    return [clip(rng.choice(other), rng.randint(1, 5)) for _ in range(n)]


def digits(mask: str, rng: random.Random) -> str:
    return re.sub("#", lambda _: str(rng.randint(1, 9)), mask)


def theory(minhash: Minhash, similarity: float) -> float:
    """Probability that a pair with this Jaccard similarity shares a bucket (Leskovec et al., Mining of Massive
    Datasets, section 3.4.2)."""
    return float(1 - (1 - similarity**minhash.rows) ** minhash.buckets)


def isbn13(rng: random.Random) -> str:
    body = "978" + "".join(str(rng.randint(0, 9)) for _ in range(9))
    check = -sum(int(c) * (1 + 2 * (i % 2)) for i, c in enumerate(body)) % 10
    return f"978-{body[3]}-{body[4:7]}-{body[7:]}-{check}"


def markup(article: Article) -> str:
    made = {
        "ul": lambda items: "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>",
        "table": lambda cells: (
            "<table>"
            + "".join(
                f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>"
                for a, b in zip(cells[::2], cells[1::2], strict=True)
            )
            + "</table>"
        ),
        "pre": lambda text: f"<pre><code>{escape(text)}</code></pre>",
    }
    return "".join(made[tag](text) if tag in made else f"<{tag}>{escape(text)}</{tag}>" for tag, text in article.blocks)


def plain(title: str, some: Sequence[str]) -> str:
    body = "".join(f"<p>{escape(text)}</p>" for text in some)
    return f"<html><head><title>{title}</title></head><body><article><h1>{title}</h1>{body}</article></body></html>"


# ---- the stage


class CrawlRun(NamedTuple):
    rows: dict[str, dict[str, Any]]  # remaining rows by page number
    told: dict[str, Any]


def corpus(pages: Sequence[str], folder: Path, without: Sequence[str] = (), **sections: Any) -> CrawlRun:
    """Runs the stage on the pages, with the recipe's settings except `sections` and the steps left out."""
    crawl = yaml.safe_load(RECIPE.read_text())["crawl"]
    crawl |= (
        {name: False if name == "personal_data" else None for name in without}
        | sections
        | {"warcs": [str(folder / "*.warc.gz")], "workers": 2, "tasks": 4}
    )
    crawl["rights"] = "A benchmark's."
    folder.mkdir(parents=True, exist_ok=True)
    known = [(f"https://pages.example/{i}", "2026-01-02T03:04:05Z", page.encode()) for i, page in enumerate(pages)]
    for i in range(4):
        write_warc(folder / f"{i}.warc.gz", known[i::4])
    settings = {"output_dir": str(folder / "corpus"), "crawl": crawl, "validation_fraction": 0.1, "test_fraction": 0.1}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "zero2chat_crawl.crawl", "--config", str(folder / "corpus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    rows: dict[str, dict[str, Any]] = {}
    for file in (folder / "corpus/data").glob("*.parquet"):
        rows |= {row["url"].rpartition("/")[2]: row for row in pq.read_table(file).to_pylist()}
    return CrawlRun(rows, json.loads((folder / "corpus/crawl.json").read_text()))


FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
DUPLICATES = ("minhash", "lines")
Side = Development | Test


# ---- measures


def languages(side: Side, texts: Texts, folder: Path, scale: float) -> dict[str, Any]:
    rng = random.Random(side.seed)
    pages, truth = [], []
    for language, some in sorted(texts.items()):
        shuffled = rng.sample(some, len(some))
        for i in range(min(int(90 * scale), len(shuffled) // 3)):
            pages.append(plain(f"Page {i}", shuffled[3 * i : 3 * i + 3]))
            truth.append(language)
    run = corpus(pages, folder, (*FILTERS, *DUPLICATES, "personal_data"))
    keep = yaml.safe_load(RECIPE.read_text())["crawl"]["languages"]["keep"]
    right = sum(row["language"] == truth[int(i)] for i, row in run.rows.items())
    wanted = [i for i, language in enumerate(truth) if language in keep]
    wrong = Counter(
        f"{truth[int(i)]} as {row['language']}" for i, row in run.rows.items() if row["language"] != truth[int(i)]
    )
    return {
        "language_precision": rate(right, len(run.rows)),
        "language_recall": rate(
            sum(str(i) in run.rows and run.rows[str(i)]["language"] == truth[i] for i in wanted), len(wanted)
        ),
        "languages": len(texts),
        "languages_kept": len({truth[i] for i in wanted}),
        "mistaken": dict(wrong.most_common(5)),
    }


def duplicates(side: Side, texts: Texts, folder: Path, scale: float) -> dict[str, Any]:
    from datatrove.utils.text import TextNormConfig, ngrams, simplify_text
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    recipe = yaml.safe_load(RECIPE.read_text())["crawl"]
    settings = Minhash(**recipe["minhash"])
    rng = random.Random(side.seed + 1)

    def shingles(text: str, language: str) -> set[tuple[str, ...]]:
        found = load_word_tokenizer(language).word_tokenize(simplify_text(text, TextNormConfig()))
        return set(ngrams(found, settings.ngram))

    documents: list[tuple[str, list[str]]] = []  # distinct documents: (language, words)
    for language in recipe["languages"]["keep"]:
        some = rng.sample(texts.get(language, []), len(texts.get(language, [])))
        found: list[str] = []
        for text in some:
            found += text.split()
            if len(found) >= rng.randint(160, 320):
                documents.append((language, found))
                found = []
    rng.shuffle(documents)
    pairs, pages = [], []
    wanted = min(int(4000 * scale), len(documents) * 2 // 3)
    for language, words in documents[:wanted]:
        other = rng.choice(documents)[1]
        variant = side.variant(list(words), other, rng.uniform(0.8, 1.0), rng)
        both = " ".join(words), " ".join(variant)
        one, two = (shingles(text, language) for text in both)
        pairs.append((len(pages), len(pages) + 1, len(one & two) / len(one | two)))
        pages += both
    singles = range(len(pages), len(pages) + len(documents) - wanted)
    pages += [" ".join(words) for _, words in documents[wanted:]]
    order = rng.sample(range(len(pages)), len(pages))  # pairs are not adjacent
    place = {page: i for i, page in enumerate(order)}
    run = corpus(
        [plain("", [pages[i]]).replace("<h1></h1>", "") for i in order], folder, (*FILTERS, "lines", "personal_data")
    )
    lost = sum(
        run.told["funnel"][0]["documents"] - step["documents"]
        for step in run.told["funnel"]
        if step["step"] == "languages"
    )
    # Pages removed by an earlier step are not counted.
    taken = removed_before(folder, "languages", "extraction", "read")
    here = {page: str(place[page]) in run.rows for page in range(len(pages)) if str(place[page]) not in taken}
    bands: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for a, b, s in pairs:
        if a in here and b in here and 0.8 <= s < 1:
            band = next(f"{low:.2f}–{high:.2f}" for low, high in pairwise(BANDS) if s < high)
            bands[band].append((not (here[a] and here[b]), theory(settings, s)))
    gone = sum(not here[i] for i in singles if i in here) + sum(
        not here.get(a, True) and not here.get(b, True) for a, b, _ in pairs
    )
    distinct = sum(i in here for i in singles) + len(pairs)
    found_by_band = {}
    for band, some in sorted(bands.items()):
        by_theory = sum(t for _, t in some) / len(some)
        found_by_band[band] = rate(sum(hit for hit, _ in some), len(some)) | {"theory": round(by_theory, 4)}
    everything = [pair for some in bands.values() for pair in some]
    return {
        "duplicate_recall": mean([float(hit) for hit, _ in everything])
        | {"theory": round(sum(t for _, t in everything) / len(everything), 4)},
        "duplicate_recall_by_band": found_by_band,
        "worst_distance_to_theory": round(max(abs(f["value"] - f["theory"]) for f in found_by_band.values()), 4),
        "distinct_removed": rate(gone, distinct),
        "pages_lost_before": lost,
    }


def removed_before(folder: Path, *steps: str) -> set[str]:
    found = set()
    for step in steps:
        for file in (folder / "corpus/removed" / step).glob("*.jsonl.gz"):
            with gzip.open(file, "rt") as lines:
                found |= {json.loads(line)["url"].rpartition("/")[2] for line in lines}
    return found


def personal(side: Side, texts: Texts, folder: Path, scale: float) -> dict[str, Any]:
    rng = random.Random(side.seed + 2)
    some = [t for t in texts["en"] if not re.search(r"[\d@\[]|::", t)]
    pages, truth = [], {}
    for page in range(int(150 * scale)):
        items = side.items(rng)
        rng.shuffle(items)
        body = []
        for i, item in enumerate(items):
            mark = "".join(LETTERS[int(c)] for c in f"{page:04d}{i:02d}")  # no extra numbers
            truth[mark] = item
            body.append(f"{rng.choice(some)} Q{mark} {rng.choice(side.sentences).format(item.text)} Z{mark}")
        pages.append(plain("Letters", body))
    run = corpus(pages, folder, (*FILTERS, *DUPLICATES))
    by_form: dict[str, list[bool]] = defaultdict(list)
    kinds: dict[str, list[bool]] = defaultdict(list)
    missed: list[str] = []
    for row in run.rows.values():
        for mark, segment in re.findall(r"Q([a-z]{6}) (.*?) Z\1", row["text"], re.DOTALL):
            item, segment = truth.pop(mark), " ".join(segment.split())
            if item.kind:
                # Nothing personal may be left; a port and a network's size are not personal.
                own = re.sub(r"(?<=\.\d)(\d*):\d+$|/\d+$", r"\1", item.text) if item.kind == "ip" else item.text
                pieces = {p for p in re.findall(r"\w+", own) if len(p) > 1} - {"at", "dot", "mailto"}
                left = set(re.findall(r"\w+", segment)) & pieces
                hit = PLACEHOLDERS[item.kind] in segment and not left
            else:
                hit = item.text not in segment
            kind = item.kind or "none"
            kinds[kind].append(hit)
            by_form[f"{kind}: {item.form}"].append(hit)
            if hit == (item.kind is None):
                missed.append(f"{item.form}: {item.text}: {segment}")
    hits = [hit for kind, found in kinds.items() if kind != "none" for hit in found]
    return {
        "personal_recall": rate(sum(hits), len(hits)),
        **{
            f"personal_recall_{kind}": rate(sum(found), len(found))
            for kind, found in sorted(kinds.items())
            if kind != "none"
        },
        "false_masks": rate(sum(kinds["none"]), len(kinds["none"])),
        "worst_forms": {
            form: round(sum(f) / len(f), 3)
            for form, f in sorted(by_form.items())
            if (sum(f) < len(f)) != (form[:4] == "none") or (form[:4] == "none" and sum(f))
        },
        "sentences_lost": len(truth),
        "mistakes": missed[:: max(1, len(missed) // 12)][:12],
    }


def articles(texts: Texts, rng: random.Random, n: int) -> Iterator[tuple[Article, list[str]]]:
    """Main texts made of real paragraphs, and the paragraphs for boilerplate."""
    for _ in range(n):
        language = rng.choice([lang for lang in ("en", "de", "fr", "es") if len(texts.get(lang, [])) > 50])
        some = rng.sample(texts[language], 12)
        blocks: list[tuple[str, Any]] = [("h1", clip(some[0], 6))]
        for text in some[1 : rng.randint(4, 8)]:
            blocks.append(("p", text))
            extra = rng.random()
            if extra < 0.15:
                blocks.append(("h2", clip(rng.choice(some), 5)))
                blocks.append(("p", rng.choice(some[8:])))
            elif extra < 0.3:
                blocks.append(("ul", [clip(rng.choice(some), rng.randint(6, 14)) for _ in range(rng.randint(2, 5))]))
            elif extra < 0.4:
                blocks.append(
                    ("table", [clip(rng.choice(some), rng.randint(1, 4)) for _ in range(2 * rng.randint(2, 5))])
                )
            elif extra < 0.5:
                blocks.append(
                    (
                        "pre",
                        "\n".join(
                            f"$ {word(rng, 4)} --{word(rng, 5)} /etc/{word(rng, 6)}" for _ in range(rng.randint(1, 5))
                        ),
                    )
                )
        yield Article(blocks), rng.sample(texts[language], 30)


def f1(found: Counter[str], wanted: Counter[str]) -> float:
    shared = (found & wanted).total()
    return 2 * shared / (found.total() + wanted.total())


def main_text(side: Side, texts: Texts, folder: Path, scale: float) -> dict[str, Any]:
    from trafilatura import extract

    rng = random.Random(side.seed + 3)
    made = [(article, side.page(article, rng, other)) for article, other in articles(texts, rng, int(600 * scale))]
    run = corpus([page for _, page in made], folder, (*FILTERS, *DUPLICATES, "personal_data"))
    ours, alone, default = [], [], []
    for i, (article, page) in enumerate(made):
        ours.append(f1(words_of(run.rows.get(str(i), {"text": ""})["text"]), article.words))
        alone.append(f1(words_of(extract(page, include_comments=False) or ""), article.words))
        default.append(f1(words_of(extract(page) or ""), article.words))
    return {
        "main_text_f1": mean(ours),
        "trafilatura_f1": mean(alone),
        "trafilatura_f1_with_comments": mean(default),  # its default
        "main_text_ahead": mean([mine - other for mine, other in zip(ours, alone, strict=True)]),
        "pages_without_text": rate(len(made) - len(run.rows), len(made)),
    }


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (languages, duplicates, personal, main_text)
}
TARGETS = {
    "language_precision": (">=", 0.99),
    "duplicate_recall": (">=", 0.95),
    "worst_distance_to_theory": ("<=", 0.03),
    "distinct_removed": ("<=", 0.01),
    "personal_recall": (">=", 0.98),
    "false_masks": ("<=", 0.01),
    "main_text_f1": (">=", 0.90),
    "main_text_ahead": (">=", 0.0),
}


def said(key: str, value: Any) -> str:
    if isinstance(value, dict) and "low" in value:
        value = f"{value['value']:.4f} (n {value['n']}, {value['low']:.4f} to {value['high']:.4f})"
    sign, target = TARGETS.get(key, ("", None))
    return f"{key}: {value}" + ("" if target is None else f"   target {sign} {target}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="use the set on which settings were chosen")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--pages", type=float, default=1.0, metavar="X", help="multiply the number of pages by X")
    parser.add_argument("--folder", type=Path, default=Path("data/crawl-labels"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    side = Development() if args.development else Test()
    texts = paragraphs(side.package, side.path, args.folder)
    found: dict[str, Any] = {"labels": type(side).__name__.lower()}
    for name in args.only:
        place = args.folder / f"{found['labels']}-{name}"
        subprocess.run(["rm", "-rf", str(place)], check=True)
        found |= MEASURES[name](side, texts, place, args.pages)
    for key, value in found.items():
        print(said(key, value), flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
