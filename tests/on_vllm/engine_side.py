"""Runs in vLLM's environment: a job as JSON in, answers and receipts as JSON out.

`python engine_side.py job.json answers.json`; a job has `engine` (arguments of `vllm.LLM`), `vectors` (bodies of
`steer_upload`), `passes` (a list of lists of requests: `tokens`, `max_tokens`, `steer`, `adapter`, and of how many last
tokens the log-probabilities are wanted, `scored`) and `adapters`.
"""

import json
import sys
from pathlib import Path


def main(job_file: str, out_file: str) -> None:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    job = json.loads(Path(job_file).read_text())
    llm = LLM(**job["engine"])
    for body in job["vectors"]:
        for said in llm.collective_rpc("steer_upload", args=(body,)):
            assert "error" not in said, said
    adapters = {name: LoRARequest(name, n + 1, folder) for n, (name, folder) in enumerate(job["adapters"].items())}
    passes = []
    for requests in job["passes"]:
        prompts = [{"prompt_token_ids": r["tokens"]} for r in requests]
        params = [
            SamplingParams(
                temperature=0.0,
                max_tokens=r["max_tokens"],
                extra_args={"steer": r["steer"]} if r["steer"] else None,
                prompt_logprobs=0 if r.get("scored") else None,
            )
            for r in requests
        ]
        loras = [adapters.get(r.get("adapter")) for r in requests] if adapters else None
        out = llm.generate(prompts, params, lora_request=loras, use_tqdm=False)
        nonces = [json.loads(r["steer"])["nonce"] for r in requests if r["steer"]]
        receipts = llm.collective_rpc("steer_receipts", args=(nonces,))[0] if job["vectors"] else {}
        answers = [
            {
                "scores": [
                    next(iter(p.values())).logprob for p in (o.prompt_logprobs or [])[-r.get("scored", 0) :] if p
                ],
                "tokens": list(o.outputs[0].token_ids),
                "cached": o.num_cached_tokens,
                "finish": o.outputs[0].finish_reason,
            }
            for o, r in zip(out, requests, strict=True)
        ]
        passes.append({"answers": answers, "receipts": receipts})
    state = llm.collective_rpc("steer_state")[0] if job["vectors"] else {}
    Path(out_file).write_text(json.dumps({"passes": passes, "state": state}))


if __name__ == "__main__":
    main(*sys.argv[1:])
