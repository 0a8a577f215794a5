"""LaTeX source of a table: booktabs rules, numbers to the right, text escaped."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex(lines: Sequence[Sequence[str]], levels: int, caption: str = "") -> str:
    """A tabular of lines of cells, the header first; needs the package booktabs.

    Args:
      lines: cells as text.
      levels: leading columns that are labels, aligned to the left.
      caption: small print below the last rule.
    """
    header, *body = ([_escaped(cell) for cell in line] for line in lines)
    width = len(header)
    source = [
        rf"\begin{{tabular}}{{{'l' * levels}{'r' * (width - levels)}}}",
        r"\toprule",
        f"{' & '.join(header)} \\\\",
        r"\midrule",
        *(f"{' & '.join(line)} \\\\" for line in body),
        r"\bottomrule",
    ]
    if caption:
        note = rf"\footnotesize {_escaped(caption)}"
        source.append(rf"\multicolumn{{{width}}}{{p{{.9\linewidth}}}}{{{note}}} \\")
    return "\n".join([*source, r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in str(text))
