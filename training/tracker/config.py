"""The shape of the tiny `Sam3VideoModel`: the shipped detector, and a tracker on its backbone.

The tracker's width is the detector's neck's (64). Memory is fixed at 64 by transformers' memory
attention. Compared with ``facebook/sam3`` memory attention has 2 layers instead of 4 and looks at
3 recent frames instead of 6, masks enter the memory in two steps of 4 instead of four of 2, and are
mixed with the picture by one block instead of two: these four are most of the tracker's cost.
Tracked frames get one mask instead of the best of three, since an object that is known by its
memory is not ambiguous.

A detection that meets an object is shown and remembered in its place, in every frame instead of
every sixteenth: the detector's outlines are better, and what is remembered does not drift. What no
detection meets for some frames is not shown. Chosen on validation clips.

`follow_motion` and `motion_frames` are Limelight's own (`services.segmenter.video.identities`);
plain transformers keeps them in the file and takes no notice. In sticker world what comes back is
what went, since of look-alikes at most one leaves, so there is no time after which it is not.
"""

from transformers import Sam3Config, Sam3VideoConfig
from transformers.models.sam3_tracker_video.configuration_sam3_tracker_video import (
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoMaskDecoderConfig,
    Sam3TrackerVideoPromptEncoderConfig,
)

_SPREAD = 0.06


def tiny_video_config(detector: Sam3Config) -> Sam3VideoConfig:
    """The configuration of a video model around a tiny detector.

    Args:
        detector: of `training.segmenter.config.tiny_config`'s kind: features as wide as 64.
    """
    described = detector.to_dict()
    described.pop("_name_or_path", None)  # a path of the machine that it was loaded on
    vision = detector.vision_config
    width = vision.fpn_hidden_size
    image, patch = vision.image_size, vision.backbone_config.patch_size
    grid = image // patch
    tracker = Sam3TrackerVideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=Sam3TrackerVideoPromptEncoderConfig(
            hidden_size=width, image_size=image, patch_size=patch, mask_input_channels=16
        ).to_dict(),
        mask_decoder_config=Sam3TrackerVideoMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=256,
            num_attention_heads=4,
            attention_downsample_rate=1,
            iou_head_hidden_dim=64,
            dynamic_multimask_via_stability=False,
        ).to_dict(),
        image_size=image,
        initializer_range=_SPREAD,
        num_maskmem=4,
        max_cond_frame_num=2,
        multimask_output_for_tracking=False,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=2,
        memory_attention_num_attention_heads=2,
        memory_attention_feed_forward_hidden_size=256,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=64,
        mask_downsampler_kernel_size=4,
        mask_downsampler_stride=4,
        mask_downsampler_padding=0,
        mask_downsampler_embed_dim=width,
        memory_fuser_num_layers=1,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=256,
    )
    return Sam3VideoConfig(
        detector_config=described,
        tracker_config=tracker.to_dict(),
        low_res_mask_size=4 * grid,
        recondition_every_nth_frame=1,
        recondition_on_trk_masks=False,
        high_conf_thresh=0.0,
        high_iou_thresh=0.1,
        suppress_unmatched_only_within_hotstart=False,
        init_trk_keep_alive=4,
        max_trk_keep_alive=6,
        follow_motion=True,
        motion_frames=1000,
        initializer_range=_SPREAD,
    )
