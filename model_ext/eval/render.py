"""A table as markdown and as LaTeX."""

from dataclasses import dataclass

LATEX = {
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


@dataclass(frozen=True)
class Table:
    """`texts`: how many columns, counted from the left, contain words. The other columns contain
    numbers.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    texts: int

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: {len(row)} cells, {len(self.header)} columns")


def markdown(table: Table) -> str:
    numbers = len(table.header) - table.texts
    lines = [
        f"### {one_line(table.title)}",
        "",
        markdown_row(table.header),
        "|" + "---|" * table.texts + "---:|" * numbers,
        *map(markdown_row, table.rows),
        "",
        *(f"- {one_line(note)}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """Format the table as LaTeX. The document needs the LaTeX package booktabs."""
    columns = "l" * table.texts + "r" * (len(table.header) - table.texts)
    caption = " ".join([f"{table.title}.", *table.notes])
    lines = [
        r"\begin{table}",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        latex_row(table.header),
        r"\midrule",
        *map(latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", r"\|") for cell in cells) + " |"


def latex_row(cells: list[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def latex_text(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in one_line(text))


def one_line(text: str) -> str:
    return " ".join(text.split())
