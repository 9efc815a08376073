"""Networks (Flax Linen): shared encoder, edit heads, explainer, energy, JEPA levels. No training loop, no world."""
