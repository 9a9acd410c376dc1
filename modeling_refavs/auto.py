"""Importing this makes transformers' Auto classes know the installed `refavs`; so does taking any class of the package."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor

from .configuration_refavs import RefAVSAudioConfig, RefAVSConfig
from .feature_extraction_refavs import RefAVSFeatureExtractor
from .modeling_refavs import RefAVSForSegmentation
from .modeling_vggish import RefAVSVggishModel
from .processing_refavs import RefAVSProcessor


AutoConfig.register(RefAVSConfig.model_type, RefAVSConfig)
AutoConfig.register(RefAVSAudioConfig.model_type, RefAVSAudioConfig)
AutoModel.register(RefAVSConfig, RefAVSForSegmentation)
AutoModel.register(RefAVSAudioConfig, RefAVSVggishModel)
AutoFeatureExtractor.register(RefAVSConfig, RefAVSFeatureExtractor)
AutoProcessor.register(RefAVSConfig, RefAVSProcessor)
