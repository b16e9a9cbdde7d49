# make run: install, run both arms on drawn faces, print the comparison. make test: install, run the tests.
# PYTHON=python3.12 chooses the interpreter that .venv is made with.
PYTHON ?= python3
BATCH ?= notebooks/batches/quick.yml

.PHONY: run test clean

run: .venv/.installed
	.venv/bin/python -m centroidlib.batch $(BATCH)

test: .venv/.installed-test
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "centroidlib needs Python 3.10 to 3.13: choose one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml
	.venv/bin/python -m pip install -q -e .
	touch $@

.venv/.installed-test: .venv/bin/python pyproject.toml
	.venv/bin/python -m pip install -q -e '.[test]'
	touch $@ .venv/.installed

clean:
	rm -rf .venv results/quick results/manual
