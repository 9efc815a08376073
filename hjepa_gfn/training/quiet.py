"""Keeps the libraries' progress chatter out of a run's output; warnings that matter are ours to print."""

from __future__ import annotations

import logging


def quiet() -> None:
    """Lets Orbax, absl, JAX and tensorstore report errors only. Calling it again does no harm."""
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.set_stderrthreshold(absl_logging.ERROR)
    for name in ("absl", "orbax", "jax", "jax._src.xla_bridge", "tensorboardX"):
        logging.getLogger(name).setLevel(logging.ERROR)
