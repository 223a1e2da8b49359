"""Placement: where, and how large, the VLM means to have what is drawn anew.

An instruction such as "add a small star at the top left" leaves the exact place open. A diffusion model that has to
find the place and draw the object at once learned neither at micro size (docs/micro-model.md). So the place is said
first: a cell of a grid and a radius for each object that an edit draws anew. The MMDiT is told, in channels, where each
of its tokens lies from the middle of such an object, and the gate is open under it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST, LARGEST = 1 / 32, 1 / 2  # radii, fractions of the side
RADII = 31  # steps between them, each 10 % apart
MARGIN = 1.1  # the gate is open beyond the radius by as much: edges are smoothed
NEAR = 2.0  # tokens within so many radii are told where they lie
OCTAVES = 2


def channels(slots: int) -> int:
    """Channels of `coordinates`."""
    return 3 + 4 * OCTAVES + slots if slots else 0


class PlacementHead(nn.Module):
    """Place and radius of up to `slots` objects: each has a token of its own among the gate's.

    Args:
        width: Channels of the gate's tokens.
        slots: Objects at most.
        cells: Cells of the grid of places a side of one image token.
    """

    key_dim = 32

    def __init__(self, width: int, slots: int, cells: int = 4) -> None:
        super().__init__()
        self.cells = cells
        self.slots = nn.Parameter(torch.randn(slots, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.key = nn.Linear(width, cells**2 * self.key_dim)
        self.query = nn.Linear(width, self.key_dim)
        self.radius = nn.Linear(width, RADII + 1)

    def forward(self, image: Tensor, grid: tuple[int, int], slots: Tensor) -> Placing:
        """Logits of places and radii.

        Args:
            image: (B, N, D), the gate's image tokens after its blocks, N = rows · columns.
            grid: rows, columns.
            slots: (B, S, D), its slot tokens after them.
        """
        slots = self.norm(slots)
        key = self.key(self.norm(image)).unflatten(2, (self.cells**2, self.key_dim)).float()
        query = self.query(slots).float() * self.key_dim**-0.5
        place = torch.einsum("bsk,bnck->bscn", query, key).flatten(1, 2).unflatten(2, grid)  # (B, S · cells², h, w)
        return Placing(F.pixel_shuffle(place, self.cells), self.radius(slots).float())


class Placing:
    """A distribution of placements: logits of the cells, (B, S, rows, columns), and of the radii, (B, S, RADII + 1).

    Radius 0 stands for no object.
    """

    def __init__(self, place: Tensor, radius: Tensor) -> None:
        self.place, self.radius = place, radius

    def best(self) -> Tensor:
        """The likeliest placements, (B, S, 3): x, y, radius in fractions of the side; radius 0 is no object."""
        rows, columns = self.place.shape[2:]
        cell = self.place.flatten(2).argmax(dim=2)
        x, y = (cell % columns + 0.5) / columns, (cell // columns + 0.5) / rows
        step = self.radius.argmax(dim=2)
        radius = SMALLEST * (LARGEST / SMALLEST) ** ((step - 1) / (RADII - 1))
        return torch.stack([x, y, radius * (step > 0)], dim=2)

    def loss(self, placements: Tensor) -> Tensor:
        """Cross entropy against (B, S, 3) placements: of the radius, and of the place where there is an object."""
        x, y, radius = placements.unbind(2)  # (B, S)
        there = radius > 0
        rows, columns = self.place.shape[2:]
        column, row = (x * columns).long().clamp(0, columns - 1), (y * rows).long().clamp(0, rows - 1)
        scale = (radius.clamp(SMALLEST, LARGEST) / SMALLEST).log() / math.log(LARGEST / SMALLEST)
        step = torch.where(there, 1 + (scale * (RADII - 1)).round().long(), 0)
        place = F.cross_entropy(
            self.place.flatten(0, 1).flatten(1), (row * columns + column).flatten(), reduction="none"
        )
        place = (place * there.flatten()).mean()
        return place + F.cross_entropy(self.radius.flatten(0, 1), step.flatten())


def coordinates(placements: Tensor, rows: int, columns: int) -> Tensor:
    """Where each latent position lies from the middle of the nearest object.

    Args:
        placements: (B, S, 3): x, y, radius in fractions of the side; radius 0 is no object.
        rows: Latent positions down …
        columns: … and across.

    Returns:
        (B, `channels(S)`, rows, columns): distance across and down in radii, sines and cosines of both, the radius, and
        which object it is; zeros where none is near.
    """
    offset, radius = _offsets(placements, rows, columns)  # (B, S, 2, rows, columns), (B, S, 1, 1)
    offset = offset / radius[:, :, None].clamp(min=SMALLEST)
    far = offset.norm(dim=2).masked_fill(radius == 0, math.inf)  # (B, S, rows, columns)
    nearest = far.argmin(dim=1, keepdim=True)
    near = far.gather(1, nearest) < NEAR  # (B, 1, rows, columns)
    which = F.one_hot(nearest[:, 0], placements.shape[1]).permute(0, 3, 1, 2)
    own = (offset * which[:, :, None]).sum(dim=1)  # (B, 2, rows, columns)
    own_radius = (radius * which).sum(dim=1, keepdim=True)
    waves = [f(math.pi * 2.0 ** (octave - 1) * own) for octave in range(OCTAVES) for f in (torch.sin, torch.cos)]
    return torch.cat([own, *waves, 8 * own_radius, which], dim=1) * near


def covered(placements: Tensor, rows: int, columns: int) -> Tensor:
    """Which latent positions the objects' discs touch, (B, 1, rows, columns) in {0, 1}."""
    offset, radius = _offsets(placements, rows, columns)
    half = offset.new_tensor([0.5 / columns, 0.5 / rows])[:, None, None]
    touched = (offset.abs() - half).clamp(min=0).norm(dim=2) < MARGIN * radius  # (B, S, rows, columns)
    return touched.any(dim=1, keepdim=True).to(placements.dtype)


def _offsets(placements: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    x = (torch.arange(columns, device=placements.device) + 0.5) / columns
    y = (torch.arange(rows, device=placements.device) + 0.5) / rows
    middle = torch.stack(torch.meshgrid(x, y, indexing="xy"))  # (2, rows, columns)
    return middle - placements[:, :, :2, None, None], placements[:, :, 2, None, None]
