"""Render the Helm chart with each file of deploy/helm/values, with Helm's library.

python -m tests.deploy.render_chart FOLDER      writes FOLDER/<values>/manifests.yaml
"""

import sys
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).parents[2] / "deploy" / "helm"
CHART = HELM / "bindserve"
VALUES = sorted((HELM / "values").glob("*.yaml"))
Manifest = dict[str, Any]


def render(values: Manifest) -> list[Manifest]:
    """Return the objects of a release `bs` in the namespace `ai`."""
    import helm_python

    with helm_python.Chart.load(str(CHART)) as chart:
        files: dict[str, str] = chart.render(values, name="bs", namespace="ai")
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


if __name__ == "__main__":
    for path in VALUES:
        folder = Path(sys.argv[1]) / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        manifests = render(yaml.safe_load(path.read_text()))
        (folder / "manifests.yaml").write_text(yaml.safe_dump_all(manifests))
