"""The Linux kernel's concurrency-managed workqueues on Trio, and a server that stands on them."""
