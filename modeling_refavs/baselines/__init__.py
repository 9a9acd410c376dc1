"""The methods that the paper compares EEMC with (Table 3), each given the modality that it lacks.
Their files lie beside EEMC's, since a saved model carries its code in one flat folder."""

from ..avsegformer_refavs import RefAVSAVSegFormerConfig, RefAVSAVSegFormerForSegmentation
from ..referformer_refavs import RefAVSReferFormerConfig, RefAVSReferFormerForSegmentation
from ..tpavi_refavs import RefAVSTPAVIConfig, RefAVSTPAVIForSegmentation


__all__ = [
    "RefAVSAVSegFormerConfig",
    "RefAVSAVSegFormerForSegmentation",
    "RefAVSReferFormerConfig",
    "RefAVSReferFormerForSegmentation",
    "RefAVSTPAVIConfig",
    "RefAVSTPAVIForSegmentation",
]
