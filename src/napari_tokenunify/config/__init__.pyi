from .base import BoxText as BoxText
from .base import Config as Config
from .base import Extent as Extent
from .base import Margin as Margin
from .base import PlacesText as PlacesText
from .base import VoxelSizesText as VoxelSizesText
from .base import VoxelSizeText as VoxelSizeText
from .base import what_is_wrong as what_is_wrong
from .chains import DemoConfig as DemoConfig
from .chains import RunConfig as RunConfig
from .exporting import ExportConfig as ExportConfig
from .exporting import ExportFormat as ExportFormat
from .models import DoctorConfig as DoctorConfig
from .models import ModelsExportConfig as ModelsExportConfig
from .models import ModelsGetConfig as ModelsGetConfig
from .models import ModelsImportConfig as ModelsImportConfig
from .models import ModelsInfoConfig as ModelsInfoConfig
from .models import ModelsListConfig as ModelsListConfig
from .proofreading import ProofreadAtConfig as ProofreadAtConfig
from .proofreading import ProofreadCarryConfig as ProofreadCarryConfig
from .proofreading import ProofreadCommentConfig as ProofreadCommentConfig
from .proofreading import ProofreadConfig as ProofreadConfig
from .proofreading import ProofreadCutConfig as ProofreadCutConfig
from .proofreading import ProofreadDeleteConfig as ProofreadDeleteConfig
from .proofreading import ProofreadDetachConfig as ProofreadDetachConfig
from .proofreading import ProofreadGoConfig as ProofreadGoConfig
from .proofreading import ProofreadLabelsConfig as ProofreadLabelsConfig
from .proofreading import ProofreadLockConfig as ProofreadLockConfig
from .proofreading import ProofreadLogConfig as ProofreadLogConfig
from .proofreading import ProofreadMergeConfig as ProofreadMergeConfig
from .proofreading import ProofreadRedoConfig as ProofreadRedoConfig
from .proofreading import ProofreadReplayConfig as ProofreadReplayConfig
from .proofreading import ProofreadSplitConfig as ProofreadSplitConfig
from .proofreading import ProofreadStepsConfig as ProofreadStepsConfig
from .proofreading import ProofreadUndoConfig as ProofreadUndoConfig
from .proofreading import ProofreadUnlockConfig as ProofreadUnlockConfig
from .running import JobConfig as JobConfig
from .running import JobsCompareConfig as JobsCompareConfig
from .running import JobsListConfig as JobsListConfig
from .running import JobsLogConfig as JobsLogConfig
from .running import JobsPauseConfig as JobsPauseConfig
from .running import JobsResumeConfig as JobsResumeConfig
from .running import JobsShowConfig as JobsShowConfig
from .running import JobsStopConfig as JobsStopConfig
from .running import JobsWatchConfig as JobsWatchConfig
from .segmenting import AgglomerateConfig as AgglomerateConfig
from .segmenting import EvaluateConfig as EvaluateConfig
from .segmenting import FragmentsConfig as FragmentsConfig
from .segmenting import ImportConfig as ImportConfig
from .segmenting import PredictConfig as PredictConfig
from .segmenting import SegmentConfig as SegmentConfig
from .training import AffinityTrainingConfig as AffinityTrainingConfig
from .training import ComparePretrainingConfig as ComparePretrainingConfig
from .training import FinetuneConfig as FinetuneConfig
from .training import PretrainConfig as PretrainConfig
from .volumes import CheckConfig as CheckConfig
from .volumes import InfoConfig as InfoConfig
from .volumes import VolumeConfig as VolumeConfig

__all__ = [
    "AffinityTrainingConfig",
    "AgglomerateConfig",
    "BoxText",
    "CheckConfig",
    "ComparePretrainingConfig",
    "Config",
    "DemoConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExportFormat",
    "Extent",
    "FinetuneConfig",
    "FragmentsConfig",
    "ImportConfig",
    "InfoConfig",
    "JobConfig",
    "JobsCompareConfig",
    "JobsListConfig",
    "JobsLogConfig",
    "JobsPauseConfig",
    "JobsResumeConfig",
    "JobsShowConfig",
    "JobsStopConfig",
    "JobsWatchConfig",
    "Margin",
    "ModelsExportConfig",
    "ModelsGetConfig",
    "ModelsImportConfig",
    "ModelsInfoConfig",
    "ModelsListConfig",
    "PlacesText",
    "PredictConfig",
    "PretrainConfig",
    "ProofreadAtConfig",
    "ProofreadCarryConfig",
    "ProofreadCommentConfig",
    "ProofreadConfig",
    "ProofreadCutConfig",
    "ProofreadDeleteConfig",
    "ProofreadDetachConfig",
    "ProofreadGoConfig",
    "ProofreadLabelsConfig",
    "ProofreadLockConfig",
    "ProofreadLogConfig",
    "ProofreadMergeConfig",
    "ProofreadRedoConfig",
    "ProofreadReplayConfig",
    "ProofreadSplitConfig",
    "ProofreadStepsConfig",
    "ProofreadUndoConfig",
    "ProofreadUnlockConfig",
    "RunConfig",
    "SegmentConfig",
    "VolumeConfig",
    "VoxelSizeText",
    "VoxelSizesText",
    "what_is_wrong",
]
