"""zero2chat: every stage of building an assistant, as recipes on the Hugging Face stack."""

import logging
import os
import sys
import warnings

__version__ = "0.1.0"

# `python -m zero2chat.…` puts the working folder first: there a user's evaluate.py would replace the package evaluate.
# While Python looks for that module, sys.argv begins with "-m".
if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 - pathlib would import from there
    sys.path.append(sys.path.pop(0))

# Before any Hugging Face library is imported: nothing is sent out unless the user asks for it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# OpenMP's threads meet thousands of times a second, and by default an early one spins for milliseconds. Beside another
# program that takes the core which the late one needs, so a thread spins for microseconds and then sleeps
# (benchmarks/busy_cpu.py). OpenMP reads this once, when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# `make canary` reports deprecations of the libraries; every run's log should not.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|torch|accelerate)\.")
# In small runs checkpoints follow each other within a second: transformers then orders them by step, and warns.
logging.getLogger("transformers.trainer_utils").addFilter(lambda record: "mtime may not be" not in str(record.msg))
if not sys.stderr.isatty():  # in a log, progress bars are noise
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
