"""Two stages: `two-stage` is the pair trained here (`two-stage:FOLDER` another checkpoint of it), and
`two-stage:GENERATOR+EDITOR` any two diffusers pipelines.

The generator draws a picture from the instruction alone. How it reaches the editor depends on what the editor takes:

- an inpainting editor gets the source with the drawn picture pasted into the region, and repaints that region;
- an editor of several images gets the source and the drawn picture beside it, as a reference;
- an editor of one image gets the drawn picture only. It never sees the source: what the two stages do not hand on is
  lost, which is what this baseline shows.

For a task without a source every editor gets the drawn picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qk_baselines.diffusers_model import check_resolution, job_of
from qk_baselines.pipeline_files import Found, find
from qk_baselines.pipelines import Job, Pipeline, Placement
from qk_bench.errors import UsageError, one_line
from qk_bench.images import resample
from qk_bench.interfaces import Failure, Model
from qk_bench.records import Kind, ModelCard, Request

STAGES: Final = ("generator", "editor")
Output = NDArray[np.uint8] | Failure


def two_stage(argument: str = "", **arguments: Any) -> Model:
    """The pair trained here, or another checkpoint of it by folder; with GENERATOR+EDITOR two diffusers pipelines."""
    if "+" in argument and not Path(argument).is_dir():
        return TwoPipelines(argument, **arguments)
    from qk_baselines.two_stage import TwoStage  # type: ignore[import-not-found, unused-ignore]

    trained: Model = TwoStage(argument, **arguments)
    return trained


class TwoPipelines(Model):
    """A text-to-image pipeline and then an editing one.

    Args:
        pair: `GENERATOR+EDITOR`, each a folder or a repository in the hub cache.
        dtype: As for `diffusers:`, of both.
        device: As for `diffusers:`, of both.
        device_map: As for `diffusers:`, of both.
        offload: As for `diffusers:`, of both; two large pipelines rarely fit side by side.
        variant: As for `diffusers:`, of both.
        resolution: As for `diffusers:`, of both.
        name: What to call it in results.
        arguments: `generator_` or `editor_` before an argument of that pipeline's call, such as
            `editor_num_inference_steps=28`.

    Raises:
        UsageError: One of them is not on this machine, or they do not make such a pair.
    """

    def __init__(
        self,
        pair: str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        device_map: Any = None,
        offload: str = "none",
        variant: str | None = None,
        resolution: int | None = None,
        name: str = "",
        **arguments: Any,
    ) -> None:
        self.generator, self.editor = _pair(pair)
        self.placement = Placement(dtype, device, device_map, offload, variant)
        self.placement.check()
        check_resolution(resolution)
        self.resolution = resolution
        self.arguments = {stage: _of_stage(stage, arguments) for stage in STAGES}
        stray = [key for key in arguments if not key.startswith(tuple(f"{stage}_" for stage in STAGES))]
        if stray:
            raise UsageError(f"two-stage: which stage is {stray[0]} for?", f"generator_{stray[0]} or editor_{stray[0]}")
        takes = self.editor.form.takes
        kinds: tuple[Kind, ...] = ("edit",) if takes == "mask" else ("edit", "generate")
        options = {"dtype": dtype, "device_map": device_map, "variant": variant, "resolution": resolution}
        self.card = ModelCard(
            name=name or f"two-stage:{self.generator.name}+{self.editor.name}",
            version="1",
            weights=f"{self.generator.digest()}+{self.editor.digest()}",
            arguments={**arguments, **{key: value for key, value in options.items() if value is not None}},
            description=f"{self.generator.class_name}, then {self.editor.class_name}, of diffusers.",
            kinds=kinds,
            uses_region=takes == "mask",
            parameters=self.generator.parameters() + self.editor.parameters(),
        )

    def setup(self) -> None:
        """Load both."""
        self.stages = {
            stage: Pipeline(found, self.placement, self.arguments[stage], self.resolution)
            for stage, found in zip(STAGES, (self.generator, self.editor), strict=True)
        }

    def generate(self, requests: Sequence[Request]) -> list[Output]:
        """A picture for each request; a failure names its stage."""
        return [self._make(request) for request in requests]

    def _make(self, request: Request) -> Output:
        needs = job_of(request, self.editor)
        if isinstance(needs, Failure):
            return Failure(needs.status, f"stage editor: {needs.detail}")
        blank = Job(request.instruction, (), None, request.width, request.height, request.seed)
        drawn = self._stage("generator", blank)
        if isinstance(drawn, Failure):
            return drawn
        return self._stage("editor", self._junction(needs, drawn))

    def _junction(self, job: Job, drawn: NDArray[np.uint8]) -> Job:
        """What the editor gets of the source and of the drawn picture."""
        if self.editor.form.takes == "images" and job.images:
            return replace(job, images=(*job.images, drawn))
        if job.mask is not None and job.images:
            pasted = job.images[0].copy()
            height, width = pasted.shape[:2]
            pasted[job.mask] = resample(drawn, width, height)[job.mask]
            return replace(job, images=(pasted,))
        return replace(job, images=(drawn,))

    def _stage(self, stage: str, job: Job) -> Output:
        try:
            (made,) = self.stages[stage].make([job])
        except Exception as error:
            # MemoryError and torch's own stay the cause, so that running out of memory is still seen as such
            raise RuntimeError(f"stage {stage}: {one_line(error)}") from error
        return Failure(made.status, f"stage {stage}: {made.detail}") if isinstance(made, Failure) else made


def _of_stage(stage: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    head = f"{stage}_"
    return {key.removeprefix(head): value for key, value in arguments.items() if key.startswith(head)}


def _pair(pair: str) -> tuple[Found, Found]:
    """The two pipelines of `GENERATOR+EDITOR`; a name may itself hold a plus, so every place to part it is tried."""
    parts = pair.split("+")
    if len(parts) < 2:
        raise UsageError(f"two-stage:{pair} is not GENERATOR+EDITOR", "name two pipelines, such as two-stage:A+B")
    problem: UsageError | None = None
    for place in range(1, len(parts)):
        try:
            generator, editor = (find("+".join(half)) for half in (parts[:place], parts[place:]))
        except UsageError as error:
            problem = problem or error
            continue
        if generator.form.takes != "text" and not generator.form.generates:
            raise UsageError(
                f"two-stage: {generator.class_name} does not draw from text alone", "name an editor second"
            )
        if editor.form.takes == "text":
            raise UsageError(f"two-stage: {editor.class_name} takes no image", "name a pipeline that edits second")
        return generator, editor
    assert problem is not None
    raise problem
