# Commands for users and developers. deploy/install.sh chooses CPU or GPU packages.
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help install demo test loadtest lint clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install:  ## install into the virtual environment .venv
	@deploy/install.sh $(VENV)

demo:  ## serve the demonstration model and ask it a few questions
	@deploy/install.sh $(VENV) demo
	@bindserve demo

test:  ## run all checks: format, lint, types, tests
	@deploy/install.sh $(VENV) test
	ruff format --check .
	ruff check .
	mypy
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

loadtest:  ## load the demo server up to and beyond its peak; writes build/loadtest/report.md
	@deploy/install.sh $(VENV) demo loadtest
	@python -m deploy.loadtest demo --load-profile overload --rate 2 --seconds 20 --out build/loadtest

clean:  ## remove the environment and build files
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
