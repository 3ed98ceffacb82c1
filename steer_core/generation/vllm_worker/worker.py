"""vLLM's worker, steered: `--worker-cls steerworks_vllm.worker.SteerWorker`.

Measured on CPU alone (vLLM 0.31). Where CUDA is, the class below is vLLM's worker for GPUs with the same hooks, which
nobody has run yet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.platforms import current_platform

from .catalogue import Catalogue
from .draws import take_back_draws
from .hooks import find_layers, set_hooks
from .spec import KEY, SpecError, read_spec
from .steerer import Steerer
from .support import FAMILIES, REFUSED, sites_of

#: Folder that all processes of an engine see; the launcher makes it.
ROOM = "STEERWORKS_VLLM_ROOM"

logger = init_logger("vllm.steerworks")


def _worker_class() -> Any:
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker

        return CPUWorker
    # not measured
    from vllm.v1.worker.gpu_worker import Worker

    return Worker


class SteerWorker(_worker_class()):  # type: ignore[misc]
    """A worker whose requests may carry interventions."""

    steerer: Steerer

    def load_model(self, **options: Any) -> None:
        """Load the model and hook its layers.

        Raises:
            RuntimeError: the engine is run in a way that nobody has measured.
        """
        config = self.vllm_config
        self._refuse(config)
        super().load_model(**options)
        model, hf = self.model_runner.get_model(), config.model_config.hf_text_config
        if len(find_layers(model)) != hf.num_hidden_layers:
            raise RuntimeError(f"the model has {len(find_layers(model))} layers here, not {hf.num_hidden_layers}")
        self.steerer = Steerer(
            hf.num_hidden_layers, sites_of(hf.model_type), hf.hidden_size, config.model_config.dtype, self.device
        )
        # 0: not compiled
        set_hooks(model, hf.model_type, self.steerer, bool(config.compilation_config.mode))
        self._catalogue = Catalogue(Path(os.environ[ROOM]) / "vectors")
        prepare = self.model_runner._prepare_inputs

        @wraps(prepare)
        def prepared(scheduler_output: Any, num_scheduled_tokens: Any, *more: Any, **further: Any) -> Any:
            batch = self.model_runner.input_batch
            n = batch.num_reqs
            self.steerer.begin(
                batch.req_ids[:n],
                batch.num_computed_tokens_cpu[:n].astype("int64"),
                num_scheduled_tokens[:n].astype("int64"),
            )
            return prepare(scheduler_output, num_scheduled_tokens, *more, **further)

        # the order of the batch is final there, and nothing was computed yet
        self.model_runner._prepare_inputs = prepared
        if current_platform.is_cpu():
            take_back_draws(self.model_runner)

    @staticmethod
    def _refuse(config: Any) -> None:
        parallel = config.parallel_config
        graphs = not current_platform.is_cpu() and not config.model_config.enforce_eager
        facts = (
            parallel.tensor_parallel_size > 1,
            parallel.pipeline_parallel_size > 1,
            config.speculative_config is not None,
            graphs,
            config.model_config.using_transformers_backend(),
        )
        for name, is_so in zip(REFUSED, facts, strict=True):
            if is_so:
                raise RuntimeError(f"steering: {name} was not measured with it, and is refused")
        if (family := config.model_config.hf_text_config.model_type) not in FAMILIES:
            raise RuntimeError(f"steering: models of type {family!r} are not known here; known: {', '.join(FAMILIES)}")

    def execute_model(self, scheduler_output: Any) -> Any:
        """One forward pass."""
        for request in scheduler_output.finished_req_ids:
            self.steerer.leave(request)
        for new in scheduler_output.scheduled_new_reqs:
            extra = getattr(new.sampling_params, "extra_args", None) or {}
            # a request that was preempted comes back under its name: what is known of it stays
            if KEY in extra and new.req_id not in self.steerer.requests:
                self._join(new.req_id, extra[KEY], new.prompt_len, new.num_computed_tokens)
        try:
            return super().execute_model(scheduler_output)
        finally:
            self.steerer.end()

    def _join(self, request: str, text: object, prompt: int, cached: int) -> None:
        try:
            spec = read_spec(text)
            self.steerer.join(request, spec, spec.prompt_length(prompt), cached)
        except (SpecError, KeyError) as error:
            # the front refuses such requests; one that came around it gets no receipt, and the engine lives
            logger.error("steering of request %s cannot be carried out, it runs unsteered: %s", request, error)

    def steer_upload(self, body: dict[str, Any] | str) -> dict[str, Any]:
        """Take in a vector; see `read_vector` for what stands in `body`.

        Returns:
            `name` and `digest`; or `error`, in words, and nothing was taken in.
        """
        try:
            return self._upload(json.loads(body) if isinstance(body, str) else body)
        except (SpecError, ValueError, KeyError, TypeError, OSError) as error:
            return {"error": str(error) or repr(error)}

    def _upload(self, body: dict[str, Any]) -> dict[str, Any]:
        name, layer = str(body["name"]), body.get("layer")
        if layer is not None and not 0 <= int(layer) < self.steerer.layers:
            raise SpecError(f"vector {name!r} is of layer {layer}; the model has layers 0 to {self.steerer.layers - 1}")
        tensors, scalars = read_vector(body)
        note = {
            "name": name,
            "width": self.steerer.width,
            "tensors": {n: t.shape[0] if t.ndim else 0 for n, t in tensors.items()},
            "scalars": list(scalars),
            "digest": _digest(tensors, scalars),
        }
        before = self.steerer.vectors.get(name)
        if before is None:
            self.steerer.add_vector(name, tensors, scalars)
        self._catalogue.add(name, note)
        return {"name": name, "digest": note["digest"]}

    def steer_receipts(self, nonces: list[str]) -> dict[str, Any]:
        """Receipts by nonce (`steerworks_vllm.steerer`)."""
        return self.steerer.receipts(nonces)

    def steer_state(self) -> dict[str, Any]:
        """What the worker steers: layers, width, sites, and how many vectors it holds."""
        steerer = self.steerer
        about = {"layers": steerer.layers, "width": steerer.width, "sites": list(steerer.sites)}
        return {**about, "vectors": len(steerer.vectors), "requests": len(steerer.requests)}


def read_vector(body: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Tensors and numbers of a vector that is handed in.

    `file` names a safetensors file whose tensors they are; or `tensors` has them by name, each as rows of numbers or as
    `{"shape": [rows, width], "float32": base64 of little-endian numbers}`. `scalars` has numbers by name.

    Raises:
        SpecError: neither is given.
    """
    scalars = {str(n): float(v) for n, v in body.get("scalars", {}).items()}
    if "file" in body:
        from safetensors.torch import load_file

        return {n: t.float() for n, t in load_file(body["file"]).items()}, scalars
    if "tensors" not in body:
        raise SpecError("a vector is handed in as `tensors`, or as the `file` that holds them")
    return {str(n): _tensor(v) for n, v in body["tensors"].items()}, scalars


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, dict):
        numbers = bytearray(base64.b64decode(value["float32"]))
        return torch.frombuffer(numbers, dtype=torch.float32).reshape(value["shape"])
    return torch.tensor(value, dtype=torch.float32)


def _digest(tensors: dict[str, torch.Tensor], scalars: dict[str, float]) -> str:
    found = hashlib.sha256(json.dumps(sorted(scalars.items())).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{list(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()
