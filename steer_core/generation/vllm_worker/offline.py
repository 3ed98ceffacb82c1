"""VLLM without its server: `python -m steerworks_vllm.offline WORDS`, the words being arguments of vLLM's engine.

    in   {"id": 1, "verb": "complete", "body": what `/v1/completions` takes}
         {"id": 2, "verb": "call", "method": of the worker, "arguments": [...]}
         {"id": 3, "verb": "load_adapter", "name": ..., "folder": ...}
         {"id": 4, "verb": "sleep"} or "wake": the answer is whether it sleeps
         {"id": 5, "verb": "drop", "number": of a completion that nobody wants any more}
    out  {"id": 0, "answer": "ready"}
         {"id": 1, "written": token ids since the last such line; of a completion whose body says "stream"}
         {"id": 1, "answer": the choice of a completion, "receipt": of a steered one}
         {"id": 2, "error": in words, "status": what HTTP would say}

One line of JSON a message, answers in the order in which they end. The end of the input ends the engine.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import IO, Any

from .spec import KEY, read_spec

#: Fields of a request that are arguments of `SamplingParams`, by the same names.
SAMPLING = ("max_tokens", "temperature", "top_p", "min_p", "seed", "stop_token_ids", "prompt_logprobs", "ignore_eos")
#: All fields that a request may have.
FIELDS = (*SAMPLING, "model", "prompt", "return_token_ids", "stream", "vllm_xargs")


class Front:
    """What stands between the lines and the engine.

    Args:
        engine: vLLM's `LLMEngine`.
        names: what requests may call the model itself.
        out: where answers go.
    """

    def __init__(self, engine: Any, names: Sequence[str], out: IO[str]) -> None:
        self._engine, self._names, self._out = engine, tuple(names), out
        self._nonces: dict[str, str] = {}
        #: tokens so far of those that are told while they are written
        self._written: dict[str, list[int]] = {}
        self._adapters: dict[str, Any] = {}

    def run(self, lines: queue.Queue[str | None]) -> None:
        """Work until the input ends."""
        self._say({"id": 0, "answer": "ready"})
        while True:
            waits = not self._engine.has_unfinished_requests()
            while (line := _next(lines, waits)) != "":
                if line is None:
                    return
                self._take(json.loads(line))
                waits = False
            if self._engine.has_unfinished_requests():
                self._hand_out(self._engine.step())

    def _take(self, asked: dict[str, Any]) -> None:
        try:
            if asked["verb"] == "complete":
                self._add(str(asked["id"]), asked["body"])
                return
            answer = self._other(asked)
        except Exception as error:
            # the engine lives: what it cannot do is said to whoever asked
            self._say({"id": asked["id"], "error": str(error) or repr(error), "status": 400})
            return
        self._say({"id": asked["id"], "answer": answer})

    def _other(self, asked: dict[str, Any]) -> Any:
        match asked["verb"]:
            case "call":
                return self._engine.collective_rpc(asked["method"], args=tuple(asked["arguments"]))[0]
            case "load_adapter":
                from vllm.lora.request import LoRARequest

                adapter = LoRARequest(asked["name"], len(self._adapters) + 1, asked["folder"])
                self._engine.add_lora(adapter)
                self._adapters[asked["name"]] = adapter
                return True
            case "drop":
                name = str(asked["number"])
                self._engine.abort_request([name])
                self._nonces.pop(name, None)
                self._written.pop(name, None)
                return True
            case "sleep":
                self._engine.sleep(level=1, mode="wait")
            case "wake":
                self._engine.wake_up()
            case verb:
                raise ValueError(f"no such verb: {verb!r}")
        return bool(self._engine.is_sleeping())

    def _add(self, name: str, body: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if unknown := sorted(set(body) - set(FIELDS)):
            raise ValueError(f"a request has no field {unknown[0]!r} here; it has {', '.join(FIELDS)}")
        model, extra = body["model"], dict(body.get("vllm_xargs") or {})
        if model not in self._names and model not in self._adapters:
            raise ValueError(f"neither a model nor a LoRA adapter is called {model!r} here")
        params = SamplingParams(
            **{k: body[k] for k in SAMPLING if k in body},
            extra_args=extra or None,
            # tokens are what goes back
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if body.get("stream") else RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": body["prompt"]}
        self._engine.add_request(name, prompt, params, lora_request=self._adapters.get(model))
        if body.get("stream"):
            self._written[name] = []
        # what carries no spec was refused or is unsteered
        if KEY in extra and (nonce := read_spec(extra[KEY]).nonce):
            self._nonces[name] = nonce

    def _hand_out(self, answers: Sequence[Any]) -> None:
        """Say what a pass has written: of most only their end."""
        finished = [a for a in answers if a.finished]
        for answer in answers:
            if answer.request_id in self._written:
                new = list(answer.outputs[0].token_ids)
                self._written[answer.request_id] += new
                self._say({"id": int(answer.request_id), "written": new})
        nonces = [self._nonces[a.request_id] for a in finished if a.request_id in self._nonces]
        receipts = self._engine.collective_rpc("steer_receipts", args=(nonces,))[0] if nonces else {}
        for answer in finished:
            said: dict[str, Any] = {"id": int(answer.request_id), "answer": choice(answer)}
            if (whole := self._written.pop(answer.request_id, None)) is not None:
                said["answer"]["token_ids"] = whole
            for receipt in receipts.get(self._nonces.pop(answer.request_id, None), []):
                said["receipt"] = receipt
            self._say(said)

    def _say(self, body: dict[str, Any]) -> None:
        self._out.write(json.dumps(body) + "\n")
        self._out.flush()


def choice(answer: Any) -> dict[str, Any]:
    """An answer as the server writes its first choice."""
    first = answer.outputs[0]
    found: dict[str, Any] = {"token_ids": list(first.token_ids), "finish_reason": first.finish_reason}
    if answer.prompt_logprobs is not None:
        found["prompt_logprobs"] = [
            None if at is None else {str(token): {"logprob": p.logprob} for token, p in at.items()}
            for at in answer.prompt_logprobs
        ]
    return found


def _next(lines: queue.Queue[str | None], waits: bool) -> str | None:
    """The next line; empty where there is none now, None where there will be none."""
    try:
        return lines.get(block=waits)
    except queue.Empty:
        return ""


def main(words: Sequence[str]) -> None:
    """Start an engine and answer from it."""
    out = os.fdopen(os.dup(1), "w")
    # whatever vLLM prints belongs in the log
    os.dup2(2, 1)
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.llm_engine import LLMEngine

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(prog="vllm"))
    arguments = EngineArgs.from_cli_args(parser.parse_args(list(words)))
    arguments.disable_log_stats = True
    # passes as large as the server's
    engine = LLMEngine.from_engine_args(arguments, usage_context=UsageContext.OPENAI_API_SERVER)
    names = arguments.served_model_name
    front = Front(engine, [names] if isinstance(names, str) else names or [arguments.model], out)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    front.run(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
