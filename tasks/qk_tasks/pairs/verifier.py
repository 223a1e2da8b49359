"""Judges edits of photographs from the pixels of the output and the pair: source S, target T, edit mask, object's region.

*What must not change is compared with the source, what must change with what the instruction says.* Outputs are judged at
256 px a side at most, as smoothed CIE Lab. A deviation that JPEG (quality 90) or half the resolution would also leave
in the source is no evidence against an output. Thresholds stand at the top; docs/photo.md says why and how well they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qk_bench.images import resample
from qk_bench.records import Sample, Verdict
from qk_tasks.pairs.vision import (
    Bool,
    Float,
    Image,
    as_jpeg,
    box_of,
    cv,
    distance,
    grow,
    shrink,
    shrink_mask,
    smooth,
    through_half,
    to_lab,
)  # fmt: skip

SIDE = 256  # outputs are judged at this size at most, in pixels
EVIDENT = 12.0  # ΔE between source and target from which a pixel tells them apart
KEPT = 8.0  # ΔE that a pixel outside the edit may be off, over what compression leaves
BACKGROUND = 0.01  # share of the image outside the edit that may be off by more
TINT = 3.0  # ΔE by which the mean outside the edit may be off
SHIFTED = 1.3  # pixels at the size of judging by which the whole output may be shifted, from 256 px on
BLUR, SHARP = (
    0.02,
    1.15,
)  # the edges outside must keep this many times the energy that a blur of 2 % of the side leaves them
COLOUR = 15.0  # distance in a*, b* of a recoloured region's mean from the asked colour
LIGHTNESS = 25.0  # in L*, of the same: the instruction names a hue, not how light it is
SPREAD, COVERED = 30.0, 0.8  # a pixel counts as recoloured within this distance in a*, b*; share that must be
TEXTURE = 0.5  # least correlation of a recoloured region's lightness detail with the target's, which keeps the source's
REMNANT = 0.2  # share of the object's pixels that may still look more like it than like what is behind
GHOST = 0.3  # share of the object's contrast that may be left
FILL, FILLED = 14.0, 0.92  # a filled pixel is within this ΔE of the surroundings' colours; share that must be
SPOT = 0.005  # share of the image that may be strange in the hole, if that is less; the smallest object takes 0.6 %
THERE = 0.5  # share of an inserted object's pixels that must have changed
REACH = 0.6  # share of the place's columns, and of its rows, that an inserted object must reach over
DENSE = 0.25  # share of a column's or row's pixels that must have changed for it to be reached
OBJECT_COLOUR = 30.0  # ΔE of an inserted object's median from the target's
PLACED = 0.4  # mean ΔE to the target in a moved object, as a share of that between source and target
DONE = 0.6  # how much of the way to the target an edit of another kind must have gone
SHIFT = 0.03  # how far off its place a moved object may be, as a share of the side
NOTHING = "nothing to judge: what changes does not show in the region"


@dataclass(frozen=True)
class View:
    """A sample and an output at the size of judging."""

    source: Float  # (h, w, 3) smoothed Lab
    target: Float
    output: Float
    allowance: Float  # (h, w) ΔE that honest compression of the source makes
    edit: Bool  # where source and target may differ
    region: Bool  # the object in the source; for insertion, the box where it may go

    @property
    def side(self) -> int:
        """The longer side in pixels."""
        return int(max(self.edit.shape))

    def margin(self, share: float) -> int:
        """A share of the side in pixels, one at least."""
        return max(1, round(share * self.side))


def look(sample: Sample, image: NDArray[np.uint8], *, allow: bool = True) -> View:
    """Bring a sample and an output to the size of judging; without `allow`, nothing is granted to compression."""
    assert sample.source is not None and sample.target is not None and sample.edit_mask is not None
    image = resample(image, sample.width, sample.height)
    scale = min(1.0, SIDE / max(sample.width, sample.height))
    width, height = max(1, round(sample.width * scale)), max(1, round(sample.height * scale))
    source = np.asarray(shrink(sample.source, width, height), dtype=np.uint8)

    def seen(pixels: Image) -> Float:
        return smooth(to_lab(np.asarray(shrink(pixels, width, height), dtype=np.uint8)), sigma=0.8)

    lab = seen(sample.source)
    target = seen(sample.target)
    worst = np.zeros((height, width), np.float32)
    if allow:
        worst = np.maximum(*(distance(smooth(to_lab(f(source)), 0.8), lab) for f in (as_jpeg, through_half)))
    region = sample.edit_mask if sample.region is None else sample.region.mask
    edit = shrink_mask(sample.edit_mask, width, height, 0)
    output = target if image is sample.target else seen(image)
    if allow and max(width, height) >= SIDE:
        output = _aligned(output, lab, ~edit)
    return View(
        source=lab,
        target=target,
        output=output,
        allowance=worst,
        edit=edit,
        region=shrink_mask(region, width, height),
    )


def _aligned(output: Float, source: Float, where: Bool) -> Float:
    """An output that is off by a shift of up to a pixel or so, as codecs and resizers leave it, is shifted back."""
    moved, shift = output, np.zeros(2)
    off: Float = distance(output, source)[where]
    if not off.size or off.mean() < 0.5:
        return output
    for _ in range(4):  # least squares on the gradient (Lucas and Kanade 1981)
        across, down = (np.asarray(np.gradient(moved[..., 0], axis=axis)) for axis in (1, 0))
        slope = np.stack([across[where], down[where]], axis=1)
        error = (source[..., 0] - moved[..., 0])[where]
        shift += np.linalg.lstsq(slope, error, rcond=None)[0]
        if np.abs(shift).max() > SHIFTED:
            return output
        way = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        flags = cv().INTER_CUBIC | cv().WARP_INVERSE_MAP
        moved = cv().warpAffine(output, way, output.shape[1::-1], flags=flags, borderMode=cv().BORDER_REPLICATE)
    return moved if distance(moved, source)[where].mean() < 0.8 * off.mean() else output


def verify(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """Decide whether an output does what a pair's instruction asks.

    Args:
        sample: A pair whose `operation` is recolour, remove, insert or move. For `move`, `target_scene` holds the
            displacement `dx`, `dy` as shares of width and height.
        image: The (H, W, 3) uint8 output, of any size.
    """
    problem = judge(look(sample, image), sample)
    return Verdict(success=not problem, reason=problem)


def judge(view: View, sample: Sample) -> str:
    """What is wrong with an output; empty if nothing is."""
    return background(view, view.edit | view.region) or edit(view, sample)


def edit(view: View, sample: Sample) -> str:
    """What is wrong with an output where the edit is; empty if nothing is."""
    return _OPERATIONS[sample.operation](view, sample)


def background(view: View, allowed: Bool) -> str:
    """What is wrong outside of where the edit may reach; empty if nothing is."""
    outside = ~grow(allowed, view.margin(0.015))
    if not outside.any():
        return ""
    off = distance(view.output, view.source)[outside]
    share = float((off > KEPT + view.allowance[outside]).mean())
    if share > 0.5:
        return f"another picture: {share:.0%} of what should stay differs"
    if share > BACKGROUND:
        return f"background changed: {share:.1%} of what should stay"
    tint = float(np.linalg.norm((view.output - view.source)[outside].mean(axis=0)))
    if tint > TINT:
        return f"whole image tinted: ΔE {tint:.1f}"
    if off.mean() < 0.5:  # next to nothing is off
        return ""
    whole = _edges(view.source, outside)
    left, least = (_edges(lab, outside) for lab in (view.output, smooth(view.source, BLUR * view.side)))
    return f"blurred: {left / whole:.0%} of the edges' energy" if left < SHARP * least < whole else ""


def _edges(lab: Float, where: Bool) -> float:
    """The energy of a picture's gradient within a mask."""
    across, down = np.diff(lab, axis=1)[:-1], np.diff(lab, axis=0)[:, :-1]
    return float((across * across + down * down).sum(axis=2)[where[:-1, :-1]].sum())


def _recoloured(view: View, sample: Sample) -> str:
    core = _core(view.region & view.edit)
    if not core.any():
        return NOTHING
    output, target, source = view.output[core], view.target[core], view.source[core]
    off = output.mean(axis=0) - target.mean(axis=0)
    if np.hypot(off[1], off[2]) > COLOUR or abs(off[0]) > LIGHTNESS:
        done = _share_done(output, source, target)
        return f"wrong colour: ΔE {float(np.linalg.norm(off)):.0f} from what is asked, {done:.0%} of the way"
    aside = np.hypot(*(output - target)[:, 1:].T) <= SPREAD
    if aside.mean() < COVERED:
        return f"recoloured in part: {aside.mean():.0%} of the region"
    detail = target[:, 0] - smooth(view.target[..., 0], 3.0)[core]
    kept = output[:, 0] - smooth(view.output[..., 0], 3.0)[core]
    if detail.std() > 2.0 and _correlation(detail, kept) < TEXTURE:
        return f"texture lost: {max(0.0, _correlation(detail, kept)):.0%} of its detail is left"
    return ""


def telling(view: View, where: Bool) -> Bool:
    """The pixels of a place that tell source and target apart; where contrast is low, those with most of it."""
    apart = distance(view.source, view.target)
    most = float(apart[where].max()) if where.any() else 0.0
    return where & (apart > min(EVIDENT, most / 2))


def _removed(view: View, sample: Sample) -> str:
    return gone(view, view.region) if telling(view, view.region).any() else NOTHING


def gone(view: View, hole: Bool) -> str:
    """What is wrong with a place that should show what is behind an object; empty if nothing is.

    The answer is not unique: any fill passes that is no longer the object and has the colours of its surroundings.
    """
    evident = telling(view, hole)
    if evident.any():
        output, source, target = view.output[evident], view.source[evident], view.target[evident]
        to_source, apart = np.linalg.norm(output - source, axis=1), np.linalg.norm(target - source, axis=1)
        remnant = float((to_source < 0.4 * apart).mean())
        if remnant > REMNANT:
            return f"object still there: {remnant:.0%} of it"
        left = 1 - _share_done(output, source, target)
        if left > GHOST and float(np.linalg.norm(output - target, axis=1).mean()) > EVIDENT / 2:
            return f"object still visible: {min(left, 1.0):.0%} of its contrast is left"
    strange = hole & (distance(view.output, view.target) > FILL)
    if not strange.any():
        return ""
    near = _surroundings(view, hole)
    far = _nearest(view.output[strange], near) > FILL
    share = float(far.sum() / hole.sum())
    most = min(1 - FILLED, SPOT * hole.size / hole.sum())
    return f"filled with something else: {share:.0%} of the place" if share > most else ""


def _inserted(view: View, sample: Sample) -> str:
    there = telling(view, view.edit)
    if not there.any():
        return NOTHING
    new = there & (distance(view.output, view.source) > KEPT)
    if (share := new.sum() / there.sum()) < THERE:
        return f"nothing inserted: {share:.0%} of the place has changed"
    for axis, side in ((0, "width"), (1, "height")):
        if (reach := _reach(new, there, axis)) < REACH:
            return f"inserted in part: it reaches over {reach:.0%} of the place's {side}"
    output, source, target = (lab[new].mean(axis=0) for lab in (view.output, view.source, view.target))
    left = 1 - _share_done(output, source, target)
    if left > GHOST and float(np.linalg.norm(output - target)) > EVIDENT / 2:
        return f"see-through: {min(left, 1.0):.0%} of what was there is left"
    off = float(np.linalg.norm(np.median(view.output[there], axis=0) - np.median(view.target[there], axis=0)))
    return f"wrong colour: ΔE {off:.0f} from what is asked" if off > OBJECT_COLOUR else ""


def _reach(new: Bool, there: Bool, axis: int) -> float:
    """Share of a place's columns (axis 0) or rows (axis 1) that have changed: an object of another outline fills fewer
    pixels of the place, but unlike one that is cut off it reaches from end to end. One is not counted, unless all are
    reached: smoothing draws a cut by that much, which is a tenth of a small object.
    """
    of, changed = there.sum(axis=axis), new.sum(axis=axis)
    reached = (changed >= DENSE * of)[of > 0]
    return 1.0 if reached.all() else float(reached.sum() - 1) / reached.size


def _moved(view: View, sample: Sample) -> str:
    height, width = view.region.shape
    scene = sample.target_scene or {}
    dx, dy = round(float(scene["dx"]) * width), round(float(scene["dy"]) * height)
    there = _core(shifted(view.region, dx, dy))
    if not there.any():
        return NOTHING
    apart = float(distance(view.source, view.target)[there].mean())
    reach = view.margin(SHIFT)
    steps = sorted({*range(-reach, reach + 1, max(1, reach // 3)), 0}, key=abs)
    ys, xs = (at[:: max(1, int(there.sum()) // 1000)] for at in np.nonzero(there))
    best = np.inf
    for sy in steps:
        for sx in steps:
            y, x = np.clip(ys + sy, 0, height - 1), np.clip(xs + sx, 0, width - 1)
            off = float(np.linalg.norm(view.output[y, x] - view.target[ys, xs], axis=1).mean())
            best = min(best, off)
    if best > max(PLACED * apart, 4.0):
        return f"not at its place: ΔE {best:.0f} from the object"
    old = view.region & ~grow(shifted(view.region, dx, dy), view.margin(0.015))
    return gone(view, old) if old.any() else ""


def _edited(view: View, sample: Sample) -> str:
    """Any other edit: near to the target, where the target differs from the source."""
    evident = telling(view, view.edit)
    if not evident.any():
        return NOTHING
    output, source, target = view.output[evident], view.source[evident], view.target[evident]
    done = _share_done(output, source, target)
    off, apart = (float(np.linalg.norm(a - target, axis=1).mean()) for a in (output, source))
    if done < DONE:
        return f"not done: {max(done, 0.0):.0%} of the way to the target"
    return f"another result: ΔE {off:.0f} from the target" if off > max(PLACED * apart, 4.0) else ""


_OPERATIONS = {"recolour": _recoloured, "remove": _removed, "insert": _inserted, "move": _moved, "edit": _edited}
OPERATIONS = tuple(_OPERATIONS)


def shifted(mask: Bool, dx: int, dy: int) -> Bool:
    """A mask moved by whole pixels; what leaves the image is lost."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    if abs(dx) < width and abs(dy) < height:
        result[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = mask[
            max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
        ]
    return result


def _core(mask: Bool) -> Bool:
    """A mask without its soft edge, unless nothing is left then."""
    for radius in (-2, -1):
        core = grow(mask, radius)
        if core.sum() >= max(8, 0.3 * mask.sum()):
            return core
    return mask


def _share_done(output: Float, source: Float, target: Float) -> float:
    """How far the way from source to target was gone, by least squares: 0 nothing, 1 all."""
    way = target - source
    length = float((way * way).sum())
    return float(((output - source) * way).sum()) / length if length else 1.0


def _correlation(a: Float, b: Float) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 1e-6 else 0.0


def _surroundings(view: View, hole: Bool) -> Float:
    """Up to some 400 colours of the source (N, 3) from around a hole, the object itself left out."""
    x0, y0, x1, y1 = box_of(hole)
    reach = max(view.margin(0.08), (x1 - x0 + y1 - y0) // 4)
    ring = grow(hole, reach) & ~grow(hole | (view.region & view.edit), view.margin(0.01))
    if not ring.any():
        ring = ~hole
    colours = view.source[ring]
    return colours[:: max(1, len(colours) // 400)]


def _nearest(colours: Float, palette: Float) -> Float:
    """The ΔE of each colour (N, 3) to the nearest of a palette (M, 3)."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(palette).query(colours)[0], dtype=np.float32)
