"""What keeps a JEPA's representations from collapsing: exchangeable terms behind one interface, one config field.

    sigreg   the Epps-Pulley statistic of random projections (Balestriero & LeCun 2025)
    gaussian the same, and the divergence of mean and covariance from a standard normal's, whose log-determinant (Ozsoy et al.
             2022) pushes the harder the smaller a direction's variance is, where SIGReg's gradient fades
    vicreg   variance hinge and covariance (Bardes et al. 2022)
    ema      targets from a slowly following copy of the encoders (Grill et al. 2020); no term of the loss
    none     nothing: for ablations

A term is a function (key, z [N, Z], weight [N]) -> scalar, over the global batch: under sharding the means run over all
devices' rows, so that the value does not depend on the mesh.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError

SIGREG_FLOOR = 1.05  # expected value under a standard normal, independent of N
GAUSSIAN_KL = 10.0   # in `gaussian`, the weight of the divergence beside the statistic
RIDGE = 1e-3         # added to variances in it: batches smaller than the states are wide have a finite one
SIGREG_COLLAPSE = 0.402  # times N: its value where all embeddings are zero


def sigreg(key: jnp.ndarray, z: jnp.ndarray, weight: jnp.ndarray, slices: int = 64) -> jnp.ndarray:
    """Epps-Pulley statistic of z on random unit directions A, averaged over slices:

        N sum_t w_t phi_t [(mean cos(t zA) - phi_t)^2 + (mean sin(t zA))^2],   phi_t = exp(-t^2/2),
    17 knots t in [0, 3] with trapezoid weights w_t. z [N, Z], weight [N] (0 for padding), means over the global batch.
    """
    chex.assert_shape(weight, z.shape[:1])
    directions = jax.random.normal(key, (z.shape[1], slices))
    directions /= jnp.linalg.norm(directions, axis=0)
    knots = jnp.linspace(0.0, 3.0, 17)
    step = 2 * 3.0 / 16  # the integrand is even: [0, 3] stands for [-3, 3]
    trapezoid = jnp.full((17,), step).at[0].set(step / 2).at[-1].set(step / 2)
    phi = jnp.exp(-(knots**2) / 2)
    count = jnp.maximum(weight.sum(), 1.0)
    angle = (z @ directions)[..., None] * knots
    share = (weight / count)[:, None, None]
    real, imaginary = jnp.sum(share * jnp.cos(angle), 0), jnp.sum(share * jnp.sin(angle), 0)
    statistic = count * jnp.sum(trapezoid * phi * ((real - phi) ** 2 + imaginary**2), axis=-1)
    return statistic.mean()


def spread(z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """Mean over dimensions of the weighted standard deviation of z [N, Z], weight [N] (population)."""
    share = weight[:, None] / jnp.maximum(weight.sum(), 1.0)
    return jnp.sqrt(jnp.sum(share * (z - jnp.sum(share * z, 0)) ** 2, 0)).mean()


def covariance(z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """Weighted covariance [Z, Z] of z [N, Z], weight [N]."""
    count = jnp.maximum(weight.sum(), 1.0)
    centred = (z - jnp.sum(z * weight[:, None], 0) / count) * jnp.sqrt(weight)[:, None]
    return centred.T @ centred / count


def variance_hinge(z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """mean_i max(0, 1 - std_i) of z [N, Z], weight [N], std_i = sqrt(C_ii + 1e-4) (VICReg, equation 1)."""
    chex.assert_shape(weight, z.shape[:1])
    return jnp.maximum(0.0, 1.0 - jnp.sqrt(jnp.diagonal(covariance(z, weight)) + 1e-4)).mean()


def off_diagonal(z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """(1/Z) sum_{i != j} C_ij^2, C the covariance of z [N, Z], weight [N] (VICReg, equation 3)."""
    chex.assert_shape(weight, z.shape[:1])
    c = covariance(z, weight)
    return jnp.sum((c - jnp.diag(jnp.diagonal(c))) ** 2) / z.shape[1]


def vicreg(key: jnp.ndarray, z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """`variance_hinge` + `off_diagonal` of z [N, Z], weight [N]."""
    del key
    return variance_hinge(z, weight) + off_diagonal(z, weight)


def standard_normal_kl(z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """2/Z KL(N(m, S) || N(0, I)) = (tr S + |m|^2 - log det S - Z) / Z, m the mean and S the covariance + RIDGE I of z [N, Z],
    weight [N]: 0 where both are a standard normal's, -log RIDGE / Z more for every direction that collapses."""
    chex.assert_shape(weight, z.shape[:1])
    size = z.shape[1]
    s = covariance(z, weight) + RIDGE * jnp.eye(size)
    mean = jnp.sum(z * weight[:, None], 0) / jnp.maximum(weight.sum(), 1.0)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(s))))
    return (jnp.trace(s) + jnp.sum(mean**2) - log_det - size) / size


def gaussian(key: jnp.ndarray, z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """`sigreg` + GAUSSIAN_KL `standard_normal_kl` of z [N, Z], weight [N]."""
    return sigreg(key, z, weight) + GAUSSIAN_KL * standard_normal_kl(z, weight)


def nothing(key: jnp.ndarray, z: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    """0."""
    del key, weight
    return jnp.zeros((), z.dtype)


TERMS: dict[str, Callable] = {"sigreg": sigreg, "gaussian": gaussian, "vicreg": vicreg, "ema": nothing, "none": nothing}


def term_of(name: str) -> Callable:
    """The term that `config.jepa.anti_collapse` names. Raises UserError for any other name."""
    if name not in TERMS:
        raise UserError(f"jepa.anti_collapse={name!r}: must be one of {', '.join(TERMS)}")
    return TERMS[name]
