"""Query-Kontext: one file per part of the paper's figure, its training stages, its presets, its adapter.

Read in this order: config, positions, vlm, kontext, gate, mmdit, vae, flow, trunk, model; then data, stages, recipe,
loop, train; then adapter.
"""
