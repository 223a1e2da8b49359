# make run: install into .venv, run the main job on what ships with the project, say where its page is.
# make test: install into .venv, with what the tests need (torch among it), and run them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench clean

run: $(VENV)/run
	$(BIN)/qkbench run --task edit --model query-kontext --model unified-a --model blip3o --model two-stage --model two-stage-generate \
		--model no-op --model oracle --model noise --seeds 0,1,2 --limit 64

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python tests/benchmarks/help_time.py
	$(BIN)/python tests/benchmarks/scenes_speed.py
	$(BIN)/python tests/benchmarks/pairs_speed.py
	$(BIN)/python tests/benchmarks/edit_latency.py
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/memory.py
	$(BIN)/python tests/benchmarks/stats_speed.py
	$(BIN)/python -m tests.benchmarks.test_metrics_speed
	$(BIN)/python -m tests.benchmarks.score_memory
	$(BIN)/python -m tests.benchmarks.interval_coverage

# Stamps make the second call quick; a changed pyproject.toml installs again.
$(VENV)/run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[model]'
	$(BIN)/python -m compileall -q containers baselines leaderboard model qk_bench tasks  # as pip does with what it copies
	touch $@

$(VENV)/dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,metrics,model,faces,peers,container]'
	touch $@

clean:
	rm -rf $(VENV) runs
