"""The page as the Space runs it, in its own folder, with the shipped checkpoint; and a browser,
where there is one."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ..media_kit import write_clip


__all__ = ["write_clip"]  # fixtures

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "spaces_demo"
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
CHROMIUM += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PATIENCE = 120_000  # ms, of the browser on a busy machine

sys.path.insert(0, str(FOLDER))  # as `python app.py` does


@pytest.fixture(scope="session")
def service() -> Iterator[Any]:
    from service import Service

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    service = Service(str(FOLDER / "synthetic_checkpoint"))
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def site(service, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The page as it is served: `url`, `folder` of its files, `blocks`."""
    pytest.importorskip("gradio")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("files")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        import app

        blocks = app.launch(service, app.load_examples(), prevent_thread_lock=True, quiet=True)
        yield SimpleNamespace(url=blocks.local_url, folder=folder, blocks=blocks)
        blocks.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        yield browser
        browser.close()
