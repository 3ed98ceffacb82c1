"""The verbs of a backend, and what it states about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from schemas.digest import digest_json
from schemas.vector_part import Site
from steer_core.generation.adapters import Adapter
from steer_core.generation.decoding import Array, code_of, reads_along
from steer_core.steering.intervention import Intervention
from steer_core.steering.operators import available_operators
from steer_core.steering.plan import Plan
from steer_core.steering.positions import FORMS
from steer_core.steering.vector import Floats, SteeringVector
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from steer_core.models.loading import LoadedModel

#: What a plan can be asked for.
Verb = Literal["generate", "score", "diverge", "embed"]
#: How rows share forward passes: a finished row's place goes to the next call, or a batch steps on until its longest
#: row ends, or each call is a request of its own to a server.
Batching = Literal["refill", "plain", "remote"]
#: An answer that is given: a text, spelt by itself, or token ids, used as they stand.
Continuation = str | tuple[int, ...]
#: Told the text of an answer so far, as tokens come; what it raises ends the run.
Draft = Callable[[str], None]
#: Rows under way at a time, where nothing else is said.
BATCH_SIZE = 64


@dataclass(frozen=True)
class Call:
    """One row to generate: a plan, which of its samples, and the seed of its sampling.

    Attributes:
        plan: what is asked.
        sample_index: which of the plan's samples.
        seed: of its sampling.
        log_probs: whether the answer comes with its tokens and their log-probabilities; part of no id.
        draft: told its text while it is written, by engines that stream; part of no id.
    """

    plan: Plan
    sample_index: int
    seed: int
    log_probs: bool = False
    draft: Draft | None = field(default=None, compare=False, repr=False)

    def response_id(self, execution: str) -> str:
        """Key of the response: plan, sample index, seed, execution fingerprint, and the code of its decoding rules."""
        rules = code_of(self.plan) if self.plan.extensions else []
        return digest_json([self.plan.id, self.sample_index, self.seed, execution, *rules])


@dataclass(frozen=True)
class Generation:
    """What came back for a call.

    Attributes:
        raw: the text, as it was written.
        finish_reason: `stop`, `length`, or `overlong`: the prompt left no room; `refused` or `filtered`: an endpoint
            said so in place of an answer.
        prompt_tokens, completion_tokens: tokens read, over all passes of the row, and written.
        seconds: its share of the time of the forward passes that it was in.
        receipt: `Receipt` of the plan's interventions as JSON; None without any.
        tokens: ids of the tokens written, the one that ends the answer included; where the call asks for them.
        log_probs: of each of them, in nats, as the model has it at the plan's temperature (at 1 where that is 0),
            before min-p, top-p and decoding rules; where the call asks for them.
    """

    raw: str
    finish_reason: Literal["stop", "length", "overlong", "refused", "filtered"]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    receipt: str | None = None
    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scored:
    """What a model says of a continuation.

    Attributes:
        log_probs: of each of its tokens, in nats; empty where it does not fit the model's context.
        greedy: of each, whether no other token was likelier.
    """

    log_probs: tuple[float, ...]
    greedy: tuple[bool, ...]


@dataclass(frozen=True)
class Finished:
    """A row that has ended.

    Attributes:
        index: which call it answers, counted from 0 over the calls that were taken (`None`s do not count).
        generation: what came back.
    """

    index: int
    generation: Generation


@dataclass
class Stats:
    """What a backend's forward passes were spent on, since it was made.

    Attributes:
        row_steps: rows times the forward passes that they stood in, from the one that writes a row's first token on.
        written: tokens of answers, the one that ends an answer included; what `row_steps` would be without waste.
        passes: forward passes.
    """

    row_steps: int = 0
    written: int = 0
    passes: int = 0

    @property
    def share(self) -> float:
        """Share of the row-steps that wrote a token of an answer; 1 before anything ran."""
        return self.written / self.row_steps if self.row_steps else 1.0


@dataclass(frozen=True)
class Interventions:
    """Which interventions a backend can carry out.

    Attributes:
        operators: by name.
        positions: forms of selectors, by their first word: `all`, `prompt`, `span` ...
        sites: places of a layer.
        gates: whether an intervention may wait for a condition on the prompt.
    """

    operators: tuple[str, ...]
    positions: tuple[str, ...] = FORMS
    sites: tuple[Site, ...] = ("residual", "attention", "mlp")
    gates: bool = True

    @classmethod
    def every(cls) -> Interventions:
        """Whatever this package knows."""
        return cls(available_operators())

    def lacking(self, intervention: Intervention) -> str | None:
        """What of an intervention cannot be done, in words; None where all of it can."""
        form = intervention.positions.split(":")[0]
        # an operator that nobody knows is a mistake of the plan's; whoever loads it says which there are
        known = intervention.operator in available_operators()
        if known and intervention.operator not in self.operators:
            return f"apply operator {intervention.operator!r}; it applies {', '.join(self.operators)}"
        if form in FORMS and form not in self.positions:
            return f"steer positions {intervention.positions!r}; it steers {', '.join(self.positions)}"
        if intervention.site not in self.sites:
            return f"steer site {intervention.site!r}; it steers {', '.join(self.sites)}"
        if intervention.gate is not None and not self.gates:
            return "wait for a gate; it steers every row or none"
        return None


@dataclass(frozen=True)
class Capabilities:
    """What a backend can execute; a plan beyond it is refused by name before anything runs.

    Attributes:
        name: how the backend is called in messages.
        max_context: tokens of prompt and answer; None: not known.
        scores: whether it returns log-probabilities of given continuations.
        interventions: which it can carry out; None: it cannot change activations.
        diverges: whether it returns the KL divergence of steered from unsteered.
        seeds: whether a sampled answer follows from its call's seed alone.
        keeps: whether answers are kept beyond the tables, so that one that was drawn need not be drawn again.
        adapters: whether it can load adapters.
        extensions: decoding rules and trained interventions, by name, that it carries out.
        passes: whether a rule may have further prompts read along with its row.
        log_probs: whether answers come with their tokens and the log-probabilities of these, where a call asks.
        greedy_flags: whether scores say of each token if it was the likeliest.
        embeds: whether it returns the mean of a text's last hidden states.
        streams: whether it tells `Call.draft` of an answer while that is written.
        prefixes: whether texts that are scored are read once as far as they begin with the same tokens; None: it is
            known once the model is loaded, or only to a server.
        prefixes_reason: why they are not, in words; empty where they are.
        batching: how rows share forward passes.
        batching_reason: why it is not `refill`, in words; empty where it is, or where that was asked for.
    """

    name: str
    max_context: int | None
    scores: bool
    interventions: Interventions | None = None
    diverges: bool = False
    seeds: bool = True
    keeps: bool = False
    adapters: bool = False
    extensions: tuple[str, ...] = ()
    passes: bool = False
    log_probs: bool = False
    greedy_flags: bool = False
    embeds: bool = False
    streams: bool = False
    prefixes: bool | None = None
    prefixes_reason: str = ""
    batching: Batching = "plain"
    batching_reason: str = ""

    def refuse(self, plan: Plan, verb: Verb = "generate", log_probs: bool = False, greedy_flags: bool = False) -> None:
        """Refuse a plan that the backend cannot execute; does nothing for one that it can.

        Args:
            plan: the plan.
            verb: what is asked for.
            log_probs: whether the answer is to come with log-probabilities.
            greedy_flags: whether scores are to say of each token if it was the likeliest.

        Raises:
            SteerworksError: names the backend and what it cannot do.
        """
        if plan.interventions and self.interventions is None:
            raise SteerworksError(f"{self.name} backend cannot apply interventions; use transformers or vllm")
        if self.interventions is not None:
            for i in plan.interventions:
                if (lacking := self.interventions.lacking(i)) is not None:
                    raise SteerworksError(f"{self.name} backend cannot {lacking}")
        if plan.adapter is not None and not self.adapters:
            raise SteerworksError(f"{self.name} backend cannot load adapters")
        for extension in plan.extensions:
            if extension.name not in self.extensions:
                known = ", ".join(self.extensions) or "none"
                raise SteerworksError(
                    f"{self.name} backend cannot carry out the extension {extension.name!r}; it knows: {known}"
                )
            if not self.passes and reads_along(extension):
                raise SteerworksError(
                    f"{self.name} backend cannot read further prompts along with a row, which the decoding rule "
                    f"{extension.name!r} needs"
                )
        if plan.extensions and verb != "generate":
            raise SteerworksError(
                f"{self.name} backend cannot {verb} under the decoding rule {plan.extensions[0].name!r}: a rule "
                "chooses tokens, and these are given"
            )
        if verb == "generate" and plan.decoding.temperature > 0 and not (self.seeds or self.keeps):
            raise SteerworksError(
                f"{self.name} backend cannot sample by seed: an answer could not be written again; use temperature 0"
            )
        if verb == "generate" and log_probs and not self.log_probs:
            raise SteerworksError(
                f"{self.name} backend cannot give the log-probabilities of what it writes; use transformers"
            )
        if verb == "score" and not self.scores:
            raise SteerworksError(
                f"{self.name} backend cannot score continuations; use transformers, vllm or an endpoint with `scores`"
            )
        if verb == "score" and greedy_flags and not self.greedy_flags:
            raise SteerworksError(f"{self.name} backend cannot say which tokens are the likeliest; use transformers")
        if verb == "diverge" and not self.diverges:
            raise SteerworksError(f"{self.name} backend cannot measure divergence from unsteered; use transformers")
        if verb == "embed" and not self.embeds:
            raise SteerworksError(f"{self.name} backend cannot read hidden states of texts; use transformers")


class Backend(Protocol):
    """Generates and scores plans, under its own batching."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can execute."""
        ...

    @property
    def model_identity(self) -> str:
        """`ModelSpec.identity` of the model that answers; plans of others are refused."""
        ...

    @property
    def execution(self) -> str:
        """Execution fingerprint: everything outside the plan that may change an answer."""
        ...

    def weights(self) -> LoadedModel:
        """The loaded model, for what reads its activations or trains on it.

        Raises:
            SteerworksError: the engine holds no weights in this process.
        """
        ...

    def add_vectors(self, vectors: Iterable[SteeringVector]) -> None:
        """Let plans refer to further vectors, by id; asked only of backends whose capabilities have interventions."""
        ...

    def add_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Let extensions of plans refer to further tensors, by digest; asked only of backends that know extensions."""
        ...

    def add_adapters(self, adapters: Iterable[Adapter]) -> None:
        """Let plans refer to further adapters, by digest; asked only of backends that can load adapters."""
        ...

    def prompt_tokens(self, plan: Plan) -> int:
        """Tokens that the plan's prompt takes."""
        ...

    def generate(self, calls: Iterable[Call | None], batch_size: int = BATCH_SIZE) -> Iterator[Finished]:
        """Answers, each as soon as its row ends: in any order, tagged with the index of its call.

        Calls are taken as they are needed, a bounded window ahead, so what is done with one answer may decide on later
        calls. A source that has nothing now, and may have once rows under way have ended, gives `None`.

        Args:
            calls: rows wanted; decodings, vectors and strengths may differ from row to row.
            batch_size: most rows under way at a time.
        """
        ...

    def score(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[list[float]]:
        """Log-probability (nats) of each token of each continuation after its plan's prompt."""
        ...

    def score_greedy(self, plans: Sequence[Plan], continuations: Sequence[Continuation]) -> list[Scored]:
        """`score`, and of each token whether it was the likeliest; asked only of backends that give `greedy_flags`."""
        ...

    def embed(self, plans: Sequence[Plan], *, special: bool = False) -> list[Floats]:
        """Mean of the last hidden states over each plan's prompt; asked only of backends that embed.

        Args:
            plans: texts, and what is done to the model while it reads them.
            special: whether the special tokens that begin a prompt are part of the mean.
        """
        ...

    def diverge(
        self, plans: Sequence[Plan], continuations: Sequence[Continuation], against: Sequence[Plan] | None = None
    ) -> list[list[float]]:
        """KL divergence (nats) of the steered next-token distribution from the unsteered one, token by token.

        Each continuation is read after its plan's prompt; the numbers stand where `score` has the log-probabilities.
        What it is held against is the model as it is, after the same prompt, or after those of the plans `against`.
        """
        ...


def answer_all(backend: Backend, calls: Sequence[Call], batch_size: int = BATCH_SIZE) -> list[Generation]:
    """Answers of all calls, in their order."""
    answers = {f.index: f.generation for f in backend.generate(calls, batch_size)}
    return [answers[i] for i in range(len(calls))]
