"""Segment the object that a sentence means in a video with sound: EEMC (Ref-AVS, ECCV 2024) for
transformers."""

from importlib import import_module


__version__ = "0.1.0"

# Imported when asked for: transformers takes seconds, and `refavs --help` needs none of it.
_ROOMS = {
    "RefAVSAudioConfig": "configuration_refavs",
    "RefAVSConfig": "configuration_refavs",
    "RefAVSEfficientNetLiteBackbone": "efficientnet_lite_refavs",
    "RefAVSEfficientNetLiteConfig": "efficientnet_lite_refavs",
    "RefAVSEfficientNetLiteForImageClassification": "efficientnet_lite_refavs",
    "RefAVSFeatureExtractor": "feature_extraction_refavs",
    "RefAVSForSegmentation": "modeling_refavs",
    "RefAVSModel": "modeling_refavs",
    "RefAVSPipeline": "pipeline_refavs",
    "RefAVSProcessor": "processing_refavs",
    "RefAVSReleasedConfig": "configuration_refavs_released",
    "RefAVSReleasedForSegmentation": "modeling_refavs_released",
    "RefAVSStream": "streaming_refavs",
    "RefAVSVggishModel": "modeling_vggish",
    "RefAVSYamnetConfig": "modeling_yamnet",
    "RefAVSYamnetForAudioClassification": "modeling_yamnet",
    "RefAVSYamnetModel": "modeling_yamnet",
}
__all__ = list(_ROOMS)


def __getattr__(name: str):
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".auto", __name__)
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
