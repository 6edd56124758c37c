"""A user's mistake is one line and exit code 2; a fault of ours keeps its traceback and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zero2chat.core.errors import known, nearest

HEAD = "import sys\nfrom pathlib import Path\nfrom zero2chat.core.errors import UserError, exit_on_mistake\n"


def run(body: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`body` as it fares within `exit_on_mistake`, in a process of its own."""
    script = HEAD + "with exit_on_mistake():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    ours = ("RANK", "LOCAL_RANK", "ZERO2CHAT_MISTAKE_FILE")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=120)


def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    done = run("print('before')\nraise UserError('data.jsonl: no column\\n  `prompt`: add it')")
    assert done.returncode == 2
    assert done.stderr == "error: data.jsonl: no column `prompt`: add it\n"
    assert done.stdout == "before\n"
    # An escape sequence in it does not reach the terminal.
    assert run("raise UserError('refused: \\x1b]0;owned\\x07')").stderr == "error: refused: \\x1b]0;owned\\x07\n"


def test_a_fault_of_ours_keeps_its_traceback_and_exit_code_1() -> None:
    done = run("raise ValueError('oops')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: oops" in done.stderr


def test_the_first_rank_speaks_for_all_and_all_exit_with_2(tmp_path: Path) -> None:
    file = str(tmp_path / "mistake")
    body = "print('before')\nraise UserError('no')"
    first = run(body, RANK="0", LOCAL_RANK="0", ZERO2CHAT_MISTAKE_FILE=file)
    assert (first.returncode, first.stdout, first.stderr) == (2, "before\n", "error: no\n")
    assert Path(file).read_text() == "no"
    second = run("raise UserError('no')", RANK="1", LOCAL_RANK="1", ZERO2CHAT_MISTAKE_FILE=file)
    assert (second.returncode, second.stderr) == (2, "")
    Path(file).unlink()  # a mistake of that rank alone
    alone = run("raise UserError('no')", RANK="1", LOCAL_RANK="1", ZERO2CHAT_MISTAKE_FILE=file)
    assert (alone.returncode, alone.stderr, Path(file).read_text()) == (2, "error: rank 1: no\n", "rank 1: no")


# ---- a disk that fills up

FILL = {
    "python": "with open(sys.argv[1], 'wb', buffering=0) as file:\n    while True: file.write(bytes(4096))",
    "tokenizers": (
        "from tokenizers import Tokenizer, models\n"
        "Tokenizer(models.WordLevel({str(i): i for i in range(20_000)}, '0')).save(sys.argv[1])"
    ),
    "torch": "import torch\ntorch.save(torch.zeros(100_000), sys.argv[1])",
    "a cause behind": (
        "try:\n    Path(sys.argv[1]).write_bytes(bytes(200_000))\n"
        "except OSError as error: raise RuntimeError('generating the dataset failed') from error"
    ),
}
LIMITED = (
    "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
)


def full(done: subprocess.CompletedProcess[str]) -> bool:
    lines = done.stderr.splitlines()
    return done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: no space left on the disk")


@pytest.mark.parametrize("writer", FILL)
def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path, writer: str) -> None:
    done = run(LIMITED + FILL[writer], str(tmp_path / "file"))
    assert full(done), done.stderr
    assert "checkpoint" not in done.stderr  # there is none


@pytest.mark.parametrize("kind", ["ValueError", "KeyError", "FileNotFoundError"])
def test_an_error_that_only_speaks_like_a_full_disk_keeps_its_traceback(kind: str) -> None:
    number = "2, " if kind == "FileNotFoundError" else ""
    done = run(f"raise {kind}({number}'unexpected pos in the batch, failed writing file')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_package_built_for_another_cuda_is_one_line() -> None:
    """vLLM's library for CUDA 12 beside a torch for CUDA 13, as TRL's lazy import reports it."""
    library = ImportError("libcudart.so.12: cannot open shared object file: No such file or directory")
    for error in (RuntimeError("Failed to import trl.trainer.grpo_trainer"), ImportError("cannot import LLM")):
        error.__cause__ = library
        assert "another release of CUDA or torch (libcudart.so.12: cannot open" in (known(error) or "")
        error.__cause__ = ValueError("of another kind")
        assert known(error) is None


def test_nearest_names_the_near_word_or_the_few_known_ones() -> None:
    assert nearest("learning_rat", ["learning_rate", "seed"]) == "; did you mean 'learning_rate'?"
    assert nearest("xyz", ["seed", "beta"]) == "; known: beta, seed"
    assert nearest("xyz", [f"key_{i}" for i in range(13)]) == ""
