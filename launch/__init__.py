"""Starting runs elsewhere: TPU VMs, GKE and SLURM. Renders what is to be run; runs it unless told to show it only."""
