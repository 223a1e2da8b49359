"""Query-Kontext: one file per part of the paper's figure, its training stages, its presets, its adapter.

Read in this order: config, positions, vlm, kontext, gate, mmdit, vae, flow, model; then data, stages, train; then
adapter.
"""
