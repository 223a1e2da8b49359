"""Decides from the pixels of an output whether a face was edited as asked, and is still the same person.

The output is compared with drawings: of the face as it was, as it should be, as it would be after any *other* edit of
the same kind, and of people who differ in one feature. Nothing but the output's pixels and the sample's parameters is
read, and no network has a say. Thresholds and what they let through are in docs/faces.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from qk_bench.images import resample
from qk_bench.records import Sample, Verdict
from qk_tasks.faces.drawing import draw
from qk_tasks.faces.person import BACKGROUNDS, FEATURES, FRAMES, HAIR, HATS, LENSES, LIPSTICK, SKIN, Face, Look
from qk_tasks.scenes.lab import to_lab

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]

MAX_SIDE: Final = 256
"""Larger pictures are judged at this many pixels a side."""
IDENTITY_SIDE: Final = 96
BLUR: Final = 1.0
"""Standard deviation, in pixels of a 64-pixel picture, of the blur before colours are compared."""
CHANGED: Final = 8.0
"""CIE76 between source and target beyond which a pixel has to change."""
CLOSE: Final = 9.0
"""CIE76 within which an edited pixel counts as the one asked for, its neighbours allowed for."""
KEPT: Final = 10.0
"""CIE76 within which a pixel elsewhere counts as kept, its neighbours allowed for."""
PART: Final = 0.25
"""Or within this share of the way that it had to go."""
DONE: Final = 0.85
"""Share of the pixels that have to change which must be as drawn."""
BLEMISH: Final = 0.004
"""Share of the whole picture that may be off inside of the edited region, however large that is."""
STRAY: Final = 0.005
"""Share of the pixels that must stay which may be off: a spot of five pixels a side, of 64."""
TINT: Final = 3.0
"""Mean CIE76 by which the pixels that must stay may be off."""
QUALITY: Final = 75
"""JPEG quality that an output may have been saved with."""
STEP: Final = 0.35
"""How far another person's feature is away, of its range."""
BETTER: Final = 0.25
"""Another person fits better if the picture is nearer to them by this share of what tells the two apart."""
WORTH: Final = 0.1
"""A feature is judged only where such a step changes the picture by this much (mean CIE76 over what must stay)."""


def verify(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """Judge an output.

    Args:
        sample: A sample of drawn-faces.
        image: The (H, W, 3) uint8 output, of any size.
    """
    assert sample.source_scene is not None and sample.target_scene is not None
    source, target = Face.from_json(sample.source_scene), Face.from_json(sample.target_scene)
    side = min(sample.height, MAX_SIDE)
    output = _seen(resample(image, side, side))  # (3, side, side)
    answer = draw(target, side).image
    before, after = _seen(draw(source, side).image), _seen(answer)
    asked = _distance(before, after)  # (side, side)
    edited = asked > CHANGED
    region = _grown(asked > 1, max(1, side // 64))
    off = np.minimum.reduce([_tolerant(output, drawn) for drawn in (after, *_honest(answer))])  # (side, side)
    wrong = off[edited] > np.maximum(CLOSE, PART * asked[edited])
    done, blemish = 1 - float(wrong.mean()), float(wrong.sum()) / off.size
    rest = off[~region] if not region.all() else np.zeros(1, np.float32)
    stray, tint = float((rest > KEPT).mean()), float(rest.mean())
    found, likeness = kept_identity(source, target, image)
    details: dict[str, JsonValue] = {
        "done": round(done, 4),
        "stray": round(stray, 4),
        "tint": round(tint, 3),
        "identity": round(likeness, 4),
    }
    reason = ""
    if done < DONE or blemish > BLEMISH:
        reason = _what_is_there(source, target, output, edited, done)
    elif (best := _nearest(source, target, output, edited)) == source.look:
        reason = "not done: the edited region looks more as before"
    elif best != target.look:
        reason = f"looks more like {_words(best, target.look)}"
    elif found:
        reason = f"another person: {found.replace('_', ' ')} is off"
    elif stray > STRAY:
        reason = f"changed elsewhere: {stray:.1%} of the rest"
    elif tint > TINT:
        reason = f"whole picture tinted: CIE76 {tint:.1f}"
    return Verdict(success=not reason, reason=reason, details=details)


def looks_like(look: Look, kind: str) -> Iterator[Look]:
    """Every look that an edit of the same kind could lead to, the given one included."""
    match kind:
        case "hair":
            yield from (look._replace(hair=name) for name in HAIR)
        case "lips":
            yield from (look._replace(lips=name) for name in (None, *LIPSTICK))
        case "glasses":
            yield look._replace(glasses=None)
            yield from (look._replace(glasses=(name, shape)) for name in FRAMES for shape in LENSES)
        case "hat":
            yield from (look._replace(hat=name) for name in (None, *HATS))
        case "smile":
            yield from (look._replace(smile=smile) for smile in (False, True))
        case _:
            yield from (look._replace(background=name) for name in BACKGROUNDS)


def identity_distance(face: Face, image: NDArray[np.uint8], keep: Bool | None = None) -> tuple[str, float]:
    """How far a picture is from the person it should show, by the drawing's own parameters.

    Args:
        face: The face, in the look it should have.
        image: The (H, W, 3) uint8 picture.
        keep: (96, 96) bool, where to look; everywhere if not given.

    Returns:
        The first feature in which another person fits the picture better (empty: none does), and the share of the
        judged features in which the person fits best, in [0, 1].
    """
    output = _seen(resample(image, IDENTITY_SIDE, IDENTITY_SIDE))
    keep = np.ones(output.shape[1:], np.bool_) if keep is None else keep
    own = _seen(draw(face, IDENTITY_SIDE).image)
    residual = _misfit(output, own)
    judged, wrong = 0, []
    for feature, other in _others(face):
        theirs = _seen(draw(other, IDENTITY_SIDE).image)
        apart = float(_misfit(own, theirs)[keep].mean()) if keep.any() else 0.0
        if apart < WORTH:
            continue
        judged += 1
        if float((_misfit(output, theirs) - residual)[keep].mean()) < -BETTER * apart:
            wrong.append(feature)
    return (wrong[0] if wrong else ""), 1 - len(wrong) / judged if judged else 1.0


def kept_identity(source: Face, target: Face, image: NDArray[np.uint8]) -> tuple[str, float]:
    """Identity where the edit has no say: outside of what differs between source and target."""
    before, after = (draw(face, IDENTITY_SIDE).image for face in (source, target))
    return identity_distance(source, image, ~_grown((before != after).any(axis=2), 1))


def _others(face: Face) -> Iterator[tuple[str, Face]]:
    """People who differ from this one in a single feature."""
    person = face.person
    for feature in FEATURES:
        for step in (-STEP, STEP):
            value = person.feature(feature) + step
            if -0.2 <= value <= 1.2:
                yield feature, face._replace(person=person.with_feature(feature, value))
    for tone in (person.skin - 1, person.skin + 1):
        if 0 <= tone < len(SKIN):
            yield "skin", face._replace(person=person._replace(skin=tone))


def _what_is_there(source: Face, target: Face, output: Float, edited: Bool, done: float) -> str:
    """Why the edit does not count as done: what the edited region looks like instead."""
    best = _nearest(source, target, output, edited)
    if best == source.look:
        return f"not done: the edited region is {done:.0%} as asked and looks as before"
    if best == target.look:
        return f"done in part: {done:.0%} of the edited region is as asked"
    return f"looks more like {_words(best, target.look)}"


def _nearest(source: Face, target: Face, output: Float, edited: Bool) -> Look:
    """The look, of all that this kind of edit could lead to, that fits the edited region best."""
    kind = next(k for k in Look._fields if getattr(source.look, k) != getattr(target.look, k))
    looks = list(looks_like(target.look, kind))
    side = output.shape[1]
    misfits = [
        float(_misfit(output, _seen(draw(target._replace(look=look), side).image))[edited].mean()) for look in looks
    ]
    return looks[int(np.argmin(misfits))]


def _words(look: Look, target: Look) -> str:
    """What an edited look shows in place of the one asked for."""
    kind = next((k for k in Look._fields if getattr(look, k) != getattr(target, k)), "look")
    value = getattr(look, kind, None)
    if kind == "smile":
        return "a smile" if value else "a neutral mouth"
    if value is None:
        return {"lips": "no lipstick"}.get(kind, f"no {kind}")
    name = " ".join(reversed(value)) if isinstance(value, tuple) else str(value)
    return f"{name} {'lipstick' if kind == 'lips' else kind}"


def _seen(image: NDArray[np.uint8]) -> Float:
    """A square image as (3, S, S) Lab, blurred by a pixel of 64: what subsampled chroma and resampling do not change."""
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * max(1.0, image.shape[0] / 64)
    return to_lab(np.asarray(gaussian_filter(image, (sigma, sigma, 0), mode="nearest"), np.uint8))


def _honest(image: NDArray[np.uint8]) -> list[Float]:
    """What the answer looks like after compression, and brought back from half its size: no evidence against an output."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    with Image.open(buffer) as compressed:
        variants = [np.asarray(compressed)]
    variants.append(resample(resample(image, image.shape[1] // 2, image.shape[0] // 2), image.shape[1], image.shape[0]))
    return [_seen(variant) for variant in variants]


def _distance(one: Float, other: Float) -> Float:
    """CIE76 of each pixel of two (3, S, S) Lab images: (S, S)."""
    return np.asarray(np.sqrt(np.square(one - other).sum(axis=0)), np.float32)


def _misfit(one: Float, other: Float) -> Float:
    """CIE76, no more than 40: far-off pixels are all just wrong."""
    return np.minimum(_distance(one, other), np.float32(40))


def _tolerant(output: Float, drawn: Float) -> Float:
    """CIE76 that allows each pixel to lie one further, both ways: what is drawn must be there, and nothing else."""
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    side = output.shape[1]
    padded = [np.pad(lab, ((0, 0), (1, 1), (1, 1)), mode="edge") for lab in (output, drawn)]
    best = [np.full((side, side), np.inf, np.float32) for _ in range(2)]
    for dy, dx in shifts:
        window = (slice(None), slice(1 + dy, 1 + dy + side), slice(1 + dx, 1 + dx + side))
        best[0] = np.minimum(best[0], _distance(output, padded[1][window]))
        best[1] = np.minimum(best[1], _distance(padded[0][window], drawn))
    return np.maximum(best[0], best[1])


def _grown(mask: Bool, radius: int) -> Bool:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3, 3), np.bool_), iterations=radius), np.bool_)
