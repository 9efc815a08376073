"""Which configs a run can be resumed with."""

import pytest
from ml_collections import ConfigDict

from hjepa_gfn.errors import UserError
from hjepa_gfn.training.runconfig import check_same, plain

BEGUN = {"lr": 0.1, "model": {"width": 4, "dims": (1, 2)}, "total_steps": 10, "paths": {"data": "a"}, "empty": {}}


def test_plain_is_what_json_gives_back():
    assert plain(ConfigDict(BEGUN)) == {**BEGUN, "model": {"width": 4, "dims": [1, 2]}}
    with pytest.raises(ValueError):
        plain({"lr": float("nan")})


@pytest.mark.parametrize(
    "change",
    [{}, {"total_steps": 20}, {"paths": {"data": "b", "more": 1}}, {"log_every": 3}, {"model": BEGUN["model"]}],
)
def test_free_fields_may_differ(change):
    check_same(BEGUN, ConfigDict({**BEGUN, **change}), "/run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.2}, r"config\.lr is 0\.2, but the run in /run was begun with 0\.1"),
        ({"model": {"width": 4, "dims": (1, 3)}}, r"config\.model\.dims is \[1, 3\], .* begun with \[1, 2\]"),
        ({"model": {"width": 4}}, r"config\.model\.dims is absent, .* begun with \[1, 2\]"),
        ({"new": True}, r"config\.new is true, .* begun with absent"),
        ({"empty": 1}, r"config\.empty is 1, .* begun with \{\}"),
    ],
)
def test_others_must_not(change, message):
    with pytest.raises(UserError, match=message):
        check_same(BEGUN, {**BEGUN, **change}, "/run")


def test_what_is_free_can_be_said():
    check_same(BEGUN, {**BEGUN, "lr": 1}, "/run", free=("lr",))
    with pytest.raises(UserError, match="total_steps"):
        check_same(BEGUN, {**BEGUN, "total_steps": 1}, "/run", free=("lr",))
