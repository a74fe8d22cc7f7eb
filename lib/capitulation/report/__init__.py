"""From notebooks to pages."""

import sys

# An optional grammar of jsonschema, never needed: 0.9 s to import.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
