"""Golden prompts and replies of conversations with tools. A separate reference implementation of
the format made them. The columns are described in the file.
"""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "fixtures" / "eval" / "toolform.json"
GOLDENS: dict[str, Any] = json.loads(PATH.read_text())
TOOLS: dict[str, Any] = GOLDENS["tools"]
DEFINITIONS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}
    for name, schema in TOOLS.items()
]
