# Everything runs from .venv, which `make setup` builds from constraints.txt.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: quickstart test check setup clean wheel docs golden

quickstart: setup  ## fetch, fine-tune three teachers, distil, export, deploy, ask, report
	$(BIN)/tutelage quickstart

test: setup  ## every check and every test; PROCESSOR=avx2 or =avx512 hides what is newer in the processor
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(PROCESSOR),sh scripts/as_processor.sh $(PROCESSOR)) sh scripts/test.sh

check: test

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) sh scripts/setup.sh
	touch $(STAMP)

docs: setup  ## write the config reference again
	$(BIN)/python -m tutelage.config.reference

golden: setup  ## write the golden trajectories again; look at the difference before you commit it
	$(BIN)/python -m tests.golden.regenerate

wheel: setup
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf .venv .tutelage dist
