# make demo    learns two families of tasks on two CPU cores and draws them
# make test    runs the tests
# make lint    checks form and types
#
# Needs Python 3.11 to 3.13, bash and make. PYTHON chooses the interpreter.

SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
INSTALL := $(BIN) -m pip install --quiet --constraint constraints.txt --editable

# One stamp an interpreter: naming another one makes the environment anew.
INSTALLED := $(VENV)/installed-$(notdir $(PYTHON))
INSTALLED_DEV := $(INSTALLED)-dev

.PHONY: demo test test-slow lint clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	rm -rf demo
	$(BIN) -m experiments.maml --experiment=sinusoid --preset=paper \
	  --workdir=demo/sinusoid
	$(BIN) -m experiments.maml_rl --experiment=navigation --preset=laptop \
	  --workdir=demo/navigation
	@echo
	@echo 'The pictures:'
	@ls -1 demo/*/figures/*.png

test: $(INSTALLED)
	$(BIN) -m pytest -n 2 -m 'not slow'

test-slow: $(INSTALLED)
	$(BIN) -m pytest -m slow

lint: $(INSTALLED_DEV)
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m pyright --pythonpath $(BIN)

clean:
	rm -rf $(VENV) demo

$(INSTALLED): setup.py constraints.txt
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[test,tensorboard,video,gymnasium]'
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(INSTALL) '.[test,tensorboard,video,gymnasium,dev]'
	touch $@
