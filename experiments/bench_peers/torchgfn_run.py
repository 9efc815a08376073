"""torchgfn as its own examples train (tutorials/examples/train_hypergrid_simple.py, train_bitsequence_non_autoregressive.py):
shared-trunk MLP, `Sampler` that saves its log probabilities, TB loss without recomputing them. Without progress bar, validation
and gradient clipping, which no other library here does; action and state checks are off (debug=False is the default).
"""
from typing import Any

import numpy as np
import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid, NonAutoregressiveBitSequence
from gfn.preprocessors import KHotPreprocessor, Preprocessor
from gfn.samplers import Sampler
from gfn.utils.modules import MLP
from worker import serve


class OneHotWords(Preprocessor):
    """Each place as a one-hot vector, the empty one last, as the other libraries' networks see it."""

    def __init__(self, places: int, words: int):
        super().__init__(output_dim=places * (words + 1))
        self.words = words

    def preprocess(self, states) -> torch.Tensor:
        """float32 [..., places * (words + 1)]."""
        index = torch.where(states.tensor < 0, self.words, states.tensor)
        return torch.nn.functional.one_hot(index, self.words + 1).flatten(-2).float()


class TorchRunner:
    """See `worker.Runner`."""

    def __init__(self, spec: dict[str, Any]):
        self.versions = {"torchgfn": "2.4.1", "torch": torch.__version__, "numpy": np.__version__}
        torch.set_num_threads(1)  # with more, its threads wait for each other in spinning loops: far slower on a shared machine
        self.train, self.task = spec["training"], spec["task"]
        task = self.task
        if task["name"] == "hypergrid":
            rewards = {"R0": task["r0"], "R1": task["r1"], "R2": task["r2"]}
            self.env = HyperGrid(task["dim"], task["side"], "original", rewards)
            self.seen = KHotPreprocessor(task["side"], task["dim"])
        else:
            modes = torch.tensor(task["modes"])
            self.env = NonAutoregressiveBitSequence(
                task["word"], task["num_bits"], len(modes), task["reward_exponent"], modes)
            self.seen = OneHotWords(self.env.words_per_seq, self.env.n_words)

    def reset(self, seed: int) -> None:
        """See `worker.Runner`."""
        torch.manual_seed(seed)
        hidden, actions = self.train["hidden"], self.env.n_actions
        ahead = MLP(self.seen.output_dim, actions, hidden[0], len(hidden))
        back = MLP(self.seen.output_dim, actions - 1, trunk=ahead.trunk)
        self.policy = DiscretePolicyEstimator(ahead, actions, preprocessor=self.seen)
        backward = DiscretePolicyEstimator(back, actions, preprocessor=self.seen, is_backward=True)
        self.flownet = TBGFlowNet(pf=self.policy, pb=backward, init_logZ=0.0)
        self.sampler = Sampler(estimator=self.policy)
        self.optimizer = torch.optim.Adam(self.flownet.pf_pb_parameters(), lr=self.train["lr"])
        self.optimizer.add_param_group({"params": self.flownet.logz_parameters(), "lr": self.train["flow_lr"]})

    def run(self, iterations: int) -> None:
        """See `worker.Runner`."""
        for _ in range(iterations):
            trajectories = self.sampler.sample_trajectories(
                self.env, n=self.train["batch"], save_logprobs=True, save_estimator_outputs=False)
            self.optimizer.zero_grad()
            self.flownet.loss(self.env, trajectories, recalculate_all_logprobs=False).backward()
            self.optimizer.step()

    def log_policy(self, states: np.ndarray) -> np.ndarray:
        """See `worker.Runner`."""
        tensor = torch.as_tensor(states).long()
        if self.task["name"] != "hypergrid":
            tensor = torch.where(tensor == 2 ** self.task["word"], -1, tensor)
        batch = self.env.States(tensor)
        with torch.no_grad():
            logits = torch.where(batch.forward_masks, self.policy(batch), -1e9)
            return torch.log_softmax(logits, -1).numpy()


if __name__ == "__main__":
    serve(TorchRunner)
