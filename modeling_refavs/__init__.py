"""Segment the object that a sentence means in a video with sound: EEMC (Ref-AVS, ECCV 2024) for
transformers."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType


__version__ = "0.1.0"

# Imported when asked for: transformers takes seconds, and `refavs --help` needs none of it.
_ROOMS = {
    "RefAVSAVSegFormerConfig": "avsegformer_refavs",
    "RefAVSAVSegFormerForSegmentation": "avsegformer_refavs",
    "RefAVSAudioConfig": "configuration_refavs",
    "RefAVSConfig": "configuration_refavs",
    "RefAVSEfficientNetLiteBackbone": "efficientnet_lite_refavs",
    "RefAVSEfficientNetLiteConfig": "efficientnet_lite_refavs",
    "RefAVSEfficientNetLiteForImageClassification": "efficientnet_lite_refavs",
    "RefAVSFeatureExtractor": "feature_extraction_refavs",
    "RefAVSForSegmentation": "modeling_refavs",
    "RefAVSModel": "modeling_refavs",
    "RefAVSPairedBackbone": "paired_backbone_refavs",
    "RefAVSPairedBackboneConfig": "paired_backbone_refavs",
    "RefAVSPipeline": "pipeline_refavs",
    "RefAVSProcessor": "processing_refavs",
    "RefAVSReferFormerConfig": "referformer_refavs",
    "RefAVSReferFormerForSegmentation": "referformer_refavs",
    "RefAVSReleasedConfig": "configuration_refavs_released",
    "RefAVSReleasedForSegmentation": "modeling_refavs_released",
    "RefAVSStream": "streaming_refavs",
    "RefAVSTPAVIConfig": "tpavi_refavs",
    "RefAVSTPAVIForSegmentation": "tpavi_refavs",
    "RefAVSTinyVitBackbone": "tiny_vit_refavs",
    "RefAVSTinyVitConfig": "tiny_vit_refavs",
    "RefAVSVggishModel": "modeling_vggish",
    "RefAVSVideoInferenceSession": "video_session_refavs",
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


class _Registrar:
    """Makes this package known to transformers' Auto classes and pipelines, see `auto.py`: not
    before somebody has imported those, since that takes seconds, and not within an import of
    transformers or of this package, whose modules are not whole then."""

    watched = ("transformers", __name__)
    doors = ("transformers.models.auto.configuration_auto", "transformers.pipelines")

    def __init__(self):
        self.depth = 0

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.watched:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            self._watch(spec.loader)
        return spec

    def _watch(self, loader: SourceFileLoader) -> None:
        run = loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            self.depth += 1
            try:
                run(module)
            finally:
                self.depth -= 1
            self.register()

        loader.exec_module = run_and_register

    def register(self) -> None:
        doors = (sys.modules.get(name) for name in self.doors)
        if self in sys.meta_path and self.depth == 0 and any(doors):
            sys.meta_path.remove(self)
            import_module(".auto", __name__)


_registrar = _Registrar()
sys.meta_path.insert(0, _registrar)
_registrar.register()
