"""Where the project's folders are: one place, so that no other module guesses.

The project root is the checkout that holds this package (it is installed editable); the environment variable
`CAPITULATION_HOME` names another one, as the tests do.
"""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def project_root() -> Path:
    """The folder that holds params/, data/, notebooks/ and reports/."""
    return Path(os.environ.get("CAPITULATION_HOME") or CHECKOUT)


def raw_folder() -> Path:
    """Provider snapshots: verbatim responses, never edited."""
    return project_root() / "data" / "raw"


def reference_folder() -> Path:
    """Small curated tables with a source per row; always those of this checkout, never of `CAPITULATION_HOME`."""
    return CHECKOUT / "data" / "reference"


def notebooks_folder() -> Path:
    """The numbered notebooks and explore.ipynb."""
    return project_root() / "notebooks"


def params_folder() -> Path:
    """Run profiles."""
    return project_root() / "params"


def reports_folder() -> Path:
    """One folder per published run."""
    return project_root() / "reports"
