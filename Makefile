# One command each; the first one on a new machine sets up .venv.
PYTHON ?= python3
VENV ?= .venv
PRESET ?= cpu
OUT ?= out/demo
WORKERS ?= 2
GRADES ?= grades
RUN = $(VENV)/bin/python

.PHONY: help install lab explore demo grade test notebooks clean

help:
	@echo "make lab        the notebooks, in JupyterLab"
	@echo "make explore    the schedule explorer, as a page in the browser"
	@echo "make demo       train, fill the holes, score: out/demo/report.html"
	@echo "make grade      SUBMISSIONS=folder: marks and feedback in grades/"
	@echo "make test       every test"
	@echo "make install    set up .venv alone"
	@echo "make notebooks  build starters, solved notebooks and answers from solutions/source"
	@echo "make clean      delete .venv and out/"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lab3 needs Python 3.11 or later; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab,grader,test]'
	@touch $@

lab: install
	$(RUN) -m jupyterlab --ServerApp.root_dir=notebooks

explore: install
	JUPYTER_PATH=lab3/web $(RUN) -m voila lab3/web/explorer.ipynb --template=explorer --preheat_kernel=True --pool_size=1 \
		$(foreach name,@jupyter/nbgrader jupyterlab-jupytext @jupyter-notebook/lab-extension,--VoilaConfiguration.extension_denylist=$(name)) $(VOILA)

demo: install
	$(RUN) -m lab3 demo --preset $(PRESET) --out $(OUT)

grade: install
	@test -n "$(SUBMISSIONS)" || { echo "name the folder with the submissions: make grade SUBMISSIONS=folder"; exit 2; }
	$(RUN) -m grader grade "$(SUBMISSIONS)" --out "$(GRADES)"

test: install
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile

notebooks: install
	$(RUN) solutions/build.py

clean:
	rm -rf $(VENV) out
