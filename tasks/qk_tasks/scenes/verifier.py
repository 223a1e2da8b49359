"""Decides from the output pixels whether an edit succeeded. docs/verifier.md explains every rule and threshold.

The verifier explains the output as a drawing of an allowed scene: it finds the objects whose place or size the
instruction leaves open, draws the scene that results, and then asks whether what is left over is more than compression,
resampling and noise would leave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from qk_bench.records import Sample, Verdict
from qk_tasks.scenes.edits import Edit, misplaced, radii
from qk_tasks.scenes.fitting import Fit, fit_shape, opacity_of, settled, shape_moments
from qk_tasks.scenes.lab import colour_distance, to_lab
from qk_tasks.scenes.pixels import LUMA, around, gradient_energy, grown, jpeg
from qk_tasks.scenes.render import Box, Float, coverage, paint, quantise, visible
from qk_tasks.scenes.world import COLOURS, SHAPES, Obj, Scene

Bool = NDArray[np.bool_]

MAX_SIDE = 256  # larger outputs are judged at this side, in pixels
FEW = 4  # pixels, fewer of which tell nothing
FAR = 40.0  # distance in sRGB from which a pixel is far from the expectation
UNLIKE = 0.5  # share of pixels that are far from the expectation, from which it is not the scene at all
LIKE = 75.0  # distance in sRGB up to which a pixel may be of an object's colour
BLOB_SHARE = 0.5  # share of the pixels that a found object needs, from which a blob is fitted
FOUND_SHARE = 0.4  # an object counts as found from this share of the least area that the edit allows it
INSTEAD_SHARE = 0.5  # share of that area from which something else is said to stand there
SETTLED = 0.75  # pixels by which a found centre may be off the target's and be taken for it
COVERED = 0.5  # share of what the target shows of an object that what is placed must leave to be seen
UNFINISHED = 0.10  # share of the old contrast that may be left where the edit was
PART_OLD = 0.12  # share of the old place's pixels that may look more like before than like after
PART_NEW = 0.30  # the same for the new place, whose edges blur
CHANGED = 24.0  # distance in sRGB between source and expectation from which a pixel tells of the two, …
NEARER = 0.5  # share of the way back from which a pixel looks more like before …
NEARER_HONEST = 0.42  # … unless an honest output goes so far there
AS_BEFORE = 0.9  # share of the old contrast from which nothing was done at all
SHAPE_ERROR = 0.20  # squared error of a shape's fit from which it is not that shape
SHAPE_SUSPECT = 0.02  # squared error of an object, over its squared contrast, from which other shapes are tried …
LEAST_CONTRAST = 50.0  # distance in sRGB that any object keeps from any background, to save looking closer
SHAPE_RIVAL = 0.65  # … and win if theirs is this much smaller
SHAPE_SEEN = 0.9  # share of an object that must be seen for its shape to be judged
NEARLY_EXACT = 8.0  # greatest difference of an 8-bit channel up to which an output needs no allowances
JPEG_MARGIN = 1.5  # deviations up to this many times those of JPEG at quality 90 are compression
COLOUR_EDITED = 14.0  # CIE76 ΔE that an edited object's colour may be off
COLOUR_OTHER = 12.0  # the same for objects that the edit leaves alone
SPOT = 10.0  # CIE76 ΔE from which a smoothed deviation is a change of content, …
SPOT_SINGLE = 25.0  # and a single pixel's is, …
SPOT_SHARE = 0.0012  # … if it covers more than this share of the image
STAIN = 4.0  # CIE76 ΔE of a smoothed deviation of the background …
STAIN_SHARE = 0.012  # … that may cover this share of it
SPECKLE = 6.0  # CIE76 ΔE of single pixels of the background …
SPECKLE_SHARE = 0.02  # … that may be reached by this share of them
TINT = 3.0  # CIE76 ΔE that the background may be off on average
STEEP = 10.0  # steps of lightness from pixel to pixel from which there is an edge
BLUR_MARGIN = 1.08  # least gradient energy of the edges, in units of what a blur of 2 % of the width leaves


def verify(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """Judge one output of a scenes task.

    Args:
        sample: The sample with its scene graphs.
        image: (H, W, 3) uint8 output of any size; resampled if it is not as large as the sample.

    Returns:
        The verdict; `reason` names the first thing found wrong, `details` every measured quantity.
    """
    side = min(sample.width, MAX_SIDE)
    if image.shape[:2] != (side, side):
        image = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    judge = _Judge(sample, image)
    reason = judge.reason()
    return Verdict(success=not reason, reason=reason, details=judge.details)


@dataclass
class _Judge:
    """One output under examination. Images are planar, (3, R, R) float32."""

    sample: Sample
    image: NDArray[np.uint8]
    details: dict[str, Any] = field(default_factory=dict)
    fits: dict[int, Fit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.sample.source_scene and self.sample.target_scene
        self.side = self.image.shape[0]
        self.before = Scene.from_json(self.sample.source_scene)
        self.target = Scene.from_json(self.sample.target_scene)
        self.edits = [Edit(**e) for e in self.sample.target_scene["edits"]]
        self.output = np.ascontiguousarray(self.image.transpose(2, 0, 1), dtype=np.float32)
        self.source = paint(self.before, self.side)
        self.reach = 1 if self.side <= 128 else 2  # pixels by which an edge may be off

    def reason(self) -> str:
        """What is wrong, in a few words; empty if nothing is.

        The target's own placement is tried first; only an output that does not agree with it is searched.
        """
        placed = [(edit, self.target.get(id)) for edit in self.edits for id in edit.placed]
        reason = self._differs(self.target)
        if not reason or not placed or reason.startswith("another"):
            return reason
        self.details.clear()
        expected = self.target
        for edit, goal in placed:
            found = self._find(edit, goal)
            if isinstance(found, str):
                return found
            expected = expected.put(found)
        for edit, goal in placed:
            if why := misplaced(edit, self.before, goal, expected.get(goal.id)):
                return f"{why} ({goal.name})"
        return self._hidden(expected, {goal.id for _, goal in placed}) or self._differs(expected)

    def _hidden(self, expected: Scene, placed: set[int]) -> str:
        """Which object is hidden by what the output has placed: the expectation then tells nothing of it."""
        due, left = visible(self.target, self.side), visible(expected, self.side)
        for obj in expected.objects:
            if obj.id not in placed and left[obj.id][1].sum() < COVERED * due[obj.id][1].sum():
                return f"other object changed: {obj.name} is covered"
        return ""

    def _differs(self, expected: Scene) -> str:
        """How the output differs from a scene."""
        self.expected = expected
        self.canvas = paint(expected, self.side)
        self.seen = visible(expected, self.side)
        self.residual = self.output - self.canvas
        unlike = float(((self.residual**2).sum(axis=0) > FAR**2).mean())
        if unlike > UNLIKE:
            return f"another picture: {unlike:.0%} of it differs"
        # What an honest output may look like: as drawn, compressed, or brought back from half the resolution.
        self.alike = [self.canvas]
        if float(np.abs(self.residual).max()) > NEARLY_EXACT:
            drawn = quantise(self.canvas)
            half, full = (self.side // 2, self.side // 2), (self.side, self.side)
            halved = (
                Image.fromarray(drawn).resize(half, Image.Resampling.BICUBIC).resize(full, Image.Resampling.BICUBIC)
            )
            self.alike += [np.asarray(i, dtype=np.float32).transpose(2, 0, 1) for i in (jpeg(drawn), halved)]
        self.surplus = min((self.output - image for image in self.alike), key=lambda r: float((r**2).sum()))
        checks = (self._finished, self._sharpness, self._shapes, self._colours, self._deviation)
        return next((reason for check in checks if (reason := check())), "")

    # ---- finding objects ----

    def _find(self, edit: Edit, goal: Obj) -> Obj | str:
        """The object that an instruction leaves free, where the output has it, or why it is not there."""
        placed = [id for e in self.edits for id in e.placed]
        empty = paint(self.target.without(*placed), self.side)
        colour = np.array(COLOURS[goal.colour], dtype=np.float32).reshape(3, 1, 1)
        off_empty, off_colour = self.output - empty, self.output - colour
        to_empty, to_colour = (off_empty**2).sum(axis=0), (off_colour**2).sum(axis=0)
        like = (to_colour < to_empty) & (to_colour < LIKE**2)
        share = opacity_of(off_empty, colour - empty)
        area = shape_moments(goal.shape).area * (radii(edit, goal)[0] * self.side) ** 2  # the least that is allowed
        labels, _ = ndimage.label(like, structure=np.ones((3, 3)))
        best: tuple[tuple[bool, bool, float], Obj, Fit] | None = None
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            near = grown((rows, columns), self.side, 2)
            mine = labels[near] == number
            if mine.sum() < BLOB_SHARE * FOUND_SHARE * area:
                continue
            mine |= around(mine, np.logical_or, 2) & (labels[near] == 0)
            fit = fit_shape(np.where(mine, share[near], 0), near, goal.shape, self.side)
            found = goal._replace(x=fit.x, y=fit.y, r=fit.r)
            allowed = misplaced(edit, self.before, goal, found) is None
            rank = (allowed, fit.error < SHAPE_ERROR, fit.mass)
            if fit.mass >= FOUND_SHARE * area and (best is None or rank > best[0]):
                best = rank, found, fit
        if best:
            self.fits[goal.id] = best[2]
            return settled(goal, best[1], SETTLED / self.side)
        return self._not_found(goal, to_empty > FAR**2, area)

    def _not_found(self, goal: Obj, changed: Bool, area: float) -> str:
        """What stands in the picture instead of an object that was not found."""
        labels, count = ndimage.label(changed)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        if count and sizes.max() >= INSTEAD_SHARE * area:
            blob = ndimage.binary_erosion(labels == 1 + int(sizes.argmax()), border_value=1)
            there = self.output[:, blob].mean(axis=1).tolist() if blob.any() else COLOURS[goal.colour]
            off = colour_distance(there, COLOURS[goal.colour])
            if off > COLOUR_EDITED:
                return f"wrong colour: no {goal.name} found, something there is ΔE {off:.0f} from {goal.colour}"
        return f"missing: no {goal.name} found"

    # ---- checks, each returning what is wrong ----

    def _shapes(self) -> str:
        """Whether each object that is not as drawn has some other shape."""
        for obj in self.expected.objects:
            box, cover = self.seen[obj.id]
            whole = coverage(obj, self.side)[1]
            fit = self.fits.get(obj.id)
            if fit is None and float((cover**2).sum()) < SHAPE_SEEN * float((whole**2).sum()):
                continue  # partly covered: the other checks must do
            rows, columns = grown(box, self.side, 1)
            unlike = float((self.surplus[:, rows, columns] ** 2).sum())
            if unlike < SHAPE_SUSPECT * LEAST_CONTRAST**2 * float((cover**2).sum()):
                continue
            empty = paint(self.expected.without(obj.id), self.side)[:, rows, columns]
            contrast = float(((self.canvas[:, rows, columns] - empty) ** 2).sum())
            if unlike < SHAPE_SUSPECT * contrast:
                continue
            if fit is None:
                output = self.output[:, rows, columns]
                colour = np.array(COLOURS[obj.colour], dtype=np.float32).reshape(3, 1, 1)
                fit = fit_shape(opacity_of(output - empty, colour - empty), (rows, columns), obj.shape, self.side)
            self.details[f"shape_error_{obj.id}"] = round(fit.error, 3)
            rivals = {s: fit_shape(fit.weight, fit.box, s, self.side).error for s in SHAPES if s != obj.shape}
            best = min(rivals, key=rivals.__getitem__)
            if rivals[best] < SHAPE_RIVAL * fit.error:
                if obj.id in self.fits:
                    return f"wrong shape: {obj.name} looks like a {best}"
                return f"other object changed: {obj.name} looks like a {best}"
            if fit.error > SHAPE_ERROR and obj.id in self.fits:
                return f"wrong shape: not a {obj.shape}"
        return ""

    def _finished(self) -> str:
        """Whether something of the source is left where the edit was: old objects, ghosts, half-tones."""
        before = visible(self.before, self.side)
        for edit in self.edits:
            for id in edit.edited:
                old, new = before.get(id), self.seen.get(id)
                if old and (why := self._left("old", self.before.get(id), *old)):
                    return why
                recoloured = old and new and old[0] == new[0] and np.array_equal(old[1], new[1])
                if new and not recoloured and (why := self._left("new", self.expected.get(id), *new)):
                    return why
        return ""

    def _left(self, when: str, obj: Obj, box: Box, cover: Float) -> str:
        """What is left of the source where an edited object was (`old`) or where it should be (`new`).

        The residual is explained, by least squares, as a share of the source's contrast plus a little blur, shift and
        compression; only the first counts, so that a soft or misaligned edge is no remnant.
        """
        rows, columns = grown(box, self.side, 2)
        here, residual = self.canvas[:, rows, columns], self.residual[:, rows, columns]
        change = self.source[:, rows, columns] - here
        energy = (change**2).sum(axis=0)
        mask = np.zeros(energy.shape, dtype=bool)
        top, left = box[0].start - rows.start, box[1].start - columns.start
        mask[top : top + cover.shape[0], left : left + cover.shape[1]] = cover > 0.5
        region = mask & (energy > CHANGED**2)
        if region.sum() < FEW:
            return ""
        slope_y, slope_x = np.gradient(here, axis=(1, 2))
        blur = ndimage.uniform_filter(here, (1, 3, 3)) - here
        honest = [image[:, rows, columns] - here for image in self.alike[1:]]
        templates = np.stack([change, blur, slope_x, slope_y, *honest[:1]])
        templates = templates.reshape(len(templates), -1)
        normal = templates @ templates.T
        ridge = 1e-4 * normal.trace() / len(normal)  # templates may be nearly equal
        normal += ridge * np.eye(len(normal), dtype=normal.dtype)
        left_over = float(np.linalg.solve(normal, templates @ residual.ravel())[0])
        # Pixels that look more like before than like after, and would not in any honest output.
        if self.side >= 128:
            honest += [np.roll(here, by, axis) - here for axis in (1, 2) for by in (1, -1)]
        nearer = (residual * change).sum(axis=0) > NEARER * energy
        for deviation in honest:
            nearer &= (deviation * change).sum(axis=0) < NEARER_HONEST * energy
        part = float(nearer[region].mean())
        self.details |= {f"left_{when}_{obj.id}": round(left_over, 3), f"part_{when}_{obj.id}": round(part, 3)}
        if left_over > AS_BEFORE:
            return f"not done: {obj.name} as it was" if when == "old" else f"not done: no {obj.name}"
        if left_over > UNFINISHED:
            return f"remnant at the {when} place: {left_over:.0%} of what was there before"
        if part > (PART_OLD if when == "old" else PART_NEW):
            return f"remnant at the {when} place: {part:.0%} of {obj.name} as before"
        return ""

    def _colours(self) -> str:
        """Whether every object has its colour; a small error of an edited one is taken over into the expectation."""
        edited = {id for edit in self.edits for id in edit.edited}
        for obj in self.expected.objects:
            box, cover = self.seen[obj.id]
            mass = float(cover.sum())
            if mass < FEW:
                continue
            near = grown(box, self.side, 2)
            footprint = np.zeros((self.side, self.side), dtype=bool)
            footprint[box] = cover > 0.02
            footprint = around(footprint[near], np.logical_or, 2)
            shift = (self.surplus[:, near[0], near[1]] * footprint).sum(axis=(1, 2)) / mass
            off = colour_distance((np.array(COLOURS[obj.colour]) + shift).tolist(), COLOURS[obj.colour])
            self.details[f"colour_{obj.id}"] = round(off, 2)
            if obj.id in edited:
                if off > COLOUR_EDITED:
                    return f"wrong colour: ΔE {off:.0f} from {obj.colour}"
                self.canvas[:, box[0], box[1]] += cover * shift.astype(np.float32).reshape(3, 1, 1)
            elif off > COLOUR_OTHER:
                return f"other object changed: {obj.name}"
        return ""

    def _deviation(self) -> str:
        """Whether anything else differs from the expectation: objects' outlines, new things, stains, a tint."""
        lab = to_lab(self.image)
        expected = to_lab(quantise(np.clip(self.canvas, 0, 255)))
        low, high = around(expected, np.minimum, self.reach), around(expected, np.maximum, self.reach)
        for compressed in self.alike[1:2]:
            spread = JPEG_MARGIN * (to_lab(quantise(compressed)) - expected)
            low, high = np.minimum(low, expected + spread), np.maximum(high, expected + spread)
        beyond = np.maximum(lab - high, 0) + np.minimum(lab - low, 0)  # signed, 0 within the reach of an edge
        window = max(3, 2 * round(self.side / 64) + 1)
        smooth = np.sqrt((ndimage.uniform_filter(beyond, (1, window, window)) ** 2).sum(axis=0))
        single = np.sqrt((beyond**2).sum(axis=0))
        spots = (smooth > SPOT) | (single > SPOT_SINGLE)
        objects = np.zeros((self.side, self.side), dtype=bool)
        for box, cover in self.seen.values():
            objects[box] |= cover > 0.01
        edges = around(objects, np.logical_or, 2)
        ground = np.logical_not(objects if edges.all() else edges)
        share = 1 / float(ground.sum())
        off = (lab - expected) * ground
        tint = float(np.linalg.norm(off.sum(axis=(1, 2)) * share))
        spot = float(spots.mean())
        # On the ground edges are soft, so there the plain difference, smoothed over the ground alone, tells more.
        wide = 2 * round(self.side / 20) + 1
        kept = np.maximum(ndimage.uniform_filter(ground.astype(np.float32), wide), 1e-3)
        drift = ndimage.uniform_filter(off, (1, wide, wide))
        stain = float(((drift**2).sum(axis=0) > (STAIN * kept) ** 2)[ground].sum() * share)
        speckle = float((single > SPECKLE)[ground].sum() * share)
        self.details |= {"tint": round(tint, 2)}
        self.details |= {"spot": round(spot, 4), "stain": round(stain, 4), "speckle": round(speckle, 4)}
        if tint > TINT:
            return f"whole image tinted: ΔE {tint:.1f}"
        if spot > max(SPOT_SHARE, FEW / self.side**2):
            return self._blame(spots)
        if stain > STAIN_SHARE:
            return f"background changed: {stain:.0%} of it"
        if speckle > SPECKLE_SHARE:
            return f"background noisy: {speckle:.0%} of its pixels"
        return ""

    def _blame(self, changed: Bool) -> str:
        """Name what a local deviation has hit most."""
        edited = {id for edit in self.edits for id in edit.edited}
        hits = {id: float((changed[box] & (cover > 0.3)).sum()) for id, (box, cover) in self.seen.items()}
        worst = max(hits, key=hits.__getitem__, default=None)
        if worst is None or hits[worst] < 0.3 * changed.sum():
            return f"background changed: {changed.mean():.1%} of the image"
        name = self.expected.get(worst).name
        return f"{name}: wrong shape or size" if worst in edited else f"other object changed: {name}"

    def _sharpness(self) -> str:
        """Whether edges are as sharp as drawn: the lightness gradients' energy, against a blur of 2 % of the width."""
        expected = np.tensordot(LUMA, self.canvas, 1)
        blurred = ndimage.gaussian_filter(expected, 0.02 * self.side)
        steep = ndimage.maximum_filter(gradient_energy(expected), 5) > STEEP**2
        want = float(gradient_energy(expected)[steep].sum())
        if not want:
            return ""
        output = np.tensordot(LUMA, self.output, 1)
        got, least = (float(gradient_energy(image)[steep].sum()) / want for image in (output, blurred))
        self.details |= {"sharpness": round(got, 3), "sharpness_least": round(least, 3)}
        return f"blurred: {got:.0%} of the edges' energy" if got < BLUR_MARGIN * least else ""
