set -e
trap 'gcloud compute tpus queued-resources delete mine --zone=us-east5-a --quiet --force' EXIT
gcloud compute tpus queued-resources create mine --zone=us-east5-a --quiet --accelerator-type=v6e-64 --runtime-version=v2-alpha-tpuv6e --node-count=2 --node-prefix=mine
until [ "$(gcloud compute tpus queued-resources describe mine --zone=us-east5-a --quiet '--format=value(state.state)')" = ACTIVE ]; do sleep 30; done
gcloud compute tpus queued-resources ssh mine --zone=us-east5-a --quiet --node=all --worker=all --batch-size=all '--command=set -euo pipefail
if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" > /dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \
    | sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  sudo apt-get update --quiet=2
  sudo apt-get install --quiet=2 --yes gcsfuse
fi
sudo mkdir -p /gcs/bucket
sudo chown "$(id -u):$(id -g)" /gcs/bucket
mountpoint -q /gcs/bucket || gcsfuse --implicit-dirs --rename-dir-limit=200000 \
  --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 bucket /gcs/bucket
python3 -m pip install --quiet --user uv
export PATH="$HOME/.local/bin:$PATH"
[ -d hjepa_gfn/.git ] || git clone --quiet https://git.example/hjepa_gfn.git hjepa_gfn
cd hjepa_gfn
git fetch --quiet origin main
git checkout --quiet --detach FETCH_HEAD
[ -d .venv ] || uv venv --quiet --python 3.11 .venv
uv pip install --quiet -c constraints.txt -e '"'"'.[tpu]'"'"'
'
gcloud compute tpus queued-resources ssh mine --zone=us-east5-a --quiet --node=all --worker=all --batch-size=all '--command=cd hjepa_gfn && exec .venv/bin/python -m experiments.train --config=babyai_gotolocal --config.mesh.replica=2 --config.mesh.data=-1 --workdir=/gcs/bucket/run'
