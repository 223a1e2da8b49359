"""Values that shrink the micro preset for tests: of the lean blocks, and of the library classes."""

from __future__ import annotations

from typing import Any

STAGES = ("pretrain-vae", "pretrain-vlm", "1", "2", "3")
MMDIT = {"in_channels": 88, "out_channels": 20, "context_dim": 32, "width": 32, "depth": 2, "num_heads": 2}

LEAN: dict[str, Any] = {
    "model.resolution": 32,
    "model.vlm_resolution": 32,
    "model.vlm.arguments": {"vocab_size": 134, "width": 32, "depth": 2, "num_heads": 2, "patch": 8},
    "model.vae.arguments": {"latent_channels": 4, "width": 16, "encoder_depth": 1, "decoder_depth": 1},
    "model.head.arguments": {**MMDIT, "depth": 1},
    "model.mmdit.arguments": MMDIT,
    "model.kontext.num_queries": 4,
    "model.kontext.connector_hidden": 32,
    "model.kontext.context_dim": 32,
    "model.gate.width": 32,
    "model.gate.depth": 1,
    "model.gate.share": 0.5,
    "model.low_level.patch": 2,
    "model.flow.num_inference_steps": 2,
    "training.mixed_precision": "no",
    "training.workers": 1,
    "training.checkpoint_every": 2,
    "training.log_every": 1,
    "training.validate_every": 1000,
    "training.validation_samples": 1,
    **{f"training.stages.{name}.batch_size": 4 for name in STAGES},
    **{f"training.stages.{name}.micro_batch": 2 for name in STAGES},
    **{f"training.stages.{name}.resolutions": {32: 1.0} for name in STAGES},
    **{f"training.stages.{name}.steps": 4 for name in STAGES},
    **{f"training.stages.{name}.query_ratio": 0.5 for name in ("1", "2", "3")},
    "training.stages.3.trained": ["tokens", "connector", "mmdit_lora", "gate", "low_level"],
    "training.stages.3.lora_rank": 4,
}

FLUX = {
    "in_channels": 88,
    "out_channels": 20,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 16,
    "guidance_embeds": False,
    "axes_dims_rope": [4, 6, 6],
}
QWEN = {
    "text_config": {
        "vocab_size": 160,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    },
    "image_token_id": 150,
    "video_token_id": 151,
    "vision_start_token_id": 152,
    "vision_end_token_id": 153,
}
AUTOENCODER = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.4,
    "shift_factor": 0.1,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}
LIBRARY: dict[str, Any] = {
    **LEAN,
    "model.vlm_resolution": 56,
    "model.vlm.block": "library",
    "model.vlm.arguments": QWEN,
    "model.vae.block": "library",
    "model.vae.arguments": AUTOENCODER,
    "model.head.block": "library",
    "model.head.arguments": {**FLUX, "num_single_layers": 0},
    "model.mmdit.block": "library",
    "model.mmdit.arguments": FLUX,
    "model.gate.share": 1.0,
    "model.flow.prediction": "velocity",
    "model.flow.guidance_scale": 2.0,
    "training.schedule": ["1", "2", "3"],
}
