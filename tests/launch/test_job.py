"""Jobs are checked before anything is asked for."""

import pytest

from hjepa_gfn.errors import UserError
from launch.job import config_arguments
from tests.launch.helpers import job


def test_a_bucket_is_a_folder_of_the_hosts():
    made = job(data_dir="/tmp/corpus")
    assert made.bucket == "bucket"
    assert made.command() == [
        "python", "-m", "experiments.train", "--config=babyai_gotolocal", "--config.mesh.replica=1", "--config.mesh.data=-1",
        "--workdir=/gcs/bucket/run", "--data_dir=/tmp/corpus",
    ]  # fmt: skip
    assert job(workdir="/shared/run").bucket is None
    assert job(workdir="/shared/run", data_dir="gs://data/corpus").bucket == "data"


@pytest.mark.parametrize("name", ["", "Mine", "my_run", "my.run", "1run", "-run", "run-", "run me", "a" * 40, "rün", "run\n"])
def test_names_that_clusters_refuse(name):
    with pytest.raises(UserError, match="^--name="):
        job(name=name)


def test_names():
    assert job(name="a" * 39).name == "a" * 39 and job(name="r-1").name == "r-1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(workdir="runs/mine"), "^--workdir=runs/mine: must begin with /"),
        (dict(workdir="s3://b/run"), "^--workdir=s3://b/run: must be a path, or gs://bucket/path"),
        (dict(workdir="gs://bucket"), "give a folder in the bucket, as in gs://bucket/run"),
        (dict(workdir="gs://UPPER/run"), "must be a path, or gs://bucket/path"),
        (dict(workdir="gs://bucket/run", buckets=False), "these hosts mount no bucket"),
        (dict(data_dir="gs://other/corpus"), "^--data_dir=gs://other/corpus: must be in the bucket of --workdir="),
        (dict(slices=0), "^--slices=0"),
    ],
)
def test_places_that_hosts_do_not_have(given, message):
    with pytest.raises(UserError, match=message):
        job(**given)


def test_all_devices_are_in_the_mesh():
    assert "--config.mesh.replica=2" in job(devices=128, slices=2).arguments  # left open: replica between slices
    good = ({"replica": 2, "fsdp": -1}, {"replica": 2, "fsdp": 64}, {"replica": -1, "tensor": 4}, {"replica": 4, "data": -1})
    for mesh in good:
        assert not any(word.startswith("--config.mesh") for word in job(devices=128, slices=2, mesh=mesh).arguments)
    with pytest.raises(UserError, match="replica 1 x data 8 x fsdp 1 x tensor 1 does not use all of the job's 64 devices"):
        job(mesh={"data": 8})
    with pytest.raises(UserError, match="does not use all"):
        job(mesh={"data": -1, "tensor": 3})
    with pytest.raises(UserError, match="does not use all"):  # said, not left open
        job(words=("--config.mesh.data=1",))
    with pytest.raises(UserError, match="only one axis can be -1"):
        job(mesh={"data": -1, "fsdp": -1})
    with pytest.raises(UserError, match="--config.mesh.replica=1: must be a multiple of --slices=2"):
        job(slices=2, mesh={"data": -1})


def test_words_of_the_config_are_handed_on():
    argv = ["--tpu=v5p", "--config=babyai_gotolocal", "-config.seed=3", "--configure=x", "--config.em.epsilon=0.1"]
    assert config_arguments(argv) == ["--config=babyai_gotolocal", "--config.seed=3", "--config.em.epsilon=0.1"]
    with pytest.raises(UserError, match="^--config.seed: write it with its value as one word, as in --config.seed=value"):
        config_arguments(["--config.seed", "3"])
    with pytest.raises(UserError, match="^--noconfig.model.mutual: write --config.model.mutual=false"):
        config_arguments(["--noconfig.model.mutual"])
    with pytest.raises(UserError, match="^--config=/home/me/c.py: the hosts have the repository only"):
        config_arguments(["--config=/home/me/c.py"])
