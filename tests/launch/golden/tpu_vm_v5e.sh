set -e
gcloud compute tpus queued-resources create mine --zone=us-east5-a --quiet --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --node-id=mine
until [ "$(gcloud compute tpus queued-resources describe mine --zone=us-east5-a --quiet '--format=value(state.state)')" = ACTIVE ]; do sleep 30; done
gcloud compute tpus queued-resources ssh mine --zone=us-east5-a --quiet --node=all --worker=all --batch-size=all '--command=set -euo pipefail
python3 -m pip install --quiet --user uv
export PATH="$HOME/.local/bin:$PATH"
[ -d hjepa_gfn/.git ] || git clone --quiet https://git.example/hjepa_gfn.git hjepa_gfn
cd hjepa_gfn
git fetch --quiet origin main
git checkout --quiet --detach FETCH_HEAD
[ -d .venv ] || uv venv --quiet --python 3.11 .venv
uv pip install --quiet -c constraints.txt -e '"'"'.[tpu]'"'"'
'
gcloud compute tpus queued-resources ssh mine --zone=us-east5-a --quiet --node=all --worker=all --batch-size=all '--command=cd hjepa_gfn && exec .venv/bin/python -m experiments.train --config=babyai_gotolocal --config.mesh.replica=1 --config.mesh.data=-1 --workdir=/shared/run'
