"""The field's standard environments, to validate the losses and to compare speeds."""
from hjepa_gfn.gflownet.environments.bit_sequences import BitSequences
from hjepa_gfn.gflownet.environments.hypergrid import Hypergrid

__all__ = ["BitSequences", "Hypergrid"]
