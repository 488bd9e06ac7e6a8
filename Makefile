# Every target sets up .venv by itself, with the versions in constraints.txt. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench figures

demo: .venv/ready
	@echo "Sampling 64 drug-like molecules with SVDD (10 candidates a step); the report goes into runs/demo"
	@$(BIN)/guided sample molecules --reward qed --sampler svdd -n 64 -M 10 --batch-size 16 --out runs/demo

# In a process for each core, up to 8, each with one thread.
test: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: .venv/ready
	@$(BIN)/python benchmarks/hot_loop.py

# ONLY=README.md or the name of a measurement, MINUTES=30, ARGS=--list or ARGS=--render; see benchmarks/figures.
figures: .venv/ready
	@$(BIN)/python -m benchmarks.figures $(ONLY) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing the pinned environment into .venv (once, a few minutes)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,training]"
	@touch $@
