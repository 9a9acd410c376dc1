"""The page of `refavs annotate` on this machine, and on no other: HTTP in front of a desk."""

import json
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from modeling_refavs.utils.files import lock_folder

from ..media_files import frame_paths, sound_path
from ..schema import NUM_FRAMES
from .annotation import HISTORY
from .clip_media import draw_spectrogram, find_peaks, read_clip_samples
from .desk import Desk
from .models import AnnotationModels


PAGE = Path(__file__).with_name("page")
HOST = "127.0.0.1"
OWN_NAMES = {"127.0.0.1", "localhost", "[::1]"}
FIRST_PORT, NUM_PORTS = 7870, 30
MAX_BODY = 4 * 2**20  # bytes
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Door:
    """Lets in who knows the token, and no other page of the same browser: its requests come with
    another `Origin`, or, where a foreign name was made to point here, with another `Host`."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reason = self._refuse(Request(scope))
            if reason:
                await PlainTextResponse(reason, 403, HEADERS)(scope, receive, send)
                return
        await self.app(scope, receive, _with_headers(send))

    def _refuse(self, request: Request) -> str | None:
        origin = request.headers.get("origin")
        if _host(request.headers.get("host", "")) not in OWN_NAMES:
            return "this page is for this machine alone: open it at 127.0.0.1"
        if origin and _host(URL(origin).netloc) not in OWN_NAMES:
            return "another page asked for this"
        given = request.headers.get("x-token") or request.query_params.get("token", "")
        if request.url.path.startswith("/page/") or secrets.compare_digest(
            given.encode(), self.token.encode()
        ):
            return None
        return "open the address that `refavs annotate` printed: its token is missing or is old"


def _host(netloc: str) -> str:
    """Without the port."""
    return netloc.rpartition(":")[0] if netloc.rpartition(":")[2].isdigit() else netloc


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            kept = [pair for pair in message["headers"] if pair[0] != b"cache-control"]
            message = {**message, "headers": [*kept, *added]}
        await send(message)

    return send_with_headers


def make_app(desk: Desk, token: str) -> ASGIApp:
    """The page at `/?token=...`, its files under `/page/`, and JSON under `/api/`."""
    clip = "/api/clips/{clip_id}"
    routes = [
        Route("/", lambda _: FileResponse(PAGE / "index.html")),
        Mount("/page", StaticFiles(directory=PAGE)),
        Route("/api/clips", _json(lambda _, __: desk.describe())),
        Route("/api/job", _json(lambda _, __: desk.describe_job())),
        Route("/api/cancel", _json(lambda _, __: desk.cancel()), methods=["POST"]),
        Route("/api/write", _json(lambda _, __: desk.write_tree()), methods=["POST"]),
        Route(clip, _json(lambda at, _: desk.describe_clip(at["clip_id"]))),
        Route(f"{clip}/sound", _json(lambda at, _: _describe_sound(desk, at["clip_id"]))),
        Route(f"{clip}/compare", _json(lambda at, _: desk.compare(at["clip_id"]))),
        Route(f"{clip}/frames/{{step:int}}.jpg", _media(desk)),
        Route(f"{clip}/audio.wav", _media(desk)),
        Route(f"{clip}/spectrogram.png", _media(desk)),
        Route(f"{clip}/judge", _json(_of_clip(desk.judge)), methods=["POST"]),
        Route(f"{clip}/suggest", _json(_of_clip(desk.suggest)), methods=["POST"]),
        Route(
            f"{clip}/start/{{kind}}",
            _json(lambda at, body: desk.start(at["kind"], at["clip_id"], body)),
            methods=["POST"],
        ),
        Route(
            f"{clip}/{{action}}",
            _json(lambda at, body: desk.act(at["clip_id"], at["action"], body)),
            methods=["POST"],
        ),
    ]
    return Door(Starlette(routes=routes), token)


def _of_clip(answer: Callable[[str, Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
    return lambda at, body: answer(at["clip_id"], body)


def _json(answer: Callable[[dict[str, Any], Any], Any]) -> Callable:
    """An endpoint of what takes the places in the path and the body, and raises ValueError on what
    cannot be done: the page shows its one line."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await _read_body(request) if request.method == "POST" else None
            return JSONResponse(await run_in_threadpool(answer, request.path_params, body))
        except (ValueError, OSError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return endpoint


async def _read_body(request: Request) -> Any:
    data = b""
    async for block in request.stream():
        data += block
        if len(data) > MAX_BODY:
            raise ValueError(f"a request may have at most {MAX_BODY} bytes")
    try:
        return json.loads(data or b"{}")
    except ValueError as error:
        raise ValueError("the request is not JSON") from error


def _describe_sound(desk: Desk, clip_id: str) -> dict[str, Any]:
    desk.read(clip_id)
    return {"peaks": find_peaks(read_clip_samples(desk.tree, clip_id))}


def _media(desk: Desk) -> Callable:
    """A frame, the sound or its picture, of a clip that the desk knows."""

    def endpoint(request: Request) -> Response:
        clip_id, step = request.path_params["clip_id"], request.path_params.get("step", 0)
        if clip_id not in desk.clip_ids or step >= NUM_FRAMES:
            return JSONResponse({"error": "there is no such file"}, 404)
        if request.url.path.endswith(".png"):
            picture = draw_spectrogram(read_clip_samples(desk.tree, clip_id))
            return Response(picture, media_type="image/png")
        is_sound = request.url.path.endswith(".wav")
        path = sound_path(desk.tree, clip_id) if is_sound else frame_paths(desk.tree, clip_id)[step]
        if not path.exists():
            return JSONResponse({"error": f"{path} is missing"}, 404)
        return FileResponse(path)

    return endpoint


def open_port(port: int | None) -> socket.socket:
    """A socket of this machine alone; without a number the first free one from 7870 on.

    Raises:
        ValueError: it is in use.
    """
    for number in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + NUM_PORTS):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, number))
            return listener
        except (OSError, OverflowError):
            listener.close()
    raise ValueError(f"--port {port or FIRST_PORT}: it is in use or may not be had: give another")


def serve(
    tree: str | Path,
    annotator: str,
    models: AnnotationModels,
    review: str | None = None,
    port: int | None = None,
    announce: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        announce: is told the page's address when it can be opened.

    Raises:
        ValueError: see [`Desk`]; another process serves the same annotator; the port is in use.
    """
    desk = Desk(tree, annotator, models, review)
    with ExitStack() as stack:
        lock_annotator(desk, stack)
        listener = stack.enter_context(open_port(port))
        token = secrets.token_urlsafe(24)
        config = uvicorn.Config(make_app(desk, token), log_level="warning", lifespan="off")
        listener.listen()
        announce(f"http://{HOST}:{listener.getsockname()[1]}/?token={token}")
        uvicorn.Server(config).run(sockets=[listener])


def lock_annotator(desk: Desk, stack: ExitStack) -> None:
    """Hold the annotator's files until the stack ends, or the process does, however it ends.

    Raises:
        ValueError: another process has them.
    """
    folder = desk.store.path("any").parent
    try:
        stack.enter_context(lock_folder(folder / HISTORY))  # `write_tree` locks the folder itself
    except ValueError as error:
        raise ValueError(
            f"{folder}: another `refavs annotate` serves {desk.store.annotator}: use its page, end "
            "it, or give another --annotator"
        ) from error
