"""MLflow's empty database, kept so that only the first store on a machine lives through its migrations.

MLflow makes a database by its oldest tables and every migration since, which takes 2 to 3 s and ends in the
same tables each time. What came of it is kept in the user's cache folder under MLflow's version, and later
stores begin as its copy; MLflow still checks the schema of each.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import mlflow

from appliedpapers.core.errors import AppsError
from appliedpapers.core.files import whole_file


def begin(database: Path) -> bool:
    """Make ``database`` a copy of what was kept; say whether there was anything sound."""
    try:
        shutil.copyfile(_kept(), database)
        with closing(sqlite3.connect(database)) as connection:
            checked = connection.execute("PRAGMA quick_check").fetchone()
            revisions = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
        sound = (checked, revisions) == (("ok",), (1,))
    except (OSError, sqlite3.Error):
        sound = False
    if not sound:
        database.unlink(missing_ok=True)
    return sound


def keep(database: Path) -> None:
    """Keep the tables of ``database``, without what they hold, where that is possible."""
    kept = _kept()
    with suppress(OSError, AppsError, sqlite3.Error), whole_file(kept) as aside:
        shutil.copyfile(database, aside)
        with closing(sqlite3.connect(aside)) as connection, connection:
            # the default experiment knows the folder of its store
            connection.execute("DELETE FROM experiments")


def _kept() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("applied-papers") / "stores" / f"mlflow-{mlflow.__version__}.db"
