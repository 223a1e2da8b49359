"""What flows through a run: Sample → Request → Outcome → Score; `manifest.py` describes the run as a whole.

Records are frozen pydantic models. In memory images are numpy arrays; in JSON an image is the sha256 of its pixels.
`qkbench schema` prints their JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

Kind = Literal["edit", "generate", "compose"]
Status = Literal["ok", "model_error", "invalid_output", "timeout", "missing", "refused", "judge_error"]
ScoreStatus = Status | Literal["unavailable"]
SUCCESS: Final = "success"
"""The primary metric: a rate over all requests, and the first score of every outcome."""
FAILURES: Final = frozenset({"model_error", "invalid_output", "timeout", "missing", "refused"})
"""What counts as an edit that did not succeed. A judge's error, and a score that is unavailable, say nothing about the
model: there the edit has no verdict."""
JUDGE_ERROR: Final = "judge_error"
"""The status of a score that a judge could not give; the next session of the run asks for it again."""
Direction = Literal["higher", "lower", "none"]
MAX_SEED_INDEX: Final = (1 << 31) - 1
"""Tables store seed indices in 32 bits."""


def pixels_digest(array: NDArray[np.generic]) -> str:
    """The sha256 of an array's shape, dtype and bytes, as 64 hex digits."""
    h = hashlib.sha256(f"{array.shape}{array.dtype}".encode())
    h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def _array(ndim: int, dtype: type[np.generic], what: str) -> tuple[Any, Any, Any]:
    def check(value: object) -> NDArray[np.generic]:
        if not isinstance(value, np.ndarray) or value.ndim != ndim or value.dtype != dtype:
            raise ValueError(f"expected {what}")
        return value

    schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": f"sha256 of {what}"}
    return PlainValidator(check), PlainSerializer(pixels_digest, return_type=str), WithJsonSchema(schema)


_P, _M = _array(3, np.uint8, "an (H, W, 3) uint8 sRGB image"), _array(2, np.bool_, "an (H, W) bool mask")
Pixels = Annotated[NDArray[np.uint8], _P[0], _P[1], _P[2]]
"""An (H, W, 3) uint8 sRGB image."""
Mask = Annotated[NDArray[np.bool_], _M[0], _M[1], _M[2]]
"""An (H, W) bool mask."""


class Record(BaseModel):
    """Base of all records: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class RegionQuery(Record):
    """Where an edit is wanted, in three forms. Coordinates are fractions of width and height, in [0, 1]."""

    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1")
    point: tuple[float, float] = Field(description="x, y of a point that belongs to the region")
    mask: Mask


class Sample(Record):
    """One test item, answer included. A pure function of (suite version, split, index, resolution)."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="unique in its suite; safe as a file name"
    )
    suite: str
    suite_version: str
    task: str
    operation: str = Field(description="what the instruction asks for, finer than the task, such as `recolour`")
    split: str
    index: int = Field(ge=0)
    cluster: str = Field(description="samples of one cluster share a source image; statistics resample clusters")
    kind: Kind = "edit"
    instruction: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    source: Pixels | None = None
    references: tuple[Pixels, ...] = ()
    target: Pixels | None = None
    edit_mask: Mask | None = Field(default=None, description="true where source and target may differ")
    region: RegionQuery | None = None
    source_caption: str = ""
    target_caption: str = ""
    source_scene: dict[str, Any] | None = Field(default=None, description="scene graph, in the suite's own JSON form")
    target_scene: dict[str, Any] | None = None
    attributes: dict[str, JsonValue] = Field(default_factory=dict, description="facets to slice results by")


class Request(Record):
    """What a model sees of a sample. It never holds the target, the mask of the edit or the scene graphs.

    `region` is filled for models whose card declares `uses_region`, `privileged` (the whole sample, answer included)
    for models whose card declares `privileged`: controls. Both are marked wherever results appear.
    """

    sample_id: str
    suite: str
    task: str
    kind: Kind = "edit"
    instruction: str
    width: int
    height: int
    source: Pixels | None = None
    references: tuple[Pixels, ...] = ()
    seed_index: int = Field(ge=0, description="which of the run's seeds this is")
    seed: int = Field(ge=0, description="the noise seed: a 63-bit hash of (suite, sample id, seed index)")
    region: RegionQuery | None = None
    privileged: Sample | None = None


class ModelCard(Record):
    """What a model adapter declares of itself. Everything in it is part of the cache key and of the manifest."""

    name: str = Field(
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$",
        description="what it is called wherever it appears: not empty, no control characters",
    )
    version: str = Field(description="code version of the adapter; change it when its output changes")
    weights: str = Field(default="", description="sha256 of the weights, empty where there are none")
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="generation arguments")
    description: str = ""
    kinds: tuple[Kind, ...] = ("edit",)
    batch_size: int = Field(
        default=1, ge=1, le=4096, description="the fixed batch shape: every call gets this many requests"
    )
    deterministic: bool = Field(default=False, description="true if the output does not depend on the seed")
    uses_region: bool = Field(default=False, description="true if the model wants the region query")
    privileged: bool = Field(default=False, description="true for controls, which see the answer")
    unseeded: bool = Field(default=False, description="true if the model cannot be seeded: the same request differs")
    parameters: int | None = Field(default=None, ge=0, description="number of parameters used in inference")

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if self.unseeded and self.deterministic:
            raise ValueError("a model that cannot be seeded is not deterministic")
        try:
            json.dumps(self.model_dump(), ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            raise ValueError("a card holds finite numbers and whole characters only: JSON has no others") from None
        return self


class Verdict(Record):
    """A task's decision about one output image."""

    success: bool
    reason: str = Field(default="", description="why it failed, short; empty on success")
    details: dict[str, JsonValue] = Field(default_factory=dict)


class Outcome(Record):
    """What came back for one request: an image or a named failure. One line of `outcomes.jsonl`."""

    model: str
    suite: str
    task: str
    sample_id: str
    index: int = Field(ge=0, description="index of the sample in its split: with the spec, it gives the sample back")
    seed: int = Field(ge=0, description="seed index")
    key: str = Field(description="cache key: model card, sample content and noise seed")
    status: Status
    image: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="sha256 of the stored PNG file; null unless status is ok"
    )
    width: int | None = Field(default=None, description="width as the model returned it, in pixels")
    height: int | None = None
    detail: str = Field(default="", description="one line about a failure or an oddity")


class Score(Record):
    """One metric value of one outcome: one row of `scores.parquet`."""

    suite: str
    suite_version: str
    split: str
    resolution: int
    model: str
    task: str
    operation: str
    sample_id: str
    cluster: str
    seed: int
    metric: str
    value: float | None = Field(description="null where there is no value; never a made-up zero")
    status: ScoreStatus
    reason: str = Field(default="", description="why an edit failed, or why there is no value")


class MetricColumn(Record):
    """One column of values that a metric produces."""

    id: str
    unit: str = ""
    direction: Direction
    low: float | None = Field(default=None, allow_inf_nan=False, description="smallest possible value, if any")
    high: float | None = Field(default=None, allow_inf_nan=False, description="largest possible value, if any")
    description: str = ""
