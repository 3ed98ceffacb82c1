"""What a test computes by itself, with a hook of its own and one row a pass: the reference of whatever the library runs."""

from __future__ import annotations

from contextlib import contextmanager

import torch


def enliven(model):
    """Large random weights: answers that depend on everything."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
        if "gemma" in model.config.model_type:
            # its embeddings are multiplied, and its head too: large ones would say the last token again
            model.get_input_embeddings().weight.mul_(0.1)
    return model


def layers_of(model):
    """The decoder layers: the outermost list of as many modules as the config says layers."""
    wanted = model.config.get_text_config().num_hidden_layers
    lists = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == wanted}
    return lists[min(lists, key=lambda name: name.count("."))]


def middle_of(model) -> int:
    """A layer that has others below it in the list, or at least one above it."""
    return (len(layers_of(model)) - 1) // 2


@contextmanager
def adding(model, layer, amount, start=0):
    """Add `amount` [width] to the stream after a layer, from position `start` on. Passes must read whole texts."""

    def add(_module, _args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[:, start:] += amount
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = layers_of(model)[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def log_probs(model, prompt, answer):
    """Log-probability of each token of an answer after its prompt, from one unpadded pass without a cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0].float().log_softmax(-1)
    return [float(logits[len(prompt) - 1 + k, token]) for k, token in enumerate(answer)]


@torch.inference_mode()
def greedy(model, prompt, tokens, ends):
    """The likeliest tokens one by one, each from an unpadded pass over the whole text; as far as an end."""
    ids = list(prompt)
    for _ in range(tokens):
        chosen = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if chosen in ends:
            break
        ids.append(chosen)
    return ids[len(prompt) :]


@torch.inference_mode()
def stream_after(model, layer, tokens):
    """The stream after a layer [tokens, width], read twice: by a hook, and from `output_hidden_states` of the model."""
    # Mamba's list leaves out the embeddings
    place = layer if model.config.model_type == "mamba" else layer + 1
    kept = []
    handle = layers_of(model)[layer].register_forward_hook(
        lambda _m, _a, out: kept.append((out[0] if isinstance(out, tuple) else out)[0].clone())
    )
    out = model(input_ids=torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
    handle.remove()
    return kept[0], out.hidden_states[place][0]
