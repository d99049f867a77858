# What the Makefiles of the project and of students have in common: a virtual environment, the notebooks, the explorer.
# Set PACKAGE to what pip is to install; GPU=1 takes PyTorch with CUDA on Linux.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt setup_lab.py
	@$(PYTHON) setup_lab.py --venv $(VENV) $(if $(GPU),--gpu) $(PACKAGE)
	@touch $@

# The settings in lab3/notebook/jupyter leave out JupyterLab's news and nbgrader's menus.
lab: install
	JUPYTER_CONFIG_PATH=lab3/notebook/jupyter $(RUN) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(JUPYTERLAB)

explore: install
	JUPYTER_PATH=lab3/explorer/web $(RUN) -m voila lab3/explorer/web/explorer.ipynb --template=explorer --preheat_kernel=True --pool_size=1 \
		$(foreach name,@jupyter/nbgrader jupyterlab-jupytext @jupyter-notebook/lab-extension,--VoilaConfiguration.extension_denylist=$(name)) $(VOILA)

.PHONY: handin
handin: install
	@$(RUN) -m lab3 handin lab3-handin.zip
