# The bindings: included by the Makefile.
# make test-python  tests the Python package, in a virtual environment of its own (.venv)
# make bench-python measures it beside socket, asyncio and uvloop

PYTHON ?= python3
PYTHON_DIR := bindings/python
VENV := .venv

.PHONY: test-python bench-python
test-python: build $(VENV)/.ready
	cd $(PYTHON_DIR) && PYTHONPATH=src $(abspath $(VENV))/bin/python -m pytest -q

bench-python: build $(VENV)/.ready
	PYTHONPATH=$(PYTHON_DIR)/src $(VENV)/bin/python $(PYTHON_DIR)/benchmarks/receive.py

$(VENV)/.ready: $(PYTHON_DIR)/tests/requirements.txt
	$(call need,$(PYTHON),apt-get install python3 python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r $<
	touch $@
