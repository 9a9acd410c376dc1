"""The whole journey in Chromium, as a stranger takes it. REFAVS_SCREENSHOTS names a folder for
pictures of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import FOLDER, PATIENCE


pytestmark = pytest.mark.usefixtures("browser")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


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
        page.locator("textarea").first.wait_for()
        return page

    def is_strange(url: str) -> bool:
        return not url.startswith((site.url, "data:", "blob:"))

    yield open_one
    for context in contexts:
        context.close()
    assert not strange


def ask(page, video: Path | str | None, sentences: str | None = None) -> None:
    if video:
        page.locator("input[type=file]").first.set_input_files(video)
        page.locator("#question video").wait_for(state="attached")
    if sentences is not None:
        page.locator("textarea").first.fill(sentences)
    page.locator("button.primary").click()


def take(page, name: str, full_page: bool = True) -> None:
    if folder := os.environ.get("REFAVS_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=full_page)


def examples() -> list[dict]:
    import app

    return app.load_examples()["examples"]


@pytest.mark.parametrize("number", range(len(examples()) - 1))
def test_every_example(open_page, number):
    """But the last, of something that is not there: see below. Every other one takes a phone."""
    example = examples()[number]
    page = open_page(PHONE if number % 2 else DESKTOP)
    page.get_by_role("button", name=example["title"]["en"]).click()
    page.wait_for_function("document.querySelector('textarea').value != ''")
    ask(page, None)
    page.locator(".answer").wait_for()
    assert page.locator(".answer b").all_inner_texts() == example["sentences"]
    found = page.locator(".answer .when").count()
    assert found + page.locator(".answer .nothing").count() == len(example["sentences"])
    assert page.locator(".answer .spectrogram").count() == 1
    overlay = page.locator("#overlay video")
    overlay.wait_for()
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    assert overlay.evaluate("video => video.duration") == pytest.approx(10, abs=0.2)
    page.locator("#frames img").nth(9).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    take(page, f"example_{number}_{'phone' if number % 2 else 'desktop'}")


def test_a_broken_file_is_refused_in_words(open_page, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(
        (FOLDER / "examples" / "bell_first.mp4").read_bytes()[:100_000]
    )
    page = open_page()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "broken.mp4")
    page.locator("#question video").wait_for(state="attached")
    page.locator("textarea").first.fill("the cat")
    page.locator("button.primary").click()
    page.locator(".refused", has_text="not a video that can be read here").wait_for()
    take(page, "broken_desktop", full_page=False)


def test_a_video_without_sound_is_answered_with_a_warning(open_page, write_clip):
    page = open_page(color_scheme="dark")
    ask(page, write_clip("silent.mp4"), "the cat")
    page.get_by_text("This video has no sound track").wait_for()
    take(page, "silent_dark_desktop")


def test_two_users_at_once_both_get_their_answer(open_page, write_clip):
    pages, video = [open_page(), open_page(PHONE)], write_clip("clip.mp4")
    for page, sentence in zip(pages, ("the cat", "the drum"), strict=True):
        ask(page, video, sentence)
    for page, sentence in zip(pages, ("the cat", "the drum"), strict=True):
        page.locator(".answer").wait_for()
        assert page.locator(".answer b").all_inner_texts() == [sentence]


def test_what_is_not_there_in_chinese_by_keyboard(open_page):
    """Everything can be reached by Tab and done by Enter, and has a name."""
    page = open_page(PHONE, locale="zh-CN")
    page.get_by_role("button", name=examples()[-1]["title"]["zh"]).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('textarea').value != ''")
    page.get_by_role("button", name="3. 开始查找").focus()
    page.keyboard.press("Enter")
    page.get_by_text("视频中没有符合的物体").wait_for()
    take(page, "chinese_phone")
    nameless = (
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && "
        "!(b.innerText.trim() || b.ariaLabel || b.title))"
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
    page.locator("textarea").first.fill("the clock")
    page.locator("button.primary").click()
    page.locator(".answer").wait_for()
    take(page, "recorded_desktop")
