"""A camera before a screen, to judge recognisers by: none of its code or numbers is shared with what they train on.

It follows the light: the screen's pixels have a grid and shine in linear light, a pinhole camera stands somewhere
before them, the room is mirrored, the lens darkens the corners, the sensor counts photons, and the picture is a JPEG in
the end.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

#: The sensor's width and height in pixels.
SENSOR = (640, 480)
#: Distances and offsets of the pose are in units of half the screen, at which a screen fills the frame from this far.
FOCAL_LENGTH = 2.4
#: The screen's light is added to the room's in linear light; sRGB's own curve is near to this power (IEC 61966-2-1).
_GAMMA = 2.2
#: Pixels of the screen across the frame, when its grid is seen.
_SCREEN_PIXELS = (260, 420)
#: Photons of a white pixel that a sensor counts by day and by night.
_PHOTONS_BY_DAY, _PHOTONS_BY_NIGHT = 4_000.0, 160.0
_CAPTIONS = ("LIVE 20:15", "Gate B12: boarding now", "Storm warning until 18:00", "Low battery 9 %", "Sale ends today")

Light = npt.NDArray[np.float32]
#: The linear light of each of a pixel's values.
_LINEAR: Light = ((np.arange(256) / 255.0) ** _GAMMA).astype(np.float32)
Step = Callable[[Image.Image, np.random.Generator], Image.Image]


def capture(
    creative: Image.Image,
    generator: np.random.Generator,
    distortions: tuple[str, ...] | None = None,
    sensor: tuple[int, int] = SENSOR,
    strength: float = 1.0,
) -> Image.Image:
    """A picture of a screen that shows a creative.

    Args:
        creative: What the screen shows, stretched to its whole area.
        generator: Draws all that is left to chance; equal generators give equal pictures.
        distortions: Which of `DISTORTIONS` it meets, in that table's order whatever order they are given in; None for
            a chance of `_SHARES` for each, as in the field.
        sensor: Width and height of the picture in pixels.
        strength: How far the camera stands from before the screen, as a share of the field's worst; and, where the
            distortions are left to chance, how often it meets the others. 1 is a camera that hangs anywhere.

    Returns:
        RGB, of the sensor's size.

    Raises:
        KeyError: There is no such distortion.
    """
    if distortions is None:
        chosen = {
            name for name in DISTORTIONS if generator.random() < _SHARES[name] * (strength if name != "pose" else 1.0)
        }
    else:
        chosen = set(distortions)
        if strange := chosen - set(DISTORTIONS):
            raise KeyError(f"{sorted(strange)} not in {list(DISTORTIONS)}")
    image = creative.convert("RGB").resize(sensor, Image.Resampling.LANCZOS)
    for name, distort in DISTORTIONS.items():
        if name in chosen:
            image = _pose(image, generator, strength) if distort is _pose else distort(image, generator)
    return image


def _linear(image: Image.Image) -> Light:
    """Linear light [height, width, 3], 1 for white."""
    return _LINEAR[np.asarray(image)]


def _picture(light: Light) -> Image.Image:
    """What is brighter than white is white, as on a sensor that is full."""
    shown = np.clip(light, 0.0, 1.0, dtype=np.float32) ** np.float32(1.0 / _GAMMA)
    return Image.fromarray((255.0 * shown + 0.5).astype(np.uint8))


def _letterbox(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A player of another aspect: the creative shrunk in one direction between dark bars of equal width."""
    width, height = image.size
    share = generator.uniform(0.80, 0.96)
    size = (width, round(height * share)) if generator.random() < 0.5 else (round(width * share), height)
    framed = Image.new("RGB", image.size, tuple(int(value) for value in generator.integers(0, 25, 3)))
    framed.paste(image.resize(size, Image.Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2))
    return framed


def _caption(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A half-transparent band with a line of real text, at the top or the bottom."""
    width, height = image.size
    band = round(height * generator.uniform(0.07, 0.13))
    top = 0 if generator.random() < 0.3 else height - band - round(height * generator.uniform(0.0, 0.08))
    overlay = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(overlay)
    draw.rectangle((0, top, width, top + band), fill=(*(int(value) for value in generator.integers(0, 90, 3)), 200))
    text = _CAPTIONS[int(generator.integers(len(_CAPTIONS)))]
    draw.text((width * 0.04, top + band * 0.15), text, fill="white", font=ImageFont.load_default(band * 0.65))
    return Image.alpha_composite(image.convert("RGBA"), overlay).convert("RGB")


def _pixel_grid(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Moiré as it comes about: the dark gaps between the screen's pixels, sampled by a sensor a little turned."""
    width, height = image.size
    pitch = generator.uniform(*_SCREEN_PIXELS) / width
    angle = generator.uniform(-0.12, 0.12)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) * pitch
    down = (rows * np.cos(angle) - columns * np.sin(angle)) * pitch
    # Red, green and blue stand side by side in a pixel.
    stripes = np.stack([np.abs((along - shift) % 1.0 - 0.5) * 2.0 for shift in (0.0, 1 / 3, 2 / 3)], axis=-1)
    gaps = np.where(down % 1.0 < 0.18, 1.0 - generator.uniform(0.2, 0.6), 1.0)[..., None]
    shine = (1.0 + generator.uniform(0.1, 0.35) * (stripes - 0.5)) * gaps
    return _picture(_linear(image) * shine.astype(np.float32))


def lookup(
    size: tuple[int, int], angles: tuple[float, float, float], place: tuple[float, float, float]
) -> tuple[float, ...]:
    """Where on the screen each pixel of the frame looks, as Pillow's perspective transform wants it.

    Args:
        size: Width and height of frame and screen in pixels.
        angles: The screen's yaw, pitch and roll in radians.
        place: Its centre before the camera, in half screens; (0, 0, `FOCAL_LENGTH`) and no angles fill the frame.

    Returns:
        Eight coefficients of the homography from frame to screen, the ninth being 1.
    """
    yaw, pitch, roll = angles
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turned = about_z @ about_x @ about_y
    # A point (x, y, 0) of the screen is seen at K (R (x, y, 0) + t).
    seen = np.diag([FOCAL_LENGTH, FOCAL_LENGTH, 1.0]) @ np.column_stack([turned[:, 0], turned[:, 1], place])
    to_pixels = np.array([[size[0] / 2, 0, size[0] / 2], [0, size[1] / 2, size[1] / 2], [0, 0, 1.0]])
    back = to_pixels @ np.linalg.inv(to_pixels @ seen)
    return tuple(float(value) for value in (back / back[2, 2]).ravel()[:8])


def _pose(image: Image.Image, generator: np.random.Generator, strength: float = 1.0) -> Image.Image:
    """A pinhole camera before the screen, turned about three axes; a wall and its shadows are behind it."""
    yaw, pitch, roll = strength * generator.normal(0.0, np.radians([7.0, 5.0, 2.0]))
    x, y = strength * generator.normal(0.0, 0.035, 2)
    distance = FOCAL_LENGTH * (1.0 + strength * generator.uniform(-0.08, 0.12))
    coefficients = lookup(image.size, (yaw, pitch, roll), (x, y, distance))
    screen = image.transform(image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    area = Image.new("L", image.size, 255).transform(image.size, Image.Transform.PERSPECTIVE, coefficients)
    wall = generator.uniform(20, 200, (5, 6, 1)) + generator.normal(0.0, 12.0, (5, 6, 3))
    behind = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(screen, behind, area)


def _passer_by(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A head and shoulders before the screen's lower edge, soft as what is not in focus."""
    width, height = image.size
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    head = height * generator.uniform(0.07, 0.15)
    x, top = width * generator.uniform(0.0, 1.0), height * generator.uniform(0.55, 0.85)
    draw.ellipse((x - head * 0.8, top, x + head * 0.8, top + 2.2 * head), fill=255)
    draw.ellipse((x - head * 2.2, top + 1.9 * head, x + head * 2.2, top + 9.0 * head), fill=255)
    clothes = Image.new("RGB", image.size, tuple(int(value) for value in generator.integers(10, 130, 3)))
    return Image.composite(clothes, image, mask.filter(ImageFilter.GaussianBlur(2.5)))


def _reflection(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Panes of a window, mirrored slantwise, and a fall of daylight from one side."""
    width, height = image.size
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    x, y = width * generator.uniform(-0.1, 0.8), height * generator.uniform(-0.1, 0.6)
    across, down, slant = width * generator.uniform(0.08, 0.16), height * generator.uniform(0.12, 0.28), 0.35 * height
    slant *= generator.uniform(-1.0, 1.0)
    for pane in range(2):
        left = x + pane * across * 1.15
        corners = [(left, y), (left + across, y), (left + across + slant, y + down), (left + slant, y + down)]
        draw.polygon(corners, fill=255)
    panes = np.asarray(mask.filter(ImageFilter.GaussianBlur(4)), np.float32)[..., None] / 255.0
    daylight = np.linspace(0.0, generator.uniform(0.02, 0.12), width, dtype=np.float32)[None, :, None]
    if generator.random() < 0.5:
        daylight = daylight[:, ::-1]
    return _picture(_linear(image) + generator.uniform(0.1, 0.55) * panes + daylight)


def _focus(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Out of focus, and shaken along a straight way while the shutter was open."""
    soft = image.filter(ImageFilter.GaussianBlur(image.width * generator.uniform(0.001, 0.006)))
    length, angle = image.width * generator.uniform(0.0, 0.016), generator.uniform(0.0, np.pi)
    steps = max(1, round(length))
    light = np.zeros((image.height, image.width, 3), np.float32)
    for step in range(steps):
        shift = (step - (steps - 1) / 2) * length / steps
        moved = (1.0, 0.0, shift * np.cos(angle), 0.0, 1.0, shift * np.sin(angle))
        light += np.asarray(soft.transform(image.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR))
    return Image.fromarray(np.rint(light / steps).astype(np.uint8))


def _colour_cast(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A white balance set for other lamps, channels that leak into each other, corners that the lens darkens."""
    warm, green = generator.normal(0.0, 0.16), generator.normal(0.0, 0.06)
    leak = generator.uniform(0.0, 0.18)
    mixing = np.diag(np.exp([warm, green, -warm])) @ (np.eye(3) * (1 - leak) + leak / 3)
    rows, columns = np.mgrid[-1.0 : 1.0 : image.height * 1j, -1.0 : 1.0 : image.width * 1j].astype(np.float32)
    corners = 1.0 - generator.uniform(0.0, 0.35) * (rows**2 + columns**2)[..., None] / 2.0
    return _picture(_linear(image) @ mixing.T.astype(np.float32) * corners)


def _exposed(image: Image.Image, generator: np.random.Generator, stops: float, photons: float) -> Image.Image:
    """So many stops more light, counted by a sensor that holds so many photons of white."""
    light = _linear(image) * np.float32(2.0**stops)
    # So many photons scatter as Poisson's law says, which is near to the normal one.
    grain = generator.standard_normal(light.shape, np.float32)
    return _picture(light + np.sqrt(light / np.float32(photons)) * grain)


def _day(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """An exposure that is a little off."""
    return _exposed(image, generator, generator.uniform(-0.9, 0.7), _PHOTONS_BY_DAY)


def _night(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Two to three and a half stops too little light, with few photons."""
    return _exposed(image, generator, -generator.uniform(2.0, 3.5), _PHOTONS_BY_NIGHT)


def _jpeg(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Sent over a thin network."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(generator.integers(18, 80)))
    return Image.open(buffer).convert("RGB")


#: In the order in which the light meets them.
DISTORTIONS: dict[str, Step] = {
    "letterbox": _letterbox,
    "caption": _caption,
    "pixel grid": _pixel_grid,
    "pose": _pose,
    "passer-by": _passer_by,
    "reflection": _reflection,
    "focus": _focus,
    "colour cast": _colour_cast,
    "day": _day,
    "night": _night,
    "JPEG": _jpeg,
}
#: How many captures of the field meet each.
_SHARES = {
    "letterbox": 0.15,
    "caption": 0.15,
    "pixel grid": 0.4,
    "pose": 1.0,
    "passer-by": 0.2,
    "reflection": 0.3,
    "focus": 0.7,
    "colour cast": 0.8,
    "day": 0.8,
    "night": 0.15,
    "JPEG": 0.9,
}
