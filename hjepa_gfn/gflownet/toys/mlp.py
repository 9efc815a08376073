"""A small fully connected network with a linear path beside it, as pure functions."""
import jax
import jax.numpy as jnp

Params = list[dict[str, jnp.ndarray]]


def init_mlp(key: jnp.ndarray, inputs: int, outputs: int, width: int = 64, depth: int = 2) -> Params:
    """Parameters of `depth` hidden layers: He-scaled, the output layers zero (a uniform policy to begin with)."""
    sizes = [inputs] + [width] * depth
    hidden = [
        {"w": jax.random.normal(k, (a, b)) * (2.0 / a) ** 0.5, "b": jnp.zeros(b)}
        for k, a, b in zip(jax.random.split(key, depth), sizes[:-1], sizes[1:])]
    return [*hidden, {"w": jnp.zeros((width, outputs)), "b": jnp.zeros(outputs), "skip": jnp.zeros((inputs, outputs))}]


def apply_mlp(params: Params, x: jnp.ndarray) -> jnp.ndarray:
    """x [..., inputs] -> [..., outputs]: a ReLU network plus a linear map of x."""
    hidden = x
    for layer in params[:-1]:
        hidden = jax.nn.relu(hidden @ layer["w"] + layer["b"])
    last = params[-1]
    return hidden @ last["w"] + x @ last["skip"] + last["b"]
