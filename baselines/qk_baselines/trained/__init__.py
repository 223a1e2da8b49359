"""The baselines trained here: one file per model, beside the sheet of their values and what they share.

Read in this order: baselines.yaml, config, network; then unified_a, blip3o, two_stage, two_stage_generate; then
budget, data, recipe, trainer. Why each is built as it is: docs/baselines.md.
"""
