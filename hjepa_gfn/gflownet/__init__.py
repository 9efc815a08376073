"""Environment-agnostic GFlowNet parts: rollouts, losses, Metropolis-Hastings moves, gates, exact metrics."""
