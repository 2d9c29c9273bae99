"""The style sheet of the status page: one file, so that the page needs neither inline styles nor scripts."""

from __future__ import annotations

from typing import Final

STYLE_SHEET: Final = """\
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --panel: #ffffff; --text: #1b1f24; --soft: #5c6670; --line: #dde1e6;
  --ok: #1a7f37; --unstable: #9a6700; --failing: #c11f2c; --none: #57606a; --running: #0860ca;
  --client: #8c959f; --network: #4393c3; --overhead: #bfa76f; --queue: #e08214; --compute: #5aae61; --cache: #9970ab;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --panel: #171b21; --text: #e4e8ec; --soft: #98a2ad; --line: #2b323a;
    --ok: #2e9e4f; --unstable: #b98313; --failing: #dd4450; --none: #6b7681; --running: #3d8bf2;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 1.25rem 1.5rem 3rem; background: var(--page); color: var(--text);
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
a { color: var(--running); }
header, footer, .legend, .tiles { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; }
nav { margin-left: auto; display: flex; gap: 1rem; }
.soft, footer { color: var(--soft); }
.notice { background: var(--panel); border: 1px solid var(--failing); border-radius: 6px; padding: .5rem 1rem; }
.tiles { margin: 1rem 0; gap: .75rem; }
.tile {
  background: var(--panel); border: 1px solid var(--line); border-left: 5px solid var(--none); border-radius: 6px;
  padding: .5rem 1rem; min-width: 7rem;
}
.tile b { display: block; font-size: 1.6rem; line-height: 1.15; font-variant-numeric: tabular-nums; }
.tile.ok { border-left-color: var(--ok); }
.tile.regressed, .tile.objective-missed { border-left-color: var(--failing); }
.tile.unstable { border-left-color: var(--unstable); }
.tile.failing { border-left-color: var(--failing); }
.tile.running { border-left-color: var(--running); }
.tile.zero { border-left-color: var(--line); color: var(--soft); }
.scroll { overflow-x: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: .3rem .7rem; vertical-align: top; }
tbody + tbody, tbody:first-of-type { border-top: 1px solid var(--line); }
tbody.failing th { box-shadow: inset 4px 0 var(--failing); }
tbody.regressed th, tbody.objective-missed th { box-shadow: inset 4px 0 var(--failing); }
tbody.unstable th { box-shadow: inset 4px 0 var(--unstable); }
tbody th { color: var(--text); white-space: normal; min-width: 11rem; max-width: 20rem; overflow-wrap: anywhere; }
tbody th .soft { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
.when, .level { white-space: nowrap; }
.why { overflow-wrap: anywhere; }
.stale td.number, .stale td.level { color: var(--soft); }
.badge {
  display: inline-block; padding: .05rem .55rem; border-radius: 1rem; color: #fff; background: var(--none);
  font-size: .85em; font-weight: 600; white-space: nowrap;
}
.badge.ok { background: var(--ok); }
.badge.unstable { background: var(--unstable); }
.badge.regressed, .badge.objective-missed { background: var(--failing); }
.badge.failing { background: var(--failing); }
.badge.running { background: var(--running); }
.mark { color: var(--unstable); white-space: nowrap; }
.bad { color: var(--failing); font-weight: 600; }
.bar { display: block; width: 9rem; height: .85rem; margin-top: .2rem; border-radius: 2px; background: var(--line); }
.legend { margin: 0 0 .5rem; color: var(--soft); }
.legend svg { width: .8rem; height: .8rem; vertical-align: -1px; margin-right: .3rem; }
rect.client { fill: var(--client); } rect.network { fill: var(--network); } rect.overhead { fill: var(--overhead); }
rect.queue { fill: var(--queue); } rect.compute { fill: var(--compute); } rect.cache { fill: var(--cache); }
footer { margin-top: 1rem; }
"""
