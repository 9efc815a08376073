"""Entry points: bad input is one line on stderr and exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(size="small"):
    c = ConfigDict()
    c.lr, c.steps, c.name, c.size = 1e-3, 3, "x", size
    c.verbose = True
    c.model = ConfigDict({"width": 4, "dims": (1, 2)})
    c.limit = config_dict.placeholder(int)
    return c
"""

# Runs each case in a fork: one start of the interpreter for all of them.
DRIVER = """
import json, os, sys, tempfile
from absl import flags
from experiments import cli
from hjepa_gfn.errors import UserError

flags.DEFINE_string("out", None, "where to write")

def entry(config):
    if config.steps == 99:
        raise UserError("the input is bad,\\n  twice")
    if config.steps == 98:
        raise RuntimeError("a defect")
    print(json.dumps([config.to_dict(), flags.FLAGS.out]))

results = []
for case in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["entry", *case]
            cli.main(entry, config="CONFIG", required=("out",))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = [file.seek(0) or file.read().decode() for file in (out, err)]
        results.append([code, *texts])
print(json.dumps(results))
"""

OUT = "--out=here"
BAD = {
    "unknown field": ([OUT, "--config.stepz=1"], "--config.stepz: config of", "no field 'stepz'; did you mean steps?"),
    "unknown nested": ([OUT, "--config.model.colour=1"], "config.model of", "no field 'colour'; it has dims, width"),
    "field of a number": ([OUT, "--config.lr.x=1"], "--config.lr.x: config.lr of", "is 0.001 and has no fields"),
    "not an int": ([OUT, "--config.steps=many"], "--config.steps=many: must be of type int, such as 3", ""),
    "a float for an int": ([OUT, "--config.steps=1.5"], "--config.steps=1.5: must be of type int, such as 3", ""),
    "not a float": ([OUT, "--config.lr=fast"], "--config.lr=fast: must be of type float, such as 0.001", ""),
    "not a bool": ([OUT, "--config.verbose=maybe"], "--config.verbose=maybe: must be of type bool", ""),
    "not a tuple of ints": ([OUT, "--config.model.dims=(1,'a')"], "--config.model.dims: 'a' is not of type int", ""),
    "no section": ([OUT, "--config.model=3"], "--config.model=3: ", "not a dict"),
    "no such file": ([OUT, "--config=nowhere.py"], "--config=nowhere.py: no such file; in experiments/configs", ""),
    "an empty path": ([OUT, "--config="], "--config=: no such file", ""),
    "a broken file": ([OUT, "--config=broken.py"], "--config=broken.py: ", "cannot be loaded: SyntaxError"),
    "a file of something else": ([OUT, "--config=other.py"], "--config=other.py: ", "must return an ml_collections"),
    "a bad argument": ([OUT, "--config=config.py:a:b", "--config.size=1", "--config.lr=x"], "--config.lr=x", ""),
    "unknown flag": ([OUT, "--outt=1"], "Unknown command line flag 'outt'. Did you mean: out ?", ""),
    "an argument": ([OUT, "now"], "unexpected argument 'now'", ""),
    "a missing flag": ([], "--out is required: where to write", ""),
    "the entry point's own": ([OUT, "--config.steps=99"], "the input is bad, twice", ""),
}
GOOD = {
    "defaults": ([OUT], {}),
    "overrides": (
        f"{OUT} --config.lr=1 --config.model.width=7 --noconfig.verbose --config.steps 5 --config.limit=2".split(),
        {"lr": 1.0, "steps": 5, "verbose": False, "model": {"width": 7, "dims": [1, 2]}, "limit": 2},
    ),
    "a tuple": ([OUT, "--config.model.dims=(3,4,5)"], {"model": {"width": 4, "dims": [3, 4, 5]}}),
    "a path": ([OUT, "--config=config.py:large", "--config.lr=2"], {"size": "large", "lr": 2.0}),
    "a path apart": (["--config", "config.py", OUT], {}),
}
DEFECT = [OUT, "--config.steps=98"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """For each command line: exit code, stdout, stderr."""
    directory = tmp_path_factory.mktemp("cli")
    (directory / "config.py").write_text(CONFIG)
    (directory / "broken.py").write_text("def get_config(:\n")
    (directory / "other.py").write_text("def get_config():\n    return 3\n")
    cases = [*(case[0] for case in (BAD | GOOD).values()), DEFECT]
    output = subprocess.run(
        [sys.executable, "-c", DRIVER.replace("CONFIG", "config.py"), json.dumps(cases)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"},
        cwd=directory, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip([*BAD, *GOOD, "defect"], json.loads(output.stdout), strict=True))


@pytest.mark.parametrize("name", BAD)
def test_bad_input(results, name):
    code, out, err = results[name]
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    for part in BAD[name][1:]:
        assert part in err


@pytest.mark.parametrize("name", GOOD)
def test_good_input(results, name):
    code, out, err = results[name]
    assert (code, err) == (0, "")
    config, where = json.loads(out)
    defaults = {"lr": 1e-3, "steps": 3, "name": "x", "size": "small", "verbose": True, "limit": None}
    assert config == {**defaults, "model": {"width": 4, "dims": [1, 2]}, **GOOD[name][1]}
    assert where == "here"


def test_a_defect_keeps_its_traceback(results):
    code, _, err = results["defect"]
    assert code == 1 and "Traceback" in err and "RuntimeError: a defect" in err
