"""What the Locust process is told: everything that it needs, in one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, Self

from harness.errors import UsageError
from harness.tokens import Count, counter
from harness.types import Arm, ArmName, Experiment, ModelInfo, Prompt, TensorSpec, Tls, Wire

# Payloads of a model without prompts; the plan numbers as many.
RANDOM_PAYLOADS = 64

Cache = Literal["as-is", "unique", "warm"]


FRONT_END = ModelInfo(
    name="",
    platform="openai",
    versions=(),
    inputs=(TensorSpec("text_input", "BYTES", (1,)), TensorSpec("max_tokens", "INT32", (1,))),
    outputs=(TensorSpec("text_output", "BYTES", (1,)),),
    max_batch_size=0,
    decoupled=True,
)
"""What is known of a model behind a front end that speaks no KServe: give it its name with `dataclasses.replace`."""


@dataclass(frozen=True, slots=True)
class Routed:
    """Who had a request that went through an ingress: what its answer says in the field `header` (in lower case), as
    `names` has it; without that field the version that it names, as `versions` has it; else nobody knows.
    """

    header: str
    names: Mapping[str, ArmName] = field(default_factory=dict)
    versions: Mapping[str, ArmName] = field(default_factory=dict)

    def arm(self, fields: Mapping[str, str], version: str) -> ArmName:
        """ "unknown" where neither tells."""
        said = fields.get(self.header)
        return self.versions.get(version, "unknown") if said is None else self.names.get(said, "unknown")


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run's load, as each of its workers is told it.

    `t0_ns` is the start of the run on this worker's CLOCK_MONOTONIC; every time in the recording counts from it.
    `prompts`: what token models are asked; `inputs`: what any other model is sent, by input (flat values; without any,
    seeded noise). `shapes`: sizes for an input's free dimensions. `trace_ns`: due times of a replayed trace.
    `cache`: "unique" puts a key of its own in front of each prompt, "warm" asks each arm every payload once before.
    `nonce`: what makes those keys this run's own; all else follows from the seed.
    `connections`: at most so many to each arm (HTTP: requests in flight; gRPC: streams are spread over them).
    `logprobs_k`: top-k log-probabilities asked of a token model, 0 for no comparison of outputs.
    `compare_outputs`: keep a digest of every answer of a model that is not a token model. `texts`: keep what token
    models answer, too, whether or not they give log-probabilities. `own_logprob`: ask engines for the log-probability
    of their own answer. `vectors`: keep the numbers of answers that are short vectors.
    `chunks`: keep the arrival time of every streamed chunk.
    `routed`: where stages go through an ingress; its address is then that of the arm "unknown".
    `experiment`: each request is a unit's, which is recorded with how it came to its arm. Where it is `routed`, too,
    the arms' own addresses are the ingress's, and what that calls the arm that answered is recorded as the server.
    `tokenizer`: what a tokenizer.json holds, to count with where an engine does not; another host has no such file.
    """

    arms: Mapping[ArmName, Arm]
    models: Mapping[ArmName, ModelInfo]
    seed: int
    prompts: tuple[Prompt, ...]
    max_tokens: int
    timeout_s: float
    logprobs_k: int
    chunks: bool
    t0_ns: int
    folder: Path
    worker: int = 0
    workers: int = 1
    compare_outputs: bool = False
    trace_ns: tuple[int, ...] = ()
    inputs: tuple[Mapping[str, Sequence[Any]], ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cache: Cache = "as-is"
    connections: int | None = None
    nonce: str = field(default_factory=lambda: token_hex(8))
    tokenizer: str = ""
    texts: bool = False
    own_logprob: bool = False
    vectors: bool = False
    routed: Routed | None = None
    experiment: Experiment | None = None

    @property
    def payloads(self) -> int:
        """How many distinct payloads there are; the plan picks among them."""
        return len(self.prompts) or len(self.inputs) or RANDOM_PAYLOADS

    @property
    def keeps_texts(self) -> bool:
        return self.logprobs_k > 0 or self.texts

    @property
    def keeps_outputs(self) -> bool:
        return self.logprobs_k > 0 or self.compare_outputs or self.texts or self.vectors

    def count(self) -> Count | None:
        """Counts tokens as `tokenizer` does, None without one. Raises UsageError where that cannot be done."""
        try:
            return counter(self.tokenizer, "load.tokenizer") if self.tokenizer else None
        except ValueError as error:
            raise UsageError(str(error)) from error

    def check(self) -> None:
        """Raises UsageError with one line if an arm cannot be driven at all."""
        for arm in self.arms:
            wire_of(self.arms[arm], self.models[arm])
            if self.models[arm].is_token_model and not self.prompts:
                raise UsageError(f"{self.models[arm].name} reads text: give it prompts (load.prompts)")

    def to_json(self) -> str:
        """One line, so that it can travel in the protocol."""
        return json.dumps({**asdict(self), "folder": str(self.folder)}, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields: dict[str, Any] = json.loads(text)
        fields["arms"] = {name: _arm(arm) for name, arm in fields["arms"].items()}
        fields["models"] = {name: _model(model) for name, model in fields["models"].items()}
        fields["prompts"] = tuple(Prompt(**prompt) for prompt in fields["prompts"])
        fields["trace_ns"] = tuple(fields["trace_ns"])
        fields["inputs"] = tuple(fields["inputs"])
        fields["shapes"] = {name: tuple(shape) for name, shape in fields["shapes"].items()}
        fields["folder"] = Path(fields["folder"])
        fields["routed"] = Routed(**fields["routed"]) if fields["routed"] else None
        if fields["experiment"]:
            fields["experiment"] = Experiment(**{name: tuple(row) for name, row in fields["experiment"].items()})
        return cls(**fields)


def wire_of(arm: Arm, model: ModelInfo) -> Wire:
    """How requests travel to this arm, from the scheme of its address, its api and the model.

    Raises UsageError where they do not fit.
    """
    scheme, _, rest = arm.url.partition("://")
    if not rest or scheme not in ("grpc", "grpcs", "http", "https"):
        raise UsageError(f"{arm.url}: an address starts with grpc://, grpcs://, http:// or https://")
    if scheme in ("grpc", "grpcs"):
        if arm.api != "kserve":
            raise UsageError(f"{arm.url}: the {arm.api} api travels over HTTP: pass http://...")
        return "grpc-stream" if model.decoupled else "grpc"
    if arm.api == "openai":
        return "openai-stream" if arm.stream else "openai"
    if arm.api == "generate":
        return "generate-stream" if arm.stream else "generate"
    if model.decoupled:
        raise UsageError(
            f"{model.name} at {arm.url}: decoupled models stream over gRPC (grpc://...) or the generate api"
        )
    return "http"


def host_of(url: str) -> str:
    """`host:port` of an arm's address."""
    return url.partition("://")[2].partition("/")[0]


def _arm(fields: dict[str, Any]) -> Arm:
    return Arm(**{**fields, "tls": Tls(**fields["tls"]) if fields["tls"] else None})


def _model(fields: dict[str, Any]) -> ModelInfo:
    def tensors(specs: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in specs)

    return ModelInfo(
        **{
            **fields,
            "versions": tuple(fields["versions"]),
            "inputs": tensors(fields["inputs"]),
            "outputs": tensors(fields["outputs"]),
        }
    )
