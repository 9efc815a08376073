"""The collapse alarm: a JEPA level whose embeddings have become one point, by two signs at once, ends the run.

Either sign alone is no collapse: embeddings can be small for a while without being one point, and SIGReg's statistic is large
too where they are spread but far from normal.
"""
from collections.abc import Mapping
from typing import Any


def collapse(step: int, means: Mapping[str, float], bars: Any) -> str | None:
    """What is wrong, in words; None where nothing is.

    Args:
      step: finished iterations. means: metrics by name, of which "jepa/<level>_std" and "jepa/<level>_collapse" (SIGReg over
        its value at collapse, 0.402 N) are read; a run whose iterations train no JEPA raises no alarm.
      bars: fields std (alarm below), sigreg (alarm above, a share of the value at collapse), after (quiet until then).
    """
    if step < bars.after:
        return None
    for name, std in means.items():
        level = name.removeprefix("jepa/").removesuffix("_std")
        share = means.get(f"jepa/{level}_collapse") if name == f"jepa/{level}_std" else None
        if share is not None and std < bars.std and share > bars.sigreg:
            return (f"the JEPA's level {level!r} has collapsed: std {std:.3g} (bar alarm.std={bars.std:g}), SIGReg at "
                    f"{share:.2f} of its value at collapse (bar alarm.sigreg={bars.sigreg:g})")
    return None
