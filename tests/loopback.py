"Servers on the loopback address: what the services of the network do, seen by the real clients."
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Request(NamedTuple):
    """What a client asked for: `query` and `headers` as dicts (header names in lower case), `body` as bytes."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Loopback:
    """A server on 127.0.0.1 for the length of a with block.

    Subclasses answer in `respond(request, handler)`: they call `self.send(handler, …)`, or write to the handler by
    themselves where a fault is wanted (a stall, a body cut short). `self.log` keeps every request, `self.peers`
    the connections.

    What any service may do is switched here, by the end of a path: `silent` paths are never answered, `trickling` ones with a
    byte of a body now and then, and `busy_paths` (path: what Retry-After says) with 429.
    """

    def __init__(self):
        self.log, self.peers, self._lock = [], set(), threading.Lock()
        self.silent, self.trickling, self.busy_paths, self._over = (), (), {}, threading.Event()

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True      # headers and body are two writes: the second would wait 40 ms

            def log_message(self, *args):
                pass

            def handle_one(self):
                url = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                headers = {k.lower(): v for k, v in self.headers.items()}
                request = Request(self.command, url.path, dict(parse_qsl(url.query)), headers, self.rfile.read(length))
                with server._lock:
                    server.log.append(request)
                    server.peers.add(self.client_address)
                try:
                    if not server._unwell(request.path, self):
                        server.respond(request, self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = handle_one

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *request: None     # a client that goes away must not speak up in another test's stderr
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def _unwell(self, path, handler) -> bool:
        "Whether a path was given what is wrong with it in place of an answer."
        ends = lambda these: next((end for end in these if path.endswith(end)), None)
        if (busy := ends(self.busy_paths)) is not None:
            self.send(handler, "slow down", 429, "text/plain", headers={"Retry-After": str(self.busy_paths[busy])})
        elif ends(self.silent) is not None:
            self._over.wait()
            handler.close_connection = True
        elif ends(self.trickling) is not None:
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
            while not self._over.wait(0.02):
                handler.wfile.write(b" ")
        else:
            return False
        return True

    def respond(self, request: Request, handler) -> None:
        """Answer one request."""
        raise NotImplementedError

    @staticmethod
    def send(handler, body=b"", status=200, content_type="application/json", headers=None):
        """Send a whole answer; a dict or a list goes as JSON, text as UTF-8."""
        body = json.dumps(body).encode() if isinstance(body, dict | list) else body.encode() if isinstance(body, str) else body
        handler.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            for one in value if isinstance(value, list) else [value]:
                handler.send_header(name, one)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
