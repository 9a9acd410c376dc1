PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo code test lint bench

install: $(VENV)/installed

# The lock pins what the project is tested with; the package itself is installed in place.
$(VENV)/installed: requirements.lock setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install
	mkdir -p demo_output
	$(BIN)/refavs segment spaces_demo/examples/bear_first.mp4 \
		"the bear" "the cello" "the object that is making a sound" "the airplane" \
		--output demo_output/overlay.mp4 \
		--contact-sheet demo_output/contact_sheet.png --summary demo_output/summary.json
	@echo "Look at demo_output/overlay.mp4 and demo_output/contact_sheet.png"

# The shipped checkpoints carry the code of their model, as a published one does.
code: install
	$(BIN)/python -c "from pathlib import Path; from modeling_refavs.hub.publish import write_code; \
		[write_code(folder) for folder in Path('spaces_demo').glob('*_checkpoint')]"

test: install
	$(BIN)/pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: install
	$(BIN)/refavs benchmark --part one parts live
