PYTHON ?= python3
RUN = .venv/bin/python

# Files of tests spread over two processes, longest first; the slowest tests and the machine's load at the end.
TEST = $(RUN) -m pytest -n 2 --durations=20

.PHONY: demo test test-all lint format docs benchmarks

demo: .venv/ready  ## set everything up, then train and test the first paper
	$(RUN) run.py experiment=uosr

test: .venv/ready  ## set everything up, then pass the tests that show that all works here
	$(TEST) -m "not full"

test-all: .venv/ready  ## every test
	$(TEST)

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

format: .venv/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: .venv/ready  ## take the results into the README and the pages, then build the site into .site/
	$(RUN) docs/fill.py
	.venv/bin/mkdocs build --quiet --strict

benchmarks: .venv/ready  ## our hot paths against what a user would pick instead
	$(RUN) benchmarks/startup.py
	$(RUN) benchmarks/threads.py
	$(RUN) benchmarks/step_overhead.py
	$(RUN) benchmarks/loading.py
	$(RUN) benchmarks/fs_knn.py
	$(RUN) benchmarks/tuners.py
	$(RUN) benchmarks/covlasso.py
	$(RUN) benchmarks/dvdp.py
	$(RUN) benchmarks/geod.py
	$(RUN) benchmarks/clip_fsar.py
	$(RUN) benchmarks/linkgan.py

# Exact versions with their hashes; made again only when the lock changes.
.venv/ready: requirements.lock
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@
