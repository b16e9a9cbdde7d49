"""Parametric cartoon faces: an image data set with known, independent factors, drawn without network."""

import numpy as np
import torch
from torch import Tensor

from centroidlib.painting import Scene, across_from, cover, paint, paint_ellipse, paint_stroke, radius_in, ramp, window_of

FACTORS: dict[str, tuple[str, ...]] = {
    "skin": ("porcelain", "fair", "tan", "brown", "dark"),
    "hair_colour": ("black", "brown", "blond", "red", "grey"),
    "hair_style": ("bald", "short", "long", "curly"),
    "glasses": ("none", "glasses"),
    "mouth": ("neutral", "smile", "open"),
    "pose": ("left", "front", "right"),
    "background": ("blue", "green", "yellow", "violet", "rose"),
}

# Colours are RGB in [0, 255]; the rows of a palette follow the levels of its factor.
_SKIN = ((255, 226, 205), (244, 198, 164), (219, 161, 116), (163, 105, 70), (104, 64, 44))
_HAIR = ((38, 33, 40), (106, 66, 38), (236, 196, 98), (192, 76, 32), (172, 174, 182))
_BACKGROUND = ((138, 190, 238), (144, 208, 156), (244, 220, 136), (178, 156, 226), (242, 164, 182))
_WHITE, _INK, _BLUSH, _LIPS, _MOUTH_INSIDE, _PINK, _BROWN, _BLUE = torch.tensor(
    ((252, 252, 250), (36, 28, 34), (232, 84, 84), (170, 38, 48), (104, 26, 34), (226, 104, 104), (104, 62, 30), (58, 128, 168)),
    dtype=torch.float32,
)[..., None]

# Geometry: the image spans [-1, 1] in x and y (y down) and the head is centred near the origin.
# An ellipse is (centre x, centre y, half width, half height); one with x > 0 comes with its mirror image.
_FACE, _EAR, _EAR_HOLE = (0.0, 0.02, 0.46, 0.57), (0.47, 0.06, 0.09, 0.14), (0.485, 0.06, 0.045, 0.085)
_NECK, _SHIRT, _COLLAR = (0.0, 0.55, 0.19, 0.42), (0.0, 1.24, 0.86, 0.52), (0.0, 0.78, 0.24, 0.15)
_LASH, _EYE = (0.19, -0.005, 0.122, 0.112), (0.19, 0.012, 0.112, 0.098)
_IRIS, _PUPIL, _GLINT = (0.185, 0.015, 0.074, 0.08), (0.185, 0.015, 0.04, 0.044), (0.185, -0.02, 0.026, 0.026)
_CHEEK, _NOSE, _NOSE_TIP = (0.28, 0.23, 0.12, 0.09), (0.0, 0.175, 0.07, 0.06), (0.0, 0.155, 0.058, 0.055)
_OPEN, _TONGUE, _TEETH = (0.0, 0.385, 0.15, 0.115), (0.0, 0.45, 0.09, 0.045), (0.0, 0.315, 0.11, 0.04)
_LENS, _FRAME = (0.195, 0.01, 0.17, 0.16), 0.02
_CAP, _TUFT = (0.0, -0.04, 0.495, 0.62), (0.445, -0.07, 0.075, 0.17)

# A stroke is (centre x, centre y, half length, half thickness, bend), and a positive bend lifts its ends.
_BROW, _BROW_BOX = (0.20, -0.185, 0.12, 0.026, -2.2), (0.20, -0.175, 0.13, 0.09)
_LIP_LINE = ((0.37, 0.13, 0.024, 0.4), (0.425, 0.21, 0.038, 3.2), (0.37, 0.1, -1.0, 0.0))  # by mouth
_LIP_BOX = (0.0, 0.37, 0.22, 0.14)

# One row a hair style: y, half width and half height of an ellipse behind the head; the ellipse left open
# for the face; the lowest y of the hair in front; the depth of its curls; whether the ears show.
_STYLE = (
    (-0.04, 0.52, 0.24, 0.0, 0.0, 1.0, 1.0, -9.0, 0.0, 1.0),
    (-0.14, 0.495, 0.52, 0.10, 0.27, 0.50, 0.60, -0.02, 0.0, 1.0),
    (0.18, 0.60, 0.86, -0.07, 0.25, 0.40, 0.62, 0.55, 0.0, 0.0),
    (-0.20, 0.68, 0.66, 0.0, 0.25, 0.45, 0.52, 0.04, 0.30, 1.0),
)
_CURL_PITCH = 3.0

# Half widths of the uniform jitter that each image adds to its levels.
_JITTER = {
    "x": 0.07, "y": 0.05, "scale": 0.06, "tilt": 0.035, "turn": 0.15,
    "width": 0.06, "eyes": 0.02, "brows": 0.02, "light": 1.0, "iris": 1.0,
    "skin_r": 7.0, "skin_g": 7.0, "skin_b": 7.0, "hair_r": 9.0, "hair_g": 9.0, "hair_b": 9.0,
    "ground_r": 9.0, "ground_g": 9.0, "ground_b": 9.0, "shirt_r": 80.0, "shirt_g": 80.0, "shirt_b": 80.0,
}  # fmt: skip
_SHIRT_MEAN = 145.0

# How far a full turn moves each part along x; what lies in front of the eyes moves on with them.
_HAIR_TURN, _EAR_TURN, _FACE_TURN, _FRONT_TURN = -0.03, -0.03, 0.02, 0.13
_TUFT_TURN, _IRIS_TURN, _MOUTH_TURN, _NOSE_TURN = 0.04, 0.02, 0.02, 0.07
_FORESHORTENING = 0.25
_CHUNK_PIXELS = 64 * 64 * 64  # large enough to amortise calls, small enough for the cache


def draw_faces(count: int, *, size: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw random faces whose factors are independent and uniform.

    Image i depends only on (seed, i, size), bit for bit: a longer run begins with a shorter one.

    Args:
        count: Number of images, at least 1.
        size: Height and width in pixels, at least 16.
        seed: Non-negative seed.

    Returns:
        Images, uint8 in [0, 255], of shape (count, 3, size, size), and the level of every factor, int64, of
        shape (count, len(FACTORS)) in the order of ``FACTORS``.

    Raises:
        ValueError: If count, size or seed is too small.
    """
    for name, value, least in (("count", count, 1), ("size", size, 16), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}, but faces need {name} >= {least}: pass a larger {name}.")
    # NumPy fills rows in order from one stream, whatever the chunks; torch.rand does not promise that.
    stream = np.random.Generator(np.random.PCG64(seed))
    levels = np.array([len(names) for names in FACTORS.values()])
    images = torch.empty((count, 3, size, size), dtype=torch.uint8)
    factors = torch.empty((count, len(FACTORS)), dtype=torch.int64)
    chunk = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        draws = stream.random((stop - start, len(FACTORS) + len(_JITTER)))
        factors[start:stop] = torch.from_numpy((draws[:, : len(FACTORS)] * levels).astype(np.int64))
        noise = torch.from_numpy(2.0 * draws[:, len(FACTORS) :] - 1.0).float()
        canvas = _render(factors[start:stop], noise, size)
        images[start:stop] = canvas.add_(0.5).clamp_(0.0, 255.0).to(torch.uint8).permute(3, 0, 1, 2)
    return images, factors


def _render(factors: Tensor, noise: Tensor, size: int) -> Tensor:
    """Paint one chunk, back to front.

    Only operations that IEEE rounds exactly (+, -, *, /, sqrt, comparisons) touch pixels: torch may round
    others, such as lerp, differently in its vector loops and in their remainders, which depend on threads.
    """
    level = dict(zip(FACTORS, factors.T.contiguous(), strict=True))
    jitter = {name: row * _JITTER[name] for name, row in zip(_JITTER, noise.T.contiguous(), strict=True)}
    turn = jitter["turn"].add_(level["pose"] - 1.0)

    # Head coordinates: shift, scale and tilt, with cosine and sine from the half-angle tangent.
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    x, y = axis[:, None] - jitter["x"], axis[:, None] - jitter["y"]
    norm = (1.0 + jitter["tilt"].square()) * (1.0 + jitter["scale"])
    cosine, sine = (1.0 - jitter["tilt"].square()) / norm, 2.0 * jitter["tilt"] / norm
    u = (x * cosine)[None] + (y * sine)[:, None]
    v = (y * cosine)[:, None] - (x * sine)[None]
    w = (u * (turn * _FORESHORTENING)).add_(1.0).mul_(u - turn * _FRONT_TURN)

    ground = _pick(_BACKGROUND, level["background"]) + _rgb(jitter, "ground")
    canvas = torch.empty((3, size, size, factors.shape[0]), dtype=torch.float32)
    canvas.copy_(ground[:, None, None] * (1.0 - 0.10 * axis)[:, None, None])
    scene = Scene(canvas, u, v, w, level, jitter, _JITTER | {"turn": (1.0 + _JITTER["turn"]) * (_FRONT_TURN + _NOSE_TURN)})
    skin = _pick(_SKIN, level["skin"]) + _rgb(jitter, "skin")
    hair = _pick(_HAIR, level["hair_colour"]) + _rgb(jitter, "hair")
    style = _pick(_STYLE, level["hair_style"])
    _paint_back(scene, skin, hair, style)
    _paint_face(scene, skin)
    _paint_features(scene, skin, hair)
    _paint_front_hair(scene, hair, style)
    _paint_glasses(scene)
    return canvas


def _paint_back(scene: Scene, skin: Tensor, hair: Tensor, style: Tensor) -> None:
    """Hair behind the head, then neck, shirt and ears."""
    window = window_of((0.0, 0.1, 0.85, 0.98), scene)
    u, v = scene.u[window], scene.v[window]
    q = radius_in(u - _HAIR_TURN * scene.jitter["turn"], v - style[0], style[1], style[2])
    q.sub_(_curls(u, v).mul_(style[8]))
    paint(scene, window, cover(q, style[1], style[2], scene), hair * 0.88)

    # Neck and collar lie in the shadow of the chin.
    head = scene._replace(w=scene.u)
    paint_ellipse(head, _NECK, skin * 0.84)
    paint_ellipse(head, _SHIRT, _rgb(scene.jitter, "shirt") + _SHIRT_MEAN)
    paint_ellipse(head, _COLLAR, skin * 0.84)
    shift, widening = _EAR_TURN * scene.jitter["turn"], _FACE[2] * scene.jitter["width"]
    for shape, tone in ((_EAR, 0.93), (_EAR_HOLE, 0.78)):
        paint_ellipse(head, shape, skin * tone, shift, widening, opacity=style[9])


def _paint_face(scene: Scene, skin: Tensor) -> None:
    """The face, narrower at the chin, lit from one side and from above, with blushing cheeks."""
    window = window_of(_FACE, scene)
    u, v = scene.u[window] - _FACE_TURN * scene.jitter["turn"], scene.v[window] - _FACE[1]
    width = _FACE[2] * (1.0 + scene.jitter["width"])
    q = radius_in((v * 0.2).add_(1.0).mul_(u), v, width, _FACE[3])
    shade = (u * (0.24 * scene.jitter["light"])).sub_(v * 0.05).add_(1.05).sub_(q * 0.08)
    face = cover(q, width, _FACE[3], scene)
    paint(scene, window, face, skin, shade)

    x = across_from(scene.w[window], _CHEEK[0], 0.0, scene.jitter["eyes"])
    q = radius_in(x, scene.v[window] - _CHEEK[1], _CHEEK[2], _CHEEK[3])
    blush = cover(q, _CHEEK[2], _CHEEK[3], scene, blur=scene.canvas.shape[1] / 13)
    paint(scene, window, blush.mul_(face).mul_(0.4), _BLUSH)


def _paint_features(scene: Scene, skin: Tensor, hair: Tensor) -> None:
    """Eyes, brows, nose and mouth on the front of the face."""
    mouth, jitter, turn = scene.level["mouth"], scene.jitter, scene.jitter["turn"]
    spacing, gaze = jitter["eyes"], _IRIS_TURN * turn
    paint_ellipse(scene, _LASH, _INK, spread=spacing)
    paint_ellipse(scene, _EYE, _WHITE, spread=spacing)
    blend = 0.5 + 0.5 * jitter["iris"]
    iris = _BROWN * (1.0 - blend) + _BLUE * blend
    paint_ellipse(scene, _IRIS, iris, gaze, spacing)
    paint_ellipse(scene, _PUPIL, _INK, gaze, spacing)
    paint_ellipse(scene, _GLINT, _WHITE, gaze + 0.03, spacing)
    brow = (_BROW[0], _BROW[1] + jitter["brows"], *_BROW[2:])
    paint_stroke(scene, brow, _BROW_BOX, hair * 0.7, spread=spacing)

    shift = _NOSE_TURN * turn
    paint_ellipse(scene, _NOSE, skin * 0.8, shift)
    paint_ellipse(scene, _NOSE_TIP, skin * 1.06, shift + 0.02 * jitter["light"])

    shift = _MOUTH_TURN * turn
    paint_stroke(scene, (0.0, *_pick(_LIP_LINE, mouth)), _LIP_BOX, _LIPS, shift)
    is_open = (mouth == FACTORS["mouth"].index("open")).float()
    for shape, colour in ((_OPEN, _MOUTH_INSIDE), (_TONGUE, _PINK), (_TEETH, _WHITE)):
        paint_ellipse(scene, shape, colour, shift, opacity=is_open)


def _paint_front_hair(scene: Scene, hair: Tensor, style: Tensor) -> None:
    """Tufts by the ears of bald heads, or else a cap of hair with an opening for the face."""
    bald = (scene.level["hair_style"] == FACTORS["hair_style"].index("bald")).float()
    shift, widening = _TUFT_TURN * scene.jitter["turn"], _FACE[2] * scene.jitter["width"]
    paint_ellipse(scene._replace(w=scene.u), _TUFT, hair, shift, widening, bald)

    window = window_of(_CAP, scene)
    u, v, w = scene.u[window], scene.v[window], scene.w[window]
    width, height = _CAP[2] * (1.0 + scene.jitter["width"]), _CAP[3]
    curls = _curls(u, v).mul_(style[8])
    q = radius_in(u, v - _CAP[1], width, height)
    alpha = cover(q - curls, width, height, scene)
    opening = radius_in(w - style[3], v - style[4], style[5], style[6]).add_(curls)
    alpha.mul_(1.0 - cover(opening, style[5], style[6], scene))
    alpha.mul_(ramp(style[7] - v, scene, 2.0))

    # A band of gloss follows the skull; curls shade themselves.
    gloss = 1.0 - (q - 0.55).mul_(4.0).square_()
    shade = (u * (0.24 * scene.jitter["light"])).add_(0.98).add_(curls.mul_(0.6))
    shade.add_(gloss.clamp_(min=0.0).mul_(0.16))
    paint(scene, window, alpha, hair, shade)


def _paint_glasses(scene: Scene) -> None:
    """Two rings, and a bar outside them for the bridge and the temples."""
    worn = scene.level["glasses"].float()
    window = window_of((0.0, _LENS[1], 0.5, _LENS[3] + 0.03), scene)
    x, y = scene.w[window].abs(), scene.v[window] - _LENS[1]
    distance = radius_in(x - _LENS[0] - scene.jitter["eyes"], y, _LENS[2], _LENS[3]).sqrt_()
    distance.sub_(1.0).mul_(0.5 * (_LENS[2] + _LENS[3]))
    paint(scene, window, ramp(-distance, scene).mul_(0.16 * worn), _WHITE)
    ring = ramp(_FRAME - distance.abs(), scene)
    bar = ramp(_FRAME - (y + 0.03).abs_(), scene)
    bar.mul_(ramp(distance, scene)).mul_(ramp(0.47 - scene.u[window].abs(), scene))
    paint(scene, window, torch.maximum(ring, bar).mul_(worn), _INK)


def _curls(u: Tensor, v: Tensor) -> Tensor:
    """Egg-carton bumps in [-0.5, 0.5]."""
    x, y = (u + v).mul_(_CURL_PITCH), (u - v).mul_(_CURL_PITCH)
    x, y = x.sub_(x.round()).square_(), y.sub_(y.round()).square_()
    return x.add_(y).mul_(-2.0).add_(0.5)


def _pick(table: tuple[tuple[float, ...], ...], level: Tensor) -> Tensor:
    """Columns of a table's rows: (row length, n)."""
    return torch.tensor(table, dtype=torch.float32).T[:, level]


def _rgb(jitter: dict[str, Tensor], name: str) -> Tensor:
    return torch.stack([jitter[f"{name}_{channel}"] for channel in "rgb"])
