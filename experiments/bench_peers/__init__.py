"""Worker processes of `experiments.bench_gflownet`: one library each, all behind the line protocol of `worker.py`."""
