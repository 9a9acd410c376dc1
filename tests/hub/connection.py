"""The server's side of a connection: requests in, answers out, and faults on demand."""

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit


SLICE = 2**14  # bytes between two pauses of a slow answer
PAUSE = threading.Event()  # never set; `time.sleep` is for the client, and tests replace it


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose "METHOD /path" matches."""

    pattern: str
    status: int = 0  # of the answer
    message: str = ""
    cut: bool = False  # the connection, when half of what comes, or goes, is through
    pause: float = 0  # s between slices of the answer
    change: bool = False  # one byte of the file
    times: int = 1


class Connection(BaseHTTPRequestHandler):
    """Reads requests, plays faults, sends answers; `routes` says what is asked."""

    routes: ClassVar[list]

    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        self.route, self.query = unquote(url.path), parse_qs(url.query)
        name = f"{self.command} {self.route}"
        self.server.log.append(name)
        self.fault = next(
            (fault for fault in self.server.faults if re.search(fault.pattern, name)), None
        )
        if self.fault:
            self.fault.times -= 1
            if not self.fault.times:
                self.server.faults.remove(self.fault)
        if self.fault and self.fault.cut and self.command in ("POST", "PUT"):
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            self.connection.shutdown(2)
            return
        body = self.read_body()
        if self.fault and self.fault.status:
            self.fail(self.fault.status, self.fault.message or "as the test wishes")
            return
        for pattern, answer in self.routes:
            if match := re.fullmatch(pattern, name):
                answer(self, body, **match.groupdict(""))
                return
        self.fail(404, f"no route {name}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            blocks = []
            while size := int(self.rfile.readline(), 16):
                blocks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(blocks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    # Answers

    def send(self, content: bytes, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for header, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(header.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.cut:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.fault and self.fault.pause:
            for start in range(0, len(content), SLICE):
                self.wfile.write(content[start : start + SLICE])
                PAUSE.wait(self.fault.pause)
        else:
            self.wfile.write(content)

    def json(self, content: object) -> None:
        self.send(json.dumps(content).encode(), Content_Type="application/json")

    def fail(self, status: int, message: str, code: str = "", **details: object) -> None:
        headers = {"X_Error_Message": message, **({"X_Error_Code": code} if code else {})}
        content = json.dumps({"error": message, **details}).encode()
        self.send(content, status, Content_Type="application/json", **headers)

    def log_message(self, *_: object) -> None:
        """Silence."""
