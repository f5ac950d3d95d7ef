# SPDX-License-Identifier: Apache-2.0
"""How the results page looks."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@title@</title>
<style>
:root { --ink: #1b1f24; --muted: #6b7280; --line: #e5e7eb; --soft: #f6f7f9; --accent: #2563eb;
  --good: #15803d; --bad: #b91c1c; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
  color: var(--ink); margin: 2.5rem auto 4rem; padding: 0 1.25rem; max-width: 1320px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .4rem; }
h3::first-letter { text-transform: uppercase; }
h3 span { color: var(--muted); font-weight: normal; margin-left: .3rem; }
p { max-width: 62rem; margin: .3rem 0; }
.kind { color: var(--accent); font-weight: 600; font-size: .8rem;
  letter-spacing: .04em; margin: 0; }
.lead, .muted { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 12px;
  margin: 1.4rem 0 0; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: .8rem .9rem; }
.card p { margin: 0; }
.card .task { font-size: .75rem; color: var(--muted); text-transform: uppercase;
  letter-spacing: .05em; }
.card .name { font-weight: 600; }
.card .value { font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .range { font-size: .82rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.card .protocol { font-size: .76rem; color: var(--muted); margin-top: .35rem; }
.arrow { font-style: normal; color: #9ca3af; font-weight: normal; }
.verdict { display: inline-block; font-size: .78rem; border-radius: 99px; padding: .05rem .55rem;
  white-space: nowrap; }
.card .verdict { margin-top: .4rem; }
.verdict.better { background: #dcfce7; color: var(--good); }
.verdict.worse { background: #fee2e2; color: var(--bad); }
.verdict.even { background: var(--soft); color: var(--muted); }
.blocks { display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr));
  gap: 26px 34px; }
@media (max-width: 560px) { .blocks { grid-template-columns: 1fr; } }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .26rem .8rem .26rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; color: var(--muted); font-size: .85rem; }
td small { display: block; color: var(--muted); }
.n { text-align: right; white-space: nowrap; }
.r { color: var(--muted); white-space: nowrap; font-size: .88rem; }
.facts th { width: 10rem; }
.facts td { overflow-wrap: anywhere; }
.w { width: 110px; height: 10px; vertical-align: middle; }
.w .axis { stroke: var(--line); } .w .bar { fill: #bfdbfe; } .w .dot { fill: var(--accent); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(370px, 1fr)); gap: 22px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 5px; }
figcaption { font-size: .84rem; color: var(--muted); margin: .15rem 0; }
figcaption b { color: var(--ink); }
.frame { margin: 0 0 1.6rem; }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin: .3rem 0; }
.rank { font-size: .78rem; border-radius: 99px; padding: .05rem .55rem; margin-right: .3rem;
  background: var(--soft); color: var(--muted); }
.rank.best { background: #dcfce7; color: var(--good); }
.rank.worst { background: #fee2e2; color: var(--bad); }
.legends { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; font-size: .82rem;
  color: var(--muted); }
.legend b { color: var(--ink); font-weight: 600; }
.legend .bar { display: inline-block; width: 130px; height: 11px; border-radius: 3px;
  vertical-align: -1px; margin: 0 .2rem; }
.legend .swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  vertical-align: -1px; border: 1px solid #d1d5db; margin-left: .5rem; }
.notes { color: #374151; max-width: 62rem; padding-left: 1.1rem; }
</style>
</head>
<body>
@body@
</body>
</html>
"""
