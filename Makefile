# Each target makes what it needs in .venv. PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .demo
# Where the checkouts of the trial repositories are.
TREES ?= .trials

.PHONY: demo test test-ml check bench bench-images bench-serving bench-ml clean

demo: .venv/demo.stamp
	@rm -rf $(DEMO) && cp -R fixtures/sample_repo $(DEMO)
	@git -C $(DEMO) init --quiet && git -C $(DEMO) add --all
	@git -C $(DEMO) -c user.name=demo -c user.email=demo@localhost -c commit.gpgsign=false \
		commit --quiet --no-verify --message "Sample repository"
	@$(BIN)/mega-optimize $(DEMO)

test: .venv/test.stamp
	$(BIN)/python -m pytest -n auto

# Installs torch for the services that need it: minutes, and some gigabytes.
test-ml: .venv/test.stamp
	$(BIN)/python -m pytest -m ml

check: .venv/check.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/check.stamp
	$(BIN)/python -m benchmarks.engine $(TREES)

# Builds and starts images: needs root and buildah. The sample; IMAGES="FOLDER FOLDER:SERVICE" for
# checkouts instead, IMAGES="--trees FOLDER" for both; STORE keeps the layers for the next run.
bench-images: .venv/test.stamp
	$(BIN)/python -m benchmarks.images $(IMAGES) $(if $(STORE),--store $(STORE)) \
		--output docs/benchmarks/images.md

# Starts services before and after each rule: needs wrk, PostgreSQL and Redis. RULES="json serving/uvloop"
# renews the rows of some.
bench-serving: .venv/test.stamp
	$(BIN)/python -m benchmarks.serving $(RULES) --output docs/benchmarks/serving.md

# Measures models in an environment of its own: PyTorch, some gigabytes. RULES="ml/int8" renews some rows.
bench-ml: .venv/test.stamp
	$(BIN)/python -m benchmarks.ml $(RULES) --output docs/benchmarks/ml.md

clean:
	rm -rf .venv .venvs $(DEMO) dist build .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ .venv/demo.stamp

.venv/check.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@ .venv/test.stamp .venv/demo.stamp
