"""Calls through a backend, answers journalled as they end."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from schemas.digest import digest_text
from schemas.responses import Responses
from steer_core.generation import shares
from steer_core.generation.backend import Call, Generation
from steer_core.generation.meter import counted, timed
from steer_core.generation.run import Drafts, Run
from steer_core.tables.errors import SteerworksError

#: A row of `responses`.
Row = dict[str, object]
#: Seconds after which finished rows are written to the journal, however few they are.
FLUSH_SECONDS = 30.0
#: Parts written between two looks at whether the journal is worth compacting.
COMPACT_PARTS = 256


class CutShortError(SteerworksError):
    """Who takes the answers wants no more of them; those that came are in the journal."""


def run_calls(calls: Sequence[Call], run: Run, each: Callable[[Row], bool] | None = None) -> pl.DataFrame:
    """Answers of all calls, generating only those that the journal does not hold.

    Long prompts come first, so that a lack of memory shows at once.

    Args:
        calls: rows wanted; equal ones are generated once. All plans are held against the backend's capabilities before
            anything runs.
        run: who answers, and the journal, which grows as rows end.
        each: told every row, those of the journal first; False: nothing more is begun, what is under way ends.

    Raises:
        CutShortError: `each` wanted no more before all was written.
        ShareWrittenError: a share of the calls was asked for (`shares.writing`), and is in the journal.

    Returns:
        Rows of `responses` (with `text` still equal to `raw`: cleaning is the method's), one for each distinct call.
    """
    backend, execution = run.asking, run.asking.execution
    by_id = {c.response_id(execution): c for c in calls}
    for plan in {c.plan.id: c.plan for c in by_id.values()}.values():
        backend.capabilities.refuse(plan)
    done = run.journal.read(list(by_id))
    finished, share = set(done["response_id"].to_list()), shares.current()
    own = {i: c for i, c in by_id.items() if i not in finished and (share is None or share.has(i))}
    lengths = {i: backend.prompt_tokens(c.plan) for i, c in own.items()}
    wanted = [by_id[i] for i in sorted(lengths, key=lambda i: (-lengths[i], i))]

    def tell(rows: int) -> None:
        if run.progress is not None:
            run.progress(len(finished) + rows, len(by_id))

    if share is not None:
        for _ in stream_calls(wanted, run, told=tell) if wanted else ():
            pass
        raise shares.ShareWrittenError(len(wanted))
    new: list[Row] = []
    going = each is None or all(each(row) for row in done.iter_rows(named=True))

    def while_wanted() -> Iterator[Call]:
        for call in wanted:
            if not going:
                return
            yield call

    # a list stays one, so that all of it is looked at before anything runs
    for _, row in stream_calls(wanted if each is None else while_wanted(), run, told=tell) if wanted else ():
        new.append(row)
        if each is not None and going:
            going = each(row)
    if not going and len(new) < len(wanted):
        raise CutShortError(f"{len(wanted) - len(new)} of {len(by_id)} answers were not asked for any more")
    return pl.concat([done, response_rows(new)]) if new else done


def stream_calls(
    calls: Iterable[Call | None],
    run: Run,
    *,
    told: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Call, Row]]:
    """Each call with its row of `responses`, as soon as it has ended.

    Finished rows go to the journal `batch_size` at a time, or after `FLUSH_SECONDS`; whatever stops the run, those that
    wait are written too, unless the process is killed. The journal is compacted every `COMPACT_PARTS` parts, and at the
    end of a run that nothing stopped.

    Args:
        calls: rows wanted, none of them in the journal; see `Backend.generate`.
        run: who answers, and the journal, which grows.
        told: called with the rows journalled so far.
        clock: seconds.
    """
    backend, journal, batch_size = run.asking, run.journal, run.batch_size
    execution = backend.execution
    taken: dict[int, Call] = {}
    if run.drafts is not None:
        calls = _drafted(calls, run.drafts)

    def noted() -> Iterator[Call | None]:
        count = 0
        for call in calls:
            if call is not None:
                taken[count] = call
                count += 1
            yield call

    waiting: list[Row] = []
    written, parts, since = 0, 0, clock()

    def flush() -> None:
        nonlocal written, parts, since
        rows = list(waiting)
        waiting.clear()
        since = clock()
        if rows:
            journal.append(response_rows(rows))
            written += len(rows)
            parts += 1
            if told is not None:
                told(written)
            if parts % COMPACT_PARTS == 0:
                journal.compact()

    # a list stays one: a backend can then look at all of it before anything runs
    source = calls if isinstance(calls, Sequence) else noted()
    if isinstance(calls, Sequence):
        taken.update(enumerate(c for c in calls if c is not None))
    try:
        for finished in timed(backend.generate(source, batch_size)):
            call = taken.pop(finished.index)
            counted(finished.generation.prompt_tokens, finished.generation.completion_tokens)
            row = _row(call, finished.generation, execution)
            waiting.append(row)
            if len(waiting) >= batch_size or clock() - since >= FLUSH_SECONDS:
                flush()
            yield call, row
    finally:
        flush()
    if parts:
        journal.compact()


def _drafted(calls: Iterable[Call | None], drafts: Drafts) -> Iterable[Call | None]:
    """The calls, each of which tells its text under its number; a list stays one."""
    count = 0

    def told(call: Call | None) -> Call | None:
        nonlocal count
        if call is None:
            return None
        made = replace(call, draft=functools.partial(drafts, count))
        count += 1
        return made

    return [told(c) for c in calls] if isinstance(calls, Sequence) else map(told, calls)


def _row(call: Call, generation: Generation, execution: str) -> Row:
    text = printable(generation.raw)
    return {
        "response_id": call.response_id(execution),
        "plan_id": call.plan.id,
        "plan": call.plan.to_json(),
        "sample_index": call.sample_index,
        "seed": call.seed,
        "execution": execution,
        "raw": text,
        "text": text,
        "finish_reason": generation.finish_reason,
        "parsed": True,
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.completion_tokens,
        "seconds": generation.seconds,
        "receipt": generation.receipt,
    }


def printable(text: str) -> str:
    """The text with lone surrogates replaced: they are no Unicode text and no file can hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _schema() -> pl.Schema:
    """Columns of `responses`; pandera takes a millisecond, and this is asked for with every answer."""
    return Responses.empty().schema


def response_rows(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of `responses`, with `text_id` added and columns in order."""
    filled = [{**r, "text_id": digest_text(str(r["text"]))} for r in rows]
    schema = _schema()
    return pl.DataFrame(filled, schema=schema, orient="row").select(list(schema))
