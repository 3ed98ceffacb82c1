"""Spec of a language model: where it comes from, and what runs it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schemas.digest import digest_json
from schemas.endpoints import Endpoint, VllmServer
from schemas.spec import Options, PartitionName, Slug, Spec

#: Fields that decide where and how a model runs, and none of its answers.
_OF_THE_EXECUTION = {"name", "device", "engine", "description", "endpoint", "vllm", "training_processes"}


class ModelSpec(Spec):
    """A language model: `embedded`, a hub id with a revision, a local folder or GGUF file, or an installed package."""

    name: PartitionName = Field(description="Partition key and folder name")
    source: str = Field(
        min_length=1,
        description="`embedded`, a hub id (`org/name`), a path to a folder or a `.gguf` file, or `package:<name>`, "
        "the model in an installed Python package; `served:<name>`, what an endpoint calls it; `elsewhere`: nobody "
        "that can be asked, for answers that were made elsewhere",
    )
    revision: str | None = Field(None, description="Commit or tag of a hub model; required for hub ids")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Parameter type")
    quantization: Options = Field(
        default_factory=dict,
        description="transformers' `quantization_config`, for weights that are packed while they are loaded: "
        "`quant_method`, and what that method takes; empty: none is",
    )
    device: str = Field("auto", description="`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1` ...")
    max_context: int | None = Field(
        None, gt=0, description="Tokens of prompt and answer; null reads the model's config"
    )
    chat: bool | None = Field(None, description="Use the chat template; null uses it where the tokenizer has one")
    template_options: Options = Field(
        default_factory=dict, description="Arguments of the chat template, e.g. `enable_thinking: false`"
    )
    engine: Slug = Field("transformers", description="What runs it: an extension of the group `engines`")
    endpoint: Endpoint | None = Field(None, description="Where it answers over the network; for engine `openai`")
    vllm: VllmServer | None = Field(None, description="How its server is run; for engine `vllm`")
    training_processes: int = Field(
        1,
        gt=0,
        description="Processes that train the model's adapters together, each with a GPU of its own, or all on the CPU",
    )
    description: str = ""

    @model_validator(mode="after")
    def _hub_ids_are_pinned(self) -> ModelSpec:
        if self.kind == "hub" and not self.revision:
            raise ValueError(
                f"model {self.name!r}: hub id {self.source!r} needs a `revision` (a commit or tag); "
                "for a local folder write a path that starts with `/` or `./`"
            )
        return self

    @model_validator(mode="after")
    def _endpoints_are_for_their_engine(self) -> ModelSpec:
        if self.kind == "served" and self.engine in ("transformers", "vllm"):
            raise ValueError(
                f"model {self.name!r}: {self.source!r} is a name that an endpoint knows; the engine {self.engine!r} "
                "needs the weights: set `engine: openai` and an `endpoint`"
            )
        if (self.engine == "openai") != (self.endpoint is not None):
            said = "needs an `endpoint`" if self.endpoint is None else f"has an `endpoint`, and engine {self.engine!r}"
            raise ValueError(f"model {self.name!r} {said}: endpoints are for the engine `openai`, and it needs one")
        if self.vllm is not None and self.engine != "vllm":
            raise ValueError(f"model {self.name!r} has `vllm`, and engine {self.engine!r}: it is for the engine `vllm`")
        return self

    @model_validator(mode="after")
    def _quantization_is_for_transformers(self) -> ModelSpec:
        if not self.quantization:
            return self
        if self.engine != "transformers":
            instead = {
                "vllm": "vLLM packs weights itself: `vllm: {more: [--quantization, bitsandbytes]}`, or a checkpoint "
                "that is quantised already",
                "openai": "an endpoint's weights are as its server has loaded them",
            }.get(self.engine, "another engine loads its weights in its own way")
            raise ValueError(
                f"model {self.name!r} has `quantization`, and engine {self.engine!r}: it is for the engine "
                f"`transformers`. {instead}"
            )
        if not isinstance(self.quantization.get("quant_method"), str):
            raise ValueError(
                f"model {self.name!r}: `quantization` has no `quant_method`: write e.g. `{{quant_method: bitsandbytes, "
                "load_in_8bit: true}`"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model that is not quantised keeps the hashes that it had before models could be."""
        body: dict[str, Any] = handler(self)
        if not self.quantization:
            body.pop("quantization", None)
        return body

    @model_validator(mode="after")
    def _processes_have_devices(self) -> ModelSpec:
        if self.training_processes > 1 and self.device.startswith("cuda:"):
            raise ValueError(
                f"model {self.name!r}: training_processes = {self.training_processes} take a GPU each, and device "
                f"{self.device!r} is one: write `cuda`"
            )
        return self

    @property
    def identity(self) -> str:
        """Hash of what decides the model's answers; what belongs to the execution does not: name, device, engine ..."""
        body = self.model_dump(mode="json", exclude=_OF_THE_EXECUTION)
        if self.endpoint is not None:
            # address, limits and prices change no answer
            body["endpoint"] = self.endpoint.identity()
        return digest_json(body)

    @property
    def kind(self) -> Literal["embedded", "hub", "local", "package", "served", "elsewhere"]:
        """Where the weights come from."""
        if self.source == "elsewhere":
            return "elsewhere"
        if self.source.startswith("served:"):
            return "served"
        if self.source == "embedded":
            return "embedded"
        if self.source.startswith("package:"):
            return "package"
        return "local" if self.source.startswith(("/", ".", "~")) else "hub"
