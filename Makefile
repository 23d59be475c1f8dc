# Every target makes its own virtual environment if it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
WORKERS ?= auto
FLAGSHIP = .job-harness/flagship.yaml

ENGINES ?= memory,reference,postgres,pgboss,pgboss-node@10,pgboss-node@11,pgboss-node@12,$(POLICIES),bullmq,bullmq-redis,procrastinate,pgqueuer,graphile-worker,django-tasks-db,celery-redis,dramatiq-redis,chancy
POLICIES = pgboss-node@12/stately,pgboss-node@12/exclusive,pgboss-node@12/short,pgboss-node@12/singleton

.DEFAULT_GOAL = help
.PHONY: help install demo test long client site lint bench aims detection rivals public-bugs outcomes systems programs clock fuzz reliability wrong right planted queues nightly rules libraries brokers workflows known-issues public-flows ray engines campaign pages fresh clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP)  ## make .venv with everything that the other targets need

demo: $(STAMP)  ## run all scenarios on two engines, then find, shrink, replay and repair a bug
	@BIN=$(BIN) FLAGSHIP=$(FLAGSHIP) sh docs/demo.sh

# The tests start hundreds of processes: each would compile the harness anew where no bytecode is kept.
test: $(STAMP)  ## run the tests (about five minutes on two cores)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not campaign and not long' $(ARGS)

long: $(STAMP)  ## run the tests that stop, kill and watch real processes and servers, or search for long
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'long and not campaign' $(ARGS)

campaign: $(STAMP)  ## run what takes longer than the tests may
	@$(BIN)/python -m pytest -m campaign $(ARGS)

pages: $(STAMP)  ## type the commands of every page, and compare what they print with what the page shows
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m campaign tests/docs $(ARGS)

client: $(STAMP)  ## pack the npm client and try it in Vitest and Jest, in a fresh folder (needs npm)
	@command -v npm >/dev/null || { echo "npm is not on the PATH: the npm client was not tried"; exit 0; } && \
		timeout 1200 env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'campaign and not nightly' tests/client $(ARGS)

site: $(STAMP)  ## build the docs as a site, into build/site; a link that leads nowhere fails
	@test -x $(VENV)-site/bin/mkdocs || { $(PYTHON) -m venv $(VENV)-site && \
		$(VENV)-site/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt mkdocs-material; }
	@$(BIN)/python docs/generate.py --site
	@NO_MKDOCS_2_WARNING=1 $(VENV)-site/bin/mkdocs build --quiet --strict

lint: $(STAMP)  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing/outside.py
	@$(BIN)/lint-imports

bench: $(STAMP)  ## measure, as ratios within one run, and write benchmarks/results/performance.md
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@$(BIN)/python benchmarks/all.py
	@test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray,embedded]'
	@.venv-ray/bin/python benchmarks/all.py ray_cluster.py
	@$(BIN)/python benchmarks/aims.py

aims: $(STAMP)  ## print what work costs beside the aims, and write benchmarks/results/aims.md; ARGS="--quick" for a look
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@$(BIN)/python benchmarks/aims.py $(ARGS)

detection: $(STAMP)  ## measure how planted bugs are found, and write benchmarks/results/detection.md
	@$(BIN)/python benchmarks/detection/__main__.py $(ARGS)

rivals: $(STAMP)  ## play one program under detangle, frontrun, simloop, simloom and ours, and write benchmarks/results/rivals.md
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python benchmarks/detection/rivals $(ARGS)

public-bugs: $(STAMP)  ## look for public bugs in the releases that have them, and write benchmarks/results/public_bugs.md
	@$(BIN)/python benchmarks/public_bugs/__main__.py $(ARGS)

outcomes: $(STAMP)  ## ask every queue what it makes of outcomes that are hard to store, and write benchmarks/results/outcomes.md
	@$(BIN)/python benchmarks/outcomes.py $(ARGS)

rules: $(STAMP)  ## run what the rules of check claim on releases of six queues
	@$(BIN)/python benchmarks/rules/__main__.py $(ARGS)

right: $(STAMP)  ## explore programs that are right, and write benchmarks/results/right.md; ARGS="--resume --minutes 40"
	@test -x .venv-libraries/bin/python || $(PYTHON) -m venv .venv-libraries
	@.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[libraries,node]'
	@.venv-libraries/bin/python benchmarks/right --page $(ARGS)

libraries: $(STAMP)  ## run what people import in processors as jobs, Node and Python, and write benchmarks/results/libraries.md
	@$(BIN)/python benchmarks/libraries/node.py $(ARGS)
	@test -x .venv-libraries/bin/python || $(PYTHON) -m venv .venv-libraries
	@.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[libraries]'
	@.venv-libraries/bin/python benchmarks/libraries/python.py $(ARGS)

workflows: $(STAMP)  ## explore agents and durable workflows on LangGraph, DBOS, pydantic-ai and Agent Framework, wrong and right
	@test -x .venv-libraries/bin/python || $(PYTHON) -m venv .venv-libraries
	@.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[workflows]'
	@.venv-libraries/bin/python benchmarks/workflows $(ARGS)

known-issues: $(STAMP)  ## try known issues of agent and workflow libraries, each release in an environment of its own (.venv-known)
	@$(BIN)/python benchmarks/workflows/known.py $(ARGS)

public-flows: $(STAMP)  ## explore workflows of public repositories, cloned or given by ARGS="--repo NAME=PATH" (.venv-public)
	@$(BIN)/python benchmarks/workflows/public.py $(ARGS)

ray:  ## search on a Ray cluster of two nodes, one of them killed, in an environment of its own (.venv-ray)
	@test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray,embedded]'
	@env -u PYTHONDONTWRITEBYTECODE .venv-ray/bin/python -m pytest -q -m campaign tests/determinism/test_ray_cluster.py $(ARGS)

systems: $(STAMP)  ## search both systems in examples/, play what is found from tokens, run their repaired forms 500 times
	@$(BIN)/python benchmarks/systems/__main__.py $(ARGS)

programs: $(STAMP)  ## search public programs as they are, and write benchmarks/results/programs.md; ARGS="--folder CLONES"
	@$(BIN)/python benchmarks/systems/programs.py $(ARGS)

clock: $(STAMP)  ## measure what the clock of processes costs and contains, and write benchmarks/results/clock.md
	@$(BIN)/python benchmarks/clock/figures.py $(ARGS)

brokers: $(STAMP)  ## find mistakes planted in programs on Redis and SQS; ARGS="rq --silent 50", "--replay 50", "--known"
	@$(BIN)/python benchmarks/brokers $(ARGS)

fuzz: $(STAMP)  ## throw damaged and hostile input at everything that reads any; ARGS="--seconds 60 --seed N"
	@$(BIN)/python -m tests.fuzz $(ARGS)

wrong: $(STAMP)  ## run programs and files that are wrong, each through its door under CI=1; none may pass
	@$(BIN)/python benchmarks/wrong/__main__.py $(ARGS)

planted: $(STAMP)  ## measure with how many of ten seeds the search finds each planted mistake of tests/detection; ARGS="--only WORD"
	@$(BIN)/python benchmarks/planted.py $(ARGS)

reliability: $(STAMP)  ## stop, kill and fuzz it, count what is left or lost, and write benchmarks/results/reliability.md
	@$(BIN)/python benchmarks/reliability/__main__.py $(ARGS)

engines: $(STAMP)  ## install other people's queues; every scenario on every engine, and what explains what is no pass
	@$(BIN)/python -m job_harness.doors.cli conform --quiet --cases $(ENGINES)
	@$(BIN)/python -m job_harness.doors.cli run --quiet scenarios/applications scenarios/findings

queues: $(STAMP)  ## search the queues of others in queues/, at most an hour, and write a page for each and the table of all
	@$(BIN)/python benchmarks/queues/__main__.py $(ARGS)

nightly: $(STAMP)  ## run what is too long for CI, at most six hours, and write benchmarks/results/nightly.md
	@$(BIN)/python benchmarks/nightly.py $(ARGS)

fresh:  ## clone into an empty folder and run demo and test there, without any cache
	@sh .ci/fresh

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .job-harness build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
