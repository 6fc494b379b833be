# Everything happens in .venv; `make demo` and `make test` need only Python (3.11 or newer) and git.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs bench roofline bench-check clean

demo: .venv/ready-cli  ## train on digits, beside plain NumPy
	$(BIN)/fastmlp train

test: .venv/ready-test  ## all tests
	$(BIN)/python -m pytest

lint: .venv/ready-dev  ## what pre-commit and CI check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/ready-docs  ## the site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky docs docs/_build/html

bench: .venv/ready-bench  ## this machine's report: all peers, all sections, half an hour to an hour on two processors
	$(BIN)/python -m benchmarks --json benchmark.json --html benchmark.html

roofline: .venv/ready-test  ## how near to the limit of the machine, and where the time goes
	$(BIN)/python -m benchmarks --quick --sections kernels --problems digits,online,nielsen,mnist,higgs,deep,wide,float64,matexp

bench-check: .venv/ready-test  ## has anything become slower than the repository says?
	$(BIN)/python -m benchmarks.check

# A stamp for each extra that is installed, older than pyproject.toml when that has changed.
.venv/ready-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
