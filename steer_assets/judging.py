"""The judges of a cell's behaviors: who they are, where verdicts are kept, and whether they work as answers come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from schemas import Judgements
from schemas.profile_spec import ProfileSpec
from schemas.specs import BehaviorSpec, ModelSpec
from steer_assets.asked_models import judging_model, rating_model
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.tables import Work
from steer_core.evaluation.arms.answers import Told
from steer_core.evaluation.judges import judge as judging
from steer_core.evaluation.judges import load as judges
from steer_core.evaluation.judges.alongside import Alongside
from steer_core.evaluation.profiles import kind
from steer_core.generation import shares
from steer_core.generation.engines import is_remote
from steer_core.tables.journal import Journal


def verdicts_of(work: Work) -> Journal:
    """Where the verdicts on a model's answers are kept as they come."""
    return verdicts_on(work, work.here.model)


def verdicts_on(work: Work, writer: ModelSpec) -> Journal:
    """Where the verdicts on what a model wrote are kept."""
    return Journal(work.url("journal", f"judgements-{writer.name}"), Judgements)


def judge_of(work: Work, behavior: BehaviorSpec) -> judging.Judge:
    """A behavior's judge, its model loaded."""
    if behavior.judge.kind != "llm":
        return judges.load_judge(behavior)
    model = judging_model(work.here, behavior)
    backend = backend_for(model, beside=apart(work.here.model, model))
    return judges.load_judge(behavior, backend, model.identity, seed=work.bench.seed)


def judges_lease(work: Work, behavior: BehaviorSpec) -> contextlib.AbstractContextManager[object]:
    """The device of a behavior's judge; nothing where it asks no model, or a remote one."""
    if behavior.judge.kind != "llm":
        return contextlib.nullcontext()
    return device_lease(device_of(judging_model(work.here, behavior)))


@contextlib.contextmanager
def panel_of(work: Work, profile: ProfileSpec) -> Iterator[Mapping[str, judging.Judge]]:
    """The judges of a profile by rating, their model loaded; its device is held inside the context."""
    rater, build = kind.rater_of(profile), kind.load_kind(profile).panel
    model = rating_model(work.here, profile)
    if rater is None or model is None:
        yield build(profile)
        return
    with device_lease(device_of(model)):
        backend = backend_for(model, beside=apart(work.here.model, model))
        yield build(profile, backend, model.identity, seed=work.bench.seed)


def apart(writer: ModelSpec, judge: ModelSpec) -> bool:
    """Whether two models can work at the same time: two of them, and not on one device of this machine."""
    if writer.identity == judge.identity:
        return False
    if is_remote(writer) or is_remote(judge):
        return True
    devices = {device_of(writer), device_of(judge)}
    # `cuda` is any of them
    anywhere = "cuda" in devices and all(str(d).startswith("cuda") for d in devices)
    return len(devices) == 2 and not anywhere


@contextlib.contextmanager
def judging_alongside(work: Work, behaviors: Sequence[BehaviorSpec], items: pl.DataFrame) -> Iterator[Told | None]:
    """Has answers judged as they come, by those judges that share no device with the cell's model; None without one.

    Their verdicts go to `verdicts_of`, where whoever makes the table finds them. Other judges work afterwards.

    Args:
        work: the cell.
        behaviors: which it is swept on.
        items: rows of `behavior_items`.
    """
    asked = [b for b in behaviors if b.judge.kind == "llm" and apart(work.here.model, judging_model(work.here, b))]
    written = items.filter(pl.col("form") == "open", pl.col("behavior").is_in([b.name for b in asked]))
    # whoever makes the table judges what came of all shares
    if not written.height or shares.current() is not None:
        yield None
        return
    kept, by_id = verdicts_of(work), {str(r["item_id"]): r for r in written.iter_rows(named=True)}
    with contextlib.ExitStack() as stack:
        panel = {}
        for behavior in asked:
            stack.enter_context(judges_lease(work, behavior))
            panel[behavior.name] = judge_of(work, behavior)
        beside = stack.enter_context(Alongside(kept.append, kept.read()))

        def told(item_id: str, response_id: str, text: str) -> bool:
            item = by_id.get(item_id)
            # a judge that works afterwards is not told
            return item is None or beside.put(panel[item["behavior"]], [judging.case_of(response_id, text, item)])

        yield told
