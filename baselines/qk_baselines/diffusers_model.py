"""Any editing pipeline of the diffusers library: `diffusers:FOLDER` or `diffusers:OWNER/REPOSITORY`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_baselines.pipeline_files import Found, find
from qk_baselines.pipelines import Job, Pipeline, Placement
from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request


class DiffusersModel(Model):
    """A diffusers pipeline, called as its class wants to be called; inpainting gets the region query as its mask.

    Args:
        where: A folder that `save_pretrained` wrote, or a repository in the hub cache.
        revision: Commit, branch or tag of the repository.
        dtype: `auto`, `bfloat16`, `float16` or `float32`.
        device: `auto`, or a device as torch names it.
        device_map: How to spread it over devices, such as `balanced`.
        offload: `none`, `model` or `sequential`.
        variant: Which variant of the weights, such as `fp16`.
        resolution: Length in pixels of the longer side that the pipeline works at. Without it the class decides: most
            resize to about a megapixel, InstructPix2Pix takes the source as it is. The outcome records the returned size.
        batch_size: Requests to a call, for the Stable Diffusion classes.
        name: What to call it in results.
        arguments: Of the pipeline's call, such as `num_inference_steps=28`.

    Raises:
        UsageError: It is not on this machine, is no pipeline, or an option cannot be.
    """

    def __init__(
        self,
        where: str,
        *,
        revision: str = "",
        dtype: str = "auto",
        device: str = "auto",
        device_map: Any = None,
        offload: str = "none",
        variant: str | None = None,
        resolution: int | None = None,
        batch_size: int = 1,
        name: str = "",
        **arguments: Any,
    ) -> None:
        self.found, self.arguments, self.resolution = find(where, revision), arguments, resolution
        self.placement = Placement(dtype, device, device_map, offload, variant)
        self.placement.check()
        check_resolution(resolution)
        if batch_size > 1 and not self.found.form.batches:
            raise UsageError(f"{self.found.class_name} takes one request at a time", "leave batch_size out")
        options = {"dtype": dtype, "device_map": device_map, "variant": variant, "resolution": resolution}
        self.card = ModelCard(
            name=name or f"diffusers:{self.found.name}",
            version="1",
            weights=self.found.digest(),
            arguments={**self.found.form.defaults, **arguments, **{k: v for k, v in options.items() if v is not None}},
            description=f"{self.found.class_name} of diffusers.",
            kinds=self.found.form.kinds,
            batch_size=batch_size,
            uses_region=self.found.form.takes == "mask",
            parameters=self.found.parameters(),
        )

    def setup(self) -> None:
        """Load the pipeline."""
        self.pipeline = Pipeline(self.found, self.placement, self.arguments, self.resolution)

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """A picture for each request."""
        jobs = [job_of(request, self.found) for request in requests]
        failed = next((job for job in jobs if isinstance(job, Failure)), None)
        if failed is not None:  # requests of a batch are of one kind: what one lacks they all lack
            return [failed] * len(requests)
        return self.pipeline.make([job for job in jobs if isinstance(job, Job)])


def job_of(request: Request, found: Found) -> Job | Failure:
    """What a pipeline of this class needs of a request, or what the request lacks."""
    source = () if request.source is None else (request.source,)
    mask = request.region.mask if request.region is not None else None
    images = (*source, *request.references) if found.form.takes == "images" else source
    if request.kind != "generate" and not images and found.form.takes != "text":
        return Failure("model_error", f"{found.class_name} needs an image, and the request has none")
    if found.form.takes == "mask" and mask is None:
        return Failure("model_error", f"{found.class_name} needs a mask, and the sample has no region query")
    return Job(request.instruction, images, mask, request.width, request.height, request.seed)


def check_resolution(resolution: int | None) -> None:
    """Refuse a resolution that no pipeline works at.

    Raises:
        UsageError: It is not a whole number from 16 to 8192.
    """
    if resolution is not None and not (isinstance(resolution, int) and 16 <= resolution <= 8192):
        raise UsageError(f"resolution={resolution!r}", "a whole number of pixels from 16 to 8192")
