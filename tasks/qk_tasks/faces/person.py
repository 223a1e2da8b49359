"""What a drawn face is: a person (who it is) and a look (what an edit can change)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from random import Random
from typing import Any, Final, NamedTuple

Colour = tuple[int, int, int]

HAIR: Final[Mapping[str, Colour]] = {
    "black": (38, 32, 34), "brown": (112, 70, 40), "blond": (228, 194, 112), "ginger": (190, 84, 30),
    "grey": (150, 152, 158), "blue": (52, 84, 196), "pink": (236, 110, 176), "green": (58, 150, 80),
}  # fmt: skip
LIPSTICK: Final[Mapping[str, Colour]] = {
    "red": (206, 18, 34), "pink": (250, 84, 168), "purple": (120, 36, 150), "black": (34, 26, 32), "blue": (36, 76, 190),
}  # fmt: skip
BACKGROUNDS: Final[Mapping[str, Colour]] = {
    "white": (236, 236, 234), "grey": (128, 130, 134), "blue": (70, 120, 200), "green": (90, 160, 96),
    "yellow": (236, 206, 84), "purple": (136, 92, 170), "orange": (232, 140, 60),
}  # fmt: skip
HATS: Final[Mapping[str, Colour]] = {
    "red": (196, 32, 40), "blue": (40, 70, 170), "green": (36, 120, 60), "yellow": (240, 210, 50),
    "black": (30, 30, 34), "white": (244, 244, 240),
}  # fmt: skip
FRAMES: Final[Mapping[str, Colour]] = {"black": (20, 20, 24), "red": (200, 24, 36), "blue": (30, 60, 190)}
LENSES: Final = ("round", "square")
SKIN: Final[tuple[Colour, ...]] = (
    (248, 218, 196), (236, 194, 160), (222, 172, 134), (190, 134, 96), (146, 96, 66), (98, 64, 46),
)  # fmt: skip
IRIS: Final[tuple[Colour, ...]] = ((86, 54, 32), (70, 118, 70), (64, 110, 168), (120, 120, 120))
STYLES: Final = ("short", "bob", "long", "bun", "curly")

FEATURES: Final = (
    "face_width", "face_height", "jaw", "eye_spacing", "eye_size", "eye_height",
    "brow_weight", "brow_tilt", "nose_length", "nose_width", "mouth_width", "mouth_height",
)  # fmt: skip
"""The continuous parameters of a person, each in [0, 1]."""
CELL_FEATURES: Final = ("face_width", "jaw", "eye_spacing", "nose_length", "mouth_width")
LEVELS: Final = 3
SPLIT_SHARES: Final[Mapping[str, float]] = {"train": 0.7, "val": 0.1, "test": 0.2}


class Person(NamedTuple):
    """Who it is. No edit changes any of this; `features` follow the order of `FEATURES`."""

    features: tuple[float, ...]
    skin: int
    iris: int
    style: str
    mole: tuple[float, float] | None

    def feature(self, name: str) -> float:
        """A continuous parameter by name, in [0, 1]."""
        return self.features[FEATURES.index(name)]

    def with_feature(self, name: str, value: float) -> Person:
        """The person who differs in one parameter."""
        place = FEATURES.index(name)
        return self._replace(features=(*self.features[:place], value, *self.features[place + 1 :]))


class Look(NamedTuple):
    """What edits change. `lips`, `glasses` and `hat` are None where there is no lipstick, and so on."""

    hair: str
    lips: str | None
    glasses: tuple[str, str] | None  # colour of the frame, shape of the lenses
    hat: str | None
    smile: bool
    background: str


class Face(NamedTuple):
    """A picture: a person, a look, and where the head is (fractions of the side)."""

    person: Person
    look: Look
    x: float
    y: float
    scale: float

    def to_json(self) -> dict[str, Any]:
        """As JSON, numbers rounded as they were drawn."""
        person = {**self.person._asdict(), "features": dict(zip(FEATURES, self.person.features, strict=True))}
        return {"person": person, "look": self.look._asdict(), "x": self.x, "y": self.y, "scale": self.scale}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Face:
        """From what `to_json` gave, also after a trip through a file."""
        person, look = dict(data["person"]), dict(data["look"])
        person["features"] = tuple(person["features"][name] for name in FEATURES)
        person["mole"] = tuple(person["mole"]) if person["mole"] else None
        look["glasses"] = tuple(look["glasses"]) if look["glasses"] else None
        return cls(Person(**person), Look(**look), data["x"], data["y"], data["scale"])


def split_of(person: Person) -> str:
    """The one split a person may be in: by the cell of a 3-level grid over five features of the face.

    So no combination of face width, jaw, eye spacing, nose length and mouth width that is tested was trained on.
    """
    cell = tuple(min(LEVELS - 1, int(person.feature(name) * LEVELS)) for name in CELL_FEATURES)
    point = int.from_bytes(hashlib.sha256(f"drawn-faces{cell}".encode()).digest()[:8], "big") / 2**64
    for split, share in SPLIT_SHARES.items():
        if point < share:
            return split
        point -= share
    return "test"


def draw_person(rng: Random, split: str) -> Person:
    """A person who belongs to a split."""
    while True:
        person = Person(
            features=tuple(round(rng.random(), 3) for _ in FEATURES),
            skin=rng.randrange(len(SKIN)),
            iris=rng.randrange(len(IRIS)),
            style=rng.choice(STYLES),
            mole=(round(rng.choice((-1, 1)) * rng.uniform(0.35, 0.6), 3), round(rng.uniform(0.1, 0.5), 3))
            if rng.random() < 0.4
            else None,
        )
        if split_of(person) == split:
            return person


def draw_look(rng: Random) -> Look:
    """A look: hair and background of some colour; lipstick, glasses, hat and smile at random."""
    background = rng.choice(list(BACKGROUNDS))
    return Look(
        hair=rng.choice([name for name in HAIR if name != background]),
        lips=rng.choice(list(LIPSTICK)) if rng.random() < 0.3 else None,
        glasses=(rng.choice(list(FRAMES)), rng.choice(LENSES)) if rng.random() < 0.3 else None,
        hat=rng.choice([name for name in HATS if name != background]) if rng.random() < 0.25 else None,
        smile=rng.random() < 0.5,
        background=background,
    )
