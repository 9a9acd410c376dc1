"""The page from Python: the same as the service, and no way around it."""

import json
import os
import socket
import time
from pathlib import Path

import httpx
import pytest

from ..media_kit import tone
from .conftest import FOLDER


gradio_client = pytest.importorskip("gradio_client")
SENTENCES = "the cat\nthe drum"


@pytest.fixture(scope="module")
def client(site, tmp_path_factory):
    return gradio_client.Client(
        site.url, verbose=False, download_files=tmp_path_factory.mktemp("client")
    )


def predict(client, video, sentences=SENTENCES):
    return client.predict(gradio_client.handle_file(str(video)), sentences, api_name="/segment")


def test_gradio_client_gets_what_the_service_gives(client, service, tmp_path, write_clip):
    video = write_clip("my clip.mp4", sound=[(0.0, tone(3))], sound_codec="aac")
    html, overlay, frames, download, masks, coco, code, numbers = predict(client, video)
    answer = service.ask(
        {
            "kind": "segment",
            "video": str(video),
            "expressions": SENTENCES.splitlines(),
            "folder": str(tmp_path),
        },
        lambda *_: None,
    )
    del numbers["throughput"], answer["summary"]["throughput"]
    del numbers["video"]["name"], answer["summary"]["video"]["name"]
    assert numbers == answer["summary"]
    overlay = overlay["video"] if isinstance(overlay, dict) else overlay
    assert (
        Path(overlay).read_bytes()
        == Path(download).read_bytes()
        == Path(answer["overlay"]).read_bytes()
    )
    assert Path(masks).suffix == ".zip"
    assert json.loads(Path(coco).read_text())["categories"][0]["name"] == "the cat"
    assert len(frames) == 3
    assert "the cat" in html
    assert "segment_video(model, processor, " in code


def call(site, video: dict | None) -> str:
    """What the server answers to a request that no client of gradio's would send."""
    data = [video and {**video, "meta": {"_type": "gradio.FileData"}}, SENTENCES]
    event = httpx.post(f"{site.url}gradio_api/call/segment", json={"data": data}).json()["event_id"]
    return httpx.get(f"{site.url}gradio_api/call/segment/{event}", timeout=60).text


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "../../../../etc/hostname",
        str(FOLDER / "examples" / "bell_first.mp4"),
        "file:///etc/hostname",
    ],
)
def test_only_uploaded_files_are_read(site, path, capfd):
    answer = call(site, {"path": path})
    assert answer.startswith("event: error")
    assert "send the file itself" in answer  # it was not even opened
    assert "Traceback" not in capfd.readouterr().err


def test_no_address_is_asked(site):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        answer = call(site, {"path": f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"})
        assert answer.startswith("event: error")
        with pytest.raises(TimeoutError):
            server.accept()


def test_nothing_chosen_is_told(client):
    with pytest.raises(gradio_client.exceptions.AppError, match="choose or record a video"):
        client.predict(None, SENTENCES, api_name="/segment")


@pytest.mark.parametrize(
    "name", ["../../escaped.mp4", "/tmp/escaped.mp4", "..\\..\\escaped.mp4", "a\x00b.mp4"]
)
def test_an_upload_stays_in_its_folder(site, name):
    answer = httpx.post(
        f"{site.url}gradio_api/upload", files={"files": (name, b"Dear diary", "video/mp4")}
    )
    if answer.status_code == 200:
        path = Path(json.loads(answer.text)[0]).resolve()
        assert path.is_relative_to(site.folder.resolve())
        assert path.read_bytes() == b"Dear diary"
    assert httpx.get(f"{site.url}gradio_api/file=/etc/hostname").status_code == 403


def test_a_file_above_the_limit_is_refused_while_it_comes(site):
    answer = httpx.post(
        f"{site.url}gradio_api/upload",
        files={"files": ("long.mp4", bytes(101_000_000), "video/mp4")},
    )
    assert answer.status_code == 413


def test_refusals_have_words(client, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"Dear diary")
    with pytest.raises(
        gradio_client.exceptions.AppError, match="not a video that can be read here"
    ):
        predict(client, tmp_path / "text.mp4")
    with pytest.raises(gradio_client.exceptions.AppError, match="these are 6 sentences"):
        predict(client, FOLDER / "examples" / "bell_first.mp4", "a\nb\nc\nd\ne\nf")


def test_a_long_line_is_told_of(site, service):
    """Whoever comes when twenty wait is told so, and not kept."""
    import app

    data = {"data": [None, SENTENCES]}
    with service.lock, httpx.Client(base_url=f"{site.url}gradio_api/call/") as http:
        uploaded = httpx.post(
            f"{site.url}gradio_api/upload", files={"files": ("a.mp4", b"Dear diary", "video/mp4")}
        )
        file = {"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}
        first = http.post("segment", json={"data": [file, SENTENCES]})
        answers = [http.post("segment", json=data) for _ in range(app.WAITING + 5)]
    assert first.status_code == answers[0].status_code == 200
    assert answers[-1].status_code == 503
    assert "full" in answers[-1].text


def test_files_go_when_their_time_is_over(client, site, write_clip):
    from gradio.route_utils import delete_files_created_by_app

    def files() -> set[Path]:
        return {path for path in site.folder.rglob("*") if path.is_file()}

    delete_files_created_by_app(site.blocks, age=0)
    answered = files()  # of the example that the page opens with: they stay
    predict(client, write_clip("clip.mp4"))
    assert files() > answered
    time.sleep(0.1)
    delete_files_created_by_app(site.blocks, age=0)  # what gradio does on schedule
    assert files() == answered
    assert any(path.suffix == ".mp4" for path in answered)


def test_empty_folders_go_too(client, site, write_clip):
    import app

    old, full = site.folder / "old", site.folder / "full"
    for folder in (old, full):
        folder.mkdir()
    (full / "file").touch()
    for folder in (old, full):
        os.utime(folder, (0, 0))
    young = site.folder / "young"
    young.mkdir()
    app.remove_empty_folders(site.folder)
    assert [folder.exists() for folder in (old, full, young)] == [False, True, True]


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it"
)
def test_memory_does_not_grow_with_uploads(client, service, write_clip):
    def megabytes() -> list[float]:
        pages = [
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for pid in (os.getpid(), service.process.pid)
        ]
        return [4096 * count / 1e6 for count in pages]

    def upload(begin: int, end: int) -> None:
        for number in range(begin, end):
            predict(client, write_clip(f"clip_{number}.mp4", times=(0.0, 0.5), end=1.0), "the cat")

    upload(0, 8)
    before = megabytes()
    upload(8, 32)
    growth = [after - start for after, start in zip(megabytes(), before, strict=True)]
    assert max(growth) < 16, growth
