"""One study over many subjects: a folder of photos each, the same template for all, and what they say together."""

from limner.subjects.folders import SubjectFolder, find_subjects, subject_tables
from limner.subjects.study import POOLED, pool_runs, pooled_of, run_subjects, run_tables

__all__ = [
    "POOLED",
    "SubjectFolder",
    "find_subjects",
    "pool_runs",
    "pooled_of",
    "run_subjects",
    "run_tables",
    "subject_tables",
]
