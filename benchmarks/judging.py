"""A judge at work while the policy writes, against judging afterwards: wall time side by side, verdicts equal.

Policy and judge are fake endpoints in processes of their own that work a stated time on each request, a fixed number
of them in flight at each. Ledgers and journals are new every time, and the verdicts of both ways are compared.

    OMP_NUM_THREADS=1 python -m benchmarks.judging
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.endpoints import served
from schemas.responses import Responses
from schemas.specs import BehaviorSpec, Decoding, ModelSpec
from schemas.sweeps import Judgements
from steer_core.evaluation.arms import Arm, Item, answers, pair
from steer_core.evaluation.judges import judge as judging
from steer_core.evaluation.judges.alongside import Alongside
from steer_core.evaluation.judges.llm import LlmJudge
from steer_core.evaluation.rubrics.zero_to_ten import build
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger
from steer_core.generation.run import Run
from steer_core.steering.plan import Message
from steer_core.tables.journal import Journal

N, CONCURRENCY, ROUNDS = 200, 4, 5
#: Seconds of work on a request: policy, judge.
LATENCIES = ((0.05, 0.05), (0.2, 0.2), (0.2, 0.05))
CHEER = BehaviorSpec.model_validate(
    {
        "name": "cheer",
        "source": {"kind": "pairs", "path": "x.jsonl"},
        "positive_prompt": "Be cheerful.",
        "judge": {"kind": "llm", "rubric": "zero-to-ten"},
        "scale": [0, 10],
    }
)
ITEMS = [Item(f"i{k}", "cheer", "test", (Message("user", f"question {k}"),)) for k in range(N)]
ASKED, DECODING = pair([Arm("off", "cheer")], ITEMS), Decoding(max_new_tokens=16)
ROWS = {
    i.item_id: {
        "item_id": i.item_id,
        "messages": json.dumps([{"role": m.role, "content": m.content} for m in i.messages]),
        "positive": None,
        "negative": None,
    }
    for i in ITEMS
}


def far(name: str, address: str) -> ModelSpec:
    """A model that is asked at an address."""
    endpoint = {"base_url": address, "concurrency": CONCURRENCY}
    return ModelSpec.model_validate(
        {"name": name, "source": f"served:{name}", "engine": "openai", "endpoint": endpoint}
    )


def timed(policy: str, judge: str, folder: Path, *, alongside: bool) -> tuple[float, pl.DataFrame]:
    """Seconds from the first request to the last verdict, and the verdicts."""
    writes = OpenAiBackend(far("policy", policy), Ledger(folder / "policy.sqlite"))
    judges = OpenAiBackend(far("judge", judge), Ledger(folder / "judge.sqlite"))
    who = LlmJudge(judges, judges.model_identity, build(CHEER))
    run = Run(Journal(str(folder / "responses"), Responses), writes)
    kept = Journal(str(folder / "judgements"), Judgements)
    began = time.perf_counter()
    if alongside:
        with Alongside(kept.append, kept.read()) as beside:
            written = answers.write(
                ASKED, run, DECODING, each=lambda i, r, t: beside.put(who, [judging.case_of(r, t, ROWS[i])])
            )
    else:
        written = answers.write(ASKED, run, DECODING)
    cases = [
        judging.case_of(r["response_id"], r["text"], ROWS[r["item_id"]]) for r in written.answers.iter_rows(named=True)
    ]
    found = judging.judge_cases(who, cases, kept.read(), keep=kept.append)
    return time.perf_counter() - began, found


def compare(policy_seconds: float, judge_seconds: float, folder: Path) -> None:
    """Both ways in turn, some rounds."""
    rounds = []
    for name in ("policy", "judge"):
        (folder / name).mkdir(exist_ok=True)
    with (
        served(folder / "policy", delay=policy_seconds) as (policy, _),
        served(folder / "judge", delay=judge_seconds) as (judge, _),
    ):
        for k in range(ROUNDS + 1):
            found = []
            for alongside in (False, True):
                own = folder / f"{policy_seconds}-{judge_seconds}-{k}-{alongside}"
                own.mkdir()
                found.append(timed(policy, judge, own, alongside=alongside))
            (after, expected), (beside, got) = found
            assert got.equals(expected)
            assert got.height == N
            rounds.append((after, beside))
    # the first round starts clients
    shares = [b / a for a, b in rounds[1:]]
    least = max(policy_seconds, judge_seconds) / (policy_seconds + judge_seconds)
    print(
        f"{N} answers of {policy_seconds * 1000:.0f} ms, judged in {judge_seconds * 1000:.0f} ms, {CONCURRENCY} in "
        f"flight each: afterwards {statistics.median(a for a, _ in rounds[1:]):.2f} s, alongside "
        f"{statistics.median(b for _, b in rounds[1:]):.2f} s: {statistics.median(shares):.2f} of it "
        f"({min(shares):.2f} to {max(shares):.2f}; {least:.2f} if the shorter half cost nothing)",
        flush=True,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for one, other in LATENCIES:
            compare(one, other, Path(place))
