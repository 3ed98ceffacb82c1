"""A server that lists models and adapters as vLLM does, and answers every prompt with two tokens of whom it was asked for."""

import http.server
import json
import threading
from contextlib import contextmanager

from schemas.specs import ModelSpec

#: As vLLM 0.31 lists them: an adapter has a `parent`, and its `root` is where it was loaded from.
LISTED = [
    {"id": "there", "object": "model", "root": "/models/base", "parent": None},
    {"id": "alias", "object": "model", "root": "/models/base", "parent": None},
    {"id": "other", "object": "model", "root": "/models/other", "parent": None},
    {"id": "formal", "object": "model", "root": "/loras/formal", "parent": "there"},
    {"id": "brief", "object": "model", "root": "/loras/brief", "parent": "alias"},
    {"id": "foreign", "object": "model", "root": "/loras/foreign", "parent": "other"},
]
#: What the first token of an answer says.
FIRST = {"there": 20, "formal": 21, "brief": 22}


@contextmanager
def serving(listed):
    """The server's address, and the requests that it was sent: (path, body)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def say(self, body):
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            self.say({"data": listed} if self.path == "/v1/models" else {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            tokens = [FIRST.get(body.get("model"), 0), 2]
            choice = {"token_ids": tokens, "finish_reason": "stop"}
            if "prompt_logprobs" in body:
                # every token a nat less likely than the one before it
                read = body["prompt"]
                choice["prompt_logprobs"] = [None, *({str(t): {"logprob": -float(k)}} for k, t in enumerate(read[1:]))]
            self.say({"choices": [choice]})

    class Server(http.server.ThreadingHTTPServer):
        # as many as a backend has in flight: a full queue resets connections on some systems
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attached(address, **more):
    """The embedded model behind a server that runs already."""
    vllm = {"address": address, "adapter_slots": 2, **more}
    return ModelSpec(name="there", source="embedded", engine="vllm", device="cpu", vllm=vllm)
