"""Run a crawl: find WARC files, run the parts in local processes, report progress, and write the result.

Importing this file imports datatrove.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import multiprocess
from datatrove.executor import LocalPipelineExecutor
from datatrove.utils.word_tokenizers import load_word_tokenizer
from loguru import logger

from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_atomically
from zero2chat_crawl.blocks import end_with
from zero2chat_crawl.pipelines import Part, filter_settings, parts
from zero2chat_crawl.reader import GZIP, PLAIN
from zero2chat_crawl.settings import REMOVED, WORK, Crawl, read_crawl
from zero2chat_crawl.summary import summarise

_PACKAGES = ("datatrove", "trafilatura", "spacy")  # their versions affect the result
_NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - never closed: loguru may keep it


def prepare(settings: Mapping[str, Any]) -> tuple[Crawl, list[str]]:
    """Return the WARC files of a YAML's `crawl:`, and its settings, completed with those of datatrove's filters.

    Raises `UserError` for invalid settings, and if input files or required software are missing.
    """
    crawl = read_crawl(settings)
    crawl = replace(crawl, **filter_settings(crawl))
    warcs = find_warcs(crawl)
    model = crawl.languages.model
    if model and not Path(model).is_file():
        raise UserError(f"crawl: languages.model: {model}: no such file: `make data` fetches the recipes' file")
    for code in crawl.languages.keep:
        try:
            load_word_tokenizer(code).word_tokenize("a")
        except (ValueError, ImportError) as error:
            raise UserError(f"crawl: languages.keep: {code}: {error}") from error
    return crawl, warcs


def run_crawl(
    crawl: Crawl, warcs: list[str], folder: Path, split: tuple[float, float], decontaminate: Sequence[Any] = ()
) -> dict[str, dict[str, Any]]:
    """Make the corpus of a run's folder, or its missing parts. Returns its metrics; raises if a split is empty."""
    work, versions = folder / WORK, {name: version(name) for name in _PACKAGES}
    record = work / "versions.json"
    if record.exists() and json.loads(record.read_text()) != versions:
        print(f"{folder}: the earlier attempt had other versions of {', '.join(_PACKAGES)}: starting over", flush=True)
        for name in (WORK, REMOVED, "data"):
            shutil.rmtree(folder / name, ignore_errors=True)
    work.mkdir(exist_ok=True)
    write_atomically(record, json.dumps(versions))
    write_atomically(work / "warcs.txt", "".join(f"{path}\n" for path in warcs))
    chain = parts(crawl, folder, len(warcs), split, decontaminate)
    print(f"{folder}: {len(warcs)} WARC files, {chain[0].tasks} shards", flush=True)
    with quiet():
        _run(chain, crawl.workers, work)
    return summarise(crawl, folder, versions)


# ---- input


def find_warcs(crawl: Crawl) -> list[str]:
    """Return the files in a fixed order. Raises `UserError` if a name matches no file, or a local file is not WARC."""
    paths: list[str] = []
    for name in crawl.warcs:
        try:
            matches = _matches(name)
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"crawl: warcs: {name}: cannot be read ({error})") from error
        if not matches:
            raise UserError(f"crawl: warcs: {name}: no such file: `make debian-docs` makes the recipes' files")
        paths += matches
    return list(dict.fromkeys(paths))[: crawl.most_warcs]


def _matches(name: str) -> list[str]:
    """Return the files of a name, a glob, or one of Common Crawl's lists. Raises `UserError` for a non-WARC file."""
    if name.endswith((".paths", ".paths.gz")):
        # One path per line, relative to the root of the list's own location.
        root = name.split("crawl-data/")[0] if "crawl-data/" in name else ""
        with fsspec.open(name, "rt", compression="infer") as file:
            paths = [line.strip() for line in file if line.strip()]
        return [path if "://" in path else root + path for path in paths]
    if "://" in name:
        if not glob.has_magic(name):
            return [name]
        system, path = fsspec.core.url_to_fs(name)
        return [system.unstrip_protocol(match) for match in sorted(system.glob(path))]
    local = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    for match in local:
        with Path(match).open("rb") as file:
            begin = file.read(5)
        if begin and begin[:2] != GZIP[:2] and begin != PLAIN:
            raise UserError(f"crawl: warcs: {match}: not a WARC file, which begins with gzip's magic bytes or WARC/")
    return [str(Path(match).resolve()) for match in local]


# ---- processes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send datatrove's log only to the shards' files (`_work/logs/<part>/logs`), not to the terminal."""
    logger.remove()
    with contextlib.redirect_stderr(_NOWHERE):
        yield


class _Local(LocalPipelineExecutor):
    """datatrove's executor, with processes that print nothing and end together with this one.

    datatrove's `run` starts a server process, only for logging, which would survive a kill.
    """

    pipeline: list[Any]

    def shards(self) -> Iterator[Any]:
        """Run the missing shards; yield after each."""
        ranks = self.get_incomplete_ranks()
        self.save_executor_as_json()
        if self.workers == 1:
            pipeline = self.pipeline
            for rank in ranks:
                self.pipeline = deepcopy(pipeline)  # it has separate statistics
                yield self._run_for_rank(rank)
        elif ranks:
            # Each part has separate processes. Their imports happen once, in the server that they are forked from.
            multiprocess.set_forkserver_preload(["zero2chat_crawl.run"])
            with multiprocess.get_context("forkserver").Pool(self.workers, initializer=_begin_worker) as pool:
                yield from pool.imap_unordered(self._run_for_rank, ranks)

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        with quiet():
            return super()._run_for_rank(rank, local_rank, node_rank)


def _begin_worker() -> None:
    end_with(multiprocess.parent_process())


def _run(chain: list[Part], workers: int, work: Path) -> None:
    """Run the missing shards of each part, printing how many are completed."""
    for i, part in enumerate(chain, start=1):
        logs = work / "logs" / part.name
        executor = _Local(part.blocks(), tasks=part.tasks, workers=min(workers, part.tasks), logging_dir=str(logs))
        for _ in itertools.chain([None], executor.shards()):
            done = len(list((logs / "completions").glob("*")))
            print(f"[{i}/{len(chain)}] {part.name}: {done} of {part.tasks} shards", flush=True)
