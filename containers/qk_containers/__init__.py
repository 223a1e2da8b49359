"""The pinned image of qk-bench: what it is made of, and how it is built, verified and run."""
