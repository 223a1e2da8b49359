"""Reference models: controls, images made elsewhere, baselines."""
