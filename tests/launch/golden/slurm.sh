#!/bin/bash
#SBATCH --job-name=mine
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=12:00:00
#SBATCH --output=mine-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
cd /shared/hjepa_gfn
# proxies between hosts keep the processes from finding each other
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
mkdir -p /shared/run
code=0
srun --gpu-bind=none .venv/bin/python -m experiments.train --config=babyai_gotolocal --config.mesh.replica=1 --config.mesh.data=-1 --workdir=/shared/run || code=$?
# stopped by a signal, with everything saved: go on in the next allocation
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
