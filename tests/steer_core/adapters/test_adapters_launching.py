"""Processes that are started: told of as they go, one clear error where they fail, and none that is left behind."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from math import isnan, nan

import psutil
import pytest

from steer_core.adapters.launching import Group, Told, launched, observed, said
from steer_core.tables.errors import ConfigError, SteerworksError

#: What each of the processes does first: it ends with who started it.
WAITS = """
import sys, time, pathlib
from steer_core.adapters.launched import end_with_starter, fail, telling
folder = pathlib.Path(sys.argv[1])
end_with_starter(folder)
"""
#: Starts a process that waits, in a session of its own, as the launcher does.
STARTS = """
import subprocess, sys, pathlib
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], start_new_session=True)
(pathlib.Path(sys.argv[1]) / "pid").write_text(str(child.pid))
sys.exit(child.wait() and 1)
"""


@dataclass(frozen=True)
class Plain(Group):
    """A group of which a script is the launcher."""

    script: str = ""

    def command(self):
        return [sys.executable, "-c", self.script, str(self.folder), WAITS + "time.sleep(60)"]


def planned(folder, script=""):
    group = Plain(folder / "processes", 2, True, script=script)
    group.plan("{}")
    return group


NOBODY = Told(lambda line: None, lambda step, figures: None)


def gone(pid):
    end = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def test_lines_and_figures_come_in_order_and_what_is_no_number_stays_none(tmp_path):
    tells = (
        "with telling(folder, None) as told:\n"
        "    told.say('one: größer')\n"
        "    told.observe(1, {'loss': .5, 'meaning': float('nan')})\n"
        "    told.say('two')\n"
    )
    heard = []
    told = Told(heard.append, lambda step, figures: heard.append((step, figures)))
    launched(planned(tmp_path, WAITS + tells), told)
    assert heard[0] == "one: größer"
    step, figures = heard[1]
    assert (step, figures["loss"], isnan(figures["meaning"])) == (1, 0.5, True)
    assert heard[2] == "two"
    assert observed(2, {"a": nan, "b": float("inf")}) == {"step": 2, "figures": {"a": None, "b": None}}
    assert said("x") == {"said": "x"}


def test_what_the_first_that_failed_said_is_the_error_in_its_class(tmp_path):
    fails = (
        "fail(folder, 'ConfigError', 'too few requests'); fail(folder, 'SteerworksError', 'peer is gone'); sys.exit(1)"
    )
    with pytest.raises(ConfigError, match=r"\Atoo few requests\Z"):
        launched(planned(tmp_path, WAITS + fails), NOBODY)


def test_without_words_the_log_is_shown_before_what_the_launcher_makes_of_it(tmp_path):
    script = (
        "import sys\n"
        "for n in range(40): print('line', n, flush=True)\n"
        "print('ModuleNotFoundError: no trainer', file=sys.stderr, flush=True)\n"
        "print('E torch.distributed.elastic: failed', file=sys.stderr, flush=True)\n"
        "sys.exit(3)"
    )
    with pytest.raises(SteerworksError) as caught:
        launched(planned(tmp_path, script), NOBODY)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the 2 processes that train the adapter ended with status 3; ")
    assert lines[1:] == [*(f"line {n}" for n in range(21, 40)), "ModuleNotFoundError: no trainer"]
    with pytest.raises(SteerworksError, match="ended with signal SIGKILL"):
        launched(planned(tmp_path, "import os; os.kill(os.getpid(), 9)"), NOBODY)


def test_none_is_left_when_whoever_waits_is_interrupted(tmp_path):
    def interrupted(line):
        raise KeyboardInterrupt

    talks = WAITS + "with telling(folder, None) as told: told.say('here')\ntime.sleep(60)"
    script = STARTS.replace("sys.argv[2]", repr(talks))
    group = planned(tmp_path, script)
    with pytest.raises(KeyboardInterrupt):
        launched(group, Told(interrupted, NOBODY.observe))
    assert gone(int((group.folder / "pid").read_text()))


@pytest.mark.parametrize("killed", ["starter", "launcher"])
def test_none_is_left_when_starter_or_launcher_is_killed_outright(tmp_path, killed):
    group = planned(tmp_path, STARTS)
    starter = os.fork()
    if not starter:
        try:
            launched(group, NOBODY)
        finally:
            os._exit(5)
    file, end = group.folder / "pid", time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    worker = int(file.read_text())
    launcher = psutil.Process(worker).ppid()
    os.kill(starter if killed == "starter" else launcher, signal.SIGKILL)
    os.waitpid(starter, 0)
    assert gone(worker)


@pytest.mark.e2e
def test_a_process_that_cannot_be_imported_is_said_through_accelerate(tmp_path):
    group = Group(tmp_path / "processes", 2, True, worker="steer_core.no_such_worker")
    group.plan("{}")
    with pytest.raises(SteerworksError, match="No module named") as caught:
        launched(group, NOBODY)
    assert "torch.distributed" not in str(caught.value)
