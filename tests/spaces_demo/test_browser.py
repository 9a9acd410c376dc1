"""The whole journey in Chromium, as a stranger takes it. REFAVS_SCREENSHOTS names a folder for
pictures of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample

from ..media_kit import tone
from .conftest import FOLDER, PATIENCE


pytestmark = pytest.mark.usefixtures("browser")
DESKTOP, PHONE = {"width": 1280, "height": 720}, {"width": 390, "height": 844}


@pytest.fixture
def speech(tmp_path) -> np.ndarray:
    """Three seconds of a sentence, spoken where espeak-ng is installed."""
    if not shutil.which("espeak-ng"):
        return tone(3)
    path = tmp_path / "speech.wav"
    said = "Can you find the animal that is making a sound?"
    subprocess.run(["espeak-ng", "-w", path, said], check=True)
    rate, samples = wavfile.read(path)
    samples = resample(samples / 32768, len(samples) * 16_000 // rate)[: 3 * 16_000]
    return samples[None].astype(np.float32)


@pytest.fixture
def open_page(site, browser) -> Iterator[Any]:
    """Opens the page for one more user; no address but this machine's may be asked for."""
    contexts, strange = [], []

    def open_one(viewport=DESKTOP, **options) -> Any:
        context = browser.new_context(
            viewport=viewport, permissions=["camera", "microphone"], **options
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "request",
            lambda request: strange.append(request.url) if is_strange(request.url) else None,
        )
        page.goto(site.url)
        page.locator(".lane").first.wait_for()
        return page

    def is_strange(url: str) -> bool:
        return not url.startswith((site.url, "data:", "blob:"))

    yield open_one
    for context in contexts:
        context.close()
    assert not strange


def ask(page, video: Path, *sentences: str) -> None:
    """Each sentence but the last is added as a chip; the last stays in the box."""
    button = page.get_by_role("button", name="Find it")
    assert button.is_disabled()  # until there is a video
    page.locator("#question input[type=file]").set_input_files(video)
    page.wait_for_function("!document.querySelector('#own button.primary').disabled")
    box = page.locator("#sentence :is(input, textarea)")
    for sentence in sentences[:-1]:
        box.fill(sentence)
        box.press("Enter")
        page.get_by_role("checkbox", name=sentence).wait_for()
    box.fill(sentences[-1])
    button.click()


def wait_for_answer(page, heading: str = "The answer", mark: str = ".answer") -> None:
    """It has come, and it is what the user looks at: its top is in the window."""
    page.locator("#heading", has_text=heading).wait_for()
    in_view = f"""() => {{
        const box = document.querySelector("#result {mark}")?.getBoundingClientRect();
        return box && box.top >= 0 && box.top < innerHeight - 40;
    }}"""
    page.wait_for_function(in_view)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def take(page, name: str) -> None:
    if folder := os.environ.get("REFAVS_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture(params=["desktop", "phone"])
def window(request) -> tuple[str, dict]:
    return request.param, {"desktop": DESKTOP, "phone": PHONE}[request.param]


def examples() -> list[dict]:
    import app

    return app.load_examples()["examples"]


def test_an_answered_example_stands_there_before_any_run(open_page, window):
    name, viewport = window
    page = open_page(viewport)
    assert page.locator(".answer b").all_inner_texts() == examples()[0]["sentences"]
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    page.wait_for_function(
        """([count, height]) => {
            const cards = [...document.querySelectorAll("#cards button")];
            return cards.length == count
                && cards.every(card => card.getBoundingClientRect().bottom <= height);
        }""",
        arg=[len(examples()), viewport["height"]],
    )
    take(page, f"opened_{name}")


def test_one_click_answers_an_example(open_page, window):
    name, viewport = window
    page, example = open_page(viewport), examples()[1]
    page.get_by_role("button", name=example["title"]["en"]).click()
    wait_for_answer(page)
    assert page.locator(".answer b").all_inner_texts() == example["sentences"]
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    overlay = page.locator("#overlay video")
    assert overlay.evaluate("video => video.duration") == pytest.approx(10, abs=0.2)
    lane = page.locator(".lane").first
    lane.click(position={"x": lane.bounding_box()["width"] * 0.7, "y": 10})
    page.wait_for_function(
        "Math.abs(document.querySelector('#overlay video').currentTime - 7) < 0.3"
    )
    lane.press("ArrowLeft")
    page.wait_for_function(
        "Math.abs(document.querySelector('#overlay video').currentTime - 6) < 0.3"
    )
    page.wait_for_function("Math.abs(document.querySelector('.lane').ariaValueNow - 6) < 0.3")
    page.locator("#frames img").nth(9).wait_for()
    take(page, f"example_{name}")


def test_ones_own_clip_with_speech(open_page, window, write_clip, speech):
    name, viewport = window
    page = open_page(viewport)
    ask(
        page,
        write_clip("mine.mp4", sound=[(0.0, speech)], sound_codec="aac"),
        "the cat",
        "the drum",
    )
    wait_for_answer(page)
    assert page.locator(".answer b").all_inner_texts() == ["the cat", "the drum"]
    assert page.locator(".answer path").count() >= 2
    take(page, f"speech_{name}")
    page.get_by_role("button", name="Make a cut-out").click()
    page.get_by_text("Cut-out (transparent WebM)").wait_for()
    suggested = page.get_by_role("checkbox", name="The object that is making a sound")
    assert not suggested.is_checked()
    assert page.get_by_role("checkbox", name="the cat").is_checked()


def test_a_broken_file_is_refused_in_words(open_page, window, tmp_path):
    name, viewport = window
    (tmp_path / "broken.mp4").write_bytes(
        (FOLDER / "examples" / "bell_first.mp4").read_bytes()[:100_000]
    )
    page = open_page(viewport)
    ask(page, tmp_path / "broken.mp4", "the cat")
    page.locator(".refused", has_text="not a video that can be read here").wait_for()
    wait_for_answer(page, "", ".refused")
    assert not page.locator("#overlay video").is_visible()
    take(page, f"broken_{name}")


def test_a_video_without_sound_says_so(open_page, window, write_clip):
    name, viewport = window
    page = open_page(viewport, color_scheme="dark")
    ask(page, write_clip("silent.mp4"), "the cat")
    page.get_by_text("This video has no sound").wait_for()
    wait_for_answer(page)
    assert page.locator(".answer path").count() == 0
    take(page, f"silent_dark_{name}")


def test_two_users_at_once_both_get_their_answer(open_page, write_clip):
    pages, video = [open_page(), open_page(PHONE)], write_clip("clip.mp4")
    for page, sentence in zip(pages, ("the cat", "the drum"), strict=True):
        ask(page, video, sentence)
    for page, sentence in zip(pages, ("the cat", "the drum"), strict=True):
        wait_for_answer(page)
        assert page.locator(".answer b").all_inner_texts() == [sentence]


def test_what_is_not_there_in_chinese_by_keyboard(open_page, window):
    """Everything can be reached by Tab and done by Enter, and has a name."""
    name, viewport = window
    page = open_page(viewport, locale="zh-CN")
    page.get_by_role("button", name=examples()[-1]["title"]["zh"]).focus()
    page.keyboard.press("Enter")
    page.locator(".answer b", has_text=examples()[-1]["sentences"][0]).wait_for()
    assert "视频中没有符合的物体" in page.locator(".answer .nothing").inner_text()
    wait_for_answer(page, "结果")
    take(page, f"chinese_{name}")
    nameless = (
        "[...document.querySelectorAll('button, input, textarea, [role=slider]')].filter(b => "
        "b.offsetParent && !(b.innerText.trim() || b.ariaLabel || b.title || b.labels?.length))"
    )
    assert page.evaluate(f"{nameless}.map(b => b.outerHTML.slice(0, 200))") == []


def test_a_recording_from_the_camera(open_page):
    page = open_page()
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_text("Record", exact=True).click()
    page.wait_for_timeout(4000)  # a busy machine records nothing in less
    page.get_by_text("Stop", exact=True).click()
    page.locator("#question video[src]").wait_for()
    page.locator("#sentence :is(input, textarea)").fill("the clock")
    page.get_by_role("button", name="Find it").click()
    wait_for_answer(page)
