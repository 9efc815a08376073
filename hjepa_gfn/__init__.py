"""H-JEPA agents with GFlowNet actors."""
