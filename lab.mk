# What the Makefiles of the project and of students have in common: a virtual environment, the notebooks, the explorer.
# Set PACKAGE to what pip is to install; GPU=1 takes PyTorch with CUDA on Linux; PORT is where `make explore` serves.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8866
RUN = $(VENV)/bin/python

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt setup_lab.py
	@$(PYTHON) setup_lab.py --venv $(VENV) $(if $(GPU),--gpu) $(PACKAGE)
	@touch $@

# The settings in lab3/notebook/jupyter leave out JupyterLab's news and nbgrader's menus.
lab: install
	JUPYTER_CONFIG_PATH=lab3/notebook/jupyter $(RUN) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(JUPYTERLAB)

explore: install
	@$(RUN) -m lab3 page out/explorer/index.html
	$(RUN) -m http.server $(PORT) --bind 127.0.0.1 --directory out/explorer

.PHONY: handin
handin: install
	@$(RUN) -m lab3 handin lab3-handin.zip
