"""Hostile and unlucky inputs by the hundred: run folders from strangers, data, recipes, flags, files of models."""

from tests.hostile.data_inputs import (
    strange_folders,
    strange_parquet,
    strange_paths,
    strange_pictures,
    strange_tables,
)
from tests.hostile.family import Family
from tests.hostile.record_inputs import forged_records, strange_files, strange_records, strange_studies
from tests.hostile.word_inputs import strange_flags, strange_models, strange_recipes

FAMILIES: dict[str, tuple[Family, int]] = {
    "records": (strange_records, 260),
    "forged": (forged_records, 120),
    "files": (strange_files, 260),
    "studies": (strange_studies, 190),
    "folders": (strange_folders, 210),
    "paths": (strange_paths, 120),
    "pictures": (strange_pictures, 200),
    "tables": (strange_tables, 160),
    "parquet": (strange_parquet, 160),
    "recipes": (strange_recipes, 190),
    "flags": (strange_flags, 220),
    "models": (strange_models, 110),
}
"""Each family, and how many cases of it the slow test takes."""
