# Two commands do everything: `make demo` and `make test`.  Each sets up first; run again they are quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test lint format notebooks images bench-demo bench-real bench-crossval test-extras stress bench-faults test-offline lock clean

help:
	@echo "make demo       the whole pipeline on the embedded sample, into demo/"
	@echo "make test       all tests"
	@echo "make lint       ruff and mypy"
	@echo "make test-stream  shards, and S3 over HTTPS, in an environment with LitData; make bench-shards measures shards"
	@echo "make notebooks  run the notebooks on the sample and store their outputs"
	@echo "make images     make every picture and animation of images/ again"
	@echo "make stress     faults in great numbers, an hour; [FIGURES='races bombs'] only these"
	@echo "make bench-faults  what other tools do with the same broken files, into docs/faults.md"
	@echo "make bench VOLUMES=TREE BASELINE=FOLDER [ROWS=...]  cost on the CPU against the published recipe, measured"
	@echo "make bench-peers VOLUMES=TREE BASELINE=FOLDER  the same work by MONAI, TorchIO, nnU-Net, batchgeneratorsv2, measured"
	@echo "make bench-gpu [BASELINE=FOLDER] [PARTS='train recipe']  training and prediction on a GPU, measured"
	@echo "make bench-cluster [RUNS='plain killed']  scans on a cluster of processes, with workers and scheduler killed"
	@echo "make bench-demo  measure the demo and write the figures into README.md"
	@echo "make bench-crossval OUT=FOLDER [SLICES=TREE] [EPOCHS=40]  cross-validation of the sample, or of stacks of slices"
	@echo "make bench-real VOLUMES=TREE SLICES=TREE OUT=FOLDER [MINUTES=20]  the pipeline on real CT, measured"

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lungseg needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

setup: $(READY)

demo: setup
	$(BIN)/lungseg demo demo

test: setup
	$(BIN)/python -m pytest -q

# The same without any network but this machine's own (Linux).
test-offline: setup
	unshare $(if $(filter 0,$(shell id -u)),-n,-rn) sh -c 'ip link set lo up 2>/dev/null; exec $(BIN)/python -m pytest -q'

# Pins what the pinned packages need in turn; run after a change of requirements.txt, in a fresh .venv.
lock: setup
	$(BIN)/python tests/locked.py > constraints.txt.new && mv constraints.txt.new constraints.txt

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: setup
	$(BIN)/python notebooks/make.py

images: setup
	$(BIN)/python images/make.py

.PHONY: bench bench-gpu bench-peers
BASELINE ?= ../shared/peers/seed_recipe
ROWS ?=
PARTS ?=
bench: setup
	$(BIN)/python benchmarks/bench.py --volumes $(VOLUMES) --baseline $(BASELINE) $(if $(ROWS),--rows $(ROWS))

bench-gpu: setup
	$(BIN)/python benchmarks/gpu.py --baseline $(BASELINE) $(if $(PARTS),--parts $(PARTS))
	$(BIN)/python benchmarks/speed_tables.py

bench-demo: setup
	$(BIN)/python benchmarks/figures.py demo

MINUTES := 20
bench-real: setup
	bash benchmarks/real_data.sh $(VOLUMES) $(SLICES) $(OUT) $(MINUTES)
	$(BIN)/python benchmarks/figures.py real $(OUT)

EPOCHS := 40
bench-crossval: setup
	bash benchmarks/crossval.sh $(if $(SLICES),slices $(SLICES) $(OUT) $(EPOCHS),sample $(OUT))
	$(BIN)/python benchmarks/figures.py crossval $(OUT)

.PHONY: bench-cluster
RUNS :=
bench-cluster: setup
	$(BIN)/python benchmarks/cluster.py $(if $(RUNS),--runs $(RUNS))

# Worked out from what was measured; runs nothing.
.PHONY: scaling
scaling: setup
	$(BIN)/python benchmarks/scaling.py

FIGURES :=
stress: setup
	$(BIN)/python benchmarks/stress.py $(FIGURES)

# Other tools need other versions of much: an environment of their own.
PEERS := .venv-peers
bench-faults: setup
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	$(BIN)/python benchmarks/faults.py $(PEERS)/bin/python

bench-peers: setup
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	$(BIN)/python benchmarks/bench.py --volumes $(VOLUMES) --baseline $(BASELINE) --rows peers --peers $(PEERS)/bin/python

# Albumentations brings a headless OpenCV, which must not stand beside opencv-python: an environment of its own.
EXTRAS := .venv-extras
test-extras: setup
	test -x $(EXTRAS)/bin/python || $(PYTHON) -m venv $(EXTRAS)
	grep -v '^opencv-python==' requirements.txt > $(EXTRAS)/requirements.txt
	$(EXTRAS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(EXTRAS)/requirements.txt albumentations==2.0.8
	$(EXTRAS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(EXTRAS)/bin/python -m pytest -q --override-ini addopts=-ra tests/extras

# LitData asks for torchvision, whose packages fit only some builds of torch and which it needs for videos alone, and for
# an older dateutil: an environment of its own, without torchvision.  S3's client and a server for it are tried there too.
STREAM := .venv-stream
test-stream bench-shards: $(STREAM)/.ready
$(STREAM)/.ready: requirements.txt benchmarks/stream.txt
	test -x $(STREAM)/bin/python || $(PYTHON) -m venv $(STREAM)
	$(STREAM)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(STREAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/stream.txt
	$(STREAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STREAM)/.ready

.PHONY: test-stream bench-shards
test-stream:
	$(STREAM)/bin/python -m pytest -q --override-ini addopts=-ra tests/extras/test_streaming.py tests/extras/test_object_store.py

# Empties the system's cache of files, so it needs root and a machine that nobody else measures on (Linux).
bench-shards:
	$(STREAM)/bin/python benchmarks/shards.py
	$(BIN)/python benchmarks/figures.py write

clean:
	rm -rf demo build .pytest_cache .mypy_cache .ruff_cache *.egg-info
