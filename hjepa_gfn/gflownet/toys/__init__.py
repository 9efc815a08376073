"""Latent variable models whose exact EM is known, to validate `gflownet.em`."""
