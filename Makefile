# `make demo` shows taskrun at work, `make test` proves it. Both set up what is missing (scripts/setup); with all in place they start at once.

.PHONY: help demo test check audit format bench fuzz soak lock sbom wheel clean

PYTHON_HERE = .venv/bin/python
# Tests run real processes and wait for them: three at a time, whatever the number of cores. PYTEST="-n 0 -k resume" changes that.
PYTEST = -n 3 --dist worksteal

help:
	@echo 'make demo    runs an example to its end and shows its status file'
	@echo 'make test    linters, types and all tests'
	@echo 'make check   linters, types and known vulnerabilities of the packages'
	@echo 'make format  puts the code in the one form'
	@echo 'make bench   measures (benchmarks/)'
	@echo 'make fuzz    a million made-up task files, status files, frames … each, for hours (FUZZ=10000 for fewer)'
	@echo 'make soak    a thousand runs in which whatever takes part is killed or stopped (SOAK=200 for fewer),'
	@echo '             a tenth as many over three SSH hosts, and each fault of SLURM'
	@echo 'make lock    renews scripts/locks: the newest release of each package, with hashes'
	@echo 'make wheel   builds dist/*.whl'
	@echo 'make sbom    writes dist/sbom.json: the packages that taskrun runs with (CycloneDX)'
	@echo 'make clean   removes what the others made'

# One stamp per set of packages: pip runs only when pyproject.toml or the lock has changed.
.venv/run.stamp: pyproject.toml scripts/setup scripts/locks/run.txt
	@scripts/setup run
	@touch $@

.venv/test.stamp: pyproject.toml scripts/setup scripts/locks/test.txt
	@scripts/setup test
	@touch .venv/run.stamp $@

demo: .venv/run.stamp
	@scripts/demo

test: check
	@$(PYTHON_HERE) -m pytest $(PYTEST)

check: .venv/test.stamp
	@$(PYTHON_HERE) -m ruff check --quiet .
	@$(PYTHON_HERE) -m ruff format --quiet --check .
	@$(PYTHON_HERE) -m mypy --no-error-summary
	@$(PYTHON_HERE) scripts/audit

audit: .venv/test.stamp
	@$(PYTHON_HERE) scripts/audit --now

format: .venv/test.stamp
	@$(PYTHON_HERE) -m ruff check --quiet --fix .
	@$(PYTHON_HERE) -m ruff format --quiet .

bench: .venv/test.stamp
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(PYTHON_HERE) $$script; done

FUZZ = 1000000

fuzz: .venv/test.stamp
	@FUZZ_EXAMPLES=$(FUZZ) $(PYTHON_HERE) -m pytest $(PYTEST) tests/fuzz

SOAK = 1000

soak: .venv/test.stamp
	@$(PYTHON_HERE) tests/faults/soak.py $(SOAK)
	@$(PYTHON_HERE) tests/faults/soak_hosts.py $$(( ($(SOAK) + 9) / 10 ))
	@$(PYTHON_HERE) tests/faults/soak_slurm.py

lock: .venv/test.stamp
	@scripts/lock

sbom: .venv/test.stamp
	@mkdir -p dist
	@.venv/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible -o dist/sbom.json scripts/locks/run.txt
	@ls dist/sbom.json

wheel: .venv/test.stamp
	@rm -rf dist
	@$(PYTHON_HERE) -m build --wheel --no-isolation . > /dev/null
	@ls dist/*.whl

clean:
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
