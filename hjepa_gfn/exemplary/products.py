"""What the exemplary actor's loop is about: plans, or predictions. A product is read off a text; equality says what changed."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.forecasts import parse_prediction
from hjepa_gfn.exemplary.phrases import legs_of, parse_plan


class Product(NamedTuple):
    """A kind of product.

    Attributes:
        name: as traces and messages call it.
        read: a text to the value that it states, up to its first full stop; raises UserError for a text that states none.
            Two texts with equal values are the same product in other words.
        core: a value to what drafts must differ in to count as different drafts.
    """

    name: str
    read: Callable[[str], Any]
    core: Callable[[Any], Any]


PLAN = Product("plan", parse_plan, legs_of)
PREDICTION = Product("prediction", parse_prediction, lambda prediction: prediction)
PRODUCTS = {product.name: product for product in (PLAN, PREDICTION)}


def product_named(name: str) -> Product:
    """The product of a name. Raises UserError where there is none."""
    if name not in PRODUCTS:
        raise UserError(f"unknown product {name!r}: choose from {', '.join(PRODUCTS)}")
    return PRODUCTS[name]
