"""Renders a chart, lints it, and holds what comes out against the schemas of Kubernetes.

    python helm_chart.py CHART < {name: values, ...}

prints, by name, {"error"}, or {"lint": [...], "manifests": [...], "invalid": [...]}.
"""

import json
import sys

import helm_python as helm
import kubernetes_validate as kubernetes
import yaml

# The oldest that the chart is for, and the newest that there are schemas of.
VERSIONS = ("1.30", kubernetes.latest_version())
# Kinds of custom resources, of which there is no schema.
CUSTOM = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1")


def judged(path, values):
    chart = helm.Chart.load(path)
    try:
        chart.validate_schema(values)
        rendered = chart.render(values, name="here", namespace="green")
    except helm.HelmError as error:
        return {"error": str(error)}
    report = helm.lint(path, values, strict=True, namespace="green")
    lint = [one for one in report["messages"] if one["severity"] >= 2] + report["errors"]
    files = {name: text for name, text in rendered.items() if name.endswith(".yaml")}
    manifests = [one for text in files.values() for one in yaml.safe_load_all(text) if one]
    return {"lint": lint, "manifests": manifests, "invalid": list(invalid(manifests))}


def invalid(manifests):
    for one in manifests:
        if one["apiVersion"] in CUSTOM:
            continue
        for version in VERSIONS:
            try:
                kubernetes.validate(one, version, strict=True)
            except Exception as error:
                yield f"{version} {one['kind']}: {str(error)[:500]}"


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    print(json.dumps({name: judged(sys.argv[1], values) for name, values in cases.items()}))
