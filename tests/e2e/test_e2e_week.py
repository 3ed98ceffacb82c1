"""Two weeks of a bench that nobody looks at, in simulated time, by the daemon's own code: schedule, sensor, what follows."""

import datetime
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from test_e2e_killed_runs import CONFIG

from steer_assets import settings
from steer_assets.build import build_definitions
from steer_core.tables.snapshot import read_footer

MONDAY = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
HOURS = 6
#: Runs are run where they are launched, one after the other.
SYNC = {
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}
TEXTS = [
    f"{who} {what} {where}. {end}"
    for who in ("The old baker", "My little sister", "A tired clerk")
    for what in ("sells bread", "reads a terrible book", "finds the committee's regulation", "sings a lovely song")
    for where in ("near the station", "in the municipal administration building", "at home")
    for end in ("Everybody is glad about it!", "Nobody knows why, although many have asked.")
]


class Weeks:
    """A bench, an instance, and a daemon whose clock we turn."""

    def __init__(self, folder, instance) -> None:
        self.folder, self.instance = folder, instance
        self.texts, self.methods = list(TEXTS), ["copy", "direct"]
        self.configure()
        self.cursor, self.iterations, self.followed, self.failed = None, {}, [], []

    def configure(self) -> None:
        (self.folder / "texts.csv").write_text("text\n" + "\n".join(f'"{t}"' for t in self.texts))
        bench = {
            "corpus": {
                "sources": [{"kind": "file", "name": "own", "path": "texts.csv", "column": "text"}],
                "min_words": 4,
            },
            "goals": ["reading_difficulty", "text_length"],
            "probes": [{"name": "main", "n_texts": 4, "n_goals_per_text": 2, "active": 1, "weighting": "none"}],
            "models": ["embedded"],
            "methods": self.methods,
            "decoding": {"max_new_tokens": 24},
            "bootstrap": 50,
            "permutations": 5,
        }
        (self.folder / "benches.yaml").write_text(yaml.safe_dump({"small": bench}))
        settings.registry.cache_clear()
        # runs are run in this process, which is to load what a new one would
        sys.modules.pop("steer_assets.definitions", None)
        ReconstructableJob.get_definition.cache_clear()
        ReconstructableJob.get_repository_definition.cache_clear()

    def shared(self) -> None:
        """A person brings up to date what all cells share."""
        defs = build_definitions(dg.in_process_executor, location="person")
        job = defs.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(["small", n]) for n in ("seed_corpus", "goal_mappings", "probes")]
        assert job.execute_in_process(instance=self.instance, asset_selection=keys).success

    def switch_on(self, workspace, name: str) -> None:
        (location,) = workspace.create_request_context().code_locations
        repository = next(iter(location.get_repositories().values()))
        if repository.has_schedule(name):
            self.instance.start_schedule(repository.get_schedule(name))
        else:
            self.instance.start_sensor(repository.get_sensor(name))

    def hours(self, workspace, begin: datetime.datetime, end: datetime.datetime) -> None:
        """Let time pass; what is due is launched, and run at once."""
        logger, now = logging.getLogger("daemon"), begin
        while now < end:
            with freeze_time(now), ThreadPoolExecutor(1) as pool:
                list(launch_scheduled_runs(workspace, logger, now, self.iterations))
                futures = {}
                list(execute_sensor_iteration(workspace, logger, pool, None, futures))
                for future in futures.values():
                    future.result()
                self.follow(now)
            now += datetime.timedelta(hours=HOURS)

    def follow(self, now: datetime.datetime) -> None:
        """What the automation sensor would launch."""
        defs = build_definitions(dg.in_process_executor, location="follower")
        found = dg.evaluate_automation_conditions(defs, self.instance, cursor=self.cursor, evaluation_time=now)
        self.cursor = found.cursor
        job = defs.resolve_implicit_global_asset_job_def()
        wanted: dict[str | None, list[dg.AssetKey]] = {}
        for key in [k for k in defs.resolve_all_asset_keys() if found.get_num_requested(k)]:
            for partition in found.get_requested_partitions(key):
                wanted.setdefault(partition, []).append(key)
        for partition, keys in wanted.items():
            self.followed.append((now, partition, len(keys)))
            result = job.execute_in_process(
                instance=self.instance, asset_selection=keys, partition_key=partition, raise_on_error=False
            )
            failures = [e for e in result.all_events if e.is_step_failure]
            said = [(e.step_key, e.step_failure_data.user_failure_data.description) for e in failures]
            self.failed += [(now, *pair) for pair in said]

    def runs(self) -> list[tuple[str, str]]:
        """Day and cell of each run that a schedule or sensor launched, as launched."""
        records = reversed(self.instance.get_run_records())
        return [
            (r.dagster_run.tags.get("dagster/schedule_name") or r.dagster_run.tags["dagster/sensor_name"], r.dagster_run.tags["dagster/partition"])
            for r in records
            if {"dagster/schedule_name", "dagster/sensor_name"} & set(r.dagster_run.tags)
        ]  # fmt: skip


@pytest.mark.e2e
def test_two_weeks_of_a_bench_that_nobody_looks_at(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("STEERWORKS_CONFIG", f"{CONFIG}:{tmp_path}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    day = lambda n: MONDAY + datetime.timedelta(days=n)  # noqa: E731
    target = ModuleTarget("steer_assets.definitions", None, str(tmp_path), "everything")
    with instance_for_test(overrides=SYNC) as instance:
        weeks = Weeks(tmp_path, instance)
        weeks.shared()
        with create_test_daemon_workspace_context(target, instance) as workspace:
            with freeze_time(MONDAY):
                weeks.switch_on(workspace, "small_weekly")
            weeks.hours(workspace, MONDAY, day(2))
        first = [("small_weekly", "copy|embedded"), ("small_weekly", "direct|embedded")]
        assert weeks.runs() == first
        assert {r.status.value for r in instance.get_runs()} == {"SUCCESS"}
        # on Wednesday somebody adds a method, and switches the sensor on
        weeks.methods.append("rewrite")
        weeks.configure()
        with create_test_daemon_workspace_context(target, instance) as workspace:
            with freeze_time(day(2)):
                weeks.switch_on(workspace, "small_missing_cells")
            weeks.hours(workspace, day(2), day(4))
            assert weeks.runs() == [*first, ("small_missing_cells", "rewrite|embedded")]
            assert {r.status.value for r in instance.get_runs()} == {"SUCCESS"}
            answered = content(tmp_path, "responses", "direct")
            # on Friday the texts change; what asks a model waits for Monday
            weeks.texts = [t.replace("baker", "fisherman") for t in weeks.texts]
            weeks.configure()
            weeks.shared()
            weeks.hours(workspace, day(4), day(6))
        assert len(weeks.runs()) == 3
        assert content(tmp_path, "responses", "direct") == answered
        # the machine is off over Monday at five, and comes back in the evening: what was missed is caught up with, once
        with create_test_daemon_workspace_context(target, instance) as workspace:
            weeks.hours(workspace, day(7) + datetime.timedelta(hours=18), day(9))
            again = [("small_weekly", f"{m}|embedded") for m in ("copy", "rewrite", "direct")]
            assert sorted(weeks.runs()[3:]) == sorted(again)
            assert content(tmp_path, "responses", "direct") != answered
            # a Monday on which nothing is due
            weeks.hours(workspace, day(9), day(15))
            assert weeks.runs()[6:] == []
            (location,) = workspace.create_request_context().code_locations
            schedule = next(iter(location.get_repositories().values())).get_schedule("small_weekly")
            assert {r.status.value for r in instance.get_runs()} == {"SUCCESS"}
            tick = instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id)[0]
        assert tick.skip_reason == "every cell is up to date"
        assert tick.timestamp == (day(14) + datetime.timedelta(hours=5)).timestamp()
    assert weeks.failed == []
    board = pl.read_parquet(tmp_path / "root/small/leaderboard/part.parquet", hive_partitioning=False)
    assert set(board["method"]) == {"copy", "direct", "rewrite"}
    # the leaderboard came by itself, whenever a cell was new
    assert any(partition is None for _, partition, _ in weeks.followed)


def content(folder, table, method):
    return read_footer(str(folder / f"root/small/{table}/model=embedded/method={method}/part.parquet")).content
