"""This package behind the line protocol: `make_trainer` with its defaults, nothing else."""
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from worker import serve  # noqa: E402

from experiments.bench_peers.settings import make_env  # noqa: E402
from hjepa_gfn.gflownet.enumeration import policy_table  # noqa: E402
from hjepa_gfn.gflownet.networks import policy_network  # noqa: E402
from hjepa_gfn.gflownet.training import adam, make_trainer  # noqa: E402


class OurRunner:
    """See `worker.Runner`."""

    def __init__(self, spec: dict[str, Any]):
        train = spec["training"]
        self.versions = {"jax": jax.__version__, "numpy": np.__version__}
        self.env = make_env(spec["task"])
        network = policy_network(self.env, train["hidden"])
        self.trainer = make_trainer(self.env, network, train["loss"], adam(train["lr"], train["flow_lr"]), train["batch"])

    def reset(self, seed: int) -> None:
        """See `worker.Runner`."""
        self.state = self.trainer.init(jax.random.key(seed))

    def run(self, iterations: int) -> None:
        """See `worker.Runner`."""
        self.state, _ = jax.block_until_ready(self.trainer.train(self.state, iterations))

    def log_policy(self, states: np.ndarray) -> np.ndarray:
        """See `worker.Runner`."""
        return policy_table(self.env, self.trainer.network, self.state.params, states)


if __name__ == "__main__":
    serve(OurRunner)
