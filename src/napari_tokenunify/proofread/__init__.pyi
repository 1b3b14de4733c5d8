from .carrying import Carried as Carried
from .carrying import carry_over as carry_over
from .constraints import Constraints as Constraints
from .constraints import fold as fold
from .correction import corrected as corrected
from .edited import EditedSegmentation as EditedSegmentation
from .edited import open_edited as open_edited
from .edits import Edit as Edit
from .error_chance import Decision as Decision
from .history import Branch as Branch
from .history import History as History
from .joining import Conflict as Conflict
from .joining import Joined as Joined
from .joining import join_logs as join_logs
from .log_files import Log as Log
from .log_files import read_log as read_log
from .log_files import restore_log as restore_log
from .log_files import write_log as write_log
from .pace import Statistics as Statistics
from .proofreading import Proofreading as Proofreading
from .segment_list import SegmentList as SegmentList
from .segment_list import list_segments as list_segments
from .segment_list import place_of_fragment as place_of_fragment
from .segment_list import place_of_segment as place_of_segment
from .shape_signs import contact_place as contact_place
from .split import Sides as Sides
from .suggestions import Suggestion as Suggestion
from .suggestions import Suggestions as Suggestions
from .suggestions import suggest as suggest
from .training_labels import TrainingLabels as TrainingLabels
from .training_labels import write_training_labels as write_training_labels

__all__ = [
    "Branch",
    "Carried",
    "Conflict",
    "Constraints",
    "Decision",
    "Edit",
    "EditedSegmentation",
    "History",
    "Joined",
    "Log",
    "Proofreading",
    "SegmentList",
    "Sides",
    "Statistics",
    "Suggestion",
    "Suggestions",
    "TrainingLabels",
    "carry_over",
    "contact_place",
    "corrected",
    "fold",
    "join_logs",
    "list_segments",
    "open_edited",
    "place_of_fragment",
    "place_of_segment",
    "read_log",
    "restore_log",
    "suggest",
    "write_log",
    "write_training_labels",
]
