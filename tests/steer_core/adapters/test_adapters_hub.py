"""Adapters of the hub: the one call that goes over the network is replaced, and everything else is as it is."""

import shutil
from fnmatch import fnmatch

import pytest
from export_world import write_adapter
from huggingface_hub.errors import LocalEntryNotFoundError

from schemas.adapter_part import AdapterPart
from steer_core.adapters.hub import hub_folder, states_of_hub
from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import Folders

REPOSITORY, REVISION = "org/lora", "0123abcd"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that stands for the repository; what is asked for is copied, as the hub's client does it."""
    repository, cache, asked = tmp_path / "repository", tmp_path / "cache" / REVISION, []
    repository.mkdir()

    def download(name, *, revision, allow_patterns):
        asked.append((name, revision))
        cache.mkdir(parents=True, exist_ok=True)
        for file in sorted(p for p in repository.rglob("*") if p.is_file()):
            where = file.relative_to(repository).as_posix()
            if any(fnmatch(where, pattern) for pattern in allow_patterns):
                (cache / where).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, cache / where)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return repository, cache, asked


def test_an_adapter_is_kept_below_the_bench_as_it_was_published(hub, tmp_path):
    repository, cache, asked = hub
    adapter = write_adapter(tmp_path / "lora")
    shutil.copytree(adapter.folder, repository, dirs_exist_ok=True)
    (repository / "optimizer.bin").write_bytes(b"pickle")
    folders = Folders(str(tmp_path / "bench"))
    states, names = states_of_hub(REPOSITORY, REVISION, folders, "adapter_states")
    assert asked == [(REPOSITORY, REVISION)]
    # nothing but the adapter was asked for: no pickle came along
    assert {p.name for p in cache.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert [(s.label, s.step, s.rank) for s in states] == [("org/lora@0123abcd", 0, 8)]
    assert names == [f"adapter_states/hub-{adapter.digest}"]
    # the cache may go: the copy is the same adapter
    shutil.rmtree(cache)
    assert states[0].adapter.digest == adapter.digest
    assert states[0].adapter.folder == tmp_path / "bench" / names[0]
    assert states_of_hub(REPOSITORY, REVISION, folders, "adapter_states")[1] == names


def test_checkpoints_of_a_repository_are_states(hub, tmp_path):
    repository, _, _ = hub
    for step in (20, 5):
        write_adapter(repository / f"checkpoint-{step}", scale=0.01 * step)
    states, names = states_of_hub(REPOSITORY, REVISION, Folders(str(tmp_path / "bench")), "adapter_states")
    assert [(s.step, s.label) for s in states] == [(5, "checkpoint-5"), (20, "checkpoint-20")]
    assert len(set(names)) == 2


def test_pickled_weights_are_not_even_fetched(hub, tmp_path):
    repository, cache, _ = hub
    shutil.copytree(write_adapter(tmp_path / "lora").folder, repository, dirs_exist_ok=True)
    (repository / "adapter_model.safetensors").rename(repository / "adapter_model.bin")
    with pytest.raises(
        ConfigError, match=r"'org/lora' \(revision '0123abcd'\) has no adapter_model.safetensors: pickled"
    ):
        hub_folder(REPOSITORY, REVISION)
    assert not list(cache.rglob("*.bin"))


def test_a_repository_without_an_adapter_is_none(hub):
    repository, _, _ = hub
    (repository / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no adapter: its repository holds no adapter_config.json"):
        hub_folder(REPOSITORY, REVISION)


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder"),
        OSError("Network is unreachable"),
        ValueError("Repo id must use alphanumeric chars"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(
        ConfigError, match=f"cannot be had from the hub: {str(error)[:20]}.*network, or give a `folder`"
    ):
        hub_folder(REPOSITORY, REVISION)


def test_the_client_itself_says_that_it_is_offline(monkeypatch, tmp_path):
    # the real call, with nothing in its cache and no network
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="'org/lora' .* cannot be had from the hub: "):
        hub_folder(REPOSITORY, REVISION)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hub": "org/lora"}, "`hub` and `revision` belong together"),
        ({"folder": "/lora", "revision": "abc"}, "`hub` and `revision` belong together"),
        ({"hub": "org/lora", "revision": "abc", "folder": "/lora"}, "give exactly one of them"),
        ({}, "give exactly one of them"),
        ({"hub": "lora", "revision": "abc"}, "hub"),
        ({"folder": "org/lora"}, "a repository of the hub is a `hub`"),
    ],
)
def test_where_an_adapter_comes_from_is_said_once_and_pinned(settings, message):
    with pytest.raises(ValueError, match=message):
        AdapterPart.model_validate(settings)
    assert AdapterPart.model_validate({"hub": "org/lora", "revision": "abc"}).hub == "org/lora"
