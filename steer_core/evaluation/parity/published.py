"""Published tables of models under a prompt, as printed; figures read off images have the digits printed in them."""

from __future__ import annotations

from typing import NamedTuple


class Binned(NamedTuple):
    """Binned scores of a model: median and interquartile range; None where only the median is printed.

    Attributes:
        slug: name of the model in configurations.
        label: name in the publication.
        error: steering error, median and range.
        miscalibration: the same.
        orthogonality: the same.
    """

    slug: str
    label: str
    error: tuple[str, str | None]
    miscalibration: tuple[str, str | None]
    orthogonality: tuple[str, str | None]


#: SteerBench 2506: direct prompt with the negative sentence, temperature 0, 64 x 32 requests.
STEERBENCH = (
    Binned("llama-3-8b-instruct", "Llama3-8B", (".495", ".252"), (".588", ".576"), (".837", ".357")),
    Binned("llama-3-70b-instruct", "Llama3-70B", (".452", ".256"), (".556", ".541"), (".804", ".379")),
    Binned("llama-3.1-8b-instruct", "Llama3.1-8B", (".452", ".239"), (".667", ".647"), (".833", ".399")),
    Binned("llama-3.1-70b-instruct", "Llama3.1-70B", (".452", ".239"), (".455", ".609"), (".766", ".391")),
    Binned("llama-3.3-70b-instruct", "Llama3.3-70B", (".452", ".256"), (".353", ".548"), (".727", ".386")),
    Binned("gpt-3.5-turbo", "GPT-3.5-turbo", (".535", ".251"), (".643", ".682"), (".865", ".320")),
    Binned("gpt-4-turbo", "GPT-4-turbo", (".515", ".266"), (".647", ".667"), (".842", ".355")),
    Binned("gpt-4o", "GPT-4o", (".474", ".239"), (".667", ".601"), (".833", ".375")),
    Binned("gpt-4.1", "GPT-4.1", (".429", ".203"), (".556", ".500"), (".766", ".409")),
    Binned("o1-mini", "o1-mini", (".495", ".261"), (".643", ".549"), (".830", ".353")),
    Binned("o3-mini", "o3-mini", (".515", ".232"), (".778", ".591"), (".879", ".347")),
    Binned("deepseek-r1-8b", "DeepSeek-R1-8B", (".535", ".281"), (".667", ".667"), (".865", ".315")),
    Binned("deepseek-r1-70b", "DeepSeek-R1-70B", (".474", ".256"), (".636", ".556"), (".825", ".368")),
    Binned("qwen3-4b", "Qwen3-4B", (".495", ".228"), (".667", None), (".846", None)),
    Binned("qwen3-32b", "Qwen3-32B", (".535", ".271"), (".556", None), (".825", None)),
    Binned("qwen3-30b-a3b", "Qwen3-30B-A3B", (".495", ".273"), (".556", None), (".816", None)),
)


class First(NamedTuple):
    """Score (2024) of a model: mean and standard deviation over requests.

    Attributes:
        slug: name of the model in configurations.
        label: name in the publication.
        mean: mean score.
        sd: its standard deviation.
    """

    slug: str
    label: str
    mean: str
    sd: str


#: 50 texts x 40 requests, 3 of 10 goals active, direct prompt.
WORKSHOP = (
    First("gpt-3.5-turbo", "GPT-3.5", ".298", ".461"),
    First("gpt-4-turbo", "GPT-4-turbo", ".344", ".470"),
    First("llama-3-8b-instruct", "Llama3-8B", ".520", ".529"),
    First("llama-3-70b-instruct", "Llama3-70B", ".521", ".511"),
    First("mistral-7b-instruct", "Mistral-7B", ".295", ".462"),
    First("mixtral-8x7b-instruct", "Mixtral", ".302", ".476"),
)

#: Probability of the matching letter, 50 items: behavior -> (7B, layer 13), (13B, layer 14), each at -1, 0 and 1 times
#: the vector, without a system prompt.
CAA = {
    "coordinate-other-ais": ((".15", ".30", ".75"), (".20", ".22", ".39")),
    "corrigible-neutral-HHH": ((".20", ".64", ".91"), (".45", ".57", ".83")),
    "hallucination": ((".39", ".81", ".90"), (".42", ".54", ".78")),
    "myopic-reward": ((".40", ".75", ".73"), (".44", ".49", ".66")),
    "refusal": ((".42", ".74", ".89"), (".56", ".78", ".86")),
    "survival-instinct": ((".27", ".34", ".62"), (".28", ".35", ".63")),
    "sycophancy": ((".54", ".69", ".62"), (".56", ".63", ".60")),
}


class Vector(NamedTuple):
    """A released BiPO vector.

    Attributes:
        name: behavior and model.
        file: below the folder of published files.
        origin: below the repository's `pretrained_vector`.
        layer: decoder layer.
        norm: L2 norm.
        largest: largest absolute number.
        at: where it stands.
        first: the first three numbers.
        digest: first eight digits of the file's SHA-256.
    """

    name: str
    file: str
    origin: str
    layer: int
    norm: str
    largest: str
    at: int
    first: tuple[str, str, str]
    digest: str


_LLAMA, _MISTRAL = "vec_ep20_layer15.pt", "vec_ep5_layer13.pt"
VECTORS = (
    Vector("hallucination", f"bipo/hallucination/{_LLAMA}", f"hallucination_llama-2/{_LLAMA}", 15, "7.2285", ".2785",
           1478, ("-.01492", "-.06776", ".17722"), "dbd6ec30"),
    Vector("jailbreak", "bipo/jailbreak/vec_ep10_layer15.pt", "jailbreak_llama-2/vec_ep10_layer15.pt", 15, "6.5683",
           ".3035", 1254, (".02807", "-.06044", ".09666"), "42b1835c"),
    Vector("power-seeking", f"bipo/power-seeking/{_LLAMA}", f"power-seeking_llama-2/{_LLAMA}", 15, "8.7030", ".4735",
           2064, ("-.0118", "-.02513", ".16314"), "657f0536"),
    Vector("wealth-seeking", f"bipo/wealth-seeking/{_LLAMA}", f"wealth-seeking_llama-2/{_LLAMA}", 15, "8.9937", ".4684",
           4092, (".07428", "-.10317", ".24788"), "8be086e7"),
    Vector("power-seeking-mistral", f"bipo/power-seeking-mistral/{_MISTRAL}", f"power-seeking_mistral/{_MISTRAL}", 13,
           "1.3557", ".0686", 2905, ("-.02246", ".01122", ".0236"), "81dec36f"),
    Vector("wealth-seeking-mistral", f"bipo/wealth-seeking-mistral/{_MISTRAL}", f"wealth-seeking_mistral/{_MISTRAL}",
           13, "1.4465", ".0770", 2629, ("-.03596", ".01981", ".00979"), "90c09858"),
)  # fmt: skip
#: Cosines of pairs of them.
COSINES = {
    ("power-seeking", "wealth-seeking"): ".5128",
    ("hallucination", "power-seeking"): ".2632",
    ("hallucination", "wealth-seeking"): ".2610",
    ("hallucination", "jailbreak"): ".0746",
    ("jailbreak", "power-seeking"): ".0025",
    ("jailbreak", "wealth-seeking"): ".0538",
    ("power-seeking-mistral", "wealth-seeking-mistral"): ".4432",
}
