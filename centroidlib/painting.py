"""Soft-edged shapes, painted on a whole batch of images at once, each with the place and size that its image gives it."""

from typing import NamedTuple

from torch import Tensor

Value = Tensor | float
Ellipse = tuple[float, float, float, float]
Stroke = tuple[float, Value, Value, Value, Value]
Window = tuple[slice, slice]


class Scene(NamedTuple):
    """What the parts of one chunk share. Images lie along the last dimension, where loops are longest."""

    canvas: Tensor  # (3, size, size, n), values in [0, 255]
    u: Tensor  # (size, size, n), x on the head
    v: Tensor  # (size, size, n), y on the head
    w: Tensor  # (size, size, n), x on the front of the face, which turns with the pose
    level: dict[str, Tensor]  # each (n,), int64
    jitter: dict[str, Tensor]  # each (n,); "turn" includes the pose, from about -1 (left) to 1 (right)
    reach: dict[str, float]  # the most that x, y, scale, tilt and turn move a part by


def paint_ellipse(
    scene: Scene,
    shape: Ellipse,
    colour: Tensor,
    shift: Value = 0.0,
    spread: Value = 0.0,
    opacity: Value = 1.0,
) -> None:
    """Paint an ellipse, or a mirrored pair with ``spread`` added to its x, in the coordinates w and v."""
    window = window_of(shape, scene)
    across = across_from(scene.w[window], shape[0], shift, spread)
    q = radius_in(across, scene.v[window] - shape[1], shape[2], shape[3])
    paint(scene, window, cover(q, shape[2], shape[3], scene).mul_(opacity), colour)


def paint_stroke(scene: Scene, stroke: Stroke, box: Ellipse, colour: Tensor, shift: Value = 0.0, spread: Value = 0.0) -> None:
    """Paint a bent line, or a mirrored pair of them, that stays inside ``box``."""
    centre, height, length, thickness, bend = stroke
    window = window_of(box, scene)
    across = across_from(scene.w[window], centre, shift, spread)
    distance = (across.square() * bend).add_(scene.v[window]).sub_(height).abs_()
    alpha = ramp(thickness - distance, scene).mul_(ramp(length - across.abs_(), scene))
    paint(scene, window, alpha, colour)


def paint(scene: Scene, window: Window, alpha: Tensor, colour: Tensor, shade: Tensor | None = None) -> None:
    """Blend colour (3, n), times a shade (height, width, n), over the canvas."""
    target = scene.canvas[:, window[0], window[1]]
    layer = colour[:, None, None]
    change = layer - target if shade is None else (layer * shade).sub_(target)
    target.add_(change.mul_(alpha))


def window_of(box: Ellipse, scene: Scene) -> Window:
    """Rows and columns that hold a box, and its mirror image in x, under every jitter and pose."""
    size = scene.canvas.shape[1]
    half_width, top, bottom = abs(box[0]) + box[2], box[1] - box[3], box[1] + box[3]
    lean, grow, turn = 2.0 * scene.reach["tilt"], 1.0 + scene.reach["scale"], scene.reach["turn"]
    edge = 2.0 / size  # room for soft edges
    far_x = (half_width + turn + lean * max(abs(top), abs(bottom))) * grow + scene.reach["x"] + edge
    far_y = lean * (half_width + turn) * grow + scene.reach["y"] + edge
    top, bottom = min(top * grow, top / grow) - far_y, max(bottom * grow, bottom / grow) + far_y

    def pixel(position: float) -> int:
        return min(max(round((position + 1.0) * 0.5 * size), 0), size)

    return slice(pixel(top), pixel(bottom)), slice(pixel(-far_x), pixel(far_x))


def across_from(x: Tensor, centre: float, shift: Value, spread: Value) -> Tensor:
    """Signed distance along x to a centre at 0, or to the nearer of another centre and its mirror image."""
    return (x - shift).abs_().sub_(centre + spread) if centre else x - shift


def radius_in(x: Tensor, y: Tensor, a: Value, b: Value) -> Tensor:
    """Squared radius in units of an ellipse: below 1 inside, above 1 outside."""
    return (x / a).square_().add_((y / b).square_())


def cover(q: Tensor, a: Value, b: Value, scene: Scene, blur: float = 1.0) -> Tensor:
    """Anti-aliased cover in [0, 1] of an ellipse from its squared radius, which it leaves as it was."""
    return ramp((1.0 - q).mul_(a * b / (a + b)), scene, blur)


def ramp(inside: Tensor, scene: Scene, blur: float = 1.0) -> Tensor:
    """Turn a distance into the inside into a cover in [0, 1], in place, over ``blur`` pixels."""
    return inside.mul_(scene.canvas.shape[1] / (2.0 * blur)).add_(0.5).clamp_(0.0, 1.0)
