"""The page's style sheet: for a phone first, then wider, then paper; light or dark as the reader's system is."""

CSS = """
:root{--ink:#1c1f24;--soft:#5d6470;--line:#dfe2e7;--paper:#fff;--card:#f6f7f9;--good:#00795a;--bad:#b23b00;--open:#8a6100}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ec;--soft:#a2a9b4;--line:#3a3f47;--paper:#16181c;--card:#1f2228;
--good:#3fc49a;--bad:#ff8a4c;--open:#e6b84a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:16px}
h1{font-size:1.5rem;line-height:1.2;margin:.4em 0 .2em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2em 0 .5em;padding-bottom:.2em;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2em 0 .3em}
p{margin:.4em 0}
.soft,figcaption,small{color:var(--soft)}
.note{padding:.5em .8em;border-left:4px solid var(--open);background:var(--card);margin:.5em 0}
.note.bad{border-color:var(--bad)}
.wide{overflow-x:auto;margin:.5em 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.35em .6em;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child{text-align:left}
td small{display:block;font-size:.8em}
.left td{text-align:left;white-space:normal;overflow-wrap:anywhere}.left td:first-child{color:var(--soft);width:9em}
.grid{display:grid;grid-template-columns:minmax(0,1fr);gap:16px}
.card{background:var(--card);border-radius:8px;padding:12px;min-width:0}
.card h3{margin-top:0}
.grid>.card:last-child:nth-child(odd){grid-column:1/-1}
svg{display:block;width:100%;max-width:560px;height:auto;margin:0 auto;font:13px system-ui,sans-serif}
svg text{fill:var(--soft)}svg text.count{fill:var(--ink)}
svg text.name{fill:var(--ink);font-weight:600;paint-order:stroke;
stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .grid{stroke:var(--line);stroke-width:1}svg .floor{stroke:var(--soft);stroke-width:1}
svg .zero{stroke:var(--ink);stroke-width:1.5}
svg .curve{fill:none;stroke-width:2}svg .front{fill:none;stroke-width:1;stroke-dasharray:4 3;opacity:.6}
svg .whisker{stroke-width:2.5}svg .level{stroke-width:1.5;stroke-dasharray:6 4}
svg .cell{stroke:var(--line);stroke-width:.6}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:.4em 0;font-size:.9rem}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
.verdict{font-weight:700}.PASS{color:var(--good)}.FAIL{color:var(--bad)}.INCONCLUSIVE{color:var(--open)}
.layers{display:flex;flex-wrap:wrap;gap:2px;margin:.4em 0}
.layer{width:14px;height:22px;border-radius:2px}
.layer.other{background-image:repeating-linear-gradient(45deg,transparent 0 3px,rgba(0,0,0,.45) 3px 5px)}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(88px,1fr));gap:10px}
.faces figure{margin:0;border-top:4px solid var(--soft);font-size:.78rem;line-height:1.3}
.faces img{width:100%;image-rendering:pixelated;display:block;margin-bottom:3px}
.faces .better{border-color:var(--good)}.faces .worse{border-color:var(--bad)}
@media screen and (max-width:699px){main{padding:10px}.card{padding:8px 6px}
th,td{padding:.3em .3em}table{font-size:.85rem}.stack thead{display:none}
.stack tr{display:grid;grid-template-columns:repeat(3,1fr);border-bottom:1px solid var(--line);padding:.4em 0}
.stack td{border:0;text-align:left;padding:.2em .4em;white-space:normal}.stack td:first-child{grid-column:1/-1}
.stack td[data-title]::before{content:attr(data-title);display:block;font-size:.8em;color:var(--soft)}}
@media (min-width:820px){.grid{grid-template-columns:repeat(2,minmax(0,1fr))}main{padding:24px 32px}}
@media print{:root{--ink:#000;--soft:#444;--line:#ccc;--paper:#fff;--card:#fff;--good:#00795a;--bad:#b23b00;
--open:#8a6100}
body{font-size:10.5pt}main{max-width:none;padding:0}.card,figure,tr,svg{break-inside:avoid}h2,h3,h2+.soft{break-after:avoid}
.card{border:1px solid var(--line)}.wide{overflow:visible}table{font-size:8.5pt}th,td{padding:.25em .4em}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.grid{grid-template-columns:repeat(2,minmax(0,1fr))}
.faces{grid-template-columns:repeat(8,1fr)}}
"""
