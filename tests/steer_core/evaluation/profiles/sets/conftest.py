"""A hub that gives what it is given, and one that is out of reach."""

import pytest


@pytest.fixture
def hub(monkeypatch):
    """`hub(rows, features)` stands in for the hub and remembers what was asked of it."""
    import datasets

    calls = []

    def install(rows, features=None):
        data = datasets.Dataset.from_list(rows, features=features)

        def load(dataset, config=None, *, split=None, revision=None):
            calls.append((dataset, config, split, revision))
            return data

        monkeypatch.setattr(datasets, "load_dataset", load)
        return calls

    return install


@pytest.fixture
def no_hub(monkeypatch):
    """The hub as it is without a network."""
    import datasets

    def load(dataset, *rest, **more):
        raise ConnectionError(f"Couldn't reach {dataset!r} on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", load)
