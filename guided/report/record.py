"""The schema of `run.json`, which is checked before anything is made of it."""

__all__ = ["PROGRESS", "Cost", "Record", "Stored", "read_record"]

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guided.errors import GuidedError, shown
from guided.storage import read_json

#: Beside `run.json` while the run is not finished: its counts so far, which take the place of those there.
PROGRESS, COUNTS = "progress.json", ("requests_done", "stats", "before")

Count = Annotated[int, Field(ge=0, le=10**18)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """Entries that are used; there may be others."""

    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Part):
    file: str | None = None  # none for an image in memory


class _Sampler(_Part):
    name: str


class _Term(_Part):
    reward: str
    parameters: dict[str, Any]


class _Reward(_Part):
    terms: list[_Term]


class _Config(_Part):
    model: str
    sampler: _Sampler
    n: Count
    seed: int
    steps: Count
    device: str
    reward: _Reward | None = None
    guidance: Finite | None = None
    rescale: Finite | None = None
    guider: _Sampler | None = None
    strength: Finite | None = None
    image: _File | None = None
    mask: _File | None = None


class Cost(_Part):
    """The cost of a run."""

    network_rows: Count = 0
    network_calls: Count = 0
    reward_calls: Count = 0
    cached: Count = 0
    stopped: Count = 0
    seconds: dict[str, Finite] = {}


class Earlier(_Part):
    """What was done before the last batch."""

    requests_done: Count
    stats: Cost


class Stored(_Part):
    """What a run is resumed and opened by."""

    config: dict[str, Any]
    stats: Cost = Cost()
    requests_done: Count = 0
    before: Earlier | None = None
    versions: dict[str, Any] = {}
    earlier_versions: list[dict[str, Any]] = []


class Record(_Part):
    """What the report shows."""

    config: _Config
    stats: Cost
    reward_name: str | None = None
    time_limit: Finite | None = None
    modality: str = ""
    command: str = ""
    versions: dict[str, str] = {}


SchemaT = TypeVar("SchemaT", Stored, Record)


def read_record(file: Path, schema: type[SchemaT]) -> tuple[dict[str, Any], SchemaT]:
    """What is in `run.json` (and in `progress.json` while a run is not finished), and its entries of a schema.

    Raises:
        GuidedError: It is not JSON, or an entry is missing or of another type.
    """
    content, counts = read_json(file), file.with_name(PROGRESS)
    later = read_json(counts) if counts.exists() else {}
    later = {name: entry for name, entry in later.items() if name in COUNTS}
    content |= later
    try:
        return content, schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    entry, message = ".".join(map(str, first["loc"])), first["msg"].replace("Input should be", "it must be")
    given = "is missing" if first["type"] == "missing" else f"is {shown(first['input'])}; {message}"
    where = counts if first["loc"][0] in later else file
    raise GuidedError(f"{str(where)!r} is no record of a run: {entry} {given}")
