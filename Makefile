# Everything from nothing but python3 (3.11 or newer) and pip: the first target that needs it makes .venv, and a stamp file makes repeating fast.

PYTHON ?= python3
JOBS ?= 2
THREADS ?= 1
OUT ?= demo
INPUTS ?= 10000
RUNS ?= runs
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help demo test slow fuzz numerics quantised lint docs notebook pretrain starter bench benchmark instant
help:
	@echo "make demo      clips -> motion bank -> new videos: demo/index.html"
	@echo "make test      the tests, offline"
	@echo "make slow      the tests that take minutes each"
	@echo "make fuzz      ten thousand random inputs, as strangers could write them"
	@echo "make numerics  the tests of numbers, with the instructions of other processors"
	@echo "make quantised the tests of eight-bit weights, with torchao in a folder of its own"
	@echo "make lint      ruff, and mypy --strict on ditflow/"
	@echo "make docs      the pages of docs/ and the API reference: build/docs/index.html"
	@echo "make notebook  run docs/first_motion.ipynb in place, and make README's picture from it"
	@echo "make pretrain  train the embedded backbones from scratch"
	@echo "make starter   make the starter bank of motions anew, in a minute"
	@echo "make bench     measure the embedded backbones, as BENCHMARKS.md reports it"
	@echo "make instant   measure instant motion, as BENCHMARKS.md reports it: an hour, and it goes on where it was"
	@echo "make benchmark compare all methods on them, as BENCHMARKS.md reports it: hours, and it goes on where it was"

demo: $(STAMP)
	$(BIN)/ditflow demo --out $(OUT)

# One thread for each process. On one machine, results with as many threads are the same bit by bit,
# however many processes make them and however often they are stopped. Another kind of processor
# adds in another order: there they are the same up to rounding (tests/closeness.py).
test slow numerics quantised benchmark: export OMP_NUM_THREADS = $(THREADS)
test slow numerics quantised bench benchmark instant: export HF_HUB_OFFLINE = 1

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Without PyTorch's own vector code, and with the instructions of a processor without AVX-512.
NUMERIC := tests/test_closeness.py tests/ditflow $(addprefix --ignore=tests/ditflow/,bank video visual)
OLDER := ATEN_CPU_CAPABILITY=default
OLD := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
numerics: $(STAMP)
	$(OLDER) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(NUMERIC)
	$(OLD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(NUMERIC)

# Where torchao is installed, diffusers imports it at each start: half a second that only these need.
TORCHAO := $(VENV)/torchao
quantised: $(STAMP) $(TORCHAO)
	PYTHONPATH=$(TORCHAO) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/ditflow/models/weights/test_quantised.py tests/trainers/motion/test_memory.py

$(TORCHAO): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $(TORCHAO) --constraint constraints.txt torchao
	touch $(TORCHAO)

fuzz: $(STAMP)
	DITFLOW_FUZZ=$(INPUTS) $(BIN)/python -m pytest tests/test_fuzz.py tests/ditflow/video/test_damage.py

slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow || { code=$$?; [ $$code -eq 5 ] || exit $$code; echo "No test is marked slow: nothing to do."; }

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet -f docs/site/mkdocs.yml
	@echo "build/docs/index.html"

notebook: $(STAMP)
	$(BIN)/python docs/figures/notebook.py

pretrain: $(STAMP)
	for stage in vae tiny-rope tiny-sincos vae-decoder tiny-rope-correspondence tiny-sincos-correspondence tiny-rope-sprites tiny-sincos-sprites wan-vae tiny-wan clip; do $(BIN)/python -m trainers.pretraining.backbone fit --config configs/pretrain/$$stage.yaml || exit 1; done

starter: $(STAMP)
	$(BIN)/python -m trainers.pretraining.starter --out checkpoints/banks/starter

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks.embedded_clip tiny-clip --clips 200
	$(BIN)/python -m tests.benchmarks.metric_floors --clips 24
	$(BIN)/python -m tests.benchmarks.embedded_backbone tiny-rope --clips 24 --parts world amf plain --variables latents rotary_positions rotary_tables
	$(BIN)/python -m tests.benchmarks.embedded_backbone tiny-sincos --clips 24 --parts world amf plain --variables latents sinusoidal
	$(BIN)/python -m tests.benchmarks.embedded_backbone tiny-wan --clips 24 --parts world amf plain --variables latents rotary_positions
	$(BIN)/python -m tests.benchmarks.throughput --processes 2 --clips 6 --repeats 3
	$(BIN)/python -m tests.benchmarks.ranks_simulation --ranks 64 --clips 1280
	$(BIN)/python -m tests.benchmarks.busy_core --clips 2 --repeats 2
	$(BIN)/python -m tests.benchmarks.reading

# Two processes, a backbone each. The tables and pictures lie in runs/instant.
INSTANT := $(BIN)/python -W ignore -m tests.benchmarks.instant
instant: $(STAMP)
	{ $(INSTANT) tiny-sincos --table main --rows instant plain --prompts 3 --seeds 2 && $(INSTANT) tiny-sincos --table main && \
	$(INSTANT) tiny-sincos --table optimised --clips 12 && $(INSTANT) tiny-rope --table optimised --prompts 3; } & \
	$(INSTANT) tiny-wan --table main --rows instant plain --prompts 3 && $(INSTANT) tiny-wan --table main && $(INSTANT) tiny-wan --table optimised && \
	$(INSTANT) tiny-rope --table main --rows instant plain --prompts 3 --seeds 2 && $(INSTANT) tiny-rope --table main && \
	$(INSTANT) tiny-rope --table law --clips 12 && $(INSTANT) tiny-rope --table ablation --clips 12; code=$$?; wait $$! && exit $$code
	$(BIN)/python -m tests.benchmarks.instant_bank --clips 200
	$(BIN)/python -W ignore -m tests.benchmarks.instant_sources tiny-rope
	$(BIN)/python -W ignore -m tests.benchmarks.instant_curves tiny-rope

# Two processes share the work; then everything is looked at once more, which makes what is left and the tables. The worst exit code counts.
ROPE := $(BIN)/ditflow test --config configs/benchmarks/synthetic.yaml --out $(RUNS)/synthetic
SINCOS := $(BIN)/ditflow test --config configs/benchmarks/synthetic-sincos.yaml --out $(RUNS)/synthetic-sincos
WAN := $(BIN)/ditflow test --config configs/benchmarks/synthetic-wan.yaml --out $(RUNS)/synthetic-wan
ABLATION := $(BIN)/ditflow ablate --config configs/benchmarks/ablation.yaml --out $(RUNS)/ablation
benchmark: $(STAMP)
	{ $(ROPE) --methods backbone ditflow-latents ditflow-tables ditflow-positions ditflow-latents-zero-shot ditflow-tables-zero-shot ditflow-positions-zero-shot; \
	$(SINCOS); $(WAN); } & \
	{ $(ROPE) --methods injection smm moft motionclone motionclone-x motionflow; $(ABLATION); }; wait; true
	code=0; $(ROPE) || code=$$?; $(SINCOS) || code=$$?; $(WAN) || code=$$?; $(ABLATION) || code=$$?; exit $$code

$(STAMP): $(VENV)/pyvenv.cfg setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --editable '.[test]'
	@touch $(STAMP)

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("ditflow needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear --without-pip $(VENV)
