"""The training loop and what it stands on: checkpoints, metrics, progress, stopping and resuming."""

from hjepa_gfn.training.checkpoints import Checkpoint, Checkpoints, load_checkpoint, workdir_of
from hjepa_gfn.training.loop import run
from hjepa_gfn.training.metrics import read_metrics
from hjepa_gfn.training.progress import Progress
from hjepa_gfn.training.quiet import quiet
from hjepa_gfn.training.task import Task

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Progress",
    "Task",
    "load_checkpoint",
    "quiet",
    "read_metrics",
    "run",
    "workdir_of",
]
