"""CLIP's parameters as openai/CLIP and Hugging Face transformers name them, beside our names.

Pairs of (theirs, ours) for :func:`lexiseg.weights.rename_keys`; ``{}`` is any number.
"""

_OPENAI_BLOCK = (
    ("ln_1.", "norm1."),
    ("attn.q_proj_weight", "attention.q_proj_weight"),
    ("attn.k_proj_weight", "attention.k_proj_weight"),
    ("attn.v_proj_weight", "attention.v_proj_weight"),
    ("attn.in_proj_bias", "attention.in_proj_bias"),
    ("attn.out_proj.", "attention.out_proj."),
    ("ln_2.", "norm2."),
    ("mlp.c_fc.", "mlp.expand."),
    ("mlp.c_proj.", "mlp.contract."),
)
_OPENAI_BOTTLENECK = (
    *((f"conv{number}.", f"conv{number}.") for number in (1, 2, 3)),
    *((f"bn{number}.", f"norm{number}.") for number in (1, 2, 3)),
    ("downsample.0.", "shortcut.conv."),
    ("downsample.1.", "shortcut.norm."),
)
# A modified ResNet; "connect" is CRIS's own. Before the rules of a ViT: both have a "conv1".
OPENAI_RESNET_KEYS = (
    *((f"visual.conv{n}.", f"visual.stem.{n - 1}.conv.") for n in (1, 2, 3)),
    *((f"visual.bn{n}.", f"visual.stem.{n - 1}.norm.") for n in (1, 2, 3)),
    *(
        (f"visual.layer{stage + 1}.{{}}.{theirs}", f"visual.stages.{stage}.{{}}.{ours}")
        for stage in range(4)
        for theirs, ours in _OPENAI_BOTTLENECK
    ),
    ("visual.attnpool.positional_embedding", "visual.attention_pool.position_embedding"),
    *(
        (f"visual.attnpool.{letter}_proj.", f"visual.attention_pool.{letter}_proj.")
        for letter in "qkv"
    ),
    ("visual.attnpool.c_proj.", "visual.attention_pool.out_proj."),
    ("visual.attnpool.connect.0.", "visual.attention_pool.connect.conv."),
    ("visual.attnpool.connect.1.", "visual.attention_pool.connect.norm."),
)
OPENAI_KEYS = (
    ("visual.class_embedding", "visual.class_embedding"),
    ("visual.positional_embedding", "visual.position_embedding"),
    ("visual.conv1.", "visual.patch_embedding."),
    ("visual.ln_pre.", "visual.norm_pre."),
    ("visual.ln_post.", "visual.norm_post."),
    ("visual.proj", "visual.projection"),
    *(
        (f"visual.transformer.resblocks.{{}}.{theirs}", f"visual.blocks.{{}}.{ours}")
        for theirs, ours in _OPENAI_BLOCK
    ),
    ("token_embedding.", "text.token_embedding."),
    ("positional_embedding", "text.position_embedding"),
    ("ln_final.", "text.norm_final."),
    ("text_projection", "text.projection"),
    *(
        (f"transformer.resblocks.{{}}.{theirs}", f"text.blocks.{{}}.{ours}")
        for theirs, ours in _OPENAI_BLOCK
    ),
)

_HUGGINGFACE_BLOCK = (
    ("layer_norm1.", "norm1."),
    ("self_attn.q_proj.weight", "attention.q_proj_weight"),
    ("self_attn.k_proj.weight", "attention.k_proj_weight"),
    ("self_attn.v_proj.weight", "attention.v_proj_weight"),
    ("self_attn.in_proj_bias", "attention.in_proj_bias"),
    ("self_attn.out_proj.", "attention.out_proj."),
    ("layer_norm2.", "norm2."),
    ("mlp.fc1.", "mlp.expand."),
    ("mlp.fc2.", "mlp.contract."),
)
HUGGINGFACE_KEYS = (
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.position_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.patch_embedding."),
    ("vision_model.pre_layrnorm.", "visual.norm_pre."),
    ("vision_model.post_layernorm.", "visual.norm_post."),
    ("visual_projection.weight", "visual.projection"),
    *(
        (f"vision_model.encoder.layers.{{}}.{theirs}", f"visual.blocks.{{}}.{ours}")
        for theirs, ours in _HUGGINGFACE_BLOCK
    ),
    ("text_model.embeddings.token_embedding.", "text.token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "text.position_embedding"),
    ("text_model.final_layer_norm.", "text.norm_final."),
    ("text_projection.weight", "text.projection"),
    *(
        (f"text_model.encoder.layers.{{}}.{theirs}", f"text.blocks.{{}}.{ours}")
        for theirs, ours in _HUGGINGFACE_BLOCK
    ),
)
HUGGINGFACE_TRANSPOSED = ("visual.projection", "text.projection")  # by our names

# Entries of published files that are no parameters.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
HUGGINGFACE_EXTRAS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
