"""A run on GKE: `python -m launch.gke --tpu=v5p --topology=4x4x4 --slices=2 --image=IMAGE --workdir=gs://bucket/run`.

Renders a JobSet (one replicated job a slice, one pod a host) and applies it with kubectl; `--dry_run` prints the manifest
only, with the same as a line of xpk above it. The cluster needs node pools of such slices, the JobSet controller and, for a
bucket, the Cloud Storage FUSE driver. The image holds the repository (`launch/Dockerfile`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from absl import flags

from experiments import cli
from hjepa_gfn.distributed.startup import PORT
from hjepa_gfn.errors import UserError
from launch import tools
from launch.generations import Slice, make_slice
from launch.job import DEFAULT_CONFIG, MOUNT, Job, define_flags, job_from_flags

_TPU_PORT, _SLICES_PORT = 8471, 8080  # the TPU runtime's, within a slice and between slices
_GRACE = 120  # seconds to save in after SIGTERM
# A checkpoint is put in its place by renaming a folder, which a bucket without folders of its own does object by object;
# and what one host has written, the others must see at once.
MOUNT_OPTIONS = (
    "implicit-dirs", "rename-dir-limit=200000", "metadata-cache:ttl-secs:0", "metadata-cache:negative-ttl-secs:0")  # fmt: skip


def manifest(job: Job, piece: Slice, slices: int, image: str, *, restarts: int = 3, service_account: str = "",
             queue: str = "", spot: bool = False) -> dict[str, Any]:  # fmt: skip
    """The JobSet of a job on `slices` equal slices.

    Args:
      job, piece, slices: what is run, on what.
      image: holds the repository as its working directory.
      restarts: how often all pods are started again when one fails; the run goes on from its newest checkpoint.
      service_account: Kubernetes service account, with access to the bucket.
      queue: Kueue's local queue.
      spot: on Spot nodes only.

    Raises:
      UserError: several slices of one host each, which GKE does not join; or no image name.
    """
    if slices > 1 and piece.hosts == 1:
        raise UserError(f"--slices={slices}: GKE joins slices of several hosts only, and a {piece.topology} slice of "
                        f"{piece.generation.name} has one: choose a larger --topology")  # fmt: skip
    if not re.fullmatch(r"[A-Za-z0-9][\w.:/@-]*", image):
        raise UserError(f"--image={image}: must name a container image, as in region-docker.pkg.dev/project/repo/name")
    metadata: dict[str, Any] = {
        "name": job.name,
        # a slice is a node pool: no two slices of the job, and no other job, in one
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
    }
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    hosts_job = {
        "completionMode": "Indexed",
        "completions": piece.hosts,
        "parallelism": piece.hosts,
        "backoffLimit": 0,  # one lost host ends the slice's job; JobSet then starts all of them again
        "template": _pod(job, piece, slices, image, service_account, spot),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {"maxRestarts": restarts},
            "replicatedJobs": [{"name": "slice", "replicas": slices, "template": {"spec": hosts_job}}],
        },
    }


def _pod(job: Job, piece: Slice, slices: int, image: str, service_account: str, spot: bool) -> dict[str, Any]:
    chips = {"google.com/tpu": piece.chips_per_host}
    container: dict[str, Any] = {
        "name": "train",
        "image": image,
        "command": job.command(),
        # read by JAX and by our start-up: the port is said once
        "env": [{"name": "JAX_COORDINATOR_PORT", "value": str(PORT)}, {"name": "PYTHONUNBUFFERED", "value": "1"}],
        "ports": [{"containerPort": port} for port in (_TPU_PORT, _SLICES_PORT, PORT)],
        "resources": {"requests": chips, "limits": dict(chips)},
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": piece.generation.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": piece.topology,
        },
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
    }
    if slices > 1:  # what passes between slices passes through the hosts' network
        spec.update(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    if service_account:
        spec["serviceAccountName"] = service_account
    if spot:
        spec["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
        spec["tolerations"].append(
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"})  # fmt: skip
    if not job.bucket:
        return {"spec": spec}
    attributes = {"bucketName": job.bucket, "mountOptions": ",".join(MOUNT_OPTIONS)}
    if slices > 1:  # on the hosts' network the driver does not know the pod's account by itself
        attributes["hostNetworkPodKSA"] = "true"
    container["volumeMounts"] = [{"name": "bucket", "mountPath": f"{MOUNT}/{job.bucket}"}]
    spec["volumes"] = [{"name": "bucket", "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}]
    return {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, "spec": spec}


def to_yaml(document: dict[str, Any]) -> str:
    """YAML in the order in which it was built."""
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def xpk_lines(job: Job, piece: Slice, slices: int, image: str, restarts: int, cluster: Mapping[str, str]) -> list[str]:
    """The same with xpk, which renders a JobSet of its own; `cluster` has its name, project and zone, empty if unknown."""
    where = [f"--{name}={value or name.upper()}" for name, value in cluster.items()]
    # a shape that the number does not tell is named by itself; older releases of xpk know numbers only
    kind = piece.accelerator_type if piece.is_usual_shape else f"{piece.generation.prefix}-{piece.topology}"
    lines = []
    if job.bucket:
        lines.append(tools.line([
            "xpk", "storage", "attach", re.sub(r"[._]", "-", job.bucket), "--type=gcsfuse", f"--bucket={job.bucket}",
            f"--mount-point={MOUNT}/{job.bucket}", "--size=1", "--readonly=false", "--auto-mount=true", *where]))  # fmt: skip
    lines.append(tools.line([
        "xpk", "workload", "create", f"--workload={job.name}", f"--tpu-type={kind}", f"--num-slices={slices}", *where,
        f"--docker-image={image}", f"--max-restarts={restarts}", f"--command={tools.line(job.command())}"]))  # fmt: skip
    return lines


def main(config: Any) -> None:
    """The entry point."""
    given = flags.FLAGS
    piece = make_slice(given.tpu, given.topology, given.chips_per_host)
    job = job_from_flags(config, piece.devices * given.slices, given.slices)
    document = to_yaml(manifest(job, piece, given.slices, given.image, restarts=given.restarts, queue=given.queue,
                                service_account=given.service_account, spot=given.spot))  # fmt: skip
    commands = [["kubectl", "apply", "--filename=-"]]
    if given.cluster:
        where = [f"--{name}={value}" for name, value in (("project", given.project), ("zone", given.zone)) if value]
        commands.insert(0, ["gcloud", "container", "clusters", "get-credentials", given.cluster, *where])
    if given.dry_run:
        cluster = {"cluster": given.cluster, "project": given.project, "zone": given.zone}
        xpk = xpk_lines(job, piece, given.slices, given.image, given.restarts, cluster)
        shown = [*map(tools.line, commands), "or, with xpk:", *xpk]
        print("\n".join(f"# {text}" for text in shown), document, sep="\n", end="")
        return
    for command in commands:
        tools.require(command[0])
    for command in commands[:-1]:
        tools.call(command)
    tools.call(commands[-1], document)
    print(f"applied: kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name={job.name} shows what it prints")


if __name__ == "__main__":
    define_flags()
    flags.DEFINE_string("tpu", None, "generation: v4, v5e, v5p, v6e, tpu7x")
    flags.DEFINE_string("topology", None, "chips of a slice along each dimension, as in 4x4x4")
    flags.DEFINE_integer("slices", 1, "how many slices")
    flags.DEFINE_integer("chips_per_host", None, "only for 2x4 slices of v5e and v6e, whose nodes may have 8 chips or 4")
    flags.DEFINE_string("image", None, "container image that holds the repository")
    flags.DEFINE_integer("restarts", 3, "how often the job is started again after a failure", lower_bound=0)
    flags.DEFINE_string("service_account", "", "Kubernetes service account, with access to the bucket")
    flags.DEFINE_string("queue", "", "Kueue's local queue")
    flags.DEFINE_bool("spot", False, "on Spot nodes only")
    flags.DEFINE_string("cluster", "", "fetch this cluster's credentials first; default: kubectl's current context")
    flags.DEFINE_string("project", "", "of the cluster")
    flags.DEFINE_string("zone", "", "of the cluster")
    cli.main(main, config=DEFAULT_CONFIG, required=("tpu", "topology", "image", "workdir"))
