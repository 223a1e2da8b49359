"""Training batches from the train splits of the scenes suite and of drawn-faces, each a pure function of (seed, stage, step).

Nothing is stored and nothing depends on the number of workers or processes: batch number k is the same whoever makes
it, so a resumed or re-sharded training sees what an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qk_bench.records import RegionQuery as Region
from qk_bench.records import Sample
from qk_bench.run.environment import cores
from qk_model.config import FACES, Mode, ModelConfig, Optimisation
from qk_model.kontext import FORMS, RegionForm, RegionQuery
from qk_model.tokenizer import encode
from qk_model.trunk import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD_TO = 8  # texts are padded to multiples of this, so that few shapes occur


def to_pixels(images: list[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) uint8 images as one (B, 3, H, W) float tensor in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> list[NDArray[np.uint8]]:
    """The inverse of `to_pixels`, rounded and clipped."""
    array = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return list(array)


def region_query(regions: list[tuple[RegionForm, Region | None]], grid: int) -> RegionQuery:
    """Region queries in the forms named, as tensors; a form without a region is `none`."""
    query = RegionQuery.none(len(regions), grid)
    for row, (form, region) in enumerate(regions):
        if region is None or form == "none":
            continue
        query.form[row] = FORMS.index(form)
        if form == "mask":
            mask = torch.from_numpy(region.mask[None].astype(np.float32))
            query.mask[row] = torch.nn.functional.adaptive_avg_pool2d(mask, grid).flatten()
        else:
            query.place[row] = torch.tensor(region.box if form == "box" else (*region.point, *region.point))
    return query


def answer(sample: Sample) -> str:
    """What an edit changes, in words, such as `small red circle top left becomes small blue circle top left`."""
    from qk_tasks.scenes.edits import Edit
    from qk_tasks.scenes.world import PLACES, Scene, in_place

    assert sample.source_scene
    assert sample.target_scene
    if sample.suite == FACES:
        return _face_answer(sample.source_scene, sample.target_scene)
    before, after = Scene.from_json(sample.source_scene), Scene.from_json(sample.target_scene)

    def words(scene: Scene, id: int) -> str:
        o = next((o for o in scene.objects if o.id == id), None)
        return f"{o.size} {o.name} {next(p for p in PLACES if in_place(o.x, o.y, p, 0.0))}" if o else "nothing"

    edited = [id for edit in sample.target_scene["edits"] for id in Edit(**edit).edited]
    return " ; ".join(f"{words(before, id)} becomes {words(after, id)}" for id in edited)


def _face_answer(source: dict[str, Any], target: dict[str, Any]) -> str:
    """What changes of a look, such as `hair black becomes blond`."""

    def word(value: Any) -> str:
        if isinstance(value, bool):
            return "smile" if value else "nothing"
        return " ".join(value) if isinstance(value, (list, tuple)) else value or "nothing"

    before, after = source["look"], target["look"]
    changed = [part for part in before if before[part] != after[part]]
    return " ; ".join(f"{part} {word(before[part])} becomes {word(after[part])}" for part in changed)


def placements(sample: Sample, slots: int) -> Tensor:
    """Place and radius of the objects that an edit draws anew, (slots, 3); see `Batch`. What a face wears is not placed."""
    from qk_tasks.scenes.edits import Edit
    from qk_tasks.scenes.world import Scene

    assert sample.target_scene
    if sample.suite == FACES:
        return torch.zeros(slots, 3)
    after = Scene.from_json(sample.target_scene)
    ids = [id for edit in sample.target_scene["edits"] for id in Edit(**edit).placed]
    drawn = [o for o in after.objects if o.id in ids]
    drawn.sort(key=lambda o: ids.index(o.id))  # in the order in which the instruction speaks of them
    found = torch.zeros(slots, 3)
    for row, o in zip(found, drawn, strict=False):
        row.copy_(torch.tensor([o.x, o.y, o.r]))
    return found


class TrainingBatches(Dataset[Batch]):
    """Batches of a stage by their step.

    Args:
        config: The model's.
        stage: The stage.
        name: The stage's name; stages of other names see other samples.
        seed: The training's seed.
        tokenizer: The model's.
        rank: Which share of each batch this process takes …
        world: … of how many.
        answers: Whether edits come with an answer: what changes, in words.
    """

    answer_length = 48

    def __init__(
        self,
        config: ModelConfig,
        stage: Optimisation,
        name: str,
        seed: int,
        tokenizer: PreTrainedTokenizerFast,
        rank: int = 0,
        world: int = 1,
        *,
        answers: bool = False,
    ) -> None:
        self.config, self.stage, self.name, self.seed, self.tokenizer = config, stage, name, seed, tokenizer
        self.rank, self.world, self.answers = rank, world, answers

    def __len__(self) -> int:
        """Number of steps."""
        return self.stage.steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step: one mode and one resolution; this process's samples of it."""
        rng = self._chance(step)
        mode: Mode = "edit" if rng.random() < self.stage.query_ratio else _pick(self.stage.generation, rng)  # type: ignore[assignment]
        resolution = int(_pick(self.stage.resolutions, rng))
        slots = range(self.rank, self.stage.batch_size, self.world)
        items = [self._item(mode, resolution, step, slot) for slot in slots]
        return self._collate(mode, items)

    def _chance(self, *where: object) -> Random:
        text = "/".join(str(part) for part in ("qk-train", self.seed, self.name, *where))
        return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))

    def _item(self, mode: Mode, resolution: int, step: int, slot: int) -> dict[str, Any]:
        rng = self._chance(step, slot)
        tasks = self.stage.tasks
        if mode == "compose":  # of the objects of a scene
            tasks = {name: share for name, share in tasks.items() if not name.startswith(FACES)}
        sample = draw_sample(_pick(tasks, rng), int(rng.random() * 2**40), resolution)
        assert sample.source is not None
        assert sample.target is not None
        assert sample.edit_mask is not None
        if mode == "generate":
            item = {"images": (), "text": sample.target_caption, "target": sample.target}
            return item | self.words(mode, sample, rng)
        if mode == "reconstruct":
            return {"images": (sample.source,), "text": "reconstruct the picture", "target": sample.source}
        if mode == "compose":
            return compose(sample, rng, resolution)
        form: RegionForm = FORMS[1 + int(rng.random() * 3)] if rng.random() < self.config.region.share else "none"
        item = {"images": (sample.source,), "text": sample.instruction, "target": sample.target}
        item |= {"edit_mask": sample.edit_mask, "region": (form, sample.region)}
        item |= {"placements": placements(sample, self.config.gate.placements)}
        return item | self.words(mode, sample, rng)

    def words(self, mode: Mode, sample: Sample, rng: Random) -> dict[str, Any]:
        """What else than the usual an item holds, or other than it: `text`, `answer`, `target`."""
        return {"answer": framed(answer(sample))} if self.answers and mode == "edit" else {}

    def _collate(self, mode: Mode, items: list[dict[str, Any]]) -> Batch:
        ids, mask = encode(self.tokenizer, [i["text"] for i in items], self.config.max_text_tokens[mode], pad_to=PAD_TO)
        grid = self.config.region.mask_grid
        count = len(items[0]["images"])
        answers = [i["answer"] for i in items if "answer" in i]
        return Batch(
            mode=mode,
            images=tuple(to_pixels([i["images"][n] for i in items]) for n in range(count)),
            input_ids=ids,
            mask=mask,
            region=region_query([i.get("region", ("none", None)) for i in items], grid),
            target=to_pixels([i["target"] for i in items]),
            edit_mask=torch.from_numpy(np.stack([i["edit_mask"] for i in items])[:, None]).float()
            if mode == "edit"
            else None,
            placements=torch.stack([i["placements"] for i in items]) if mode == "edit" else None,
            answer_ids=_answers(self.tokenizer, answers, self.answer_length) if answers else None,
        )


def framed(text: str) -> str:
    """A text to be written word by word, with its beginning and its end marked."""
    return f"[BOS] {text} [EOS]"


def _answers(tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int) -> Tensor:
    ids, mask = encode(tokenizer, texts, length, pad_to=PAD_TO)
    return torch.where(mask, ids, 0)


def draw_sample(task: str, index: int, resolution: int) -> Sample:
    """A sample of the train split of a task of the scenes suite, or of `drawn-faces/TASK`."""
    from qk_tasks import scenes
    from qk_tasks.faces.suite import SUITE as FACES_SUITE

    suite, _, name = task.rpartition("/")
    return (FACES_SUITE if suite == FACES else scenes.SUITE).tasks[name].sample("train", index, resolution)


def compose(sample: Sample, rng: Random, resolution: int) -> dict[str, Any]:
    """Reference-to-image: one or two objects of a scene, each shown alone and large, and a text that places them.

    Both images of a pair are always given, so that a batch has one shape; with one subject the second repeats the
    first.
    """
    from qk_tasks.scenes.render import render
    from qk_tasks.scenes.world import PLACES, Background, Scene, in_place

    assert sample.source_scene
    scene = Scene.from_json(sample.source_scene)
    subjects = list(scene.objects)[: 1 + int(rng.random() * 2)]
    places = [next(p for p in PLACES if in_place(o.x, o.y, p, 0.0)) for o in subjects]
    images = []
    for o in subjects:
        backdrop = Background("gradient", int(rng.random() * 2**53))
        images.append(render(Scene(backdrop, (o._replace(x=0.5, y=0.5, r=0.3),)), resolution))
    text = " and ".join(
        f"the object of the {n} image at the {p}" for n, p in zip(("first", "second"), places, strict=False)
    )
    target = render(Scene(scene.background, tuple(subjects)), resolution)
    return {"images": (images * 2)[:2], "text": text, "target": target}


def batches(dataset: TrainingBatches, start: int, workers: int) -> Iterator[Batch]:
    """The batches from step `start` on, in order, made ahead by at most as many worker processes as there are cores."""
    steps = range(start, len(dataset))
    workers = min(workers, len(steps), cores())
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    """The loader's own conversion would turn tuples into lists."""
    return batch


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in pieces of at most `size` samples."""
    total = len(batch.input_ids)

    def cut(value: Any, piece: slice) -> Any:
        if isinstance(value, Tensor):
            return value[piece]
        if isinstance(value, RegionQuery):
            return RegionQuery(*(cut(v, piece) for v in value))
        return tuple(cut(v, piece) for v in value) if isinstance(value, tuple) else value

    for begin in range(0, total, size):
        yield Batch(*(cut(value, slice(begin, begin + size)) for value in batch))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        if isinstance(value, RegionQuery):
            return RegionQuery(*(move(v) for v in value))
        return tuple(move(v) for v in value) if isinstance(value, tuple) else value

    return Batch(*(move(value) for value in batch))


def _pick(shares: dict[Any, float], rng: Random) -> Any:
    """A key, with the probability that is its share."""
    value = rng.random() * sum(shares.values())
    for key, share in shares.items():
        value -= share
        if value < 0:
            return key
    return next(reversed(shares))
