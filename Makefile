# One command each; the first one on a new machine sets up .venv.
PACKAGE = '.[lab,report,fid,tensorboard,farm,grader,test,docs]' ./grader
PRESET ?= cpu
OUT ?= out/demo
WORKERS ?= 2
GRADES ?= grades
export PYTHONDONTWRITEBYTECODE = # without compiled modules every process compiles all of PyTorch's again

.PHONY: help install lab explore demo grade test test-nightly notebooks docs slides clean

help:
	@echo "make lab        the notebooks, in JupyterLab"
	@echo "make handin     check the answers in work/ and pack them with the notebooks: lab3-handin.zip"
	@echo "make explore    the schedule explorer, as a page in the browser"
	@echo "make demo       train, fill the holes, score: out/demo/report.html"
	@echo "make grade      SUBMISSIONS=folder: marks and feedback in grades/"
	@echo "make test       the daily tests"
	@echo "make test-nightly  the long tests"
	@echo "make install    set up .venv alone"
	@echo "make notebooks  build starters, solved notebooks and answers from solutions/source"
	@echo "make docs       the documentation as a site, for offline too: out/site/index.html"
	@echo "make slides     slides for lectures, from the solved notebooks: out/slides/"
	@echo "make clean      delete .venv and out/"

demo: install
	$(RUN) -m lab3 demo --preset $(PRESET) --out $(OUT)

grade: install
	@test -n "$(SUBMISSIONS)" || { echo "name the folder with the submissions: make grade SUBMISSIONS=folder"; exit 2; }
	$(RUN) -m grader grade "$(SUBMISSIONS)" --out "$(GRADES)" $(GRADE)

test: install
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile

test-nightly: install
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --nightly

notebooks: install
	$(RUN) solutions/build.py

docs: install
	$(RUN) docs/build_site.py

slides: install
	$(RUN) solutions/slides.py $(SLIDES)

clean:
	rm -rf $(VENV) out

include lab.mk
