# One command each; the first one on a new machine sets up .venv.
PYTHON ?= python3
VENV ?= .venv
PRESET ?= cpu
OUT ?= out/demo
RUN = $(VENV)/bin/python

.PHONY: help install demo test answers clean

help:
	@echo "make demo     train, fill the holes, score: out/demo/report.html"
	@echo "make test     every test"
	@echo "make install  set up .venv alone"
	@echo "make answers  export the reference answers from solutions/source to solutions/work"
	@echo "make clean    delete .venv and out/"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lab3 needs Python 3.11 or later; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: install
	$(RUN) -m lab3 demo --preset $(PRESET) --out $(OUT)

test: install
	$(RUN) -m pytest

answers: install
	$(RUN) -m lab3.exercises

clean:
	rm -rf $(VENV) out
