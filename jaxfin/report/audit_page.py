"""The audit of a study as a page, HTML and Markdown, and as JSON."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxfin.audit.finding import Finding
from jaxfin.audit.study_certificate import PathVerdict, StudyCertificate
from jaxfin.report.audit_figure import dependence_figure
from jaxfin.report.run_directory import write_json

PAGE, MARKDOWN, JSON = "audit.html", "audit.md", "audit.json"
FIGURE = "audit_dependence"
_MEANS = {
    "leak": "a later period moves it: shown by a test that anyone can run again",
    "differs": "files, saved lanes and code do not agree: another version, or an edit",
    "undetermined": "nothing moved it, but the tests could not settle it",
    "pass": "no test moved it",
    "not run": "there was nothing to test, or no way to",
    "alarm": "hard to believe; proves nothing",
}
_READING = (
    "Row t is the decision made at the end of period t. What is known only after it is "
    "ruined (NaN, noise, masks flipped) or cut off; what was made by then must have "
    "the same bits. A leak is proof. A pass of forecasts is proof where the program "
    "was read operation by operation: for these parameters, finite numbers and this "
    "stretch of the panel. All else that passes is evidence: of the window and the "
    "decisions looked at, and not of data that code holds on to from elsewhere. What "
    "a file holds is taken to have been known at its date: revised figures look like "
    "any others."
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:70rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
p.small,figcaption{color:#5f5f5f;font-size:.87rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.6rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #ddd}th{border-bottom:2px solid #999;font-weight:600}
td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
b.v{padding:.05rem .5rem;border-radius:.6rem;white-space:nowrap;color:#fff}
.leak{background:#b3261e}.pass{background:#00664b}.undetermined{background:#8a5a00}
.differs{background:#8c1d6b}.not-run{background:#5f5f5f}.alarm{background:#b34700}
details{margin:.5rem 0}summary{cursor:pointer}code{font-size:.88em}
img{max-width:100%;height:auto}
@media print{details>*{display:block}}
"""


class Block(NamedTuple):
    """A titled table, or a paragraph if it has no columns."""

    title: str
    text: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    folded: bool = False  # evidence, shown when asked for
    picture: bool = False


def write_audit(
    folder: Path,
    made: StudyCertificate,
    provenance: dict[str, Any],
    others: Sequence[tuple[str, StudyCertificate]] = (),
) -> None:
    """Write audit.html, audit.md, audit.json and the picture's file.

    Args:
      folder: of the run.
      made: its audit.
      provenance: of `run_directory.provenance`.
      others: folder below this one and audit of the studies it is compared with.
    """
    image = ""
    if made.picture is not None:
        figure = dependence_figure(made.picture, title=f"{made.label}: what reaches")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        image = base64.b64encode(buffer.getvalue()).decode()
        place = folder / "figures"
        place.mkdir(exist_ok=True)
        (place / f"{FIGURE}.png").write_bytes(buffer.getvalue())
    blocks = _blocks(made, others)
    title = f"Look-ahead audit: {made.label}"
    left = f" Not tested: {', '.join(made.untested)}." if made.untested else ""
    lead = (
        f"{made.model} on {made.data}. {len(made.paths)} paths by which the future "
        f"could come in, window {made.window} fitted again (first decision "
        f"{made.decision}), {made.seconds:.0f} seconds.{left}"
    )
    footer = (
        f"jaxfin {provenance['versions']['jaxfin']}, commit {provenance['commit']}, "
        f"{provenance['device']['kind']}, {provenance['started']}"
    )
    (folder / PAGE).write_text(_html(title, made, lead, blocks, image, footer))
    (folder / MARKDOWN).write_text(_markdown(title, made, lead, blocks, footer))
    write_json(folder / JSON, _plain(made) | {"provenance": provenance})


def _blocks(
    made: StudyCertificate, others: Sequence[tuple[str, StudyCertificate]]
) -> list[Block]:
    blocks = [
        Block(
            "Verdicts",
            _READING,
            ("path", "question", "verdict", "because", "looked at", "seconds"),
            tuple(
                (
                    path.name,
                    path.question,
                    path.verdict,
                    _because(path),
                    path.scope,
                    f"{path.seconds:.1f}",
                )
                for path in made.paths
            ),
        )
    ]
    if others:
        blocks.append(
            Block(
                "Studies it is compared with",
                "Each has a page of its own.",
                ("study", "verdict", "page"),
                tuple(
                    (other.label, other.verdict, f"{place}/{PAGE}")
                    for place, other in others
                ),
            )
        )
    if made.picture is not None:
        blocks.append(
            Block(
                "What reaches a forecast",
                f"{made.picture.how.capitalize()}, for the test rows of the window.",
                picture=True,
            )
        )
    if made.fit_dates:
        blocks.append(
            Block(
                "What was estimated, scaled or chosen, and the latest it moves with",
                "Measured by ruining what is later; dates of a forecast are those its "
                "program reads.",
                ("what", "decided at", "latest that moves it", "verdict"),
                tuple(
                    (each.what, each.decided, each.latest, each.verdict)
                    for each in made.fit_dates
                ),
            )
        )
    if made.alarms:
        blocks.append(
            Block(
                "Plausibility",
                "Numbers that a careful study can hardly have. An alarm is a reason to "
                "look, no proof.",
                ("check", "verdict", "numbers"),
                tuple((each.test, each.verdict, each.detail) for each in made.alarms),
            )
        )
    if made.sizes:
        blocks.append(
            Block(
                "What leaks would have made of this study",
                "The study's own fits, judged with a leak on purpose; nothing is "
                "fitted again, and sampling errors are not shown.",
                ("leak", "statistic", "careful", "leaky", "leaky - careful"),
                tuple(
                    (
                        each.leak,
                        each.statistic,
                        f"{each.careful:.2f}",
                        f"{each.leaky:.2f}",
                        f"{each.size:+.2f}",
                    )
                    for each in made.sizes
                ),
            )
        )
    blocks += [
        Block(
            f"Evidence: {path.name}",
            path.scope,
            ("test", "verdict", "evidence", "size"),
            tuple(_evidence(finding) for finding in path.findings),
            folded=True,
        )
        for path in made.paths
    ]
    paths = [
        (path.name, route.field, str(route.period), str(route.row), route.operation,
         route.source)
        for path in made.paths
        if path.certificate is not None and path.certificate.dependence is not None
        for route in path.certificate.dependence.paths
    ]  # fmt: skip
    if paths:
        blocks.append(
            Block(
                "Operations through which a later period comes, or may come",
                "",
                ("path", "field", "of row", "into row", "operation", "where"),
                tuple(paths),
            )
        )
    used = {path.verdict for path in made.paths} | {a.verdict for a in made.alarms}
    used |= {finding.verdict for path in made.paths for finding in path.findings}
    meanings = tuple((word, _MEANS[word]) for word in _MEANS if word in used)
    blocks.append(Block("Words", "", ("verdict", "means"), meanings))
    if made.notes:
        lines = tuple((note,) for note in made.notes)
        blocks.append(Block("Notes", "", ("of the run",), lines))
    return blocks


def _because(path: PathVerdict) -> str:
    """Tests that found a leak, or why there is no verdict."""
    if path.verdict == "leak":
        tests = [found.test for found in path.findings if found.verdict == "leak"]
        return "found by " + ", ".join(tests)
    if path.verdict == "pass":
        return ""
    return "; ".join(
        found.detail for found in path.findings if found.verdict == path.verdict
    )


def _evidence(finding: Finding) -> tuple[str, ...]:
    size = "" if finding.size is None else f"{finding.size:.3g}"
    return finding.test, finding.verdict, finding.detail, size


def _markdown(
    title: str, made: StudyCertificate, lead: str, blocks: list[Block], footer: str
) -> str:
    lines = [f"# {title}", "", f"**{made.verdict}**. {lead}", ""]
    for block in blocks:
        lines += [f"## {block.title}", ""]
        lines += [block.text, ""] if block.text else []
        if block.picture:
            lines += [f"![{block.title}](figures/{FIGURE}.png)", ""]
        if block.columns:
            lines.append("| " + " | ".join(block.columns) + " |")
            lines.append("|" + "---|" * len(block.columns))
            for row in block.rows:
                cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
                lines.append("| " + " | ".join(cells) + " |")
            lines.append("")
    return "\n".join([*lines, f"<sub>{footer}</sub>", ""])


def _html(
    title: str,
    made: StudyCertificate,
    lead: str,
    blocks: list[Block],
    image: str,
    footer: str,
) -> str:
    escape = html.escape
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{_badge(made.verdict)} {escape(lead)}</p>",
    ]
    for block in blocks:
        body = f"<p class=small>{escape(block.text)}</p>" if block.text else ""
        if block.picture:
            alt = escape(f"{block.title}: input period by decision")
            body += f'<img alt="{alt}" src="data:image/png;base64,{image}">'
        if block.columns:
            body += _html_table(block)
        if block.folded:
            opened = any({"leak", "differs"} & {*row} for row in block.rows)
            parts.append(
                f"<details{' open' if opened else ''}><summary>{escape(block.title)}"
                f"</summary>{body}</details>"
            )
        else:
            parts.append(f"<h2>{escape(block.title)}</h2>{body}")
    parts.append(f"<p class=small>{escape(footer)}</p></body></html>\n")
    return "".join(parts)


def _html_table(block: Block) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in block.columns)
    rows = ["".join(_html_cell(cell) for cell in row) for row in block.rows]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _html_cell(cell: str) -> str:
    if cell in _MEANS:
        return f"<td>{_badge(cell)}</td>"
    if cell.endswith(PAGE):
        link = html.escape(cell, quote=True)
        return f'<td><a href="{link}">{link}</a></td>'
    try:
        float(cell)
    except ValueError:
        return f"<td>{html.escape(cell)}</td>"
    return f"<td class=n>{html.escape(cell)}</td>"


def _badge(verdict: str) -> str:
    return f'<b class="v {verdict.replace(" ", "-")}">{verdict}</b>'


def _plain(made: StudyCertificate) -> dict[str, Any]:
    return {
        "verdict": made.verdict,
        "label": made.label,
        "model": made.model,
        "data": made.data,
        "window": made.window,
        "first_decision": made.decision,
        "seconds": round(made.seconds, 1),
        "paths": [
            {
                "name": path.name,
                "question": path.question,
                "verdict": path.verdict,
                "scope": path.scope,
                "seconds": round(path.seconds, 1),
                "findings": [finding._asdict() for finding in path.findings],
            }
            for path in made.paths
        ],
        "alarms": [finding._asdict() for finding in made.alarms],
        "fit_dates": [each._asdict() for each in made.fit_dates],
        "leak_sizes": [each._asdict() | {"size": each.size} for each in made.sizes],
        "notes": list(made.notes),
    }
