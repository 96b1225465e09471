# Everything a newcomer needs: `make demo` shows the suite at work, `make test` proves it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
FUZZ_STAMP  := $(VENV)/.fuzz-installed

ROWS   := expose single-port addresses names

.PHONY: help demo $(ROWS:%=demo-%) test test-slow check format build bench battery fuzz clean

help:
	@echo 'make demo         the suite at work on this machine, until Ctrl-C (ONCE=1: ends by itself)'
	@echo 'make demo-expose  a public port on the relay; also demo-single-port, demo-addresses, demo-names'
	@echo 'make test         the tests (make test-slow: those that take minutes)'
	@echo 'make check        format, lint, types and tests: what CI runs'
	@echo 'make battery      the fault battery: everything that can break, broken (QUICK=1: the short one)'
	@echo 'make fuzz NAME=…  one parser fed by atheris, 5 million times (no NAME: lists them)'
	@echo 'make bench        speed beside the peers that are installed here (QUICK=1: in three minutes)'
	@echo 'make format       put the code into its format'
	@echo 'make build        wheel and sdist, in dist/'
	@echo 'make clean        remove everything that these commands made'
	@echo 'Every one of them makes the environment in $(VENV) first; PYTHON=python3.12 chooses the Python.'

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)
	@$(BIN)/python -m demo $(if $(filter-out 0,$(ONCE)),--once)

$(ROWS:%=demo-%): demo-%: $(STAMP)
	@bash demo/rows/$*.sh

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow'

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow'

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: $(STAMP)
	$(BIN)/python -m build

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

# QUICK=1 ends within three minutes; figures and plots go to build/bench. PEERS_DIR=directory: peers
# that are not on the PATH.
bench: $(BENCH_STAMP)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(PEERS_DIR),--peers-dir '$(PEERS_DIR)') \
		--output build/bench

# QUICK=1: the sizes of make test. ONLY='words' chooses cases, SEED=n repeats a run, SOAK=minutes.
battery: $(STAMP)
	$(BIN)/python -m tests.battery $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') \
		$(if $(SEED),--seed $(SEED)) $(if $(SOAK),--soak $(SOAK))

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	touch $@

# NAME=harness (none: lists them), EXECUTIONS=n.
fuzz: $(FUZZ_STAMP)
	$(BIN)/python -m tests.fuzz $(NAME) $(if $(EXECUTIONS),--executions $(EXECUTIONS))

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis demo/.run
