"""gfnx as its own baselines train (baselines/tb_hypergrid.py, tb_bitseq.py): Equinox MLP, `forward_rollout`, trajectory balance
with a learned P_B, Adam with its own rate for log Z. Without their logging and metrics, and with the whole loop in one
`fori_loop` of a donated, jitted function: the fastest way that the library offers.
"""
from typing import Any

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from worker import serve


class Policy(eqx.Module):
    """Forward and backward logits of one observation, as the baselines' MLPPolicy; token observations are one-hot encoded."""

    network: eqx.nn.MLP
    num_forward: int = eqx.field(static=True)
    tokens: int = eqx.field(static=True)

    def __call__(self, x):
        if self.tokens:  # the first token is BOS
            x = jax.nn.one_hot(x[1:], self.tokens).reshape(-1)
        out = self.network(x)
        return {"forward_logits": out[: self.num_forward], "backward_logits": out[self.num_forward :]}


def make_environment(spec: dict[str, Any]) -> tuple[Any, Any, int, int]:
    """(env, env_params, width of the network's input, tokens or 0)."""
    task = spec["task"]
    if task["name"] == "hypergrid":
        reward = gfnx.GeneralHypergridRewardModule(task["r0"], task["r1"], task["r2"])
        env = gfnx.HypergridEnvironment(reward, dim=task["dim"], side=task["side"])
        return env, env.init(jax.random.PRNGKey(0)), task["dim"] * task["side"], 0
    modes = np.asarray(task["modes"], bool)
    reward = gfnx.BitseqRewardModule(task["num_bits"], task["word"], len(modes), task["reward_exponent"])
    env = gfnx.BitseqEnvironment(reward, n=task["num_bits"], k=task["word"])
    params = env.init(jax.random.PRNGKey(0)).replace(reward_params={"mode_set": jnp.asarray(modes)})
    tokens = 2 ** task["word"] + 1
    return env, params, task["num_bits"] // task["word"] * tokens, tokens


class GfnxRunner:
    """See `worker.Runner`."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.versions = {"gfnx": "0.0.1", "jax": jax.__version__, "numpy": np.__version__}
        self.env, self.env_params, width, tokens = make_environment(spec)
        env, env_params, train = self.env, self.env_params, spec["training"]
        actions, undos = env.action_space.n, env.backward_action_space.n

        def init(key):
            hidden = train["hidden"]
            mlp = eqx.nn.MLP(width, actions + undos, hidden[0], len(hidden), key=key)
            return eqx.partition(Policy(mlp, actions, tokens), eqx.is_array)

        self.static = init(jax.random.PRNGKey(0))[1]
        static = self.static
        labels = lambda params: {"model": jax.tree.map(lambda _: "network", params["model"]), "log_z": "log_z"}
        optimizer = optax.multi_transform(
            {"network": optax.adam(train["lr"]), "log_z": optax.adam(train["flow_lr"])}, labels)

        def policy_fn(key, obs, params):
            out = jax.vmap(eqx.combine(params, static))(obs)
            return out["forward_logits"], out

        def loss_fn(params, data):
            out = jax.vmap(jax.vmap(eqx.combine(params["model"], static)))(data.obs)
            mask = jax.vmap(env.get_invalid_mask, in_axes=(1, None), out_axes=1)(data.state, env_params)
            ahead = jax.nn.log_softmax(gfnx.utils.mask_logits(out["forward_logits"], mask), axis=-1)
            ahead = jnp.take_along_axis(ahead, data.action[..., None], axis=-1).squeeze(-1)
            log_pf = params["log_z"] + jnp.where(data.pad, 0.0, ahead).sum(1)
            before = jax.tree.map(lambda x: x[:, :-1], data.state)
            after = jax.tree.map(lambda x: x[:, 1:], data.state)
            undo = jax.vmap(env.get_backward_action, in_axes=(1, 1, 1, None), out_axes=1)(
                before, data.action[:, :-1], after, env_params)
            mask = jax.vmap(env.get_invalid_backward_mask, in_axes=(1, None), out_axes=1)(after, env_params)
            back = jax.nn.log_softmax(gfnx.utils.mask_logits(out["backward_logits"][:, 1:], mask), axis=-1)
            back = jnp.take_along_axis(back, undo[..., None], axis=-1).squeeze(-1)
            target = jnp.where(data.pad[:, :-1], 0.0, back + data.log_gfn_reward[:, :-1]).sum(1)
            return optax.losses.squared_error(log_pf, target).mean()

        def step(_, state):
            key, params, opt_state = state
            key, sample_key = jax.random.split(key)
            data, _ = gfnx.utils.forward_rollout(
                rng_key=sample_key, num_envs=train["batch"], policy_fn=policy_fn, policy_params=params["model"], env=env,
                env_params=env_params)
            grads = jax.grad(loss_fn)(params, data)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return key, optax.apply_updates(params, updates), opt_state

        def start(key):
            params = {"model": init(key)[0], "log_z": jnp.array(0.0)}
            return key, params, optimizer.init(params)

        self.start = jax.jit(start)
        self.train = jax.jit(lambda state, n: jax.lax.fori_loop(0, n, step, state), donate_argnums=0)
        self.logits = jax.jit(lambda params, obs: policy_fn(None, obs, params)[0])

    def reset(self, seed: int) -> None:
        """See `worker.Runner`."""
        self.state = self.start(jax.random.PRNGKey(seed))

    def run(self, iterations: int) -> None:
        """See `worker.Runner`."""
        self.state = jax.block_until_ready(self.train(self.state, iterations))

    def log_policy(self, states: np.ndarray) -> np.ndarray:
        """See `worker.Runner`."""
        task, full = self.spec["task"], np.zeros(len(states), bool)
        states = jnp.asarray(states)
        if task["name"] == "hypergrid":
            state = self.env.get_init_state(len(states)).replace(state=states)
        else:  # the library marks an empty place with the same word as we do, and stops by itself when all are full
            state = self.env.get_init_state(len(states)).replace(tokens=states)
            full = np.asarray((states < 2 ** task["word"]).all(-1))
        logits = self.logits(self.state[1]["model"], self.env.get_obs(state, self.env_params))
        invalid = self.env.get_invalid_mask(state, self.env_params)
        table = np.asarray(jax.nn.log_softmax(jnp.where(invalid, -1e9, logits), axis=-1))
        if task["name"] == "hypergrid":
            return table
        table = np.where(full[:, None], -1e9, table)
        return np.concatenate([table, np.where(full, 0.0, -1e9)[:, None]], axis=1)


if __name__ == "__main__":
    serve(GfnxRunner)
