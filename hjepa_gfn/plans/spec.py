"""The static description of a family of plan trees: how many scales, how large each vocabulary, how much room."""
import dataclasses

import numpy as np

from hjepa_gfn.errors import UserError


@dataclasses.dataclass(frozen=True)
class PlanSpec:
    """Sizes of a plan tree. Scale 0 is the coarsest, scale `num_scales - 1` the finest (primitive actions).

    Attributes:
      state_codes: number of state codes of each scale.
      action_codes: number of action codes of each scale.
      capacity: N, the number of state tokens in a buffer, `s_0` included; a plan that fills it can only STOP.
      max_edits: a plan with this many edits can only STOP; also T, the longest trajectory.
    """

    state_codes: tuple[int, ...]
    action_codes: tuple[int, ...]
    capacity: int
    max_edits: int

    def __post_init__(self):
        if len(self.state_codes) != len(self.action_codes) or not self.state_codes:
            raise UserError(
                f"PlanSpec: state_codes has {len(self.state_codes)} scales and action_codes {len(self.action_codes)}; "
                "give one size per scale in both, for at least one scale"
            )
        if self.capacity < 1 or self.max_edits < 1:
            raise UserError(f"PlanSpec: capacity={self.capacity} and max_edits={self.max_edits} must be at least 1")

    @property
    def num_scales(self) -> int:
        return len(self.state_codes)

    @property
    def num_sites(self) -> int:
        """Number of (token, scale, kind) triples."""
        return self.capacity * self.num_scales * 3

    @property
    def vocabulary(self) -> int:
        """Size of the joint plan vocabulary: state codes of every scale, then action codes of every scale."""
        return sum(self.state_codes) + sum(self.action_codes)

    def offsets(self) -> np.ndarray:
        """int32[2, S]: where the state codes (row 0) and action codes (row 1) of each scale begin in the vocabulary."""
        sizes = np.array(self.state_codes + self.action_codes)
        return (np.cumsum(sizes) - sizes).reshape(2, self.num_scales).astype(np.int32)

    def code_mask(self) -> np.ndarray:
        """bool[2, S, vocabulary]: which vocabulary entries may follow INSERT (row 0) and ACT (row 1) at each scale."""
        sizes = np.array([self.state_codes, self.action_codes])[..., None]
        start = self.offsets()[..., None]
        entry = np.arange(self.vocabulary)
        return (entry >= start) & (entry < start + sizes)
