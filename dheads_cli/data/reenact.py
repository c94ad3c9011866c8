"""Draw a photo's face with another mesh: its skin from the photo, the inside of its mouth from a filmed face.

Each triangle of the drawn mesh takes its pixels from the same triangle of the photo's mesh (piecewise affine). Holes
are filled otherwise: an eye shows the photo's eyeball, which turns with the head and which the lids cover; an open
mouth shows what the filmed face has between its lips, in the photo's light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from dheads_cli.data.mesh import CHEEKS, EYES, INNER_LOWER, INNER_UPPER, OVAL, Array

Picture = NDArray[np.uint8]  # [H, W, 3] RGB

RING = 8  # fixed points on each side of the picture
SUBPIXEL = 4  # bits of the corners that OpenCV fills between
EDGE = 0.004  # of the picture's width: softness of the edges of mouth and eyes
INSET = (0.08, 0.25)  # of the filmed mouth's inside that is left out at its edge: shares of its width and height
SHARPEN, SHARPEN_PX = 0.7, 0.006  # of the mouth's inside: amount, and width as a share of the picture's
TEETH_MARGIN = 0.03  # of the mouth's width
SHADE = 0.85  # of the mouth's inside: lips that part a little show a dark line, which a soft filmed mouth lacks
GREENEST, LEAST_BLUE = 0.97, 0.8  # of red, of green: teeth are white to yellowish
LIGHT, TINT = (0.6, 1.5), (0.75, 1.35)  # limits of the gains that bring a filmed mouth into the photo's light


@dataclass(frozen=True)
class Inside:
    """What fills an open mouth.

    Attributes:
        picture: a filmed frame [H, W, 3].
        mesh: its face [478, 3], px of the frame.
    """

    picture: Picture
    mesh: Array


class Puppet:
    """A photo whose face can be moved.

    Args:
        picture: the photo, uint8 RGB [S, S, 3].
        mesh: its face [478, 3] (x, y, z), px.
        triangles: of the mesh, int64 [T, 3], with holes for mouth and eyes.
    """

    def __init__(self, picture: Picture, mesh: Array, triangles: NDArray[np.int64]) -> None:
        self.picture, self.size = picture, picture.shape[0]
        n = len(mesh)
        self.ring = _ring(self.size)
        self.source = np.concatenate([_without_teeth(mesh)[:, :2], self.ring])
        rim = np.array([*OVAL, *range(n, n + len(self.ring))])
        around = rim[Delaunay(self.source[rim]).simplices]
        centres = self.source[around].mean(axis=1)
        oval = self.source[OVAL].astype(np.float32)
        outside = [cv2.pointPolygonTest(oval, (float(x), float(y)), False) < 0 for x, y in centres]
        self.triangles = np.concatenate([around[outside], triangles])
        self.skin = _skin(picture, mesh)

    def draw(self, mesh: Array, inside: Inside) -> Picture:
        """The photo with its face moved to a mesh [478, 3], uint8 RGB [S, S, 3]."""
        target = np.concatenate([mesh[:, :2], self.ring])
        places = _places(self.source, target, self.triangles, self.size)
        drawn = _taken(self.picture, places)
        for upper, lower in EYES:
            drawn = self._with_eyeball(drawn, target, upper, lower)
        return self._with_inside(drawn, target, inside)

    def _with_eyeball(self, drawn: Picture, target: Array, upper: list[int], lower: list[int]) -> Picture:
        alpha = _soft_polygon(target[[*upper, *lower[-2:0:-1]]], self.size)
        if alpha is None:
            return drawn
        corners = [upper[0], upper[-1]]
        back = _similarity(target[corners], self.source[corners])
        x, y = np.meshgrid(np.arange(self.size) + 0.5, np.arange(self.size) + 0.5)
        where = (np.stack([x, y], axis=-1) @ back[:, :2].T + back[:, 2] - 0.5).astype(np.float32)
        # Beside a wide open eye lies its own lid: there the triangles' stretched picture is better.
        low, high = self.source[upper, 1], self.source[lower, 1]
        at_x = np.clip(where[..., 0] + 0.5, *sorted((self.source[upper[0], 0], self.source[upper[-1], 0])))
        order = np.argsort(self.source[upper, 0])
        top = np.interp(at_x, self.source[upper, 0][order], low[order])
        order = np.argsort(self.source[lower, 0])
        bottom = np.interp(at_x, self.source[lower, 0][order], high[order])
        where[..., 1] = np.clip(where[..., 1], top + 0.5, np.maximum(bottom - 1.5, top + 0.5))
        return _blend(drawn, _taken(self.picture, where).astype(np.float32), alpha)

    def _with_inside(self, drawn: Picture, target: Array, inside: Inside) -> Picture:
        alpha = _soft_polygon(target[[*INNER_UPPER, *INNER_LOWER[-2:0:-1]]], self.size)
        if alpha is None:
            return drawn
        filmed = _inset(inside.mesh[INNER_UPPER, :2], inside.mesh[INNER_LOWER, :2])
        lips = np.concatenate([target[INNER_UPPER], target[INNER_LOWER]])
        n = len(INNER_UPPER)
        strip = [[i, i + 1, n + i] for i in range(n - 1)] + [[i + 1, n + i + 1, n + i] for i in range(n - 1)]
        places = _places(filmed, lips, np.array(strip), self.size)
        soft = _taken(inside.picture, places).astype(np.float32)
        blurred = np.asarray(cv2.GaussianBlur(soft, (0, 0), SHARPEN_PX * self.size), np.float32)
        gains = SHADE * _gains(_skin(inside.picture, inside.mesh), self.skin)
        return _blend(drawn, _mouth_coloured((soft + SHARPEN * (soft - blurred)) * gains), alpha)


def _taken(picture: Picture, places: NDArray[np.float32]) -> Picture:
    """The colours of a picture at places [S, S, 2] (x, y), px, uint8 [S, S, 3]."""
    taken = cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(taken, np.uint8)


def _ring(size: int) -> Array:
    """Points on the border of a square picture [4 RING, 2]."""
    along = np.linspace(0, size, RING, endpoint=False)
    zero, full = np.zeros(RING), np.full(RING, float(size))
    sides = [(along, zero), (full, along), (size - along, full), (zero, size - along)]
    return np.concatenate([np.stack(side, axis=1) for side in sides])


def _places(source: Array, target: Array, triangles: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Where each pixel of a picture drawn from triangles comes from, float32 [size, size, 2] (x, y) for cv2.remap.

    Pixels outside all triangles follow the nearest triangle.

    Args:
        source, target: corners before and after [P, 2], px.
        triangles: [T, 3].
        size: of the drawn picture, px.
    """
    index = np.full((size, size), -1, np.int32)
    corners = np.round(target[triangles] * 2**SUBPIXEL - 2 ** (SUBPIXEL - 1)).astype(np.int32)
    for number, corner in enumerate(corners):
        cv2.fillConvexPoly(index, corner, number, shift=SUBPIXEL)
    edges = np.concatenate([target[triangles], np.ones((len(triangles), 3, 1))], axis=2)  # [T, 3, 3], rows x y 1
    flat = np.abs(np.linalg.det(edges)) < 1e-6
    edges[flat] = np.eye(3)
    maps = np.linalg.solve(edges, source[triangles])  # [T, 3, 2]
    maps[flat] = np.array([[0, 0], [0, 0], [1, 1]]) * source[triangles[flat]].mean(axis=1, keepdims=True)
    empty = index < 0
    if empty.any():
        _, labels = cv2.distanceTransformWithLabels(
            empty.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_label = np.zeros(labels.max() + 1, np.int32)
        of_label[labels[~empty]] = index[~empty]
        index = of_label[labels]
    x = np.arange(size, dtype=np.float32) + 0.5
    taken = maps.astype(np.float32)[index]  # [size, size, 3, 2]
    return taken[..., 0, :] * x[None, :, None] + taken[..., 1, :] * x[:, None, None] + taken[..., 2, :] - 0.5


def _soft_polygon(polygon: Array, size: int) -> NDArray[np.float32] | None:
    """Coverage of a polygon [P, 2], 0 ... 1 with soft edges, float32 [size, size, 1]; None where it covers nothing."""
    fine = 4
    mask = np.zeros((size * fine, size * fine), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * fine - 0.5).astype(np.int32)], 255)
    if not mask.any():
        return None
    covered = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(covered, (0, 0), EDGE * size), np.float32)[..., None]


def _blend(below: Picture, above: NDArray[np.float32], alpha: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(below + alpha * (above - below), 0, 255).round(), np.uint8)


def _similarity(source: Array, target: Array) -> Array:
    """Turn, scale and shift [2, 3] of two points onto two others, both [2, 2]."""
    z, w = source @ [1, 1j], target @ [1, 1j]
    a = (w[1] - w[0]) / (z[1] - z[0])
    b = w[0] - a * z[0]
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _inset(upper: Array, lower: Array) -> Array:
    """Inner lips [P, 2] each, drawn together so that no lip is between them: upper and lower, [2 P, 2]."""
    along, across = INSET
    middle = (upper + lower) / 2
    centre = middle.mean(axis=0)
    middle = centre + (1 - along) * (middle - centre)
    half = (1 - across) * (lower - upper) / 2
    return np.concatenate([middle - half, middle + half])


def _without_teeth(mesh: Array) -> Array:
    """A mesh [478, 3] with the inner lips of an open mouth moved onto the lips: teeth reach beyond the points."""
    gap = np.clip(mesh[INNER_LOWER, 1] - mesh[INNER_UPPER, 1], 0, None)
    margin = np.minimum(TEETH_MARGIN * float(np.ptp(mesh[INNER_UPPER, 0])), gap / 2)
    moved = mesh.copy()
    moved[INNER_UPPER, 1] -= margin
    moved[INNER_LOWER, 1] += margin
    return moved


def _skin(picture: Picture, mesh: Array) -> NDArray[np.float32]:
    """Mean colour of the cheeks, float32 [3]."""
    radius = 0.05 * float(np.linalg.norm(mesh[263, :2] - mesh[33, :2]))
    mask = np.zeros(picture.shape[:2], np.uint8)
    for x, y in mesh[CHEEKS, :2]:
        cv2.circle(mask, (round(x), round(y)), max(1, round(radius)), 255, -1)
    if not mask.any():
        return np.full(3, 128, np.float32)
    return np.asarray(np.maximum(picture[mask > 0].mean(axis=0), 8), np.float32)


def _mouth_coloured(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels [H, W, 3] kept within the colours of teeth, tongue and gums: red >= green >= blue."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    green = np.minimum(green, GREENEST * red)
    return np.stack([red, green, np.clip(blue, LEAST_BLUE * green, green)], axis=-1)


def _gains(filmed: NDArray[np.float32], photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gains of the three channels that bring what was filmed into the photo's light.

    Skins differ by themselves, too, in brightness more than in tint: neither ratio is taken over whole.
    """
    light = np.clip((photo.mean() / filmed.mean()) ** 0.6, *LIGHT)
    tint = np.clip((photo / photo.mean() / (filmed / filmed.mean())) ** 0.7, *TINT)
    return np.asarray(light * tint, np.float32)
