"""Layers in numpy float64, on the parameters of ours: what the tests of levels and heads compare with."""
import numpy as np


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def mlp(p, x):
    return dense(p["out"], gelu(dense(p["hidden_0"], x)))
