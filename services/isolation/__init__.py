"""Work on what strangers sent, in processes that may crash, hang or grow and harm nobody else."""
