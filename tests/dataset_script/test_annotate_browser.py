"""`refavs annotate` in Chromium: clips from nothing to checked samples, by mouse and by keyboard
alone, past a server that is killed. REFAVS_SCREENSHOTS names a folder for pictures of it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_script.annotate.annotation import AnnotationStore
from dataset_script.checking import check_tree
from dataset_script.media_files import mask_paths, read_mask

from .annotation_kit import CUT, SIZE, draw_clip, true_masks


ROOT = Path(__file__).parents[2]
KIT = "tests.dataset_script.annotation_kit"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 120_000  # ms, of the browser on a busy machine
CLIP = "drawn_0_10000"
SENTENCES = ["The ball that moves to the right.", "The block below the ball."]
CURSOR_STRIDE = 3  # pixels of the frame that an arrow key moves the cursor


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("uvicorn")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


class Annotator:
    """A person at the page, and the server that it comes from."""

    def __init__(self, browser: Any, tree: Path, command: list[str]):
        self.tree, self.command = tree, command
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.set_default_timeout(PATIENCE)
        self.page, self.errors = context.new_page(), []
        self.page.on("pageerror", lambda error: self.errors.append(error))
        self.page.on("request", self.note_request)
        self.start()

    def note_request(self, request: Any) -> None:
        if not request.url.startswith((self.address.partition("?")[0], "data:", "blob:")):
            self.errors.append(request.url)

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            self.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for line in self.server.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
            if found:
                break
        self.address, self.changes = found[0], 0
        self.page.goto(self.address)
        self.page.locator(".step").nth(9).wait_for()

    def kill(self) -> None:
        self.server.kill()
        self.server.wait()

    def close(self) -> None:
        self.kill()
        self.page.context.close()
        assert not self.errors

    def change(self, do: Callable[[], Any], changes: int = 1) -> None:
        """Do it, and wait until it is saved."""
        do()
        self.changes += changes
        self.page.locator(f"#saved[data-changes='{self.changes}']").wait_for()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def frame(self, step: int) -> Any:
        return self.page.get_by_role("button", name=re.compile(f"^Frame {step}\\b"))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a pixel of the frame, in the window."""
        box = self.page.locator("#frame").bounding_box()
        scale = box["width"] / SIZE[1]
        return box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale

    def drag(self, *places: tuple[float, float]) -> None:
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()

    def moment(self, time: float) -> tuple[float, float]:
        """Of the waveform, in the window."""
        box = self.page.locator("#timeline").bounding_box()
        return box["x"] + box["width"] * time / 10, box["y"] + 30

    def take(self, name: str) -> None:
        if folder := os.environ.get("REFAVS_SCREENSHOTS"):
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(folder) / f"annotate_{name}.png")

    def crash(self) -> None:
        """The server is killed; the page says so; a new server shows what was saved."""
        before = AnnotationStore(self.tree, "ann").path(CLIP).read_bytes()
        self.kill()
        self.press("v")
        self.page.get_by_role("alert").get_by_text("The server has ended").wait_for()
        assert self.page.locator("#saved").inner_text() == "Server has ended"
        self.start()
        assert AnnotationStore(self.tree, "ann").path(CLIP).read_bytes() == before


@pytest.fixture
def sit_down(browser, tmp_path) -> Iterator[Callable]:
    """A person in front of a new tree, or of the same again."""
    opened = []

    def sit_down(name: str = "ann", *options: str, module: str = KIT) -> Annotator:
        if not opened:
            draw_clip(tmp_path, CLIP)
        command = [sys.executable, "-m", module, str(tmp_path), name, *options]
        if module != KIT:
            command[3:5] = ["annotate", str(tmp_path), "--annotator", name]
        opened.append(Annotator(browser, tmp_path, command))
        return opened[-1]

    yield sit_down
    for annotator in opened:
        annotator.close()


def check_sample(tree: Path) -> None:
    """What was annotated is the truth of the drawn clip, and `dataset check` takes it."""
    annotation = AnnotationStore(tree, "ann").read(CLIP)
    assert [thing.category for thing in annotation.objects] == ["ball", "block"]
    assert len(annotation.sentences) == 3
    assert check_tree(tree).can_train
    for step in range(10):
        for fid, name in enumerate(("ball", "block")):
            mask, truth = read_mask(mask_paths(tree, CLIP, fid)[step]), true_masks(step)[name]
            union = (mask | truth).sum()
            assert (mask & truth).sum() >= 0.9 * union, (step, name)


def test_by_mouse_from_nothing_to_a_checked_sample(sit_down):
    person = sit_down()
    page, mouse = person.page, person.page.mouse
    person.take("opened")
    page.get_by_label("Category of the new object").fill("ball")
    page.get_by_label("Group of the new object").fill("thing")
    person.change(page.get_by_role("form", name="New object").get_by_role("button").click)
    person.frame(2).click()
    person.change(lambda: mouse.click(*person.place(46, 40)))
    person.change(person.button("Track").click)
    person.frame(8).click()
    person.change(lambda: mouse.click(*person.place(94, 40)))
    person.change(person.button("Track").click)
    person.change(lambda: person.drag(person.moment(1), person.moment(2.5)))
    person.change(lambda: person.drag(person.moment(2.5), person.moment(3)))  # its edge
    person.crash()

    page.get_by_label("Category of the new object").fill("block")
    page.get_by_label("Group of the new object").fill("thing")
    person.change(page.get_by_role("form", name="New object").get_by_role("button").click)
    person.frame(1).click()
    page.get_by_role("radio", name="Box").click()
    person.change(lambda: person.drag(person.place(100, 70), person.place(138, 108)))
    page.get_by_role("radio", name="Brush").click()
    person.change(lambda: person.drag(person.place(119, 60), person.place(119, 76)))
    page.get_by_role("radio", name="Eraser").click()
    person.change(lambda: person.drag(person.place(119, 60), person.place(119, 70)))
    person.change(person.button("Undo").click)
    person.change(person.button("Redo").click)
    person.change(person.button("Undo").click)
    person.change(person.button("Undo").click)  # the brush, too
    person.change(person.button("Track").click)
    for step in range(CUT, 10):
        person.frame(step).click()
        person.change(person.button("Not visible").click)

    for text, name in zip(SENTENCES, ("ball (0)", "block (1)"), strict=True):
        page.get_by_role("textbox", name="Sentence").fill(text)
        page.get_by_label("Object that the sentence means").select_option(name)
        page.locator("#about", has_text=re.compile(r"\w")).wait_for()
        person.take("sentence")
        person.change(page.locator("#add-sentence").click)
    person.button("Suggest").click()
    page.locator("#suggestions button").first.click()
    person.change(page.locator("#add-sentence").click)
    page.locator("#clip-state", has_text="ready").wait_for()
    person.take("ready")
    person.button("Write tree").click()
    page.get_by_text("The tree is written and can be trained on").wait_for()
    person.take("written")
    check_sample(person.tree)
    sounding = AnnotationStore(person.tree, "ann").read(CLIP).find(0).sounding
    assert np.allclose(sounding, [(1, 3)], atol=0.05)


def test_by_keyboard_from_nothing_to_a_checked_sample(sit_down):
    person = sit_down()
    page = person.page
    enter = lambda: person.press("Enter")  # noqa: E731

    def name_object(category: str) -> None:
        person.press("n")
        page.keyboard.type(category)
        person.press("Tab")
        page.keyboard.type("thing")
        person.change(enter)

    def move_to(x: float, y: float, start: tuple[float, float] = (80, 60)) -> None:
        for distance, keys in (
            (x - start[0], ("ArrowLeft", "ArrowRight")),
            (y - start[1], ("ArrowUp", "ArrowDown")),
        ):
            person.press(*[keys[distance > 0]] * round(abs(distance) / CURSOR_STRIDE))

    name_object("ball")
    person.press("2", "f")
    move_to(46, 40)
    person.change(enter)
    person.press("Escape")
    person.change(lambda: person.press("t"))
    person.press("8", "f")
    move_to(94, 40)
    person.change(enter)
    person.press("Escape")
    person.change(lambda: person.press(">"))
    person.change(lambda: person.press("<"))
    person.press("1", "i", "2", ".", "o")
    person.change(lambda: None)
    person.press("3")
    person.change(lambda: person.press("o"))  # the end of the last one moves here
    person.crash()

    name_object("block")
    person.press("1", "b", "f")
    move_to(101, 72)
    enter()
    move_to(137, 108, (101, 72))
    person.take("keyboard_box")
    person.change(enter)
    person.press("r")
    enter()
    person.press(*["ArrowUp"] * 3)
    person.change(enter)
    person.press("Escape")
    person.change(lambda: person.press("z"))
    person.change(lambda: person.press("Shift+Z"))
    person.change(lambda: person.press("Control+z"))
    person.change(lambda: person.press("t"))
    person.press(str(CUT))
    person.change(lambda: person.press("v"))
    person.change(lambda: person.press("Shift+V"))
    person.change(lambda: person.press("Shift+Y"))

    for text, thing in zip(SENTENCES, "jk", strict=True):  # of two, `j` and `k` choose the other
        person.press(thing, "s")
        page.keyboard.type(text)
        person.change(enter)
        person.press("Escape")
    person.press("g")
    page.locator("#suggestions button").first.wait_for()
    enter()
    person.change(enter)
    person.press("Escape", "Shift+W")
    page.get_by_text("The tree is written and can be trained on").wait_for()
    check_sample(person.tree)
    annotation = AnnotationStore(person.tree, "ann").read(CLIP)
    assert np.allclose(annotation.find(0).sounding, [(1, 3)], atol=0.05)
    assert annotation.find(1).corrected == set(range(10))
    assert [one.fid for one in annotation.sentences[:2]] == [0, 1]


def test_candidates_shots_and_sound_by_keyboard(sit_down):
    person = sit_down()
    page = person.page
    person.press("/")
    page.keyboard.type("block")
    person.press("Enter")
    page.get_by_role("button", name=re.compile("^1 block")).wait_for()
    person.take("candidates")
    person.change(lambda: person.press("Enter"), changes=2)  # a new object with its mask
    person.change(lambda: person.press("h"))
    person.press("2")
    person.change(lambda: person.press("x"))
    person.press("3")
    person.change(lambda: person.press("c"))
    thing = AnnotationStore(person.tree, "ann").read(CLIP)
    assert thing.shots == (3, CUT)
    assert thing.find(0).category == "block"
    assert (
        np.array_equal(thing.find(0).masks[0], true_masks(0)["block"])
        or (thing.find(0).masks[0] ^ true_masks(0)["block"]).sum() < 30
    )
    assert thing.find(0).sounding == ((6.5, 8.0),)
    person.press("0", "Space")
    page.locator("#play", has_text="Pause").wait_for()
    page.locator("#time", has_text=re.compile(r"[1-9]")).wait_for()  # it moves
    person.press("Space")
    page.locator("#play", has_text="Play").wait_for()


def test_a_review_by_somebody_else(sit_down):
    first = sit_down()
    first.press("/")
    first.page.keyboard.type("ball")
    first.press("Enter")
    first.page.locator("#candidates button").first.wait_for()
    first.change(lambda: first.press("Enter"), changes=2)
    second = sit_down("second", "ann")
    page = second.page
    assert page.locator(".step.asked").count() >= 2
    assert "0/10" in page.locator("#objects").inner_text()
    second.change(lambda: page.mouse.click(*second.place(30, 40)))
    second.press("a")
    table = page.get_by_role("dialog", name="Report").get_by_role("table")
    table.get_by_text("ball").wait_for()
    value = float(table.get_by_role("cell").nth(1).inner_text())
    assert value > 90
    second.take("agreement")


def test_everything_has_a_name_and_fits_the_window(sit_down):
    person = sit_down()
    page = person.page
    person.press("d")
    page.locator("#candidates button").first.wait_for()
    person.change(lambda: page.locator("#candidates button").first.click(), changes=2)
    person.change(lambda: person.press("h"))
    nameless = (
        "elements => elements.filter(one => one.offsetParent && !(one.innerText?.trim() || "
        "one.ariaLabel || one.title || one.labels?.length)).map(one => one.outerHTML)"
    )
    controls = page.locator("button, input, select, textarea, canvas[tabindex]")
    assert controls.evaluate_all(nameless) == []
    outside = (
        "elements => elements.filter(one => one.offsetParent).filter(one => { const box = "
        "one.getBoundingClientRect(); return box.left < 0 || box.top < 0 || box.right > innerWidth "
        "|| box.bottom > innerHeight; }).map(one => one.outerHTML)"
    )
    assert controls.evaluate_all(outside) == []
    person.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.get_by_text("play, pause").wait_for()
    person.take("keys")
    assert controls.evaluate_all(outside) == []
    person.press("Escape")


def test_models_of_transformers_by_their_folders(sit_down, tmp_path_factory, monkeypatch):
    """Tiny ones with random weights: what they find means nothing, and the journey is the same."""
    pytest.importorskip("cv2")
    from ..inference.test_annotation_sam import save_grounding_dino, save_sam

    folder = tmp_path_factory.mktemp("models")
    options = {
        "segmenter": save_sam(folder / "segmenter", "Sam2", video=False),
        "tracker": save_sam(folder / "tracker", "Sam2", video=True),
        "detector": save_grounding_dino(folder / "detector"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    monkeypatch.setenv("REFAVS_MODEL", str(ROOT / "spaces_demo" / "synthetic_checkpoint"))
    person = sit_down("ann", *words, module="modeling_refavs.cli")
    page, mouse = person.page, person.page.mouse
    person.press("/")
    page.keyboard.type("dog. piano.")
    person.press("Enter")
    page.get_by_role("button", name=re.compile(r"^1 (dog|piano)?")).first.wait_for()
    person.change(lambda: person.press("Enter"), changes=2)
    person.press("n")
    page.keyboard.type("block")
    person.press("Tab")
    page.keyboard.type("thing")
    person.change(lambda: person.press("Enter"))
    for step, x in ((1, 119), (8, 94)):
        person.press(str(step), "p")
        person.change(lambda x=x: mouse.click(*person.place(x, 85)))
        person.press("r")  # a random mask may be empty
        person.change(lambda x=x: mouse.click(*person.place(x, 85)))
        person.change(lambda: person.press("t"))
    person.press("j", "8")
    person.change(lambda: mouse.click(*person.place(60, 40)))
    person.change(lambda: person.press("t"))
    person.press("0")
    person.change(lambda: person.press("t"))
    for text in SENTENCES:
        person.press("s")
        page.keyboard.type(text)
        person.change(lambda: person.press("Enter"))
        person.press("Escape")
    person.press("W")
    page.get_by_text("The tree is written and can be trained on").wait_for()
    assert check_tree(person.tree).can_train
