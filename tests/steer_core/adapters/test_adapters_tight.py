"""Rows in chunks of about one length: what comes back is what one padded pass gives, gradients too."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from steer_core.adapters.tight import in_chunks


def laid_out(rows, prompt, keep):
    """Prompts to the right of their columns, completions to the left of theirs."""
    ids, mask = (torch.zeros(len(rows), prompt + keep, dtype=torch.long) for _ in range(2))
    for k, (asked, written) in enumerate(rows):
        ids[k, prompt - len(asked) : prompt + len(written)] = torch.tensor([*asked, *written])
        mask[k, prompt - len(asked) : prompt + len(written)] = 1
    return ids, mask


@pytest.fixture(scope="module")
def rows():
    draw = torch.Generator().manual_seed(0)
    sizes = [(3, 4), (9, 1), (5, 8), (2, 2), (9, 8), (1, 5), (6, 3)]
    return [tuple(torch.randint(1, 50, (n,), generator=draw).tolist() for n in both) for both in sizes]


@pytest.mark.parametrize("chunk", [1, 2, 3, 16])
def test_each_token_keeps_what_follows_from_the_tokens_before_it(rows, chunk):
    ids, mask = laid_out(rows, 9, 8)
    lengths = []

    def passed(ids, mask, keep):
        lengths.append(ids.shape[1])
        # two figures that no padding has a part in: the sum of all tokens up to one, and the token itself
        return (ids * mask).cumsum(dim=1)[:, -keep:].float(), ids[:, -keep:].float()

    sums, tokens = in_chunks(passed, ids, mask, 8, chunk)
    for k, (asked, written) in enumerate(rows):
        so_far = [float(sum(asked) + sum(written[: i + 1])) for i in range(len(written))]
        assert sums[k].tolist() == [*so_far, *[0.0] * (8 - len(written))]
        assert tokens[k].tolist() == [*map(float, written), *[0.0] * (8 - len(written))]
    # no pass is longer than its longest row
    totals = sorted(len(a) + len(w) for a, w in rows)
    assert lengths == [totals[min(i + chunk, len(totals)) - 1] for i in range(0, len(totals), chunk)]


def test_a_model_gives_the_log_probabilities_and_gradients_of_one_padded_pass(rows, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    ids, mask = laid_out([([t % 20 for t in a], [t % 20 for t in w]) for a, w in rows], 9, 8)

    def passed(ids, mask, keep):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -keep - 1 : -1]
        return (torch.log_softmax(logits, -1).gather(-1, ids[:, -keep:, None])[..., 0],)

    def gradients(found):
        model.zero_grad()
        (found * mask[:, -8:]).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    (one,), (several,) = passed(ids, mask, 8), in_chunks(passed, ids, mask, 8, 3)
    there = mask[:, -8:].bool()
    assert torch.allclose(one[there], several[there], atol=1e-5)
    assert float(several[~there].detach().abs().sum()) == 0.0
    assert torch.allclose(gradients(one), gradients(several), atol=1e-4)
