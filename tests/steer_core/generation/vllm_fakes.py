"""Interpreters that say they have vLLM, and play it: as a server, and as an engine at the end of a pipe."""

import sys


def fake_python(folder, script, package="vllm"):
    """An interpreter that says it has vLLM, and serves as the script says."""
    probe = f'#!{sys.executable}\nimport sys\nif "-I" in sys.argv:\n    print(\'{{"{package}": "0.31.0"}}\')\n    raise SystemExit\n'
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "python"
    file.write_text(probe + script)
    file.chmod(0o755)
    return file


#: Answers a prompt [n, ...] with the tokens n and n + 1, and knows sleep; asleep, it answers 503. `FORGETS`: its worker
#: loses vectors in its sleep, `DEAF`: it does not sleep. What it is asked stands in its log.
SLEEPER = """
import http.server, json, urllib.parse
asleep, vectors, served, FORGETS, DEAF = False, {}, {}, %(forgets)s, %(deaf)s
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass
    def say(self, body, status=200):
        text = json.dumps(body).encode() if body is not None else b""
        self.send_response(status); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        self.say({"is_sleeping": asleep} if self.path == "/is_sleeping" else None)
    def do_POST(self):
        global asleep
        said = self.rfile.read(int(self.headers["Content-Length"] or 0))
        body, path = json.loads(said or b"{}"), urllib.parse.urlsplit(self.path)
        print("ASKED", self.path, body.get("method", ""), flush=True)
        if path.path == "/sleep":
            asleep = not DEAF
            if FORGETS:
                vectors.clear()
            return self.say(None)
        if path.path == "/wake_up":
            asleep = False
            return self.say(None)
        if asleep:
            return self.say({"error": {"message": "asleep"}}, 503)
        if path.path == "/collective_rpc":
            if body["method"] == "steer_upload":
                vectors[body["args"][0]["name"]] = True
                return self.say({"results": [{}]})
            if body["method"] == "steer_state":
                return self.say({"results": [{"vectors": len(vectors)}]})
            return self.say({"results": [{n: [served[n]] for n in body["args"][0] if n in served}]})
        spec = json.loads(body.get("vllm_xargs", {}).get("steer", "{}"))
        prompt = body["prompt"]
        if spec:
            if any(i["vector"] not in vectors for i in spec["interventions"]):
                return self.say({"error": {"message": "a vector is not loaded"}}, 400)
            touch = {"observed": len(prompt) + 1}
            served[spec["nonce"]] = {"touches": [touch], "prompt": len(prompt), "cached": 0, "reached": len(prompt) + 1}
        if body.get("stream"):
            self.send_response(200); self.send_header("Content-Type", "text/event-stream"); self.end_headers()
            for token, finish in ((prompt[0], None), (prompt[0] + 1, "length")):
                if prompt[0] == 405 and finish:
                    return None
                if prompt[0] == 404 and finish:
                    return self.wfile.write(b'data: {"error": {"message": "the engine died"}}\\n\\n')
                event = {"choices": [{"token_ids": [token], "finish_reason": finish}]}
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\\n\\n")
            return self.wfile.write(b"data: [DONE]\\n\\n")
        self.say({"choices": [{"token_ids": [prompt[0], prompt[0] + 1], "finish_reason": "length"}]})
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""

#: Takes lines and answers them as `vllm_worker.offline` does; a prompt that begins with 666 kills it, one with 777 has no
#: end where somebody listens.
PIPE = """
import json, os, signal
def say(**body):
    sys.stdout.write(json.dumps(body) + chr(10)); sys.stdout.flush()
print("WORDS", *sys.argv[1:], file=sys.stderr, flush=True)
say(id=0, answer="ready")
asleep = False
for line in sys.stdin:
    asked = json.loads(line)
    number, verb = asked["id"], asked["verb"]
    if verb == "complete":
        prompt = asked["body"]["prompt"]
        if prompt[0] == 666:
            print("MemoryError", file=sys.stderr, flush=True)
            # half a line: what a kill leaves
            sys.stdout.write('{"id": 9'); sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt[0] == 400:
            say(id=number, error="steering: no such vector", status=400)
            continue
        more = {}
        if "vllm_xargs" in asked["body"]:
            spec = json.loads(asked["body"]["vllm_xargs"]["steer"])
            touch = {"observed": len(prompt) + 1}
            more["receipt"] = {"nonce": spec["nonce"], "touches": [touch], "prompt": len(prompt), "cached": 0, "reached": len(prompt) + 1}
        if asked["body"].get("stream"):
            say(id=number, written=[prompt[0]])
            if prompt[0] == 777:
                # goes on until it is dropped
                continue
            say(id=number, written=[prompt[0] + 1])
        say(id=number, answer={"token_ids": [prompt[0], prompt[0] + 1], "finish_reason": "length"}, **more)
    elif verb == "drop":
        print("DROPPED", asked["number"], file=sys.stderr, flush=True)
        # of what is dropped a line may still be under way
        say(id=asked["number"], written=[1])
        say(id=number, answer=True)
        say(id=asked["number"], answer={"token_ids": [1], "finish_reason": "length"})
    elif verb in ("sleep", "wake"):
        asleep = verb == "sleep"
        say(id=number, answer=asleep)
    elif verb == "call":
        say(id=number, answer={"error": "no such layer"} if asked["method"] == "steer_upload" else {"vectors": 3})
    else:
        say(id=number, answer=True)
"""
