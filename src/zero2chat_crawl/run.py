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
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import multiprocess
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.utils.word_tokenizers import load_tokenizer_assignments
from loguru import logger

from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_atomically
from zero2chat_crawl.blocks import die_with
from zero2chat_crawl.pipelines import Part, parts
from zero2chat_crawl.settings import DUPLICATES, REMOVED, WORK, Crawl, Ray, read_crawl
from zero2chat_crawl.summary import summarise

_PACKAGES = ("datatrove", "trafilatura", "spacy")  # their versions affect the result
_POLL = 2.0  # seconds between two progress checks
_NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - never closed: loguru may keep it


def prepare(settings: Mapping[str, Any]) -> tuple[Crawl, dict[str, Any], list[str]]:
    """Return a YAML's `crawl:` with its sections and WARC files.

    Raises `UserError` if input files or required software are missing.
    """
    crawl, sections = read_crawl(settings)
    warcs = find_warcs(crawl)
    _check_here(crawl, sections)
    return crawl, sections, warcs


def run_crawl(
    crawl: Crawl,
    sections: Mapping[str, Any],
    warcs: list[str],
    folder: Path,
    split: tuple[float, float],
    decontaminate: Sequence[Any] = (),
) -> dict[str, dict[str, Any]]:
    """Make the corpus of a run's folder, or its missing parts. Returns its metrics.

    Raises `UserError` if a cluster's jobs ended without a result, or if a split is empty.
    """
    work, versions = folder / WORK, {name: version(name) for name in _PACKAGES}
    _begin(folder, warcs, versions)
    chain = parts(crawl, sections, folder, len(warcs), split, decontaminate)
    print(f"{folder}: {len(warcs)} WARC files, {chain[0].tasks} shards, executor {crawl.executor}", flush=True)
    with quiet():
        _EXECUTE[crawl.executor](chain, crawl, sections, work)
    return summarise(crawl, sections, folder, versions)


def _begin(folder: Path, warcs: list[str], versions: Mapping[str, str]) -> None:
    """Make the work folder. Empty it if an earlier attempt used other package versions."""
    work = folder / WORK
    record = work / "versions.json"
    if record.exists() and json.loads(record.read_text()) != versions:
        print(f"{folder}: started with other versions of {', '.join(_PACKAGES)}: starting over", flush=True)
        for name in (WORK, REMOVED, DUPLICATES, "data"):
            shutil.rmtree(folder / name, ignore_errors=True)
    work.mkdir(exist_ok=True)
    write_atomically(record, json.dumps(versions))
    write_atomically(work / "warcs.txt", "".join(f"{path}\n" for path in warcs))


def _check_here(crawl: Crawl, sections: Mapping[str, Any]) -> None:
    """Raises `UserError` for errors that would occur only later: an unsupported language, a missing executor."""
    model = sections["languages"].model
    if model and not Path(model).is_file():
        raise UserError(f"crawl.languages: model: {model}: no such file: `make data` fetches the recipes'")
    for code in sections["languages"].keep:
        make = load_tokenizer_assignments().get(code)
        if make is None:
            raise UserError(f"crawl.languages: keep: datatrove cannot split language '{code}' into words: remove it")
        try:
            make().word_tokenize("a")
        except ImportError as error:
            raise UserError(f"crawl.languages: keep: {code}: {error}") from error
    if crawl.executor == "ray":
        try:
            import ray  # noqa: F401
        except ImportError:
            raise UserError("crawl: executor ray: the package is not installed: pip install ray") from None
    if crawl.executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError("crawl: executor slurm: no sbatch on this machine: run on a node that can submit jobs")


# ---- input


def find_warcs(crawl: Crawl) -> list[str]:
    """Return the files in a fixed order. Raises `UserError` if a name matches none, or a local file is not WARC."""
    found: list[str] = []
    for name in crawl.warcs:
        if name.endswith((".paths", ".paths.gz")):
            found += _listed(name)
        elif "://" in name:
            found += _remote(name)
        else:
            local = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            if not local:
                hint = ": `make debian-docs` makes it" if name.startswith("data/debian-docs/") else ""
                raise UserError(f"crawl: warcs: {name}: no such file{hint}")
            for path in local:
                _check_warc(path)
            found += [str(Path(path).resolve()) for path in local]
    return list(dict.fromkeys(found))[: crawl.most_warcs]


def _check_warc(path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            begin = file.read(5)
    except OSError as error:
        raise UserError(f"crawl: warcs: {path}: {error.strerror}") from error
    if begin and begin[:2] != b"\x1f\x8b" and begin != b"WARC/":
        raise UserError(f"crawl: warcs: {path}: not a WARC file: it starts with neither gzip's magic bytes nor WARC/")


def _listed(name: str) -> list[str]:
    """Read Common Crawl's lists: one path per line, relative to the root of the list's own location."""
    root = name.split("crawl-data/")[0] if "crawl-data/" in name else ""
    try:
        with fsspec.open(name, "rt", compression="infer") as file:
            paths = [line.strip() for line in file if line.strip()]
    except (OSError, ImportError) as error:
        raise UserError(f"crawl: warcs: {name}: cannot be read ({error})") from error
    return [path if "://" in path else root + path for path in paths]


def _remote(name: str) -> list[str]:
    if not glob.has_magic(name):
        return [name]
    try:
        system, path = fsspec.core.url_to_fs(name)
        found = [system.unstrip_protocol(match) for match in sorted(system.glob(path))]
    except (ImportError, OSError, ValueError) as error:
        raise UserError(f"crawl: warcs: {name}: cannot be listed ({error})") from error
    if not found:
        raise UserError(f"crawl: warcs: {name}: no such file")
    return found


# ---- progress


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send datatrove's log only to the shards' files (`_work/logs/<part>/logs`), not to the terminal."""
    logger.remove()
    with contextlib.redirect_stderr(_NOWHERE):
        yield


def whole(work: Path, part: Part) -> int:
    """Return the number of a part's completed shards."""
    return len(list((work / "logs" / part.name / "completions").glob("*")))


@contextlib.contextmanager
def _progress(work: Path, chain: list[Part], i: int) -> Iterator[None]:
    """Print a line whenever shards of part `i` are completed, with the estimated time for the rest."""
    part, place, started, stop = chain[i], f"[{i + 1}/{len(chain)}] {chain[i].name}", time.time(), threading.Event()
    before = seen = whole(work, part)
    if before:
        print(f"{place}: {before} of {part.tasks} shards are already done", flush=True)

    def show() -> None:
        nonlocal seen
        done, seconds = whole(work, part), time.time() - started
        if done > seen:
            left = seconds * (part.tasks - done) / (done - before)
            end = f", about {left:.0f} s left" if done < part.tasks else ""
            print(f"{place}: {done} of {part.tasks} shards, {seconds:.0f} s{end}", flush=True)
            seen = done

    def watch() -> None:
        while not stop.wait(_POLL):
            show()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        show()


# ---- executors


class _Local(LocalPipelineExecutor):
    """datatrove's executor, with processes that print nothing and end together with this one.

    Its own `run` starts a server process, only for logging, which would survive a kill.
    """

    pipeline: list[Any]

    def run(self) -> None:
        self.main = os.getpid()
        ranks = self.get_incomplete_ranks()
        self.save_executor_as_json()
        if self.workers == 1:
            pipeline = self.pipeline
            for rank in ranks:
                self.pipeline = deepcopy(pipeline)  # it has separate statistics
                self._run_for_rank(rank)
        elif ranks:
            with multiprocess.get_context("forkserver").Pool(self.workers) as pool:
                for _ in pool.imap_unordered(self._run_for_rank, ranks):
                    pass

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        if os.getpid() != self.main:
            die_with(self.main)
        with quiet():
            return super()._run_for_rank(rank, local_rank, node_rank)


def _local(chain: list[Part], crawl: Crawl, sections: Mapping[str, Any], work: Path) -> None:
    # Each part has separate processes. Their imports happen once, in the server that they are forked from.
    multiprocess.set_forkserver_preload(["zero2chat_crawl.run"])
    for i, part in enumerate(chain):
        workers, logs = min(crawl.workers, part.tasks), str(work / "logs" / part.name)
        with _progress(work, chain, i):
            _Local(part.blocks(), tasks=part.tasks, workers=workers, logging_dir=logs).run()


def _slurm(chain: list[Part], crawl: Crawl, sections: Mapping[str, Any], work: Path) -> None:
    """Submit the missing parts, each depending on the previous one, and wait. If its jobs are already queued or
    running, it waits for these jobs."""
    submitted = work / "jobs.json"
    jobs = json.loads(submitted.read_text()) if submitted.exists() else []
    if not _queued(jobs):
        made: list[SlurmPipelineExecutor] = []
        options = asdict(sections["slurm"])
        per_part = options.pop("parts")
        for part in chain:
            made.append(
                SlurmPipelineExecutor(
                    part.blocks(),
                    tasks=part.tasks,
                    workers=crawl.workers,
                    job_name=f"crawl-{part.name}",
                    logging_dir=str(work / "logs" / part.name),
                    depends=made[-1] if made else None,
                    **options | per_part.get(part.name, {}),
                )
            )
        made[-1].run()  # including the earlier parts
        jobs = [str(executor.job_id) for executor in made if executor.job_id not in (None, -1)]
        write_atomically(submitted, json.dumps(jobs))
        print(f"submitted to Slurm: {', '.join(jobs) or 'nothing, all parts are done'}", flush=True)
    for i, part in enumerate(chain):
        with _progress(work, chain, i):
            while whole(work, part) < part.tasks:
                waits = _queued(jobs)
                time.sleep(_POLL)
                if not waits and whole(work, part) < part.tasks:
                    raise UserError(
                        f"crawl: no jobs remain, but {part.name} has {whole(work, part)} of {part.tasks} shards: see "
                        f"{work / 'logs' / part.name / 'slurm_logs'}, and run it again to resume"
                    )


def _queued(jobs: list[str]) -> bool:
    """Return whether any of the jobs is pending or running."""
    if not jobs:
        return False
    command = ["squeue", "--noheader", "--format=%i", "--jobs", ",".join(jobs)]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())


def _ray(chain: list[Part], crawl: Crawl, sections: Mapping[str, Any], work: Path) -> None:
    import ray

    options = asdict(sections["ray"] or Ray())
    ray.init(address=options.pop("address"), log_to_driver=False, ignore_reinit_error=True)
    for i, part in enumerate(chain):
        logs = str(work / "logs" / part.name)
        with _progress(work, chain, i):
            RayPipelineExecutor(
                part.blocks(), tasks=part.tasks, workers=crawl.workers, logging_dir=logs, **options
            ).run()
        if whole(work, part) < part.tasks:
            raise UserError(f"crawl: {part.name}: some shards failed: see {logs}/logs, and run it again to resume")


_EXECUTE: dict[str, Callable[..., None]] = {"local": _local, "slurm": _slurm, "ray": _ray}
