"""Run a crawl: find WARC files, run the parts with an executor, report progress, and write the result.

Importing this file imports datatrove.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import multiprocess
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.utils.word_tokenizers import load_word_tokenizer
from loguru import logger

from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_atomically
from zero2chat_crawl.blocks import end_with
from zero2chat_crawl.pipelines import Part, filter_settings, parts
from zero2chat_crawl.reader import GZIP, PLAIN
from zero2chat_crawl.settings import DUPLICATES, REMOVED, WORK, Crawl, read_crawl
from zero2chat_crawl.summary import summarise

_PACKAGES = ("datatrove", "trafilatura", "spacy")  # their versions affect the result
_POLL = 2.0  # seconds between two looks at Slurm's queue
_NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - never closed: loguru may keep it


def prepare(settings: Mapping[str, Any]) -> tuple[Crawl, list[str]]:
    """Return a YAML's `crawl:`, with all settings of datatrove's filters, and its WARC files.

    Raises `UserError` for invalid settings, and if input files or required software are missing.
    """
    crawl = read_crawl(settings)
    crawl = replace(crawl, **filter_settings(crawl))
    warcs = find_warcs(crawl)
    _check_here(crawl)
    return crawl, warcs


def run_crawl(
    crawl: Crawl, warcs: list[str], folder: Path, split: tuple[float, float], decontaminate: Sequence[Any] = ()
) -> dict[str, dict[str, Any]]:
    """Make the corpus of a run's folder, or its missing parts. Returns its metrics.

    Raises `UserError` if a cluster's jobs ended without a result, or if a split is empty.
    """
    work, versions = folder / WORK, {name: version(name) for name in _PACKAGES}
    record = work / "versions.json"
    if record.exists() and json.loads(record.read_text()) != versions:
        print(f"{folder}: started with other versions of {', '.join(_PACKAGES)}: starting over", flush=True)
        for name in (WORK, REMOVED, DUPLICATES, "data"):
            shutil.rmtree(folder / name, ignore_errors=True)
    work.mkdir(exist_ok=True)
    write_atomically(record, json.dumps(versions))
    write_atomically(work / "warcs.txt", "".join(f"{path}\n" for path in warcs))
    chain = parts(crawl, folder, len(warcs), split, decontaminate)
    print(f"{folder}: {len(warcs)} WARC files, {chain[0].tasks} shards, executor {crawl.executor}", flush=True)
    with quiet():
        (_slurm if crawl.executor == "slurm" else _local)(chain, crawl, work)
    return summarise(crawl, folder, versions)


def _check_here(crawl: Crawl) -> None:
    """Raises `UserError` for errors that would occur only later: an unsupported language, a missing executor."""
    model = crawl.languages.model
    if model and not Path(model).is_file():
        raise UserError(f"crawl: languages: model: {model}: no such file: `make data` fetches the recipes'")
    for code in crawl.languages.keep:
        try:
            load_word_tokenizer(code).word_tokenize("a")
        except (ValueError, ImportError) as error:
            raise UserError(f"crawl: languages: keep: {code}: {error}") from error
    if crawl.executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError("crawl: executor slurm: no sbatch on this machine: run on a node that can submit jobs")


# ---- input


def find_warcs(crawl: Crawl) -> list[str]:
    """Return the files in a fixed order. Raises `UserError` if a name matches none, or a local file is not WARC."""
    found: list[str] = []
    for name in crawl.warcs:
        try:
            matches = _matches(name)
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"crawl: warcs: {name}: cannot be read ({error})") from error
        if not matches:
            hint = ": `make debian-docs` makes it" if name.startswith("data/debian-docs/") else ""
            raise UserError(f"crawl: warcs: {name}: no such file{hint}")
        found += matches
    return list(dict.fromkeys(found))[: crawl.most_warcs]


def _matches(name: str) -> list[str]:
    """Return the files of a name, a glob, or one of Common Crawl's lists. Raises `UserError` for another local file."""
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
            raise UserError(f"crawl: warcs: {match}: not a WARC file: it starts with neither gzip's bytes nor WARC/")
    return [str(Path(match).resolve()) for match in local]


# ---- executors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send datatrove's log only to the shards' files (`_work/logs/<part>/logs`), not to the terminal."""
    logger.remove()
    with contextlib.redirect_stderr(_NOWHERE):
        yield


def _completed(work: Path, chain: list[Part], i: int) -> int:
    """Return, and print, the number of completed shards of part `i`."""
    n = len(list((work / "logs" / chain[i].name / "completions").glob("*")))
    print(f"[{i + 1}/{len(chain)}] {chain[i].name}: {n} of {chain[i].tasks} shards", flush=True)
    return n


class _Local(LocalPipelineExecutor):
    """datatrove's executor, with processes that print nothing and end together with this one.

    Its own `run` starts a server process, only for logging, which would survive a kill.
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


def _local(chain: list[Part], crawl: Crawl, work: Path) -> None:
    for i, part in enumerate(chain):
        workers, logs = min(crawl.workers, part.tasks), str(work / "logs" / part.name)
        _completed(work, chain, i)
        for _ in _Local(part.blocks(), tasks=part.tasks, workers=workers, logging_dir=logs).shards():
            _completed(work, chain, i)


def _slurm(chain: list[Part], crawl: Crawl, work: Path) -> None:
    """Submit the missing parts, each depending on the previous one, and wait. If its jobs are already queued or
    running, it waits for these jobs."""
    submitted = work / "jobs.json"
    jobs = json.loads(submitted.read_text()) if submitted.exists() else []
    if not _queued(jobs):
        made: list[SlurmPipelineExecutor] = []
        options = asdict(crawl.slurm) if crawl.slurm else {}
        per_part = options.pop("parts")
        for part in chain:
            executor = SlurmPipelineExecutor(
                part.blocks(),
                tasks=part.tasks,
                workers=crawl.workers,
                job_name=f"crawl-{part.name}",
                logging_dir=str(work / "logs" / part.name),
                depends=made[-1] if made else None,
                **options | per_part.get(part.name, {}),
            )
            made.append(executor)
        made[-1].run()  # including the earlier parts
        jobs = [str(executor.job_id) for executor in made if executor.job_id not in (None, -1)]
        write_atomically(submitted, json.dumps(jobs))
        print(f"submitted to Slurm: {', '.join(jobs) or 'nothing, all parts are done'}", flush=True)
    while _queued(jobs):
        time.sleep(_POLL)
    for i, part in enumerate(chain):
        if (done := _completed(work, chain, i)) < part.tasks:
            logs = work / "logs" / part.name / "slurm_logs"
            raise UserError(
                f"crawl: no jobs remain, but {part.name} has {done} of {part.tasks} shards: see {logs}, and run it "
                "again to resume"
            )


def _queued(jobs: list[str]) -> bool:
    """Return whether any of the jobs is pending or running."""
    if not jobs:
        return False
    command = ["squeue", "--noheader", "--format=%i", "--jobs", ",".join(jobs)]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
