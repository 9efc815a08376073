"""Two rooms: a point in a box with a wall across it and a door in the wall, seen as pixels. Pure functions, jitted and vmapped.

The navigation task of PLDM (Sobal et al. 2025, arXiv:2502.14819) and EB-JEPA (facebookresearch/eb_jepa, `datasets/two_rooms`):
an action is a displacement, a step that would touch something solid is not taken, and the percept has two channels, a Gaussian
dot and the walls. `PUBLISHED` has EB-JEPA's measures; the defaults are the same task in a box of 17 units instead of 56, with
steps twice as long: fewer are needed. `slide` is the collision rule of stable-worldmodel's TwoRoom instead.

A position is float [..., 2] (x, y) in pixels, x to the right; a layout float [..., 2] (x of the wall, y of the door's centre).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Rooms:
    """Measures of the task, in pixels."""

    size: int = 20                             # of the image, both ways
    low: float = 1.0                           # the free box is (low, high) both ways
    high: float = 18.0
    wall: tuple[int, int] = (9, 10)            # x of the wall, ends included
    door: tuple[int, int] = (3, 16)            # y of the door's centre, ends included
    wall_half: float = 1.0                     # half the wall's thickness
    door_half: float = 2.0                     # half the door's opening
    dot: float = 1.3                           # standard deviation of the dot
    margin: float = 1.2                        # starts and goals keep this far from walls
    step_mean: float = 2.0                     # length of the exploring steps: a normal distribution, truncated
    step_std: float = 0.8
    step_range: tuple[float, float] = (0.4, 3.6)
    turn: float = 5.0                          # concentration of the von Mises distribution of their turns
    crossing: float = 0.35                     # share of exploring walks that are drawn through the door
    roam: int = 0                              # steps of a whole walk, of which training sees a window; 0: the window is all
    near: float = 1.4                          # a goal is reached within this distance
    allowed: int = 30                          # steps of an episode


PUBLISHED = Rooms(
    size=65, low=4.0, high=60.0, wall=(20, 44), door=(10, 54), door_half=4.0, margin=2.6, near=4.5, allowed=200,
    step_mean=1.0, step_std=0.4, step_range=(0.2, 1.8), roam=90)


def layouts(rooms: Rooms, split: str) -> np.ndarray:
    """Layouts float32 [N, 2] of a split: 70, 10 and 20 % of all in a fixed random order, so that no split has another's."""
    both = itertools.product(range(rooms.wall[0], rooms.wall[1] + 1), range(rooms.door[0], rooms.door[1] + 1))
    every = np.random.default_rng(0).permutation(np.array(list(both), np.float32))
    cuts = [0, int(0.7 * len(every)), int(0.8 * len(every)), len(every)]
    at = SPLITS.index(split)
    return every[cuts[at] : cuts[at + 1]]


def _crosses(start: jnp.ndarray, end: jnp.ndarray, axis: int, line: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Whether start-end [..., 2] goes over the line where coordinate `axis` is `line` [...], and the other coordinate there."""
    before, after = start[..., axis], end[..., axis]
    over = (before - line) * (after - line) < 0.0
    share = (line - before) / jnp.where(over, after - before, 1.0)
    other = start[..., 1 - axis] + share * (end[..., 1 - axis] - start[..., 1 - axis])
    return over, other


def blocked(rooms: Rooms, layout: jnp.ndarray, start: jnp.ndarray, end: jnp.ndarray) -> jnp.ndarray:
    """Whether the way start-end meets a border or the wall beside its door; all [..., 2] -> bool [...].

    EB-JEPA's `WallDataset.generate_transitions`: the whole segment is tested, so that no step is long enough to tunnel.
    """
    wall, door = layout[..., 0], layout[..., 1]
    found = jnp.any((end <= rooms.low) | (end >= rooms.high), -1)
    for face in (wall - rooms.wall_half, wall + rooms.wall_half):
        over, y = _crosses(start, end, 0, face)
        found |= over & (jnp.abs(y - door) > rooms.door_half)
    for side in (door - rooms.door_half, door + rooms.door_half):  # from within the opening into the wall
        over, x = _crosses(start, end, 1, side)
        found |= over & (jnp.abs(x - wall) <= rooms.wall_half)
    return found


def step(rooms: Rooms, layout: jnp.ndarray, position: jnp.ndarray, action: jnp.ndarray) -> jnp.ndarray:
    """The next position [..., 2]; the same where the way is blocked. layout, position, action [..., 2]."""
    end = position + action
    return jnp.where(blocked(rooms, layout, position, end)[..., None], position, end)


def slide(
    layout: jnp.ndarray, position: jnp.ndarray, action: jnp.ndarray, *, size: float = 224.0, border: float = 14.0,
    radius: float = 7.0, wall_half: float = 5.0, door_half: float = 14.0, speed: float = 5.0, slack: float = 1.75,
    push: float = 0.5,
) -> jnp.ndarray:
    """The rule of stable-worldmodel 0.1.1's `TwoRoomEnv` (vertical wall, one door), whose agent has a radius; its defaults.

    Clamped to the border, and to the near face of the wall less `push`, unless the step ends at the door's height: only the end
    is looked at. layout, position, action [..., 2] -> [..., 2].
    """
    end = jnp.clip(position + speed * jnp.clip(action, -1.0, 1.0), border + radius, size - border - radius)
    wall, door = layout[..., 0], layout[..., 1]
    left, right = wall - wall_half - radius, wall + wall_half + radius
    shut = jnp.abs(end[..., 1] - door) > door_half + slack
    from_left = position[..., 0] < wall
    x = jnp.where(shut & from_left & (end[..., 0] > left), left - push, end[..., 0])
    x = jnp.where(shut & ~from_left & (end[..., 0] < right), right + push, x)
    return jnp.stack([x, end[..., 1]], -1)


def walls(rooms: Rooms, layout: jnp.ndarray) -> jnp.ndarray:
    """The channel of the walls, float32 [..., size, size] in {0, 1}, rows y, columns x: border lines, the wall, no door."""
    place = jnp.arange(rooms.size, dtype=jnp.float32)
    column = jnp.abs(place - layout[..., :1]) <= rooms.wall_half
    row = jnp.abs(place - layout[..., 1:]) > rooms.door_half
    line = (place == rooms.low) | (place == rooms.high)
    solid = (row[..., :, None] & column[..., None, :]) | line[:, None] | line[None, :]
    return solid.astype(jnp.float32)


def render(rooms: Rooms, layout: jnp.ndarray, position: jnp.ndarray) -> jnp.ndarray:
    """The percept [..., size, size, 2]: exp(-r^2 / 2 dot^2) around the position, `walls`. layout, position [..., 2]."""
    place = jnp.arange(rooms.size, dtype=jnp.float32)
    bell = jnp.exp(-((place - position[..., None]) ** 2) / (2 * rooms.dot**2))  # separable
    dot = bell[..., 1, :, None] * bell[..., 0, None, :]
    return jnp.stack([dot, jnp.broadcast_to(walls(rooms, layout), dot.shape)], -1)


def start_and_goal(rooms: Rooms, key: jnp.ndarray, layout: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Positions [B, 2] each, uniform within the rooms less the margin, in different rooms, either on the left. layout [B, 2].

    EB-JEPA's `DotWall._generate_start_and_target` at its level "normal".
    """
    place, side = jax.random.split(key)
    near, far = rooms.low + rooms.margin, rooms.high - rooms.margin
    face = rooms.wall_half + rooms.margin
    wall = layout[:, 0]
    share = jax.random.uniform(place, (2, *layout.shape))
    y = near + share[..., 1] * (far - near)
    left = jnp.stack([near + share[0, :, 0] * (wall - face - near), y[0]], -1)
    right = jnp.stack([wall + face + share[1, :, 0] * (far - wall - face), y[1]], -1)
    swap = jax.random.bernoulli(side, 0.5, (len(layout), 1))
    return jnp.where(swap, right, left), jnp.where(swap, left, right)
