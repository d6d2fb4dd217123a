# Commands for users and developers. deploy/install.sh chooses the CPU or the GPU packages.
VENV ?= .venv
PYTEST = python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help install demo check test clients embedding-clients loadtest clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install:  ## create the virtual environment (.venv)
	@deploy/install.sh $(VENV)

demo:  ## serve the demonstration model and send it the first questions
	@deploy/install.sh $(VENV) demo
	@bindserve demo

check:  ## format, lint, types, and all tests that start no engine
	@deploy/install.sh $(VENV) test
	ruff format --check .
	ruff check .
	mypy
	$(PYTEST) -m "not engine"

test:  ## format, lint, types, and all tests
	@deploy/install.sh $(VENV) test
	ruff format --check .
	ruff check .
	mypy
	$(PYTEST)

embedding-clients:  ## run mteb, LangChain, LanceDB and LiteLLM, in their own environments, with the server of MODEL at URL
	@sh tests/clients/run-embeddings.sh $(MODEL) $(URL)

clients:  ## run lmms-eval, in its own environment, against the server at URL, and compare the answers
	@sh tests/clients/run.sh $(URL)

loadtest:  ## load the demo server beyond its maximum throughput, and write build/loadtest/report.md
	@deploy/install.sh $(VENV) demo loadtest
	@python -m deploy.loadtest demo --load-profile overload --rate 2 --seconds 20 --out build/loadtest

clean:  ## remove all generated files
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
