"""Rendered frames as small PNGs inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def frame_array(frame: np.ndarray) -> np.ndarray:
    """The frame as uint8 [H, W, 3].

    Raises:
      ValueError: if it has another shape.
    """
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"a frame must be uint8 [H, W, 3], got an array of shape {array.shape}")
    return np.ascontiguousarray(array.astype(np.uint8))


def png_bytes(frame: np.ndarray) -> bytes:
    """PNG with a palette of a uint8 [H, W, 3] frame: exact up to 256 colours (a grid world has some 50), else close."""
    array = frame_array(frame)
    packed = array.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, index = np.unique(packed, return_inverse=True)
    if len(colours) <= 256:
        image = Image.fromarray(index.reshape(array.shape[:2]).astype(np.uint8))
        palette = np.stack([colours >> 16, colours >> 8, colours], -1).astype(np.uint8)
        image.putpalette(palette.tobytes())
    else:
        image = Image.fromarray(array).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def data_url(png: bytes) -> str:
    """The PNG as a `data:` URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def unique_frames(frames: list[np.ndarray]) -> tuple[list[bytes], list[int]]:
    """PNGs without repetition, and for each frame the index of its PNG."""
    pngs: list[bytes] = []
    seen: dict[tuple[tuple[int, ...], bytes], int] = {}
    order = []
    for frame in frames:
        array = frame_array(frame)
        key = (array.shape, array.tobytes())
        if key not in seen:
            seen[key] = len(pngs)
            pngs.append(png_bytes(array))
        order.append(seen[key])
    return pngs, order
