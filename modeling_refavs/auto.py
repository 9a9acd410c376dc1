"""Importing this makes transformers' Auto classes and pipelines know the installed `refavs`.

Whoever has imported the package need not: the first use of an Auto class or a pipeline does, and
so does taking any class of the package.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .avsegformer_refavs import RefAVSAVSegFormerConfig, RefAVSAVSegFormerForSegmentation
from .configuration_refavs import TASK, RefAVSAudioConfig, RefAVSConfig
from .configuration_refavs_released import RefAVSReleasedConfig
from .feature_extraction_refavs import RefAVSFeatureExtractor
from .modeling_refavs import RefAVSForSegmentation, RefAVSModel
from .modeling_refavs_released import RefAVSReleasedForSegmentation
from .modeling_vggish import RefAVSVggishModel
from .modeling_yamnet import RefAVSYamnetConfig
from .pipeline_refavs import RefAVSPipeline
from .processing_refavs import RefAVSProcessor
from .referformer_refavs import RefAVSReferFormerConfig, RefAVSReferFormerForSegmentation
from .tpavi_refavs import RefAVSTPAVIConfig, RefAVSTPAVIForSegmentation


AutoConfig.register(RefAVSConfig.model_type, RefAVSConfig)
AutoConfig.register(RefAVSReleasedConfig.model_type, RefAVSReleasedConfig)
AutoModel.register(RefAVSConfig, (RefAVSForSegmentation, RefAVSModel))  # the one that was saved
AutoModel.register(RefAVSAudioConfig, RefAVSVggishModel)
AutoModel.register(RefAVSReleasedConfig, RefAVSReleasedForSegmentation)
AutoFeatureExtractor.register(RefAVSYamnetConfig, RefAVSFeatureExtractor)
BASELINES = {
    RefAVSAVSegFormerConfig: RefAVSAVSegFormerForSegmentation,
    RefAVSReferFormerConfig: RefAVSReferFormerForSegmentation,
    RefAVSTPAVIConfig: RefAVSTPAVIForSegmentation,
}
for config, model in BASELINES.items():
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
for config in (RefAVSConfig, RefAVSReleasedConfig, *BASELINES):
    AutoFeatureExtractor.register(config, RefAVSFeatureExtractor)
    AutoProcessor.register(config, RefAVSProcessor)
PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=RefAVSPipeline, pt_model=AutoModel, type="multimodal"
)
