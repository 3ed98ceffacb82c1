"""The adapters of a vLLM: handed to one that was started here, or those that a running one has already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.endpoints import VllmServer
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.servers.listed import adapter_listed, adapters_listed
from steer_core.generation.servers.running import Running
from steer_core.generation.servers.server import Server
from steer_core.tables.errors import SteerworksError


class ServerAdapters:
    """The adapters that plans for one model may refer to.

    Args:
        model: the model.
        settings: of its server.

    Attributes:
        known: digest -> adapter.
    """

    def __init__(self, model: ModelSpec, settings: VllmServer) -> None:
        self._model, self._settings = model, settings
        self.known: dict[str, Adapter] = {}
        self._loaded: set[str] = set()

    def add(self, adapters: Iterable[Adapter]) -> None:
        """Let plans refer to further adapters, by digest."""
        self.known |= {a.digest: a for a in adapters}

    def named(self, adapter: str) -> str:
        """What the server calls an adapter: its digest, unless it had it already."""
        return self.known[adapter].served or adapter

    def load(self, server: Running) -> None:
        """Hand a server the adapters that it has not; those that it had already are looked up.

        Raises:
            SteerworksError: it has another one under a name by now, or none.
        """
        for digest, adapter in self.known.items():
            if digest not in self._loaded:
                if adapter.served is None:
                    server.load_adapter(digest, adapter.folder)
                elif self.listed(server, adapter.served).digest != digest:
                    raise SteerworksError(
                        f"the server has adapter {adapter.served!r} from elsewhere than when it was recorded: make "
                        "`adapters` of this cell again (`steerworks rebuild`)"
                    )
                self._loaded.add(digest)

    def forget(self) -> None:
        """The server was stopped: the next one has none of them."""
        self._loaded = set()

    def listed(self, server: Running, name: str) -> Adapter:
        """An adapter that the server at `vllm.address` lists for this model.

        Raises:
            SteerworksError: there is no such server, it lists no such adapter, or one of another model.
        """
        return adapter_listed(self._models(server), self._model.name, name)

    def all_listed(self, server: Running) -> list[Adapter]:
        """All adapters that the server at `vllm.address` lists.

        Raises:
            SteerworksError: there is no such server, it lists no adapter, or one of another model.
        """
        return adapters_listed(self._models(server), self._model.name)

    def _models(self, server: Running) -> list[dict[str, Any]]:
        if self._settings.address is None or not isinstance(server, Server):
            raise SteerworksError(
                f"model {self._model.name!r} runs on a vLLM that is started here, which has no adapters of its own: "
                "give `vllm.address` of one that has, or the adapter's `folder`"
            )
        return server.models()
