"""A server on the loopback interface that speaks the OpenAI chat protocol, well or badly, as a test wants it."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reply:
    """One reply: status, body and headers; `hang`: seconds before it; `cut`: bytes after which the connection breaks."""

    def __init__(self, body="", status=200, headers=None, hang=0.0, cut=None):
        self.body = body if isinstance(body, str) else json.dumps(body)
        self.status, self.headers, self.hang, self.cut = status, headers or {}, hang, cut


def chat(content=None, tool=None, finish="stop", usage=(100, 10)):
    """A sound response: text, or the call of a tool (name, arguments)."""
    message = {"role": "assistant", "content": content}
    if tool:
        function = {"name": tool[0], "arguments": tool[1] if isinstance(tool[1], str) else json.dumps(tool[1])}
        message["tool_calls"] = [{"id": "call-1", "type": "function", "function": function}]
    body = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "some",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }  # fmt: skip
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Reply(body)


class Server:
    """What a test sees: the base URL, and the requests that came: (time, path, headers, body)."""

    def __init__(self, url):
        self.url, self.requests = url, []


@contextlib.contextmanager
def serving(*replies, base="/v1"):
    """Gives one reply after another, the last one for ever."""
    left, done = list(replies), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append((time.monotonic(), self.path, headers, body))
            reply = left.pop(0) if len(left) > 1 else left[0]
            done.wait(reply.hang)
            raw = reply.body.encode()
            with contextlib.suppress(OSError):  # the client may have gone
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw[: reply.cut])
                self.wfile.flush()
            if reply.cut is not None:
                self.close_connection = True

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}{base}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        done.set()
        http.shutdown()
        thread.join(10)
        http.server_close()
