"""Run calls through a backend in fixed batches, each journalled as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from schemas.digest import digest_text
from schemas.responses import Responses
from steer_core.generation.backend import Backend, Call, Generation
from steer_core.tables.journal import Journal

#: Called with (rows done, rows in all).
Progress = Callable[[int, int], None]


def run_calls(
    calls: Sequence[Call], backend: Backend, journal: Journal, batch_size: int, progress: Progress | None = None
) -> pl.DataFrame:
    """Answers of all calls, generating only those that the journal does not hold.

    Batches are cut from the whole list (by decoding, then prompt length), not from what is left: a run that was killed
    meets the same batches again, so padding, and with it every last digit, is as in an undisturbed run.

    Args:
        calls: rows wanted; equal ones are generated once.
        backend: what generates.
        journal: rows that are done; grows by one part a batch.
        batch_size: rows generated together.
        progress: told after each batch.

    Returns:
        Rows of `responses` (with `text` still equal to `raw`: cleaning is the method's), one for each distinct call.
    """
    execution = backend.execution
    by_id = {c.response_id(execution): c for c in calls}
    done = journal.read(list(by_id))
    finished = set(done["response_id"].to_list())
    lengths = {i: backend.prompt_tokens(c.plan) for i, c in by_id.items()} if len(finished) < len(by_id) else {}
    new = []
    for batch in _batches(by_id, lengths, batch_size):
        missing = [i for i in batch if i not in finished]
        if missing:
            generated = backend.generate([by_id[i] for i in missing])
            rows = _rows([(i, by_id[i], g) for i, g in zip(missing, generated, strict=True)], execution)
            journal.append(rows)
            new.append(rows)
            finished.update(missing)
        if progress is not None:
            progress(len(finished), len(by_id))
    return pl.concat([done, *new])


def _batches(by_id: dict[str, Call], lengths: dict[str, int], batch_size: int) -> list[list[str]]:
    if not lengths:
        return []
    groups: dict[str, list[str]] = {}
    for i, call in by_id.items():
        groups.setdefault(call.plan.decoding.spec_hash, []).append(i)
    batches = []
    for _, ids in sorted(groups.items()):
        ordered = sorted(ids, key=lambda i: (-lengths[i], i))
        batches += [ordered[k : k + batch_size] for k in range(0, len(ordered), batch_size)]
    return batches


def _rows(generated: Sequence[tuple[str, Call, Generation]], execution: str) -> pl.DataFrame:
    return response_rows(
        [
            {
                "response_id": response_id,
                "plan_id": call.plan.id,
                "plan": call.plan.to_json(),
                "sample_index": call.sample_index,
                "seed": call.seed,
                "execution": execution,
                "raw": printable(g.raw),
                "text": printable(g.raw),
                "finish_reason": g.finish_reason,
                "parsed": True,
                "prompt_tokens": g.prompt_tokens,
                "completion_tokens": g.completion_tokens,
                "seconds": g.seconds,
                "receipt": g.receipt,
            }
            for response_id, call, g in generated
        ]
    )


def printable(text: str) -> str:
    """The text with lone surrogates replaced: they are no Unicode text and no file can hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def response_rows(rows: Sequence[dict[str, object]]) -> pl.DataFrame:
    """Rows of `responses`, with `text_id` added and columns in order."""
    filled = [{**r, "text_id": digest_text(str(r["text"]))} for r in rows]
    schema = Responses.empty().schema
    return pl.DataFrame(filled, schema=schema, orient="row").select(list(schema))
