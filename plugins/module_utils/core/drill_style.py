# SPDX-License-Identifier: GPL-3.0-or-later
"""How a drill's report looks: light and dark by the reader's choice, phones, and paper, which is always light.

``STYLE`` is that of the page, ``PICTURE`` that of the picture without a page."""

from __future__ import annotations

_LIGHT = """
--page:#f6f5f1;--card:#fff;--ink:#1d1c19;--soft:#57554d;--line:#dcd9cf;--link:#1f56a8;
--good:#0a6136;--good-on:#e2f3e8;--warn:#7a4a00;--warn-on:#fdf0d9;--bad:#a81d16;--bad-on:#fce6e4;--calm:#3a4a5c;
--calm-on:#e8edf2;--outage:#c9352c;--halted:#d98a00;--ack:#2d6cb8;--lane:#eceae3;--told:#fff;
--inject:#fbe0dc;--observe:#fdeed3;--relieve:#ece2f8;--recover:#dcebfb;--verify:#ddf1e3;
--s1:#2360c4;--s2:#b0480a;--s3:#0c7367;--s4:#8a35a8;--s5:#b5264d;--s6:#5b6412;
"""
_DARK = """
--page:#151512;--card:#1f1e1b;--ink:#f1efe8;--soft:#b7b4a9;--line:#3d3b35;--link:#8dbbf7;
--good:#7bdba4;--good-on:#12301f;--warn:#f3bd6c;--warn-on:#38290f;--bad:#ff968c;--bad-on:#421a17;--calm:#b9c7d6;
--calm-on:#222b34;--outage:#ef6a60;--halted:#f0ac3a;--ack:#7fb2f0;--lane:#2c2a26;--told:#1a0f0e;
--inject:#4a221e;--observe:#3d2f14;--relieve:#33254a;--recover:#1a3049;--verify:#173524;
--s1:#85b3ff;--s2:#f4a868;--s3:#5fd2c1;--s4:#d7a0ef;--s5:#ff94ab;--s6:#c6d06e;
"""
_PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:62rem;padding:1.2rem 1.2rem 4rem;background:var(--page);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
a{color:var(--link)}
h1{margin:0;font-size:clamp(2rem,7vw,3.4rem);line-height:1.1;letter-spacing:-.02em;overflow-wrap:break-word}
h2{margin:0 0 .8rem;font-size:1.35rem;line-height:1.25}
h3{margin:0 0 .5rem;font-size:1rem}
p,ul{margin:0 0 .8rem;max-width:46rem}
.soft{color:var(--soft)}
.verdict{padding:clamp(1.2rem,4vw,2.4rem);border-radius:1rem;border-left:.6rem solid}
.verdict p{color:var(--ink);margin:.7rem 0 0}
.verdict .because{font-size:clamp(1.15rem,3.2vw,1.5rem);line-height:1.35;font-weight:600}
.sign{display:inline-block;margin-right:.5ch}
.verdict.good{background:var(--good-on);color:var(--good)}
.verdict.warn{background:var(--warn-on);color:var(--warn)}
.verdict.bad{background:var(--bad-on);color:var(--bad)}
.verdict.calm{background:var(--calm-on);color:var(--calm)}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:1rem .2rem;font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:.8rem;margin:0 0 1rem}
.tiles div,section{background:var(--card);border:1px solid var(--line);border-radius:.8rem;padding:1rem 1.2rem}
.tiles dt{font-weight:600}
.tiles dd{margin:0;font-size:.88rem;line-height:1.4}
.tiles .value{font-size:1.9rem;line-height:1.3;font-weight:650;font-variant-numeric:tabular-nums}
section{margin:0 0 1rem;padding:1.3rem 1.4rem}
.note{padding:.5rem .8rem;border-left:.3rem solid;border-radius:.3rem}
.note.good{background:var(--good-on);color:var(--good)}
.note.warn{background:var(--warn-on);color:var(--warn)}
.note.bad{background:var(--bad-on);color:var(--bad)}
table{width:100%;border-collapse:collapse;margin:0 0 1.1rem;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.45rem .9rem .45rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
th,td{overflow-wrap:break-word}td.long{overflow-wrap:anywhere}
td:first-child{font-weight:600}
td.good{color:var(--good);font-weight:600}td.warn{color:var(--warn);font-weight:600}
td.bad{color:var(--bad);font-weight:600}
#evidence td:nth-child(2){font:.82rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
pre{margin:0 0 1rem;padding:.9rem 1rem;background:var(--lane);border-radius:.5rem;white-space:pre-wrap;
font:.86rem/1.5 ui-monospace,"Cascadia Mono","DejaVu Sans Mono",monospace}
pre code{font:inherit}
section>:last-child{margin-bottom:0}
figure{margin:0 0 1.4rem}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;color:var(--soft);font-size:.88rem;margin-top:.4rem}
.swatch{display:inline-block;width:1.1em;height:.8em;margin-right:.45em;vertical-align:-.05em}
.swatch.ack{border-left:2px solid var(--ack);width:.3em}.swatch.outage{background:var(--outage)}.late{opacity:.45}
.swatch.halted{background:var(--halted);height:.3em;vertical-align:.15em}
.swatch.gap{background:var(--soft);opacity:.4}
svg{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg.narrow{display:none}
"""
_DRAWING = """
svg text{fill:var(--ink)}svg text.soft{fill:var(--soft);font-size:11px}svg text.name{font-weight:600}
svg text.phase{fill:var(--soft);font-size:11px}
svg text.phase,svg text.name{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
svg text.told{fill:var(--told);font-weight:700}
.ph{fill:transparent;stroke:var(--line);stroke-width:1}
.ph-inject{fill:var(--inject)}.ph-observe{fill:var(--observe)}.ph-relieve{fill:var(--relieve)}
.ph-recover{fill:var(--recover)}.ph-verify{fill:var(--verify)}
.lane{fill:var(--lane);stroke:var(--line)}.outage{fill:var(--outage)}.halted{fill:var(--halted)}
.answers{fill:var(--verify)}
svg .gap{fill:var(--soft);fill-opacity:.28}
path.ack{stroke:var(--ack);stroke-width:1.2;fill:none}
.mark{stroke:var(--ink);stroke-width:1.3;stroke-dasharray:4 3}
.flag{fill:var(--card);stroke:var(--line);rx:3px}
.axis,.grid{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.s1{stroke:var(--s1)}.s2{stroke:var(--s2);stroke-dasharray:7 3}.s3{stroke:var(--s3);stroke-dasharray:2 3}
.s4{stroke:var(--s4);stroke-dasharray:9 3 2 3}.s5{stroke:var(--s5);stroke-dasharray:1 4}
.s6{stroke:var(--s6);stroke-dasharray:12 4}
"""
_NARROW = """
body{padding:.7rem .7rem 3rem}
svg.wide{display:none}svg.narrow{display:block}
section{padding:1rem}
.tiles{grid-template-columns:1fr 1fr}.tiles div{padding:.8rem}.tiles .value{font-size:1.5rem}
table,tbody,tr,td{display:block}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .8rem;margin:0 0 .6rem}
td{display:grid;grid-template-columns:8.5rem 1fr;gap:.6rem;border:0;padding:.2rem 0}
td::before{content:attr(data-head);color:var(--soft);font-weight:400}
td:first-child{display:block;font-size:1.02rem}td:first-child::before{display:none}
td,td.long{overflow-wrap:anywhere}
td.empty{display:none}
.pair tr{display:grid;grid-template-columns:8.5rem 1fr;gap:.6rem;border:0;border-bottom:1px solid var(--line);
border-radius:0;padding:.3rem 0;margin:0}
.pair td,.pair td:first-child{display:block;font-size:.92rem}.pair td::before{display:none}
"""
_PRINT = """
@page{margin:14mm}
body{max-width:none;padding:0;background:#fff;font-size:10pt}
nav{display:none}
.tiles{grid-template-columns:repeat(4,1fr);margin-top:.8rem}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
section,.tiles div{border-color:#bbb;padding:.6rem .8rem}
figure,tr,.tiles div,.verdict{break-inside:avoid}h2,h3{break-after:avoid}
"""
STYLE = (
    f"\n:root{{color-scheme:light dark;{_LIGHT}}}"
    f"\n@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    f"{_PAGE}{_DRAWING}"
    f"@media screen and (max-width:40rem){{{_NARROW}}}"
    f"\n@media print{{:root{{color-scheme:light}}{_PRINT}}}\n"
)
# A picture alone, which has its colours from whoever shows it.
PICTURE = (
    f"\n:root{{color-scheme:light dark;{_LIGHT}}}"
    f"\n@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    '\ntext{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}'
    "\ntext.headline{font-size:26px;font-weight:700}text.because{font-size:15px;font-weight:600}"
    "\ntext.value{font-size:20px;font-weight:650}"
    "\n.card{fill:var(--card)}.good{fill:var(--good-on)}.warn{fill:var(--warn-on)}.bad{fill:var(--bad-on)}"
    ".calm{fill:var(--calm-on)}"
    f"{_DRAWING}"
)
