"""Schemas of the configurations of our own formats, checked before anything is built from them.

A file may come from anyone, or from an interrupted copy. Types are strict (no text for a number, no number for a
list), numbers have generous bounds, and sizes that follow from an entry, such as the length of a piece of SELFIES, are
checked before memory is allocated.
"""

__all__ = [
    "Card",
    "Fragments",
    "Gdss",
    "GdssNetwork",
    "GdssNoise",
    "Mdlm",
    "MdlmLength",
    "Nucleotides",
    "OracleConfig",
    "Schema",
    "Selfies",
    "Shards",
    "ValueConfig",
    "check_alphabet",
    "validated",
]

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from guided.errors import GuidedError, shown

LONGEST = 1000  # symbols of SELFIES, or fragments, in one token

Size = Annotated[int, Field(ge=1, le=2**20, description="a whole number from 1 to 1048576")]
Depth = Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")]
Positive = Annotated[float, Field(gt=0, le=1e6, description="a number above 0")]
Finite = Annotated[float, Field(ge=-1e30, le=1e30, description="a finite number")]
Text = Annotated[str, Field(max_length=10_000, description="text")]


def check_alphabet(alphabet: str) -> str:
    """The letters of tokens, if they are usable; returned unchanged.

    Raises:
        ValueError: There is none, one occurs twice, or one is not a capital letter or sign of ASCII.
    """
    usable = alphabet.isascii() and alphabet.isprintable() and " " not in alphabet and alphabet == alphabet.upper()
    if not usable or not alphabet or len(set(alphabet)) < len(alphabet):
        raise ValueError("it must be distinct letters, such as ACGT: capitals of ASCII")
    return alphabet


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("it must be an odd number")
    return number


def _distinct(names: list[str]) -> list[str]:
    twice = [name for name in names if [other.lower() for other in names].count(name.lower()) > 1]
    if twice or "" in names:
        raise ValueError(f"it must be distinct names; {shown(twice[0])} is there twice" if twice else "a name is empty")
    return names


Kernel = Annotated[int, Field(ge=1, le=10_001, description="an odd whole number from 1 to 10001"), AfterValidator(_odd)]
Alphabet = Annotated[str, Field(description="distinct capital letters, as ACGT"), AfterValidator(check_alphabet)]


class Schema(BaseModel):
    """Entries of a JSON object; other entries are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, validate_default=True, frozen=True)


class Nucleotides(Schema):
    """A masked model of sequences of letters, with labels."""

    alphabet: Alphabet
    length: Size
    labels: Annotated[
        list[str], Field(min_length=1, max_length=10_000, description="a list of names"), AfterValidator(_distinct)
    ]
    width: Size
    kernel: Kernel
    dilations: Annotated[list[Size], Field(min_length=1, max_length=1000, description="a list of whole numbers")]
    steps: Size = 128
    temperature: Positive = 1.0


class Selfies(Schema):
    """A masked model of molecules: symbols of SELFIES, and the pairs of tokens that became one."""

    symbols: Annotated[
        list[Annotated[str, Field(pattern=r"^\[[^\[\]]{1,40}\]$")]],
        Field(min_length=1, max_length=100_000, description="a list of SELFIES symbols, as [C]"),
        AfterValidator(_distinct),
    ]
    merges: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]],
        Field(max_length=100_000, description="a list of pairs of earlier tokens"),
    ]
    length: Size
    width: Size
    depth: Depth
    heads: Size
    temperature: Positive = 1.0

    @model_validator(mode="after")
    def _pieces(self) -> "Selfies":
        _check_merges(self.merges, 1, [1] * len(self.symbols), "symbols")
        _check_heads(self.width, self.heads)
        return self


class Fragments(Schema):
    """A masked model of molecules: fragments, nodes of a tree that have a token, and the pairs that became one."""

    sites: Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")]
    fragments: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9\[\]()=#+-]{1,500}$")]],
        Field(min_length=1, max_length=100_000, description="a list of SMILES, as c1ccccc1"),
    ]
    nodes: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=1000)]],
        Field(max_length=100_000, description="a list of lists: a fragment's number, its entry and its exits"),
    ]
    merges: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]],
        Field(max_length=100_000, description="a list of pairs of earlier tokens"),
    ]
    length: Size
    width: Size
    depth: Depth
    heads: Size
    activation: Literal["gelu", "relu2"] = "gelu"
    steps: Size = 64
    temperature: Positive = 1.0

    @model_validator(mode="after")
    def _pieces(self) -> "Fragments":
        for i, (number, *sites) in enumerate(self.nodes):
            if not (0 <= number < len(self.fragments) and 0 <= min(sites) <= max(sites) < self.sites):
                raise ValueError(
                    f"nodes[{i}] is {shown([number, *sites])}; it must be one of {len(self.fragments)} fragments, "
                    f"then sites from 0 to {self.sites - 1}"
                )
        first = 1 + self.sites + len(self.fragments)
        _check_merges(self.merges, first, [1] * len(self.nodes), "fragments")
        _check_heads(self.width, self.heads)
        return self


def _check_merges(merges: list[list[int]], first: int, lengths: list[int], unit: str) -> None:
    """Checks that pairs are of earlier tokens, from token `first` up, and that no token gets too long."""
    for i, (left, right) in enumerate(merges):
        if not first <= min(left, right) <= max(left, right) < first + len(lengths):
            raise ValueError(
                f"merges[{i}] is {[left, right]}; it must be two of the tokens {first} to {first + len(lengths) - 1}"
            )
        lengths.append(lengths[left - first] + lengths[right - first])
        if lengths[-1] > LONGEST:
            raise ValueError(f"merges[{i}] makes a token of {lengths[-1]} {unit}; {LONGEST} are allowed")


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"heads is {heads}; it must divide the width, {width}")


class Mdlm(Schema):
    """MDLM's transformer in Hugging Face's layout. Missing entries are read as None, and refused as such."""

    vocab_size: Size = None  # type: ignore[assignment]
    hidden_dim: Size = None  # type: ignore[assignment]
    n_heads: Size = None  # type: ignore[assignment]
    n_blocks: Depth = None  # type: ignore[assignment]
    cond_dim: Size = None  # type: ignore[assignment]


class MdlmLength(Schema):
    """The number of tokens of MDLM's transformer, `model_length` or `length`."""

    length: Size


class GdssNetwork(Schema):
    """One of GDSS's two networks, by the names of its own configuration; each has some of the sizes only."""

    model_type: Literal["ScoreNetworkX", "ScoreNetworkX_GMH", "ScoreNetworkA"]
    conv: Literal["GCN"] = "GCN"
    max_feat_num: Size
    max_node_num: Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")] = 1
    nhid: Size
    depth: Depth = 1
    num_layers: Depth = 1
    num_linears: Annotated[int, Field(ge=2, le=100, description="a whole number from 2 to 100")] = 2
    c_init: Depth = 1
    c_hid: Depth = 1
    c_final: Depth = 1
    adim: Size = 1
    num_heads: Size = 1


class GdssNoise(Schema):
    """The noise of nodes or of the adjacency."""

    type: Literal["VP", "VE"]
    beta_min: Positive
    beta_max: Positive
    num_scales: Annotated[int, Field(ge=1, le=500_000, description="a whole number from 1 to 500000")]


class Gdss(Schema):
    """A model of graphs: its data, the noise of nodes and adjacency, and the network of each."""

    data: Text
    nodes: Annotated[GdssNoise, Field(description="an object with type, beta_min, beta_max and num_scales")]
    edges: Annotated[GdssNoise, Field(description="an object with type, beta_min, beta_max and num_scales")]
    x: Annotated[GdssNetwork, Field(description="an object with model_type, max_feat_num, nhid and more")]
    adj: Annotated[GdssNetwork, Field(description="an object with model_type, max_feat_num, max_node_num and more")]

    @model_validator(mode="after")
    def _fits(self) -> "Gdss":
        if self.adj.model_type != "ScoreNetworkA" or self.x.model_type == "ScoreNetworkA":
            raise ValueError("x must be one of the networks of nodes, and adj ScoreNetworkA")
        if self.x.max_feat_num != self.adj.max_feat_num:
            raise ValueError("x and adj must have the same max_feat_num")
        if self.nodes.num_scales != self.edges.num_scales:
            raise ValueError("nodes and edges must have the same num_scales")
        for net in (self.x, self.adj):
            if net.adim % net.num_heads or net.nhid % net.num_heads:
                raise ValueError(f"num_heads is {net.num_heads}; it must divide adim and nhid")
        return self


class OracleConfig(Schema):
    """The ensemble of networks that scores regulatory DNA."""

    members: Depth
    width: Size


class Shards(Schema):
    """The index of weights in several files (shards)."""

    weight_map: Annotated[
        dict[str, str], Field(min_length=1, description="an object with the file's name of each tensor")
    ]


class Probe(Schema):
    """The fingerprint of the network that a checkpoint was trained from."""

    layers: Text
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    entries: Annotated[list[Finite], Field(max_length=100_000, description="a list of finite numbers")]


class Base(Schema):
    """The base that a negative checkpoint was trained from."""

    name: Text
    network: Annotated[Probe, Field(description="an object with layers, dtype and entries")]


class Card(Schema):
    """The configuration of a negative checkpoint that is finished."""

    base: Annotated[Base, Field(description="an object with name and network")]
    metrics: Annotated[dict[str, Any], Field(description="an object with the results")]


class ValueNetwork(Schema):
    """The network of a learned value; further entries are the arguments of its class."""

    kind: Text
    event: Annotated[list[Size], Field(min_length=1, max_length=8, description="a list of whole numbers")]
    tokens: Annotated[Size | None, Field(description="a whole number from 1 to 1048576, or null")]
    prompts: Size
    width: Size = 1
    depth: Depth = 1
    kernel: Kernel = 1
    pool: Annotated[Size | None, Field(description="a whole number, or null")] = None
    dropout: Annotated[float, Field(ge=0, lt=1, description="a number from 0, below 1")] = 0.0

    @model_validator(mode="after")
    def _bounded(self) -> "ValueNetwork":
        if math.prod(self.event) > 2**32:
            raise ValueError(f"event is {self.event}: {math.prod(self.event)} numbers a row; 2^32 are allowed")
        return self


class ValueModel(Schema):
    """The model that a value was fitted for."""

    name: Text
    identity: Text
    event: Annotated[list[Size], Field(max_length=8, description="a list of whole numbers")]
    process: Annotated[dict[str, Any], Field(description="an object")]
    prompts: Annotated[list[str], Field(max_length=100_000, description="a list of texts")]
    guidance: Annotated[Finite | None, Field(description="a finite number, or null")]


class Term(Schema):
    """One term of the reward that a value was fitted for."""

    reward: Text


class ValueReward(Schema):
    """The reward that a value was fitted for."""

    terms: Annotated[list[Term], Field(min_length=1, description="a list of objects with an entry reward")]
    aggregate: Text = "mean"


class ValueConfig(Schema):
    """The configuration of a learned value that is finished."""

    network: Annotated[ValueNetwork, Field(description="an object with kind, event, tokens and prompts")]
    model: Annotated[ValueModel, Field(description="an object with name, identity, event, process, prompts, guidance")]
    reward: Annotated[ValueReward | None, Field(description="an object with terms, or null")]
    target: Literal["mean", "soft", "bootstrap"]
    alpha: Annotated[float | None, Field(gt=0, le=1e30, description="a number above 0, or null")]
    times: Annotated[list[Finite], Field(min_length=2, max_length=2, description="two numbers")]
    shift: Finite
    scale: Finite
    metrics: Annotated[dict[str, Any], Field(description="an object with the results")]

    @model_validator(mode="after")
    def _fits(self) -> "ValueConfig":
        if self.times[0] == self.times[1]:
            raise ValueError(f"times is {self.times}; it must be two different numbers, of noise and of data")
        if (self.alpha is None) != (self.target == "mean"):
            raise ValueError(
                f"alpha is {self.alpha} of a value with target {self.target!r}; "
                "it must be null for a mean, and a number for others"
            )
        return self


SchemaT = TypeVar("SchemaT", bound=Schema)


def validated(schema: type[SchemaT], config: Mapping[str, Any], path: Path) -> SchemaT:
    """The entries of a configuration that a schema names.

    Raises:
        GuidedError: One is missing or not accepted; the message names the first.
    """
    try:
        return schema.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    raise GuidedError(f"{path} {_message(schema, first)}")


def _message(schema: type[Schema], error: Mapping[str, Any]) -> str:
    """The message of an error."""
    reason = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "it must be")
    if not error["loc"]:  # of several entries
        return f"is not a usable configuration: {reason}"
    place, accepted = "", ""
    for key in error["loc"]:
        if isinstance(key, str) and not key.replace("_", "a").isalnum():
            continue  # pydantic's name for an alternative of a union
        place += f"[{key}]" if isinstance(key, int) else f".{key}" if place else key
    accepted = _described(schema, error["loc"])
    if error["type"] == "missing":
        return f"has no usable entry {place!r}: it is missing" + (f"; it must be {accepted}" if accepted else "")
    reason = reason if error["type"] in ("value_error", "literal_error") or not accepted else f"it must be {accepted}"
    return f"has {place} {shown(error['input'])}; {reason}"


def _described(schema: type[Schema], place: tuple[int | str, ...]) -> str:
    """The description of the innermost field of a place that has one."""
    found, at = "", schema
    for key in place:
        field = at.model_fields.get(key) if isinstance(key, str) else None
        if field is None:
            continue
        found = field.description or found
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        at = next((part for part in inner if issubclass(part, Schema)), at)
    return found
