"""What runs took: a row for each step that had something to do, and none for one that had not."""

import polars as pl
import pytest

from steer_assets.__main__ import main
from steer_assets.figures import figures_of, listing
from steer_assets.settings import registry
from steer_core.generation import meter
from steer_core.generation.meter import Meter, counted, metering, paid, timed
from steer_core.tables.errors import ConfigError


def test_time_until_an_answer_is_the_engines_and_what_is_done_with_it_is_not(monkeypatch):
    now, closed = [0.0], []
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])

    def engine():
        try:
            for n in range(3):
                now[0] += 5
                yield n
        finally:
            closed.append(True)

    with metering() as whole:
        with metering() as part:
            for n in timed(engine()):
                counted(10, n)
                paid(0.25, "USD")
                now[0] += 100
        counted(1, 1)
        paid(1.0, "EUR")
    counted(1, 1)
    paid(9.0, "USD")
    assert part == Meter(answers=3, prompt_tokens=30, new_tokens=3, busy=15.0, paid={"USD": 0.75})
    assert whole == Meter(answers=4, prompt_tokens=31, new_tokens=4, busy=15.0, paid={"USD": 0.75, "EUR": 1.0})
    # who stops early stops the engine
    for _ in timed(engine()):
        break
    assert closed == [True, True]


def test_steps_that_had_something_to_do_say_what_it_took(workplace, capsys):
    workplace.bench = {**workplace.bench, "methods": ["copy", "direct"]}
    workplace.configure()
    workplace.materialize("group:small_shared")
    _, result = workplace.materialize("group:small_cells", "direct|embedded")
    bench = registry().bench("small")
    rows = figures_of(bench, str(workplace.root)).read()
    assert set(rows["run"].unique()) == {r.run_id for r in workplace.instance.get_runs()}
    answered = rows.filter(pl.col("step") == "responses").row(0, named=True)
    responses = pl.read_parquet(workplace.table("responses", "direct|embedded"), hive_partitioning=False)
    assert answered["cell"] == "direct|embedded"
    assert answered["rows"] >= responses.height
    assert answered["answers"] == responses["response_id"].n_unique()
    written = responses.unique("response_id")
    assert answered["new_tokens"] == written["completion_tokens"].sum()
    assert answered["prompt_tokens"] == written["prompt_tokens"].sum()
    assert 0 < answered["busy"] <= answered["seconds"]
    assert answered["waited"] == 0
    assert (answered["paid"], answered["currency"]) == (0, "")
    assert answered["queued"] is not None
    scores = rows.filter(pl.col("step") == "steerability").row(0, named=True)
    assert (scores["answers"], scores["busy"]) == (0, 0)
    # the same is said in Dagster
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == "responses"]
    assert "new tokens/s" in event.materialization.metadata["responses: took"].value
    # what is up to date takes nothing
    workplace.materialize("group:small_cells", "direct|embedded")
    assert figures_of(bench, str(workplace.root)).read().height == rows.height
    assert main(["figures", "--bench", "small"]) == 0
    out = capsys.readouterr().out
    assert "steerability" in out
    assert "seed_corpus" not in out
    # an hour of the machine has a price, or nobody asked
    assert "machine cost" not in out
    assert main(["figures", "--bench", "small", "--hourly", "3600"]) == 0
    assert "machine cost" in capsys.readouterr().out
    dear = listing(rows, hourly=3600.0)
    assert (dear["machine cost"] - dear["seconds"]).abs().max() < 0.051
    # money and queue stand where there are some
    some = rows.with_columns(paid=pl.lit(0.5), currency=pl.lit("USD"), queued=pl.lit(7.0))
    assert {"paid", "currency", "queued"} <= set(listing(some).columns)
    assert not {"paid", "currency"} & set(listing(rows).columns)
    first = rows.sort("began")["run"][0]
    assert "seed_corpus" in listing(rows, first[:8])["step"].to_list()
    with pytest.raises(ConfigError, match="no run that begins with 'zzz' has figures here"):
        listing(rows, "zzz")
    file = workplace.folder / "steerworks.prom"
    assert main(["figures", "--bench", "small", "--prometheus", str(file)]) == 0
    wanted = (
        f'steerworks_new_tokens_total{{bench="small",model="embedded",step="responses"}} {answered["new_tokens"]:.1f}'
    )
    assert wanted in file.read_text().splitlines()
