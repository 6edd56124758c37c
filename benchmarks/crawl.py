"""How fast is the corpus stage on a crawl, compared with the same blocks in plain datatrove? Is its memory constant?

    python benchmarks/crawl.py [--warcs "data/debian-docs/*.warc.gz"] [--files 2] [--repeats 3] [--only speed] [--json]

`make debian-docs` writes the files; datatrove's own reader needs `pip install python-magic`. Both sides read the same
files with the settings of recipes/debian-docs, English only, so that plain datatrove needs one pipeline. Both are timed
as commands, from start to end, alternating. The plain side uses datatrove's own block for each step, and writes no
reasons, funnel or card. Then the stage reads 1, 2 and 4 of the files with one worker, and the peak memory of all its
processes is compared. 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import glob
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

RECIPE = Path("recipes/debian-docs/corpus.yaml")
SIZES = (1, 2, 4)


def settings(warcs: Sequence[str], folder: Path, workers: int) -> dict[str, Any]:
    """The recipe's settings for these files, English only."""
    given: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    given["output_dir"] = str(folder)
    given["crawl"] |= {"warcs": list(warcs), "workers": workers, "tasks": len(warcs)}
    given["crawl"]["languages"] |= {"keep": ["en"]}
    return given


def plain(warcs: Sequence[str], folder: Path, workers: int) -> None:
    """The same steps as a user of datatrove would write them, after its examples/fineweb.py."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import dedup, extractors, filters, formatters, readers, writers
    from datatrove.utils.hashing import HashConfig
    from tldextract import TLDExtract

    crawl, tasks = settings(warcs, folder, workers)["crawl"], len(warcs)
    paths = folder / "warcs.txt"
    folder.mkdir(parents=True)
    paths.write_text("".join(f"{Path(warc).name}\n" for warc in warcs))
    sha1 = HashConfig(precision=64, hash_fc="sha1")
    hashed = dedup.MinhashConfig(
        n_grams=crawl["minhash"]["ngram"],
        num_buckets=crawl["minhash"]["buckets"],
        hashes_per_bucket=crawl["minhash"]["rows"],
        seed=crawl["minhash"]["seed"],
        hash_config=sha1,
    )
    by_line = dedup.SentDedupConfig(n_sentences=1, split_sentences=False, min_doc_words=0, hash_config=sha1)
    language = filters.LanguageFilter(crawl["languages"]["keep"], crawl["languages"]["threshold"])
    language.model.MODEL_URL = str(Path(crawl["languages"]["model"]).resolve())
    by_url = filters.URLFilter(use_integrated_lists=False)
    by_url.tldextractor = TLDExtract(suffix_list_urls=())
    quality = crawl["gopher_quality"] | {"stop_words": crawl["gopher_quality"]["stop_words"]["en"]}
    repetition = crawl["gopher_repetition"] | {
        name: tuple(crawl["gopher_repetition"][name].items()) for name in ("top_n_grams", "dup_n_grams")
    }
    at = {name: str(folder / name) for name in ("pages", "signed", "pairs", "clusters", "lines", "repeats", "corpus")}

    def run(*blocks: Any, tasks: int = tasks) -> None:
        LocalPipelineExecutor(
            list(blocks), tasks=tasks, workers=workers, logging_dir=str(folder / "logs" / str(time.time()))
        ).run()

    def read() -> Any:
        return readers.JsonlReader(at["pages"])

    def unique() -> Any:
        return dedup.MinhashDedupFilter(at["clusters"])

    run(
        readers.WarcReader(str(Path(warcs[0]).resolve().parent), paths_file=str(paths)),
        by_url,
        extractors.Trafilatura(
            favour_precision=crawl["extraction"]["favour_precision"],
            deduplicate=crawl["extraction"]["deduplicate"],
            timeout=crawl["extraction"]["timeout"],
        ),
        language,
        filters.GopherRepetitionFilter(**repetition),
        filters.GopherQualityFilter(**quality),
        filters.C4QualityFilter(**crawl["c4"]),
        filters.FineWebQualityFilter(**crawl["fineweb"]),
        writers.JsonlWriter(at["pages"]),
    )
    run(read(), dedup.MinhashDedupSignature(at["signed"], hashed))
    run(dedup.MinhashDedupBuckets(at["signed"], at["pairs"], config=hashed), tasks=hashed.num_buckets)
    run(dedup.MinhashDedupCluster(at["pairs"], at["clusters"], config=hashed), tasks=1)
    run(read(), unique(), dedup.SentenceDedupSignature(at["lines"], config=by_line, finder_workers=tasks))
    run(dedup.SentenceFindDedups(at["lines"], at["repeats"], config=by_line))
    run(
        read(),
        unique(),
        dedup.SentenceDedupFilter(at["repeats"], config=by_line),
        formatters.PIIFormatter(),
        writers.ParquetWriter(at["corpus"]),
    )


def peak(command: Sequence[str]) -> float:
    """Peak memory of all processes of a command together, in MB (proportional set size). Raises `SystemExit` if the
    command fails."""
    most = 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, stdout=said, stderr=said)
        while process.poll() is None:
            try:
                family = [process, *process.children(recursive=True)]
                most = max(most, sum(_share(one) for one in family) / 2**20)
            except psutil.Error:
                pass
            time.sleep(0.2)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{said.read()[-3000:]}")
    return most


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def stage(warcs: Sequence[str], folder: Path, workers: int) -> list[str]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(settings(warcs, folder, workers)))
    return [sys.executable, "-m", "zero2chat_crawl.crawl", "--config", str(path)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warcs", default="data/debian-docs/*.warc.gz")
    parser.add_argument("--files", type=int, default=2, help="files used for the speed test (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("speed", "memory"))
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    warcs = sorted(glob.glob(args.warcs))  # noqa: PTH207
    if args.plain:
        plain(warcs[: args.files], args.plain, args.workers)
        return

    found: dict[str, Any] = {"workers": args.workers}
    with tempfile.TemporaryDirectory() as scratch:
        if args.only != "memory":
            found |= speed(warcs[: args.files], Path(scratch), args)
        if args.only != "speed":
            memory = {}
            for n in SIZES:
                memory[n] = peak(stage(warcs[:n], Path(scratch) / f"memory-{n}", 1))
                print(f"{n} files: {memory[n]:.0f} MB peak", flush=True)
            found["peak_mb"] = {n: round(most) for n, most in memory.items()}
            found["memory_ratio"] = round(memory[SIZES[-1]] / memory[SIZES[0]], 3)
            print(f"memory of {SIZES[-1]} files / memory of {SIZES[0]} file: {found['memory_ratio']}")
    if args.json:
        print(json.dumps(found))


def speed(warcs: Sequence[str], scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Documents per second of both sides, alternating."""
    pages = 0
    seconds: dict[str, list[float]] = {"stage": [], "plain": []}
    for i in range(args.repeats):
        for side in sorted(seconds, reverse=bool(i % 2)):
            folder = scratch / side
            shutil.rmtree(folder, ignore_errors=True)
            ours = stage(warcs, folder, args.workers)
            other = [sys.executable, __file__, "--plain", str(folder), *_passed(args)]
            start = time.perf_counter()
            done = subprocess.run(ours if side == "stage" else other, capture_output=True, text=True, check=False)
            seconds[side].append(time.perf_counter() - start)
            if done.returncode:
                raise SystemExit((done.stdout + done.stderr)[-3000:])
            if side == "stage":
                pages = json.loads((folder / "crawl.json").read_text())["funnel"][0]["documents"]
            print(f"{side}: {seconds[side][-1]:.1f} s", flush=True)
    ratios = [p / s for p, s in zip(seconds["plain"], seconds["stage"], strict=True)]
    ratio = round(statistics.median(ratios), 3)
    rates = {f"documents_per_second_{side}": round(pages / statistics.median(of), 2) for side, of in seconds.items()}
    print(
        f"{pages} pages, {args.workers} workers: {rates['documents_per_second_stage']} documents/s, plain datatrove "
        f"{rates['documents_per_second_plain']}; ratio {ratio} (target >= 0.95)"
    )
    return {"pages": pages, **rates, "ratio": ratio, "ratios": [round(one, 3) for one in ratios]}


def _passed(args: argparse.Namespace) -> list[str]:
    return ["--warcs", args.warcs, "--files", str(args.files), "--workers", str(args.workers)]


if __name__ == "__main__":
    main()
