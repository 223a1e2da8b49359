"""Tiny random pipelines of the real diffusers classes, saved as `save_pretrained` saves them. Made here, from no hub.

Each has one or two layers and a byte-level tokenizer. What is not tiny is what the classes fix themselves: some work at
about a megapixel whatever they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] if c is mapping else c }}{% endfor %} {% endfor %}"
)
VOCABULARY = 300


def save(class_name: str, folder: Path) -> Path:
    """Save a tiny random pipeline of a class."""
    torch.manual_seed(0)
    components = BUILDERS[class_name]()
    getattr(diffusers, class_name)(**components).save_pretrained(folder)
    return folder


def _bytes(*special: str, suffix: str = "") -> dict[str, int]:
    """A vocabulary of special tokens and the 256 bytes, as byte-level BPE writes them."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = [*special, *letters, *(letter + suffix for letter in letters if suffix)]
    return {word: number for number, word in enumerate(words)}


def _clip() -> Any:
    vocabulary = _bytes("<|startoftext|>", "<|endoftext|>", suffix="</w>")
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _clip_text(projection: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=600, hidden_size=32, intermediate_size=32, num_attention_heads=4, num_hidden_layers=2,
        projection_dim=32, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config).eval()


def _t5() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(n), -3.0) for n in range(33, 127))]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def _t5_text() -> Any:
    config = transformers.T5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    return transformers.T5EncoderModel(config).eval()


def _qwen() -> Any:
    vocabulary = _bytes("<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION)
    special = ["<|im_start|>", "<|im_end|>", *VISION]
    made = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=special, model_max_length=4096)
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return made


def _qwen_processor(tokenizer: Any) -> Any:
    images = transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    video = transformers.Qwen2VLVideoProcessor()
    return transformers.Qwen2VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=video, chat_template=tokenizer.chat_template
    )


def _qwen_vl(tokenizer: Any) -> Any:
    start, end, image, video = (tokenizer.convert_tokens_to_ids(token) for token in VISION)
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 10000.0}
    config = transformers.Qwen2_5_VLConfig(
        text_config={"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
                     "num_attention_heads": 2, "num_key_value_heads": 2, "rope_parameters": rope,
                     "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
        vision_config={"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                       "fullatt_block_indexes": [1]},
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def _vae(levels: int = 2, channels: int = 4, **options: Any) -> Any:
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, sample_size=32, layers_per_block=1,
        block_out_channels=(8,) * levels, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **options,
    )  # fmt: skip


def _qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def _unet(in_channels: int, *, xl: bool = False) -> Any:
    more: dict[str, Any] = {}
    if xl:
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "transformer_layers_per_block": 1,
                "projection_class_embeddings_input_dim": 80, "use_linear_projection": True}  # fmt: skip
    return diffusers.UNet2DConditionModel(
        in_channels=in_channels, out_channels=4, sample_size=16, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64 if xl else 32, attention_head_dim=4, norm_num_groups=4, **more,
    )  # fmt: skip


def _stable_diffusion(in_channels: int) -> dict[str, Any]:
    return {
        "unet": _unet(in_channels), "vae": _vae(), "scheduler": diffusers.DDIMScheduler(), "tokenizer": _clip(),
        "text_encoder": _clip_text(), "safety_checker": None, "feature_extractor": None, "image_encoder": None,
        "requires_safety_checker": False,
    }  # fmt: skip


def _stable_diffusion_xl(in_channels: int, *, edits: bool = False) -> dict[str, Any]:
    components = {
        "unet": _unet(in_channels, xl=True), "vae": _vae(), "scheduler": diffusers.EulerDiscreteScheduler(),
        "tokenizer": _clip(), "tokenizer_2": _clip(), "text_encoder": _clip_text(),
        "text_encoder_2": _clip_text(projection=True), "add_watermarker": False,
    }  # fmt: skip
    return components if edits else {**components, "image_encoder": None, "feature_extractor": None}


def _flux(in_channels: int = 16, out_channels: int = 16, *, encodes_images: bool = True) -> dict[str, Any]:
    components = {
        "transformer": diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=in_channels, out_channels=out_channels, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
        "vae": _vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0, scaling_factor=1.0),
        "scheduler": FlowMatchEulerDiscreteScheduler(), "text_encoder": _clip_text(), "tokenizer": _clip(),
        "text_encoder_2": _t5_text(), "tokenizer_2": _t5(),
    }  # fmt: skip
    return {**components, "image_encoder": None, "feature_extractor": None} if encodes_images else components


def _flux2_parts() -> dict[str, Any]:
    return {
        "transformer": diffusers.Flux2Transformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 4, 4),
        ),
        "vae": diffusers.AutoencoderKLFlux2(
            sample_size=32, block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=2,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }  # fmt: skip


def _flux2() -> dict[str, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    base = Tokenizer(
        models.BPE(vocab=_bytes("<unk>", "<s>", "</s>", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"), merges=[])
    )
    base.pre_tokenizer, base.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=["[IMG]", "[IMG_BREAK]", "[IMG_END]"],
    )  # fmt: skip
    processor = transformers.PixtralProcessor(
        image_processor=transformers.PixtralImageProcessor(), tokenizer=tokenizer, chat_template=CHAT
    )
    text = {"model_type": "mistral", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 16, "head_dim": 8,
            "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 2, "sliding_window": None}  # fmt: skip
    vision = {"model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": 16, "image_size": 28, "patch_size": 14}  # fmt: skip
    config = transformers.Mistral3Config(text_config=text, vision_config=vision, image_token_index=4)
    encoder = transformers.Mistral3ForConditionalGeneration(config).eval()
    return {**_flux2_parts(), "text_encoder": encoder, "tokenizer": processor}


def _flux2_klein() -> dict[str, Any]:
    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    encoder = transformers.Qwen3ForCausalLM(config).eval()
    return {**_flux2_parts(), "text_encoder": encoder, "tokenizer": _qwen(), "is_distilled": False}


def _qwen_image(*, sees: bool = True) -> dict[str, Any]:
    tokenizer = _qwen()
    components = {
        "transformer": diffusers.QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
        ),
        "vae": _qwen_vae(), "scheduler": FlowMatchEulerDiscreteScheduler(), "text_encoder": _qwen_vl(tokenizer),
        "tokenizer": tokenizer,
    }  # fmt: skip
    return {**components, "processor": _qwen_processor(tokenizer)} if sees else components


def _longcat() -> dict[str, Any]:
    tokenizer = _qwen()
    return {
        "transformer": diffusers.LongCatImageTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(8, 4, 4),
        ),
        "vae": _vae(4, 16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0, scaling_factor=1.0),
        "scheduler": FlowMatchEulerDiscreteScheduler(), "text_encoder": _qwen_vl(tokenizer), "tokenizer": tokenizer,
        "text_processor": _qwen_processor(tokenizer),
    }  # fmt: skip


def _omnigen() -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    base = Tokenizer(models.BPE(vocab=_bytes("<unk>", "<s>", "</s>"), merges=[]))
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    return {
        "transformer": diffusers.OmniGenTransformer2DModel(
            in_channels=4, hidden_size=32, intermediate_size=32, num_layers=1, num_attention_heads=2,
            num_key_value_heads=2, vocab_size=VOCABULARY, pad_token_id=2, time_step_dim=16, pos_embed_max_size=64,
            max_position_embeddings=4096,
            rope_scaling={"type": "su", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
        ),
        "vae": _vae(4), "scheduler": FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
        "tokenizer": tokenizer,
    }  # fmt: skip


BUILDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "StableDiffusionInstructPix2PixPipeline": lambda: _stable_diffusion(8),
    "StableDiffusionXLInstructPix2PixPipeline": lambda: _stable_diffusion_xl(8, edits=True),
    "QwenImageEditPipeline": _qwen_image,
    "QwenImageEditPlusPipeline": _qwen_image,
    "FluxKontextPipeline": _flux,
    "Flux2Pipeline": _flux2,
    "Flux2KleinPipeline": _flux2_klein,
    "LongCatImageEditPipeline": _longcat,
    "OmniGenPipeline": _omnigen,
    "StableDiffusionInpaintPipeline": lambda: _stable_diffusion(9),
    "StableDiffusionXLInpaintPipeline": lambda: _stable_diffusion_xl(9),
    "FluxFillPipeline": lambda: _flux(48, 16, encodes_images=False),
    "QwenImageInpaintPipeline": lambda: _qwen_image(sees=False),
    "QwenImageEditInpaintPipeline": _qwen_image,
    "StableDiffusionPipeline": lambda: _stable_diffusion(4),
    "FluxPipeline": _flux,
    "QwenImagePipeline": lambda: _qwen_image(sees=False),
}
"""For each class, its components. `FORMS` holds the same classes."""
