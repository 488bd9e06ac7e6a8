"""The frame of the page: its style, and where its parts go."""

__all__ = ["PAGE", "STYLE"]

from guided.report.canvas import NUCLEOTIDES

STYLE = """
:root { color-scheme: light; --ink: #22252a; --faint: #6b7078; --line: #e3e5e8; --blue: #1f5a96 }
body { margin: 0 auto; max-width: 60rem; padding: 3rem 2rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif }
h1 { font-size: 1.75rem; font-weight: 600; letter-spacing: -.01em; line-height: 1.2; margin: 0 0 .35rem }
h2 { font-size: 1.05rem; font-weight: 600; margin: 2.6rem 0 .9rem }
p { margin: 0; color: var(--faint) }
.key { display: flex; flex-wrap: wrap; gap: .8rem 2.6rem; margin: 1.8rem 0 2rem; padding: 1rem 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line) }
.key b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25 }
.key span, .key small { display: block; font-size: .82rem; line-height: 1.4 } .key small { color: var(--faint) }
figure { margin: 0 } figcaption { color: var(--faint); font-size: .82rem }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.5rem 2rem }
.figures svg { width: 100%; height: auto } .figures figcaption { padding-left: .4rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem 1.2rem }
.grid svg { width: 100%; height: auto } .grid figcaption { text-align: center; margin-top: -.3rem }
.grid b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums }
h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .5rem }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1.2rem }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); gap: 1.2rem; margin-top: .6rem }
.pairs figure { display: grid; grid-template-columns: 1fr 1fr; gap: .1rem .3rem; align-items: start }
.pairs figcaption { grid-column: 1 / -1 } .pairs small { display: block; line-height: 1.3 }
.way { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.6rem, 1fr)); gap: .8rem .4rem }
.images img, .pairs img, .way img { display: block; width: 100%; height: auto; border-radius: 2px }
.images figcaption, .pairs small, .way figcaption { margin-top: .25rem }
.images b, .pairs b, .way b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums }
.way + p { font-size: .82rem; margin-top: .3rem } .missing { color: var(--faint); font-size: .82rem }
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem; margin-top: .6rem }
.sounds svg { display: block; width: 100%; height: 3rem; fill: var(--blue); background: #f6f7f8; border-radius: 2px }
.sounds audio { display: block; width: 100%; height: 2.2rem; margin: .3rem 0 } .sounds b { color: var(--ink) }
.wide { margin: 0 0 .6rem } .wide svg { width: 100%; height: auto }
.sequences td { vertical-align: top } .sequences b, .sequences i { font-weight: 600; font-style: normal }
.sequences code { overflow-wrap: normal } .sequences span { margin-right: .9ch }
.texts td { vertical-align: top } .texts b { font-weight: 600 }
.text { white-space: pre-wrap; overflow-wrap: anywhere }
details { margin: .8rem 0 .2rem } summary { cursor: pointer; color: var(--faint); font-size: .9rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
td, th { padding: .25rem 1.6rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); font-weight: 400 }
th { color: var(--faint) } .numbers td + td { text-align: right }
pre, code { font: .85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace }
td code { overflow-wrap: anywhere }
pre { background: #f6f7f8; padding: .8rem 1rem; margin: 0 0 .6rem; white-space: pre-wrap; overflow-wrap: anywhere }
small { color: var(--faint) }
@media print { body { padding: 0 } figure, table { break-inside: avoid } }
"""
STYLE += " ".join(f".{letter} {{ color: {color} }}" for letter, color in NUCLEOTIDES.items())

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
<div class="key">{numbers}</div>
<div class="figures">{figures}</div>
<h2>Best {name}</h2>
{best}
<h2>What it cost</h2>
{stats}
<h2>To repeat it</h2>
<pre>{command}</pre>
<small>{versions}</small>
</body>
</html>
"""
