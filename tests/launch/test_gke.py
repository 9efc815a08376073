"""JobSet manifests: against a schema, against golden files, and what a slice would miss if a number were wrong."""

import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from hjepa_gfn.errors import UserError
from launch.generations import GENERATIONS, make_slice
from launch.gke import manifest, to_yaml, xpk_lines
from tests.launch.helpers import check_golden, job

SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())
IMAGE = "us-docker.pkg.dev/project/repo/hjepa:1"
CLUSTER = {"cluster": "", "project": "p", "zone": "us-east5-a"}


def render(tpu, topology, slices=1, chips_per_host=None, workdir="gs://bucket/run", **options):
    piece = make_slice(tpu, topology, chips_per_host)
    document = manifest(job(piece.devices * slices, slices, workdir=workdir), piece, slices, IMAGE, **options)
    document = yaml.safe_load(to_yaml(document))  # as kubectl reads it
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return document


def parts(document):
    replicated = document["spec"]["replicatedJobs"][0]
    pod = replicated["template"]["spec"]["template"]["spec"]
    return replicated, replicated["template"]["spec"], pod, pod["containers"][0]


@pytest.mark.parametrize(
    ("tpu", "topology", "slices", "label", "hosts", "chips"),
    [
        ("v4", "2x2x4", 1, "tpu-v4-podslice", 4, 4),
        ("v5e", "16x16", 2, "tpu-v5-lite-podslice", 64, 4),
        ("v5e", "2x4", 1, "tpu-v5-lite-podslice", 1, 8),
        ("v5p", "8x8x8", 4, "tpu-v5p-slice", 128, 4),
        ("v6e", "1x1", 1, "tpu-v6e-slice", 1, 1),
        ("v6e", "4x8", 3, "tpu-v6e-slice", 8, 4),
        ("tpu7x", "4x4x4", 2, "tpu7x", 16, 4),
    ],
)
def test_hosts_chips_and_nodes(tpu, topology, slices, label, hosts, chips):
    replicated, work, pod, container = parts(render(tpu, topology, slices))
    assert replicated["replicas"] == slices
    assert work["completions"] == work["parallelism"] == hosts and work["completionMode"] == "Indexed"
    assert container["resources"] == {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label, "cloud.google.com/gke-tpu-topology": topology}  # fmt: skip
    # between slices, through the hosts' own network; else through the cluster's
    assert (pod.get("hostNetwork"), pod.get("dnsPolicy")) == ((True, "ClusterFirstWithHostNet") if slices > 1 else (None, None))


def test_ports_restarts_and_the_bucket():
    document = render("v5p", "4x4x4", 2, restarts=7)
    _, work, pod, container = parts(document)
    assert {"name": "JAX_COORDINATOR_PORT", "value": "8476"} in container["env"]
    assert {port["containerPort"] for port in container["ports"]} == {8471, 8080, 8476}
    assert document["spec"]["failurePolicy"] == {"maxRestarts": 7} and work["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 60
    assert "--workdir=/gcs/bucket/run" in container["command"]
    assert container["volumeMounts"] == [{"name": pod["volumes"][0]["name"], "mountPath": "/gcs/bucket"}]
    attributes = pod["volumes"][0]["csi"]["volumeAttributes"]
    assert attributes["bucketName"] == "bucket"
    assert {"rename-dir-limit=200000", "metadata-cache:ttl-secs:0", "metadata-cache:negative-ttl-secs:0"} < set(
        attributes["mountOptions"].split(","))  # checkpoints are renamed; what one host writes the others see
    assert attributes["hostNetworkPodKSA"] == "true"
    assert work["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert document["metadata"]["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"] == "cloud.google.com/gke-nodepool"
    assert "hostNetworkPodKSA" not in parts(render("v5p", "4x4x4"))[2]["volumes"][0]["csi"]["volumeAttributes"]
    assert "volumes" not in parts(render("v5p", "4x4x4", workdir="/shared/run"))[2]


def test_every_topology_is_a_valid_manifest():
    for name, kind in GENERATIONS.items():
        for topology in kind.small:
            render(name, topology, queue="q", service_account="sa", spot=True)


def test_golden_manifests():
    one = manifest(job(16), make_slice("v6e", "4x4"), 1, IMAGE, queue="lane", service_account="trainer", spot=True)
    check_golden("gke_v6e_4x4.yaml", to_yaml(one))
    two = manifest(job(256, 2), make_slice("tpu7x", "4x4x4"), 2, IMAGE)
    check_golden("gke_tpu7x_2_slices.yaml", to_yaml(two))


def test_xpk_lines():
    lines = xpk_lines(job(128, 2), make_slice("v5p", "4x4x4"), 2, IMAGE, 3, CLUSTER)
    check_golden("gke_xpk.txt", "\n".join(lines) + "\n")
    words = shlex.split(lines[-1])
    assert words[:3] == ["xpk", "workload", "create"] and "--tpu-type=v5p-128" in words and "--num-slices=2" in words
    command = next(word for word in words if word.startswith("--command=")).removeprefix("--command=")
    assert shlex.split(command) == job(128, 2).command()
    assert "--tpu-type=v5p-4x4x16" in xpk_lines(job(256), make_slice("v5p", "4x4x16"), 1, IMAGE, 3, CLUSTER)[-1]


def test_refusals():
    with pytest.raises(UserError, match="^--slices=2: GKE joins slices of several hosts only, and a 2x4 slice of v6e has one"):
        render("v6e", "2x4", 2)
    assert parts(render("v6e", "2x4", 2, chips_per_host=4))[1]["completions"] == 2
    for image in ("", "my image", "-x", "a\nb"):
        with pytest.raises(UserError, match="^--image="):
            manifest(job(4), make_slice("v6e", "2x2"), 1, image)


def test_the_schema_is_strict():
    document = render("v6e", "4x4")
    document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["hostNetworking"] = True
    with pytest.raises(jsonschema.ValidationError, match="hostNetworking"):
        jsonschema.validate(document, SCHEMA)
